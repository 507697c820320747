"""What Delta keeps of a file to pass it over: rows, and per column smallest, largest and nulls.

They come from the file's own footer. They are said of each column, or of none: where some have
bounds, deltalake's data sets take a column without for one that nothing can be in, and pass the
file over. So where one cannot be said exactly, or near it, in JSON, as of floats that are not all
finite, and of models, a reader looks into the file.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

#: Longer texts are cut.
MAX_TEXT: Final = 64
#: No letter follows it, so a text that is cut and has it in place of the rest is not smaller.
_LAST: Final = "\U0010ffff"


class _Bounds(NamedTuple):
    """How many nulls, and the smallest and the largest value, None where there is none."""

    nulls: int
    low: Any
    high: Any


def stats_of(
    metadata: pq.FileMetaData, columns: Collection[str] = (), values: Collection[str] = ()
) -> str:
    """The statistics of a Parquet file, in Delta's JSON. `columns` are those of its table, and
    `values` those whose values its folder says: any other that it does not have is null in it.
    """
    found: dict[str, Any] = {"numRecords": metadata.num_rows}
    bounds = _bounds(metadata)
    if bounds is not None:
        said = {name: one for name, one in bounds.items() if one.low is not None}
        there = {*metadata.schema.to_arrow_schema().names, *values}
        missing = dict.fromkeys(sorted({*columns} - there), metadata.num_rows)
        found["minValues"] = {name: one.low for name, one in said.items()}
        found["maxValues"] = {name: one.high for name, one in said.items()}
        found["nullCount"] = {name: one.nulls for name, one in bounds.items()} | missing
    return orjson.dumps(found).decode()


def _bounds(metadata: pq.FileMetaData) -> dict[str, _Bounds] | None:
    """Of all columns that a reader looks for bounds of; None where those of one cannot be said."""
    places = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    found: dict[str, _Bounds] = {}
    for field in metadata.schema.to_arrow_schema():
        if _has_none(field.type):
            continue
        place = None if pa.types.is_struct(field.type) else places.get(field.name)
        one = None if place is None else _bounds_of(metadata, place)
        if one is None:
            return None
        found[field.name] = one
    return found if metadata.num_row_groups else None


def _has_none(kind: pa.DataType) -> bool:
    """Do readers look for no bounds of these?"""
    types = pa.types
    nested = types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind)
    return nested or types.is_binary(kind) or types.is_large_binary(kind)


def _bounds_of(metadata: pq.FileMetaData, place: int) -> _Bounds | None:
    numbers = range(metadata.num_row_groups)
    groups = [metadata.row_group(number).column(place).statistics for number in numbers]
    if any(group is None or not group.has_null_count for group in groups):
        return None
    nulls = sum(group.null_count for group in groups)
    filled = [group for group in groups if group.num_values]
    if not filled:
        return _Bounds(nulls, None, None)
    if not all(group.has_min_max for group in filled):
        return None
    low = _said(min(group.min for group in filled), is_largest=False)
    high = _said(max(group.max for group in filled), is_largest=True)
    return None if low is None or high is None else _Bounds(nulls, low, high)


def _said(value: Any, *, is_largest: bool) -> Any:
    """A bound in JSON, or one that is not tighter; None where there is none."""
    match value:
        case datetime():
            naive = value.replace(tzinfo=None).isoformat(timespec="microseconds")
            return naive if value.tzinfo is None else f"{naive}Z"
        case date():
            return value.isoformat()
        case str() if len(value) > MAX_TEXT and is_largest:
            rest = value[MAX_TEXT:].lstrip(_LAST)
            return value[:MAX_TEXT] + _LAST if len(rest) == len(value) - MAX_TEXT else None
        case str():
            return value[:MAX_TEXT]
        case Decimal():
            return orjson.Fragment(f"{value:f}")
        case float():
            return value if math.isfinite(value) else None
        case bool() | int():
            return value
        case _:
            return None
