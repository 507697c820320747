"""Writes rows of files of a table anew, in other files: joined, or without some of them.

Such a file is written as a roll would write it today, by the table's storage plan and layout, and
its footer has the ranges of all that it was made of (`core/origins.py`). Rows come and go in
pieces, under the bound of the memory of rolls; a row group has no more than there is room for.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.core.file_layout import settings_of, sort_of
from streamflow.core.hive import Group
from streamflow.core.origins import footer_of, merged
from streamflow.core.parquet import Inside, looked_into, write_parquet
from streamflow.core.parquet_tail import MAGIC, footer_bytes
from streamflow.engine.file_rows import FileRows
from streamflow.engine.roll_memory import RollMemory
from streamflow.engine.sink_parts import Parts, row_groups
from streamflow.engine.sink_plan import Planner
from streamflow.engine.sink_roll import FOOTER_BYTES, FileStream
from streamflow.ports import NewFile, TableFiles
from streamflow.writer_settings import AS_THEY_COME, FileLayout, Storage, WriterSettings

#: By the name of a file, what streamflow has written into its footer.
Footers = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Rewritten:
    """A file that is written and not visible yet."""

    new: NewFile
    size: int
    metadata: pq.FileMetaData


class Rewriter:
    """Writes files of one table. For one thread at a time.

    Args:
        files: Those of the table.
        storage: How its files are to be written.
        layout: What it declares of the inside of its files.
        memory: What bounds the rows that are unpacked, with those of rolls.
    """

    def __init__(
        self,
        files: TableFiles,
        storage: Storage | WriterSettings,
        layout: FileLayout = AS_THEY_COME,
        memory: RollMemory | None = None,
    ) -> None:
        self._files = files
        self._planner = Planner(files, storage)
        self._layout = layout
        self._memory = memory or RollMemory()

    @contextmanager
    def joined(self, name: str, names: Sequence[str], footers: Footers) -> Generator[Rewritten]:
        """A file `name` with the rows of some, which have one schema; forgotten at the end, if it
        was not made visible.

        Raises:
            FileNotFoundError: one of them is not there.
            SinkUnavailable: one of them was changed meanwhile, or the store is away.
        """
        with closing(FileRows(self._files, names, self._memory)) as rows:
            footer = merged([footers[each] for each in names])
            settings = self._planner.settings(footer["schema_id"], _Whole(rows))
            settings = settings_of(self._layout, settings, rows.schema)
            sort = sort_of(self._layout, rows.schema)
            if sort:
                footer["sort"] = orjson.dumps(sort).decode()
            inside = Inside(rows.schema, settings, sort)
            with begun(self._files, name) as new:
                with self._memory.share(rows.unpacked) as room:
                    made = write_rows(new, inside, rows.parts(sort, room), footer, room)
                yield made  # with no share any more: a store may take its time


@contextmanager
def begun(files: TableFiles, name: str) -> Generator[NewFile]:
    """A new file, which is dropped at the end."""
    new = files.begin(name)
    try:
        yield new
    finally:
        new.drop()


def write_rows(
    new: NewFile, inside: Inside, parts: Parts, footer: Mapping[str, str], room: int
) -> Rewritten:
    """Write rows into a new file, row group by row group, each within `room`."""
    stream, settings = FileStream(new), inside.settings
    size = settings.row_group_rows
    inside = looked_into(inside, lambda names: row_groups(parts.tables(names), size))
    tables = row_groups(parts.tables(), settings.row_group_rows, room)
    metadata = write_parquet(pa.PythonFile(stream, mode="w"), inside, tables, footer)
    return Rewritten(new, stream.size, metadata)


class _Whole:
    """Rows of one file, as a plan looks at them."""

    def __init__(self, rows: FileRows) -> None:
        self._rows = rows
        self.schema = rows.schema
        self.largest = Group("", (), rows.num_rows, (0, 0), (0, 0))
        self.groups = [self.largest]

    def sample(self) -> pa.Table:
        """See `Planned.sample`."""
        return self._rows.sample()


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
