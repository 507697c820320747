"""Takes rows out of a Delta table that newer ones replace, in the commit that adds those.

Which rows may be there already the newer ones tell themselves (`core/merging.py`): a first result
has none before it. A file is looked into where its partition values and the times in it, as the
log has them, allow one of the keys; where it has a row of them it is written anew without, under a
name that nobody else uses. Its rows come and go in runs, with the room of the roll, whose own files
are written by then.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.cut import Cut
from streamflow.core.delta_stats import stats_of
from streamflow.core.merging import REVISION, may_have, replacing, without
from streamflow.core.origins import merged
from streamflow.core.parquet import Inside, why_not
from streamflow.engine.file_rows import FileRows
from streamflow.engine.rewrite import begun, write_rows
from streamflow.engine.roll_memory import RollMemory
from streamflow.engine.sink_parts import row_groups
from streamflow.engine.sink_rows import Rows
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import AddedFile, ListedFile, LoadedTable, TableFiles
from streamflow.writer_settings import ROW_GROUP_ROWS, UNPLANNED, WriterSettings


@dataclass(slots=True)
class Replaced:
    """Files that are taken out of a table, and what is left of them."""

    added: list[AddedFile] = field(default_factory=list[AddedFile])
    removed: list[ListedFile] = field(default_factory=list[ListedFile])


def replaced(table: LoadedTable, files: TableFiles, cut: Cut, rows: Rows) -> Replaced:
    """Put what is left of the files of `table` that have rows which those of a roll replace.

    Raises:
        SinkRefused: a file that is part of the table is not there, or is none of ours.
        SinkUnavailable: the store does not answer.
    """
    found = Replaced()
    merging = rows.form.merging
    if merging is None or not cut.files:
        return found
    some = (replacing(piece, merging) for piece in rows.columns([*merging.by, REVISION]))
    keys = pa.concat_tables(some).combine_chunks()
    if not keys.num_rows:
        return found
    settings = cut.files[0].writer
    for file in table.files():
        if may_have(file.values, file.times, keys):
            with closing(_opened(files, file, rows.memory)) as there:
                left = _Left(there, file, keys, rows.room)
                _look_into(files, file, left, settings, table.schema.names, found)
    return found


def _opened(files: TableFiles, file: ListedFile, memory: RollMemory) -> FileRows:
    try:
        return FileRows(files, [file.name], memory)
    except FileNotFoundError:
        raise SinkRefused(
            f"{file.name} is part of the table and is not there: was it deleted by hand? Restore"
            " it, or have the table repaired by a tool of Delta"
        ) from None


class _Left:
    """The rows of a file that stay, as `Parts`: they lie as they did.

    First the columns of the keys are looked at, as many rows as a row group has at a time, and for
    each row a bit is kept.
    """

    def __init__(self, there: FileRows, file: ListedFile, keys: pa.Table, room: int) -> None:
        #: The file, and bytes of rows that may be unpacked at once.
        self.there, self.room = there, room
        known = [name for name in keys.column_names if name in there.schema.names]
        runs = (there.of(run, "", known) for run in there.having(""))
        some = row_groups(runs, ROW_GROUP_ROWS, room)
        self._stays = pa.chunked_array([_stays(rows, file, keys) for rows in some], pa.bool_())
        self.count = pc.sum(self._stays, min_count=0).as_py()

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """See `Parts.tables`."""
        start = 0
        for run in self.there.having(""):
            rows = self.there.of(run, "", columns)
            yield rows.filter(self._stays.slice(start, run.count))
            start += run.count
            del rows  # while the next ones are unpacked


def _stays(rows: pa.Table, file: ListedFile, keys: pa.Table) -> pa.Array:
    found = without(rows, file.values, keys)
    return pa.repeat(pa.scalar(True), rows.num_rows) if found is None else found


def _look_into(
    files: TableFiles,
    file: ListedFile,
    left: _Left,
    settings: WriterSettings,
    columns: Sequence[str],
    found: Replaced,
) -> None:
    """Where a file has rows of the keys, put one of the rows that stay, if there are any; into a
    table of these columns.
    """
    if left.count == left.there.num_rows:
        return
    found.removed.append(file)
    if not left.count:
        return
    [before] = left.there.footers
    footer = {} if before is None else merged([before])
    sort: list[str] = [] if before is None else orjson.loads(before.get("sort", "[]"))
    if sort:
        footer["sort"] = orjson.dumps(sort).decode()
    schema = left.there.schema
    if why_not(schema, settings) is not None:  # of before a column changed its type
        settings = UNPLANNED
    folder = file.name.rpartition("/")[0]
    name = f"{folder}/merged-{uuid.uuid4().hex}.parquet".removeprefix("/")
    inside = Inside(schema, settings, tuple(sort))
    with begun(files, name) as new:
        made = write_rows(new, inside, left, footer, left.room)
        if not new.create():
            raise SinkUnavailable(f"{name} is there, though nobody else can know its name")
        stats = stats_of(made.metadata, columns, file.values)
        found.added.append(AddedFile(name, made.size, file.values, stats))
