"""Rows that replace earlier rows of the same key: the newest result of each window and group.

Newer is what comes later in the rows topic: all results of one window and group come from one task,
in the order in which it made them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.part import canonical

#: The number of a result's correction.
REVISION = "revision"
_ROW, _NEW = "__row", "__new"


@dataclass(frozen=True, slots=True)
class Merging:
    """By which columns rows are the same; the last is a time. `early` says that also the first
    final result of a window may have one before it, which was early.
    """

    by: tuple[str, ...]
    early: bool


def newest(chunks: Mapping[int, pa.Table], by: tuple[str, ...]) -> dict[int, pa.Array]:
    """Is each row the last one of its key? `chunks` are rows by offset, ascending."""
    filled = {offset: rows for offset, rows in chunks.items() if rows.num_rows}
    if not filled:
        return {}
    keys = _numbered(pa.concat_tables([rows.select(by) for rows in filled.values()]))
    last = keys.group_by(list(by), use_threads=False).aggregate([(_ROW, "max")])
    kept = pc.is_in(keys[_ROW], value_set=last[f"{_ROW}_max"].combine_chunks())
    found: dict[int, pa.Array] = {}
    start = 0
    for offset, rows in filled.items():
        found[offset] = kept.slice(start, rows.num_rows)
        start += rows.num_rows
    return found


def replacing(rows: pa.Table, merging: Merging) -> pa.Table:
    """The keys of rows that may have an earlier one in the table."""
    if not merging.early:
        rows = rows.filter(pc.greater(rows[REVISION], 0))
    return rows.select(merging.by)


def instants(keys: pa.Table) -> list[datetime]:
    """The times of keys, each once."""
    return pc.unique(keys[keys.column_names[-1]]).to_pylist()


def may_have(
    values: Mapping[str, str | None],
    times: Mapping[str, tuple[datetime, datetime]],
    keys: pa.Table,
) -> bool:
    """May a file with these partition values and bounds of times have a row of these keys?"""
    for name, value in values.items():
        if name in keys.column_names and not _is_among(value, keys[name]):
            return False
    time = keys.column_names[-1]
    if time not in times:
        return True
    low, high = times[time]
    return any(low <= at <= high for at in instants(keys))


def without(rows: pa.Table, values: Mapping[str, str | None], keys: pa.Table) -> pa.Array | None:
    """Does each of these rows, of a file with these partition values, have none of the keys? None
    where all are such.
    """
    mine = pa.table(list(_columns(rows, values, keys)), schema=keys.schema)
    there = _numbered(mine).append_column(_NEW, pa.repeat(pa.scalar(False), mine.num_rows))
    nowhere = pa.nulls(keys.num_rows, pa.int64())
    new = keys.append_column(_ROW, nowhere)
    new = new.append_column(_NEW, pa.repeat(pa.scalar(True), keys.num_rows))
    both = pa.concat_tables([there, new])
    by_key = both.group_by(keys.column_names, use_threads=False)
    met = by_key.aggregate([(_NEW, "any"), (_ROW, "list")])
    met = met.filter(met[f"{_NEW}_any"])
    gone = pc.drop_null(pc.list_flatten(met[f"{_ROW}_list"]))
    if not len(gone):
        return None
    places = pa.array(range(rows.num_rows), pa.int64())
    return pc.invert(pc.is_in(places, value_set=gone.combine_chunks()))


def _numbered(keys: pa.Table) -> pa.Table:
    return keys.append_column(_ROW, pa.array(range(keys.num_rows), pa.int64()))


def _columns(
    rows: pa.Table, values: Mapping[str, str | None], keys: pa.Table
) -> Iterator[pa.ChunkedArray | pa.Array]:
    """The key of each row; what names the folder of a file is not in the file."""
    for field in keys.schema:
        if field.name in rows.column_names:
            yield canonical(rows[field.name].cast(field.type))
        else:
            value = pa.scalar(values.get(field.name), pa.string()).cast(field.type)
            yield pa.repeat(value, rows.num_rows)


def _is_among(value: str | None, column: pa.ChunkedArray) -> bool:
    texts = pc.unique(column).cast(pa.string())
    return pc.any(pc.equal(texts, value)).as_py() if value is not None else bool(texts.null_count)
