"""The log of a table in memory. For tests; a mark that is set twice at once is refused here too."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from streamflow.errors import Overtaken
from streamflow.ports import AddedFile


@dataclass
class MemoryLog:
    """`TableLog`. `commits` are the files and marks of each commit, oldest first."""

    schema: pa.Schema | None = None
    partition_by: tuple[str, ...] = ()
    #: How often the columns were changed.
    widened: int = 0
    commits: list[tuple[tuple[AddedFile, ...], dict[str, int]]] = field(default_factory=list)
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

    def names(self) -> list[str]:
        """The files that readers see."""
        return sorted(file.name for files, _ in self.commits for file in files)


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
