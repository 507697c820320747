"""What Delta keeps of a file to pass it over: rows, and per column smallest, largest and nulls.

They come from the file's own footer. What cannot be said exactly in JSON (decimals, NaN, bytes) and
what is long is left out; a reader then looks into the file.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any, Final

import orjson
import pyarrow.parquet as pq

#: Longer texts are left out rather than cut: a cut largest value would have to be rounded up.
MAX_TEXT: Final = 64


def stats_of(metadata: pq.FileMetaData) -> str:
    """The statistics of a Parquet file, in Delta's JSON."""
    smallest: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for i in range(metadata.num_columns):
        name = metadata.schema.column(i).path
        if "." in name or not metadata.num_row_groups:  # nested: readers do not use it
            continue
        groups = [
            metadata.row_group(g).column(i).statistics for g in range(metadata.num_row_groups)
        ]
        if any(group is None or not group.has_null_count for group in groups):
            continue
        nulls[name] = sum(group.null_count for group in groups)
        filled = [group for group in groups if group.num_values]
        if not filled or not all(group.has_min_max for group in filled):
            continue
        low, high = min(group.min for group in filled), max(group.max for group in filled)
        if _can_be_said(low) and _can_be_said(high):
            smallest[name], largest[name] = _said(low), _said(high)
    found = {
        "numRecords": metadata.num_rows,
        "minValues": smallest,
        "maxValues": largest,
        "nullCount": nulls,
    }
    return orjson.dumps(found).decode()


def _can_be_said(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int | date) and not isinstance(value, bool)


def _said(value: Any) -> Any:
    if isinstance(value, datetime):
        naive = value.replace(tzinfo=None).isoformat(timespec="microseconds")
        return naive if value.tzinfo is None else f"{naive}Z"
    return value.isoformat() if isinstance(value, date) else value
