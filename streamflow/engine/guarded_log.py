"""The log of a table behind its circuit breaker, which is that of its files too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import pyarrow as pa

from streamflow.engine.chain import Table
from streamflow.engine.guarded_files import Guard, GuardedFiles
from streamflow.ports import AddedFile, ListedFile, LoadedTable, LoggedTable, TableLog


def guarded(table: Table, guard: Guard) -> Table:
    """A table whose store is asked through its guard only."""
    if isinstance(table, LoggedTable):
        return LoggedTable(GuardedFiles(table.files, guard), GuardedLog(table.log, guard))
    return GuardedFiles(table, guard)


class GuardedLog:
    """`TableLog` that asks a guard first."""

    def __init__(self, log: TableLog, guard: Guard) -> None:
        self._log = log
        self._guard = guard

    def load(self) -> LoadedTable | None:
        """See `TableLog.load`."""
        loaded = self._guard.call(self._log.load)
        return None if loaded is None else GuardedVersion(loaded, self._guard)

    def create(self, schema: pa.Schema, partition_by: Sequence[str]) -> None:
        """See `TableLog.create`."""
        self._guard.call(lambda: self._log.create(schema, partition_by))

    def form(self, schema: pa.Schema) -> pa.Schema:
        """See `TableLog.form`: nobody is asked."""
        return self._log.form(schema)

    def vacuum(self, retention: timedelta) -> None:
        """See `TableLog.vacuum`."""
        self._guard.call(lambda: self._log.vacuum(retention))


class GuardedVersion:
    """`LoadedTable` that asks a guard before it writes."""

    def __init__(self, table: LoadedTable, guard: Guard) -> None:
        self._table = table
        self._call = guard.call

    @property
    def schema(self) -> pa.Schema:
        """See `LoadedTable.schema`."""
        return self._table.schema

    @property
    def partition_by(self) -> tuple[str, ...]:
        """See `LoadedTable.partition_by`."""
        return self._table.partition_by

    def mark(self, name: str) -> int | None:
        """See `LoadedTable.mark`."""
        return self._table.mark(name)

    def widen(self, columns: pa.Schema) -> None:
        """See `LoadedTable.widen`."""
        self._call(lambda: self._table.widen(columns))

    def commit(self, files: Sequence[AddedFile], marks: Mapping[str, int]) -> None:
        """See `LoadedTable.commit`."""
        self._call(lambda: self._table.commit(files, marks))

    def files(self) -> Sequence[ListedFile]:
        """See `LoadedTable.files`."""
        return self._call(self._table.files)

    def replace(
        self,
        added: Sequence[AddedFile],
        removed: Sequence[ListedFile],
        marks: Mapping[str, int],
        *,
        same_rows: bool,
    ) -> None:
        """See `LoadedTable.replace`."""
        self._call(lambda: self._table.replace(added, removed, marks, same_rows=same_rows))
