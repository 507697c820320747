"""What the columns of CSV are, which has texts only: by their values, or as a person says."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping

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
#: One value of each that is no text.
_EXAMPLES = {
    "int": "-12",
    "float": "1.5e3",
    "bool": "true",
    "date": "2013-01-31",
    "timestamp": "2013-01-31T05:00:00Z",
}
_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")
#: Numbers that begin so are names: of places, of things.
_NAMES = r"^[+-]?0[0-9]"
#: A number with a fraction that a decimal of 64 bits holds.
_FRACTION = r"^-?[0-9]{1,17}\.[0-9]+$"


def said_types(
    texts: pa.Table, said: Mapping[str, pa.DataType], place: Callable[[int], str]
) -> pa.Table:
    """The columns with the types that a person has said; `place` tells where a row is.

    Raises:
        SettingsError: a value is not of the type that was said.
    """
    for name, kind in said.items():
        column = texts[name]
        try:
            cast = _as(column, kind)
        except pa.ArrowException:
            row = _first_other(column, kind)
            raise SettingsError(
                f"--type {name}={_name(kind)}: {place(row)}: {column[row].as_py()!r} is no"
                f" {_name(kind)}, as {_EXAMPLES.get(_name(kind), '12.5')} is"
            ) from None
        texts = texts.set_column(texts.schema.get_field_index(name), name, cast)
    return texts


def guessed(texts: pa.Table, said: Collection[str]) -> pa.Table:
    """The other columns with the types that all of their values look like."""
    columns = [
        column if name in said else _guessed(column)
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


def _first_other(texts: pa.ChunkedArray, kind: pa.DataType) -> int:
    """The first value that is not of this type, of a column that has one."""
    low, high = 0, len(texts)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _as(texts.slice(low, middle - low), kind)
        except pa.ArrowException:
            high = middle
        else:
            low = middle
    return low


def _name(kind: pa.DataType) -> str:
    """As a person says it."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return next(name for name, other in _TYPES.items() if other == kind)


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
