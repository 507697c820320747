"""What the engine needs of the world outside; `streamflow.edges` holds the real things.

Memory implementations of every port pass the same contract suite as the real ones
(`streamflow.testing.contracts`). Methods that may wait for a network are `async`; the memory ports
never suspend, so a test can drive them without an event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import pyarrow as pa

from streamflow.batch import Record, TopicPartition


class Outbox(Protocol):
    """The transactional producer of one task.

    Called by one task only, in the order `fence`, then any number of `begin .. commit|abort`,
    then `close`. After `Fenced` or `TaskLost` only `close` may follow.
    """

    async def fence(self) -> None:
        """Initialise the producer id: any earlier owner of this id can commit nothing any more.

        When it returns, whatever earlier owners did is settled: a transaction of theirs is wholly
        visible or wholly gone, so what is read afterwards does not change by it.
        """
        ...

    async def begin(self) -> None:
        """Open a transaction."""
        ...

    async def produce(self, to: TopicPartition | str, records: Sequence[Record]) -> None:
        """Send records to a partition, or to a topic by Kafka's default partitioner, in order.

        Records of different calls share no batch, so that a refusal tells them apart.
        """
        ...

    async def flush(self) -> Mapping[TopicPartition, int]:
        """Wait until the broker has taken every record of this transaction.

        Returns, for each partition that was written to, the offset after its last record.

        Raises, and the transaction must then be aborted and the outbox closed:
            Refused: the broker will never take some of the records of one call.
            Unavailable: a topic is missing, or may not be written to.
            TaskLost: anything else.
        """
        ...

    async def offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        """Add the group's next offsets to the transaction."""
        ...

    async def commit(self) -> None:
        """Commit. Any error means *unknown*: the caller takes the task up as after a crash."""
        ...

    async def abort(self) -> None:
        """Abort; nothing of the transaction is ever visible to a `read_committed` reader."""
        ...

    async def close(self) -> None:
        """Give up connections. Never raises."""
        ...


class Changelog(Protocol):
    """Reads one task's changelog partition with `read_committed`."""

    async def bounds(self) -> tuple[int, int]:
        """`(first, stop)`: the first offset still there and the last stable offset."""
        ...

    async def read(self, start: int, stop: int) -> Sequence[tuple[bytes, bytes | None]]:
        """Every record in `[start, stop)`, oldest first; value None is a tombstone."""
        ...

    async def fetch(
        self, start: int, stop: int
    ) -> tuple[Iterable[tuple[bytes, bytes | None]], int]:
        """Those of these records that come at once, and the offset to go on at, at last `stop`.

        It may be `start` again, with no record, where none has come yet. The records may be made
        as they are gone through, once, before the next call.
        """
        ...

    async def close(self) -> None:
        """Give up connections; `bounds` may be called again later. Never raises."""
        ...


class Tail(Changelog, Protocol):
    """A changelog that is looked at again and again: `close` says that nothing more is read for a
    while, and keeps the connection.
    """

    async def stop(self) -> None:
        """Give the connection up, too; it is made again when it is needed. Never raises."""
        ...


class Announcer(Protocol):
    """Writes short notes to one partition, outside any transaction."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Write the records in order, and wait until the broker has taken them."""
        ...

    async def close(self) -> None:
        """Give up connections; `publish` may be called again later. Never raises."""
        ...


class StateStore(Protocol):
    """A task's local state: an ordered map of bytes that changes only by whole commits."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of `keys`; None where there is none."""
        ...

    def scan(
        self, start: bytes, stop: bytes, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """The entries with `start <= key < stop`, in key order; the first `limit` of them."""
        ...

    def apply(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write all changes or none; value None deletes."""
        ...

    def load(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write changes of a state that is being rebuilt, as fast as can be.

        Call it only between `clear` and `loaded`, with nothing but `load`, `close`, and `clear` to
        begin anew, in between. Until `loaded` has returned, a crash or `close` may leave any of it
        or none.
        """
        ...

    def loaded(self) -> None:
        """All that was loaded is there now, and outlives a crash of the process."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...

    def close(self) -> None:
        """Release files and locks. Idempotent."""
        ...


class NewFile(Protocol):
    """A data file that is being written: nobody sees any of it before `create`, and all of it then.

    Caller: `write` any number of times, then `create` once, or never; `drop` in any case.
    """

    def write(self, data: bytes | memoryview) -> None:
        """Add to its end. Raises `SinkUnavailable`; then only `drop` may follow."""
        ...

    def create(self) -> bool:
        """As `TableFiles.create`, with all that was written."""
        ...

    def drop(self) -> None:
        """Forget what is not visible. Idempotent."""
        ...


class OpenFile(Protocol):
    """A data file that is read in parts, all of the very file that was opened."""

    @property
    def size(self) -> int:
        """Its bytes."""
        ...

    def read(self, start: int, nbytes: int) -> bytes:
        """So many bytes of it, which it has. Raises `SinkUnavailable`, also where there is another
        file under its name now, and what was opened is gone.
        """
        ...

    def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


class TableFiles(Protocol):
    """The files of one table and of the private folder beside it. Names are relative, with `/`.

    Data files are named below the table, private ones (cuts) below `<table>.streamflow/`. A name is
    taken once: nothing here renames over, changes or deletes a visible file.
    """

    def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
        """Make the file appear whole and durable under its name, or return False if it exists.

        Raises `SinkUnavailable` when the store does not take it; then nothing is visible.
        """
        ...

    def begin(self, name: str) -> NewFile:
        """Begin a data file that is written in parts."""
        ...

    def exists(self, name: str, *, private: bool = False) -> bool:
        """Is there a visible file of this name?"""
        ...

    def read(self, name: str, *, private: bool = False) -> bytes:
        """The whole content of a visible file. Raises `FileNotFoundError`."""
        ...

    def tail(self, name: str, nbytes: int) -> bytes:
        """The last bytes of a data file, all of a shorter one. Raises `FileNotFoundError`."""
        ...

    def open(self, name: str) -> OpenFile:
        """Open a data file to read parts of it. Raises `FileNotFoundError`."""
        ...

    def names(self, *, private: bool = False) -> list[str]:
        """All visible names, sorted."""
        ...

    def delete_private(self, names: Iterable[str]) -> None:
        """Delete private files that nothing refers to any more."""
        ...


class ReplaceableFiles(TableFiles, Protocol):
    """Files of a table that an offline command may put others in the place of."""

    def sizes(self) -> Mapping[str, int]:
        """The bytes of all data files, by name in order."""
        ...

    def replace(self, name: str, data: bytes | memoryview) -> None:
        """Put other bytes under the name of a data file: at any moment it is whole, the old or the
        new one. Raises `SinkUnavailable`.
        """
        ...

    def exchange(self, name: str, seen: bytes, data: bytes) -> bool:
        """Put other bytes under the name of a private file that is as it was `seen`, or return
        False: of those who have seen the same, one does it. Also where its own answer was lost it
        may be False. Raises `SinkUnavailable`.
        """
        ...

    def delete(self, name: str) -> None:
        """Delete a data file, if it is there. Raises `SinkUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A data file that a commit makes part of a table: its partition values by column, and `stats`,
    the JSON that Delta keeps of a file.
    """

    name: str
    nbytes: int
    values: Mapping[str, str | None]
    stats: str


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A data file that is part of a table, as its log lists it: its partition values by column, and
    of columns that are times the smallest and the largest value, where the log has them.
    """

    name: str
    nbytes: int
    values: Mapping[str, str | None]
    times: Mapping[str, tuple[datetime, datetime]]


class TableLog(Protocol):
    """The log of a table that has one, such as Delta: what it says is what readers see.

    Beside files it keeps marks, numbers by name, which change in the commits that add files.
    """

    def load(self) -> LoadedTable | None:
        """The table as it is now; None where there is none yet. Raises `SinkUnavailable`."""
        ...

    def create(self, schema: pa.Schema, partition_by: Sequence[str]) -> None:
        """Make the table; where somebody else has made one meanwhile, that one stays."""
        ...

    def form(self, schema: pa.Schema) -> pa.Schema:
        """A schema as the table would give it back, to be compared."""
        ...

    def vacuum(self, retention: timedelta) -> None:
        """Delete data files that no version has had for so long, and those that none ever had and
        that are older.

        Raises:
            SinkRefused: the table keeps files for longer than that.
            SinkUnavailable: some may be deleted.
        """
        ...


class LoadedTable(Protocol):
    """A table as of one version of its log. What others commit later is not seen here."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns, those that it is partitioned by too."""
        ...

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The columns that it is partitioned by."""
        ...

    def mark(self, name: str) -> int | None:
        """A mark; None where it has never been set."""
        ...

    def widen(self, columns: pa.Schema) -> None:
        """Add columns that may be null. Raises as `commit`."""
        ...

    def commit(self, files: Sequence[AddedFile], marks: Mapping[str, int]) -> None:
        """Add the files and set the marks, both or neither; once for one of these.

        Raises:
            Overtaken: somebody has set one of these marks since it was loaded, or changed the
                columns, and nothing is committed. Load again.
            SinkUnavailable: it is not known whether it is committed. Load again.
        """
        ...

    def files(self) -> Sequence[ListedFile]:
        """The files of this version, by name.

        Raises:
            SinkRefused: what they hold is not all that their rows depend on.
        """
        ...

    def replace(
        self,
        added: Sequence[AddedFile],
        removed: Sequence[ListedFile],
        marks: Mapping[str, int],
        *,
        same_rows: bool,
    ) -> None:
        """Add files, take others of this version out, and set the marks: all or nothing, and only
        as the very next version, so that nobody has changed any file since. `same_rows` says that
        what is added has the rows of what is removed, and no others. Raises as `commit`, and
        `Overtaken` whatever has been committed since.
        """
        ...


@dataclass(frozen=True, slots=True)
class LoggedTable:
    """A table with a log: its files are put where the log lies, and mean nothing by themselves."""

    files: TableFiles
    log: TableLog
