"""What a sink holds of its rows topic beyond its chain of cuts: whole commits, and one begun."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from streamflow.batch import Headers, MicroBatch, TopicPartition
from streamflow.core.merging import Merging
from streamflow.core.rows import RowsChunk, Trailer, decode
from streamflow.counted import counted
from streamflow.errors import SinkRefused

#: What a record takes beside the bytes of its rows: what it says of itself, as objects.
RECORD_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Commits:
    """Whole commits: their rows by offset, and their trailers."""

    chunks: dict[int, RowsChunk]
    trailers: dict[int, Trailer]

    @property
    def payload_bytes(self) -> int:
        return sum(len(chunk.payload) for chunk in self.chunks.values())

    @property
    def merging(self) -> Merging | None:
        """Which rows take the place of earlier ones; commits that are rolled at once agree."""
        last = next(reversed(self.trailers.values()), None)
        return None if last is None else last.layout.merging

    @property
    def schema(self) -> pa.Schema:
        """Of the rows, which are alike; without a column where there is no row."""
        return next((chunk.schema for chunk in self.chunks.values()), pa.schema([]))

    @property
    def columns(self) -> list[str]:
        """The names of it."""
        return self.schema.names

    def table(self, columns: Sequence[str]) -> pa.Table:
        """These columns of all rows. Raises `SinkRefused` for a damaged chunk."""
        found = [chunk.table(columns).select(columns) for chunk in self.chunks.values()]
        return pa.concat_tables(found)


class Buffer:
    """Takes the records of a rows partition in order, and checks that its commits form a chain.

    It starts at offset `start`, after commit `after`, with an owner of this epoch. At a `start`
    above 0 without `after` the chain's beginning is not known, and the first trailer may follow any
    commit.

    A provisional commit is held apart until it is named: then it ends with the naming, so that what
    lies before any boundary of commits tells by itself what it holds. What is void is not held.
    """

    def __init__(self, tp: TopicPartition, start: int, after: int | None, epoch: int = 0) -> None:
        self.tp = tp
        #: The next offset to take.
        self.position = start
        #: Just after the last trailer: what lies before it are whole commits.
        self.stop = start
        self._after = after
        self._any = after is None and start > 0
        self._chunks: dict[int, RowsChunk] = {}
        self._trailers: dict[int, Trailer] = {}
        self._epoch = epoch
        self._begun: dict[int, RowsChunk] = {}
        self._schema: pa.Schema | None = None
        # The commit that waits to be named, and its rows.
        self._pending: tuple[Trailer, dict[int, RowsChunk]] | None = None
        self._whole_bytes = 0
        self._changes: list[int] = []  # where commits of another layout begin

    @property
    def nbytes(self) -> int:
        """Encoded rows held, those of a commit that is still without its trailer included."""
        waiting = [*self._begun.values(), *(self._pending[1].values() if self._pending else ())]
        return self._whole_bytes + sum(len(chunk.payload) for chunk in waiting)

    @property
    def held_bytes(self) -> int:
        """About what all this takes in memory."""
        return self.nbytes + RECORD_BYTES * len(self)

    @property
    def whole_bytes(self) -> int:
        """Encoded rows of whole commits."""
        return self._whole_bytes

    @property
    def unpacked_bytes(self) -> int:
        """What the rows of whole commits take when they are unpacked."""
        return sum(chunk.unpacked for chunk in self._chunks.values())

    @property
    def last(self) -> Trailer | None:
        """The last trailer held."""
        return next(reversed(self._trailers.values()), None)

    @property
    def ended(self) -> bool:
        """Has the last of the whole commits ended the input?"""
        last = self.last
        return last is not None and last.end_of_input

    @property
    def ages_empty(self) -> bool:
        """Commits without rows wait for others: the log is trimmed behind them all the same."""
        return False

    @property
    def commits(self) -> int:
        return len(self._trailers)

    def __len__(self) -> int:
        waiting = len(self._begun) + (self._pending is not None)
        return len(self._chunks) + len(self._trailers) + waiting

    def take_from(self, batch: MicroBatch) -> Trailer | None:
        """Hold the records of a batch from `position` on, up to the next one with which a commit
        counts; its trailer, or None where there is none in what is left of the batch.

        Raises `SinkRefused` as `take` does.
        """
        for row in range(bisect_left(batch.offsets, self.position), len(batch)):
            counted = self.take(batch.offsets[row], batch.values[row], batch.headers[row])
            if counted is not None:
                return counted
        return None

    def take(self, offset: int, value: bytes | None, headers: Headers) -> Trailer | None:
        """Hold one record; the trailer when a commit counts from now on.

        Raises `SinkRefused` when the record is not one of a rows topic or does not fit the chain;
        then the position has not moved.
        """
        counted: Trailer | None = None
        try:
            record = decode(value, headers)
            if isinstance(record, RowsChunk):
                self._begin(offset, record)
            elif record.is_naming:
                counted = self._name(offset, record)
            else:
                counted = self._end(offset, record)
        except SinkRefused as error:
            raise SinkRefused(f"{self.tp}@{offset}: {error}") from None
        self.position = offset + 1
        return counted

    def skip(self, position: int) -> None:
        """Move over offsets that carry no record."""
        self.position = max(self.position, position)

    @property
    def one_layout(self) -> int:
        """Just after the last of the whole commits that are laid out as the first one held is."""
        return self._changes[0] if self._changes else self.stop

    def upto(self, stop: int) -> Commits:
        """The whole commits before `stop`."""
        return Commits(
            {offset: chunk for offset, chunk in self._chunks.items() if offset < stop},
            {offset: trailer for offset, trailer in self._trailers.items() if offset < stop},
        )

    def drop(self, stop: int) -> None:
        """Forget what lies before `stop`, which is just after a trailer."""
        rolled = self.upto(stop)
        self._chunks = {o: chunk for o, chunk in self._chunks.items() if o >= stop}
        self._trailers = {o: trailer for o, trailer in self._trailers.items() if o >= stop}
        self._whole_bytes -= rolled.payload_bytes
        self._changes = [change for change in self._changes if change > stop]

    def _begin(self, offset: int, chunk: RowsChunk) -> None:
        if chunk.epoch is not None and self._is_void(chunk.epoch):
            return
        begun = next(iter(self._begun.values()), chunk)
        if chunk.epoch is not None and self._is_repeated(chunk):
            return
        if (chunk.commit, chunk.number) != (begun.commit, len(self._begun)):
            raise SinkRefused(
                f"chunk {chunk.number} of commit {chunk.commit} where chunk {len(self._begun)} of"
                f" commit {begun.commit} was expected: were records of this topic lost?"
            )
        if self._schema is None or not chunk.schema.equals(self._schema, check_metadata=True):
            self._schema = chunk.schema
        # One schema for all that have it: each has parsed its own, which takes more than few rows.
        self._begun[offset] = replace(chunk, schema=self._schema)

    def _is_repeated(self, chunk: RowsChunk) -> bool:
        """Has it come before? A producer without an id repeats what it was not answered."""
        if self._pending is not None:
            return chunk.commit == self._pending[0].commit
        begun = next(iter(self._begun.values()), None)
        same = begun is not None and begun.commit == chunk.commit
        return same and chunk.number < len(self._begun)

    def _end(self, offset: int, trailer: Trailer) -> Trailer | None:
        pending = None if self._pending is None else self._pending[0]
        if trailer.provisional:
            if self._is_void(trailer.epoch) or (pending and pending.commit == trailer.commit):
                return None
        elif trailer.epoch < self._epoch:
            raise SinkRefused(
                f"a transaction of epoch {trailer.epoch} ends commit {trailer.commit}, but an owner"
                f" of epoch {self._epoch} has taken over before it: were the state or the topic"
                " brought back from an older copy?"
            )
        if pending is not None:
            raise SinkRefused(
                f"the trailer of commit {trailer.commit} comes before commit {pending.commit} is"
                " named: records of this topic were lost, or written by something else"
            )
        if not self._any and not self._follows(trailer):
            raise SinkRefused(
                f"the trailer of commit {trailer.commit} follows {_commit(trailer.previous)}, but"
                f" the last one here is {_commit(self._after)}: commits were lost, or two owners"
                " wrote to this partition; the sink stops rather than lose or repeat rows"
            )
        commits = {chunk.commit for chunk in self._begun.values()}
        if len(self._begun) != trailer.chunks or commits - {trailer.commit}:
            raise SinkRefused(
                f"the trailer of commit {trailer.commit} ends"
                f" {counted(trailer.chunks, 'chunk')}, but"
                f" {len(self._begun)} came before it, of {_commits(commits)}"
            )
        begun, self._begun = self._begun, {}
        if trailer.provisional:
            self._pending = trailer, begun
            return None
        return self._count(offset, trailer, begun)

    def _follows(self, trailer: Trailer) -> bool:
        """Is it the next one? The first of a table that joins names none before it, also where the
        table was there before, and away meanwhile.
        """
        joins = trailer.previous is None and trailer.commit > (self._after or 0)
        return trailer.previous == self._after or joins

    def _name(self, offset: int, naming: Trailer) -> Trailer | None:
        """The commit that is named counts, if it was waiting for that; any other is void."""
        if naming.epoch < self._epoch:
            return None
        pending, self._pending = self._pending, None
        if pending is not None and pending[0].commit == naming.commit:
            self._begun = {}
            return self._count(offset, replace(pending[0], epoch=naming.epoch), pending[1])
        joins = naming.commit == 0 and pending is None
        if not self._any and not joins and naming.commit != (self._after or 0):
            self._pending = pending
            last = _commit(pending[0].commit if pending else self._after)
            raise SinkRefused(
                f"an owner names commit {naming.commit} as its last, but the last one here is"
                f" {last}: commits were lost; the sink stops rather than lose or repeat rows"
            )
        if self._any:
            self._after, self._any = naming.commit or None, False
        self._begun, self._epoch = {}, naming.epoch
        return None

    def _count(self, offset: int, trailer: Trailer, chunks: dict[int, RowsChunk]) -> Trailer:
        last = self.last
        if last is not None and last.layout != trailer.layout:
            self._changes.append(self.stop)
        self._after, self._any, self._epoch = trailer.commit, False, trailer.epoch
        self._chunks |= chunks
        self._whole_bytes += sum(len(chunk.payload) for chunk in chunks.values())
        self._trailers[offset] = trailer
        self.stop = offset + 1
        return trailer

    def _is_void(self, epoch: int) -> bool:
        """Was it written after a later owner had taken over?"""
        if epoch > self._epoch and not self._any:
            raise SinkRefused(
                f"an owner of epoch {epoch} writes without having taken over from that of epoch"
                f" {self._epoch}: records of this topic were lost"
            )
        return epoch < self._epoch


def _commit(number: int | None) -> str:
    return "no commit" if number is None else f"commit {number}"


def _commits(numbers: set[int]) -> str:
    return " and ".join(_commit(number) for number in sorted(numbers)) or "no commit"
