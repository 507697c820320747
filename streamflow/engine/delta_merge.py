"""Takes rows out of a Delta table that newer ones replace, in the commit that adds those.

Which rows may be there already the newer ones tell themselves (`core/merging.py`): a first result
has none before it. A file is looked into where its partition values and the times in it, as the
log has them, allow one of the keys; where it has a row of them it is written anew without, under a
name that nobody else uses.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.core.cut import Cut
from streamflow.core.delta_stats import stats_of
from streamflow.core.merging import REVISION, may_have, replacing, without
from streamflow.core.origins import footer_of, merged
from streamflow.core.parquet import encode_parquet
from streamflow.engine.sink_rows import Rows
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import AddedFile, ListedFile, LoadedTable, TableFiles
from streamflow.writer_settings import UNPLANNED, WriterSettings


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
    keys = replacing(rows.columns([*merging.by, REVISION]), merging)
    if not keys.num_rows:
        return found
    settings = cut.files[0].writer
    for file in table.files():
        if not may_have(file.values, file.times, keys):
            continue
        data = _read(files, file)
        left = without(data.read(), file.values, keys)
        if left is None:
            continue
        found.removed.append(file)
        found.added += _left(files, file, left, data.metadata, settings)
    return found


def _read(files: TableFiles, file: ListedFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(pa.BufferReader(files.read(file.name)))
    except FileNotFoundError:
        raise SinkRefused(
            f"{file.name} is part of the table and is not there: was it deleted by hand? Restore"
            " it, or have the table repaired by a tool of Delta"
        ) from None


def _left(
    files: TableFiles,
    file: ListedFile,
    left: pa.Table,
    metadata: pq.FileMetaData,
    settings: WriterSettings,
) -> Iterator[AddedFile]:
    """A file of the rows that stay; none where there are none. They lie as they did."""
    if not left.num_rows:
        return
    before: Mapping[str, str] | None = footer_of(metadata)
    footer = {} if before is None else merged([before])
    sort: list[str] = [] if before is None else orjson.loads(before.get("sort", "[]"))
    if sort:
        footer["sort"] = orjson.dumps(sort).decode()
    try:
        data = encode_parquet(left, settings, footer, sort)
    except pa.ArrowException:  # of before a column changed its type
        data = encode_parquet(left, UNPLANNED, footer, sort)
    folder = file.name.rpartition("/")[0]
    name = f"{folder}/merged-{uuid.uuid4().hex}.parquet".removeprefix("/")
    if not files.create(name, memoryview(data)):
        raise SinkUnavailable(f"{name} is there, though nobody else can know its name")
    yield AddedFile(name, data.size, file.values, stats_of(pq.read_metadata(pa.BufferReader(data))))
