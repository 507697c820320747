"""Rows as JSON: times in UTC with a Z, decimals as text, floats that JSON lacks as words."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

#: Floats that JSON has no number for, in the words that protobuf's JSON and pydantic know.
FLOAT_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def json_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as JSON takes them; times are text.

    Turning each time into a Python object would cost more than all the rest.
    """
    columns = [_text(c) if pa.types.is_timestamp(c.type) else c for c in batch.columns]
    made = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    rows = made.to_pylist(maps_as_pydicts="strict")
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for row in _with_wild_floats(column):
            rows[row][name] = _in_words(rows[row][name])
    return rows


def _with_wild_floats(column: pa.Array) -> list[int]:
    """The rows with a float that JSON has no number for, by itself or in a list, and all rows
    of deeper values.
    """
    if pa.types.is_floating(column.type):
        wild = pc.invert(pc.is_finite(column))
        return pc.indices_nonzero(wild).to_pylist() if wild.true_count else []
    if pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type):
        wild = pc.invert(pc.is_finite(pc.list_flatten(column)))
        return pc.unique(pc.list_parent_indices(column).filter(wild)).to_pylist()
    return list(range(len(column))) if _hnearest_float(column.type) else []


def _hnearest_float(kind: pa.DataType) -> bool:
    """Are there floats in a type, however deep?"""
    if pa.types.is_nested(kind):
        return any(_hnearest_float(kind.field(i).type) for i in range(kind.num_fields))
    return pa.types.is_floating(kind)


def _in_words(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_words(one) for one in value]
    if isinstance(value, dict):
        return {name: _in_words(one) for name, one in value.items()}
    return FLOAT_WORDS.get(str(value), value) if isinstance(value, float) else value


def _text(times: pa.Array) -> pa.Array:
    """ISO 8601 in UTC; the fraction of a second only where there is one.

    By a cast, and not by `strftime`, which takes 1 us for each.
    """
    text = pc.cast(pc.cast(times, pa.timestamp("us")), pa.string())
    text = pc.replace_substring_regex(text, pattern=r"(\.000000)?$", replacement="Z")
    return pc.binary_replace_slice(text, 10, 11, "T")


def to_json(value: Any) -> bytes:
    """JSON as streamflow writes it: times in UTC with a Z, decimals as text, without loss. Bytes
    are the text that they were read from; of others, what is no UTF-8 is escaped as in Python.
    """
    return orjson.dumps(value, option=orjson.OPT_UTC_Z, default=_as_text)


def _as_text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
