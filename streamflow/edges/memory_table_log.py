"""The log of a table in memory. For tests; a mark that is set twice at once is refused here too."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
import pyarrow as pa

from streamflow.errors import Overtaken, SinkRefused
from streamflow.ports import AddedFile, ListedFile

#: What a table keeps its files for.
RETENTION = timedelta(days=7)


@dataclass
class MemoryLog:
    """`TableLog`. `commits` are the files and marks of each commit, oldest first, and `removed` by
    the number of a commit the names that it took out. It holds no files: there is none to vacuum.
    """

    schema: pa.Schema | None = None
    partition_by: tuple[str, ...] = ()
    #: How often the columns were changed.
    widened: int = 0
    commits: list[tuple[tuple[AddedFile, ...], dict[str, int]]] = field(default_factory=list)
    removed: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])
    vacuumed: list[timedelta] = field(default_factory=list[timedelta])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> MemoryTable | None:
        """See `TableLog.load`."""
        with self.lock:
            if self.schema is None:
                return None
            return MemoryTable(self, self.schema, self.widened, len(self.commits))

    def create(self, schema: pa.Schema, partition_by: Sequence[str]) -> None:
        """See `TableLog.create`."""
        with self.lock:
            if self.schema is None:
                self.schema, self.partition_by = schema, tuple(partition_by)

    def form(self, schema: pa.Schema) -> pa.Schema:
        """See `TableLog.form`."""
        return schema

    def vacuum(self, retention: timedelta) -> None:
        """See `TableLog.vacuum`."""
        if retention < RETENTION:
            raise SinkRefused(f"the table keeps its files for {RETENTION}")
        self.vacuumed.append(retention)

    def added(self, version: int | None = None) -> dict[str, AddedFile]:
        """The files of a version by name; None for the last one."""
        found: dict[str, AddedFile] = {}
        for number, (files, _) in enumerate(self.commits[:version]):
            found |= {file.name: file for file in files}
            for name in self.removed.get(number, ()):
                del found[name]
        return found

    def names(self) -> list[str]:
        """The files that readers see."""
        return sorted(self.added())


@dataclass
class MemoryTable:
    """`LoadedTable`."""

    log: MemoryLog
    schema: pa.Schema
    widened: int
    version: int

    @property
    def partition_by(self) -> tuple[str, ...]:
        """See `LoadedTable.partition_by`."""
        return self.log.partition_by

    def mark(self, name: str) -> int | None:
        """See `LoadedTable.mark`."""
        known = [marks[name] for _, marks in self.log.commits[: self.version] if name in marks]
        return known[-1] if known else None

    def widen(self, columns: pa.Schema) -> None:
        """See `LoadedTable.widen`."""
        with self.log.lock:
            if self.log.widened != self.widened:
                raise Overtaken("the columns were changed since; load it again")
            assert self.log.schema is not None
            self.log.schema = pa.schema([*self.log.schema, *columns])
            self.log.widened += 1

    def commit(self, files: Sequence[AddedFile], marks: Mapping[str, int]) -> None:
        """See `LoadedTable.commit`."""
        with self.log.lock:
            since = self.log.commits[self.version :]
            if self.log.widened != self.widened or any(set(m) & set(marks) for _, m in since):
                raise Overtaken("the marks were set since; load it again")
            self.log.commits.append((tuple(files), dict(marks)))
            self.version = len(self.log.commits)

    def files(self) -> Sequence[ListedFile]:
        """See `LoadedTable.files`."""
        found = self.log.added(self.version)
        return [_listed(found[name]) for name in sorted(found)]

    def replace(
        self,
        added: Sequence[AddedFile],
        removed: Sequence[ListedFile],
        marks: Mapping[str, int],
        *,
        same_rows: bool,
    ) -> None:
        """See `LoadedTable.replace`."""
        del same_rows
        with self.log.lock:
            number = len(self.log.commits)
            if (self.log.widened, number) != (self.widened, self.version):
                raise Overtaken("something was committed since; load it again")
            self.log.commits.append((tuple(added), dict(marks)))
            self.log.removed[number] = frozenset(file.name for file in removed)
            self.version = number + 1


def _listed(file: AddedFile) -> ListedFile:
    stats = orjson.loads(file.stats)
    low, high = stats.get("minValues", {}), stats.get("maxValues", {})
    times = {
        name: (datetime.fromisoformat(low[name]), datetime.fromisoformat(high[name]))
        for name in low
        if str(low[name]).endswith("Z") and name in high
    }
    return ListedFile(file.name, file.nbytes, file.values, times)
