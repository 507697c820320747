"""Writes rows of files of a table anew, in other files: joined, or without some of them.

Such a file is written as a roll would write it today, by the table's storage plan and layout, and
its footer has the ranges of all that it was made of (`core/origins.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.core.file_layout import in_order, settings_of, sort_of
from streamflow.core.hive import Group
from streamflow.core.origins import footer_of, merged
from streamflow.core.parquet import encode_parquet
from streamflow.core.parquet_tail import MAGIC, footer_bytes
from streamflow.engine.sink_plan import Planner
from streamflow.engine.sink_roll import FOOTER_BYTES
from streamflow.ports import TableFiles
from streamflow.storage.sample import take_sample
from streamflow.writer_settings import AS_THEY_COME, FileLayout, Storage, WriterSettings

#: By the name of a file, what streamflow has written into its footer.
Footers = Mapping[str, Mapping[str, str]]


class Rewriter:
    """Writes files of one table. For one thread at a time.

    Args:
        files: Those of the table.
        storage: How its files are to be written.
        layout: What it declares of the inside of its files.
    """

    def __init__(
        self,
        files: TableFiles,
        storage: Storage | WriterSettings,
        layout: FileLayout = AS_THEY_COME,
    ) -> None:
        self._files = files
        self._planner = Planner(files, storage)
        self._layout = layout

    def joined(self, names: Sequence[str], footers: Footers) -> pa.Buffer:
        """One file with the rows of some, which have one schema."""
        tables = [pq.read_table(pa.BufferReader(self._files.read(name))) for name in names]
        return self.encoded(pa.concat_tables(tables), [footers[name] for name in names])

    def encoded(self, rows: pa.Table, footers: Sequence[Mapping[str, str]]) -> pa.Buffer:
        """A file of rows that files with these footers had."""
        footer = merged(footers)
        settings = self._planner.settings(footer["schema_id"], _Whole(rows))
        settings = settings_of(self._layout, settings, rows.column_names)
        sort = sort_of(self._layout, rows.column_names)
        if sort:
            footer["sort"] = orjson.dumps(sort).decode()
        chosen = rows.take(in_order(rows, sort)) if sort else rows
        return encode_parquet(chosen, settings, footer, sort)


class _Whole:
    """Rows of one file, as a plan looks at them."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self.schema = rows.schema
        self.largest = Group("", (), rows.num_rows, (0, 0), (0, 0))
        self.groups = [self.largest]

    def sample(self) -> pa.Table:
        """See `Planned.sample`."""
        return take_sample(self._rows)


def metadata_at(files: TableFiles, name: str) -> pq.FileMetaData | None:
    """What the end of a file says of it; None where it is no Parquet file."""
    tail = files.tail(name, FOOTER_BYTES)
    size = footer_bytes(tail)
    if size is None:
        return None
    if size > len(tail):
        tail = files.tail(name, size)
    try:
        return pq.read_metadata(pa.BufferReader(MAGIC + tail[-size:]))
    except (pa.ArrowException, OSError):
        return None


def footer_at(files: TableFiles, name: str) -> dict[str, str] | None:
    """What streamflow has written into the footer of a file; None where it has not made it."""
    metadata = metadata_at(files, name)
    return None if metadata is None else footer_of(metadata)
