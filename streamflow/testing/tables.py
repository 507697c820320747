"""The tables of a driver, in memory."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.destinations import Delta, Parquet
from streamflow.edges.memory_files import MemoryFiles
from streamflow.edges.memory_table_log import MemoryLog
from streamflow.engine.chain import Table
from streamflow.ports import LoggedTable


class Tables:
    """By path; what has been written outlives whoever wrote it."""

    def __init__(self) -> None:
        self.files: dict[str, MemoryFiles] = {}
        self.logs: dict[str, MemoryLog] = {}

    def of(self, table: Parquet) -> Table:
        """The table that a destination names; made where there is none."""
        files = self.files.setdefault(table.path, MemoryFiles())
        if not isinstance(table, Delta):
            return files
        return LoggedTable(files, self.logs.setdefault(table.path, MemoryLog()))

    def visible(self, path: str) -> list[pa.Table]:
        """The content of every file that readers see."""
        files, log = self.files.get(path), self.logs.get(path)
        if files is None:
            return []
        names = files.names() if log is None else log.names()
        found = [name for name in names if name.endswith(".parquet")]
        return [
            pq.ParquetFile(pa.BufferReader(files.read(name))).read(use_threads=False)
            for name in found
        ]
