"""What the columns of CSV are, which has texts only: by their values, or as a person says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.errors import SettingsError

_TIME = pa.timestamp("us")
_TYPES = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}
_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")
#: Numbers that begin so are names: of places, of things.
_NAMES = r"^[+-]?0[0-9]"
#: A number with a fraction that a decimal of 64 bits holds.
_FRACTION = r"^-?[0-9]{1,17}\.[0-9]+$"


def typed(texts: pa.Table, said: Mapping[str, pa.DataType]) -> pa.Table:
    """The columns with the types that a person has said, or that all of their values look like.

    Raises:
        SettingsError: values are not of the type that was said.
    """
    columns = [
        _cast(name, column, said[name]) if name in said else _guessed(column)
        for name, column in zip(texts.column_names, texts.columns, strict=True)
    ]
    return pa.table(columns, texts.column_names)


def types_said(words: tuple[str, ...]) -> dict[str, pa.DataType]:
    """From `price=decimal(9,2)` and the like to types by column. Raises `SettingsError`."""
    found: dict[str, pa.DataType] = {}
    for word in words:
        name, _, kind = word.rpartition("=")
        decimal = _DECIMAL.fullmatch(kind)
        if not name or not (decimal or kind in _TYPES):
            known = ", ".join(_TYPES)
            raise SettingsError(
                f"--type {word}: say COLUMN=TYPE, and for TYPE {known} or decimal(9,2)"
            )
        try:
            found[name] = (
                pa.decimal128(int(decimal[1]), int(decimal[2])) if decimal else _TYPES[kind]
            )
        except ValueError as error:
            raise SettingsError(f"--type {word}: {error}") from None
    return found


def _cast(name: str, texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return _as(texts, kind)
    except pa.ArrowException as error:
        raise SettingsError(f"--type {name}={kind}: {error}") from None


def _as(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if kind == _TYPES["timestamp"]:
        try:
            return texts.cast(kind)
        except pa.ArrowException:  # without a zone: taken for UTC
            return texts.cast(_TIME).cast(kind)
    return texts.cast(kind)


def _guessed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    values = texts.drop_null()
    if not len(values):
        return texts
    for kind in _candidates(values):
        try:
            return _as(texts, kind)
        except pa.ArrowException:
            continue
    return texts


def _candidates(values: pa.ChunkedArray) -> Iterator[pa.DataType]:
    if pc.any(pc.match_substring_regex(values, _NAMES)).as_py():
        return  # a date does not begin so, nor does a number
    yield pa.int64()
    if pc.all(pc.match_substring_regex(values, _FRACTION)).as_py():
        places = pc.subtract(pc.utf8_length(values), pc.add(pc.find_substring(values, "."), 1))
        scale = pc.min_max(places).as_py()
        digits = pc.max(pc.utf8_length(pc.utf8_ltrim(values, "-"))).as_py() - 1
        if scale["min"] == scale["max"] and digits <= 18:
            yield pa.decimal128(18 if digits > 9 else 9, scale["max"])
    yield pa.float64()
    lowered = pc.utf8_lower(values)
    if pc.all(pc.is_in(lowered, value_set=pa.array(["true", "false"]))).as_py():
        yield pa.bool_()
    yield pa.date32()
    yield _TYPES["timestamp"]
