"""Casts that lose nothing, and columns that later steps can take.

Arrow's own casts refuse a fraction that would be an integer, and round one that would be a decimal
or a float, cut a time to its day, and make `true` of any number. Here every value survives or the
cast is refused. Arrow also casts what lies under a null struct or in a null list, which is nobody's
value; so what is nested is taken apart, cast where it is there, and put together again.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.errors import TopologyError

#: Texts that are as short have digits that every float of a usual size gives back.
_SURE_CHARACTERS = 15
#: Of as many significant digits a float is the one that is meant, however they were written.
_MOST_DIGITS = 17
_EXACT_INTEGER = 2**53


def cast_exactly(values: pa.Array, kind: pa.DataType, name: str = "value") -> pa.Array:
    """The values as a column of another type, each of them the same; `name` is for words.

    A float is the decimal that it is written as, a decimal or a text the float that is written so.

    Raises:
        ValueError: one is not the same; or a null is where none can be, inside of another value.
        ArrowNotImplementedError: there is no such cast.
    """
    return values if values.type == kind else _remade(values, kind, name)


def sound(values: pa.Array, name: str = "value") -> pa.Array:
    """A column that was made elsewhere, as later steps can take it: texts are UTF-8, no map has a
    key twice, and nothing lies in lists and structs that are null. Costs nothing for numbers.

    Raises:
        ValueError: texts or maps are not so; or a null is where none can be, inside of a value.
    """
    kind = values.type
    if pa.types.is_nested(kind):
        values = _remade(values, kind, name)
    if _has_text(kind):
        values.validate(full=True)
    return values


def nearest_float(numbers: Any) -> Any:
    """Numbers, or one, as floats, the nearest where there is none that is equal. Arrow's own cast
    of a decimal may give the one beside it: of 41 % of prices in cents.
    """
    if pa.types.is_decimal(numbers.type):
        numbers = pc.cast(numbers, pa.string())
        return pc.cast(numbers, pa.float64())
    return pc.cast(numbers, pa.float64(), safe=False)


def check_cast(where: str, made: pa.DataType, wanted: pa.DataType) -> None:
    """Raises `TopologyError` when columns of one type never are columns of the other."""
    try:
        cast_exactly(pa.array([], made), wanted, where)
    except _NoFieldError as error:
        raise TopologyError(str(error)) from error
    except (ValueError, pa.ArrowNotImplementedError) as error:
        raise TopologyError(f"{where} is {wanted}, but is made of {made}") from error


def plain_text(column: pa.Array) -> pa.Array:
    """Each value as text, decimals with all their places: Arrow writes a small one as `0E-9`."""
    texts = pc.cast(column, pa.string())
    if not pa.types.is_decimal(column.type):
        return texts
    short = pc.fill_null(pc.match_substring(texts, "E"), False)
    if not short.true_count:
        return texts
    known = pc.unique(texts.filter(short))
    plain = pa.array([format(Decimal(text), "f") for text in known.to_pylist()], pa.string())
    return pc.coalesce(plain.take(pc.index_in(texts, value_set=known)), texts)


class _NoFieldError(ValueError):
    """A struct lacks a field that is wanted."""


def _remade(values: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    """The values, taken apart where they are nested, and put together as this type."""
    if pa.types.is_null(values.type):
        values = pa.nulls(len(values), kind)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    made = values.type
    if pa.types.is_struct(kind) and pa.types.is_struct(made):
        return _struct(values, kind, name)
    if pa.types.is_map(kind) and pa.types.is_map(made):
        return _map(values, kind, name)
    if pa.types.is_list(kind) and (_is_list(made) or pa.types.is_map(made)):
        return _list(values, kind, name)
    return values if made == kind else _cast(values, kind, name)


def _struct(values: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    gone = pc.is_null(values) if values.null_count else None
    parts: list[pa.Array] = []
    held = values.flatten()  # of a struct that is null all parts are
    for field in kind:
        here = f"{name}.{field.name}"
        place = values.type.get_field_index(field.name)
        if place < 0:
            raise _NoFieldError(f"{here} is not in what it is made of, {values.type}")
        part = _remade(held[place], field.type, here)
        if not field.nullable and part.null_count:
            _refuse_null(part if gone is None else part.filter(pc.invert(gone)), here)
            part = _filled(part)
        parts.append(part)
    return pa.StructArray.from_arrays(parts, fields=list(kind), mask=gone)


def _list(values: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    if pa.types.is_map(values.type):
        entry = pa.struct([values.type.key_field, values.type.item_field])
        values = pc.cast(values, pa.list_(pa.field("entries", entry, nullable=False)))
    items = _remade(pc.list_flatten(values), kind.value_type, name)  # without those of null lists
    if not kind.value_field.nullable:
        _refuse_null(items, f"an item of {name}")
    return pa.ListArray.from_arrays(_offsets(values), items, type=kind, mask=_gone(values))


def _map(values: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    made = values.type
    entry = pa.struct([made.key_field, made.item_field])
    lists = pc.cast(values, pa.list_(pa.field("entries", entry, nullable=False)))
    keys, items = pc.list_flatten(lists).flatten()
    _refuse_null(keys, f"a key of {name}")
    keys, items = _remade(keys, kind.key_type, name), _remade(items, kind.item_type, name)
    _refuse_twice(keys, pc.list_parent_indices(lists), name)
    return pa.MapArray.from_arrays(_offsets(lists), keys, items, type=kind, mask=_gone(lists))


def _cast(values: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    made, types = values.type, pa.types
    if kind == pa.float64():
        if types.is_integer(made):
            return _float_of_integers(values, name)
        if types.is_decimal(made):
            return _float_of_decimals(values, name)
        if _is_text(made) or types.is_binary(made) or types.is_large_binary(made):
            return _float_of_texts(pc.cast(values, pa.string()), name)
    if types.is_decimal(kind) and types.is_floating(made):
        return _decimal_of_floats(values, kind, name)
    if types.is_boolean(kind) and (types.is_integer(made) or types.is_floating(made)):
        truth = pc.cast(values, kind)
        return _same(values, truth, pc.equal(pc.cast(truth, made), values), name)
    if types.is_date(kind) and types.is_timestamp(made):
        local = pc.local_timestamp(values) if made.tz else values
        days = pc.cast(local, kind)
        return _same(values, days, pc.equal(pc.cast(days, local.type), local), name)
    if types.is_string(kind) and types.is_decimal(made):
        return plain_text(values)
    return pc.cast(values, kind)


def _float_of_integers(values: pa.Array, name: str) -> pa.Array:
    floats = pc.cast(values, pa.float64(), safe=False)
    low, high = pc.min_max(values).as_py().values()
    if low is None or -_EXACT_INTEGER <= low <= high <= _EXACT_INTEGER:
        return floats
    # The largest integer becomes the float after it, which no integer is: a cast back would wrap.
    back = pc.cast(floats, values.type, safe=False)
    beyond = 2.0 ** (63 if pa.types.is_signed_integer(values.type) else 64)
    return _same(values, floats, pc.and_(pc.equal(back, values), pc.less(floats, beyond)), name)


def _float_of_decimals(values: pa.Array, name: str) -> pa.Array:
    """The nearest float, whose shortest digits are the decimal's or which is the decimal."""
    floats = nearest_float(values)
    try:
        back = pc.cast(pc.cast(floats, pa.string()), values.type)
    except pa.ArrowInvalid:  # one is rounded up to what the type cannot hold
        back = pa.nulls(len(values), values.type)
    doubt = pc.and_(pc.is_valid(values), pc.invert(pc.fill_null(pc.equal(back, values), False)))
    for row in pc.indices_nonzero(doubt).to_pylist():
        number, made = values[row].as_py(), floats[row].as_py()
        if number not in (Decimal(repr(made)), Decimal(made)):
            raise _loss(number, floats.type, name)
    return floats


def _float_of_texts(values: pa.Array, name: str) -> pa.Array:
    floats = pc.cast(values, pa.float64())
    size = pc.abs(floats)
    usual = pc.and_(pc.greater(size, 1e-300), pc.less(size, 1e300))
    sure = pc.and_(usual, pc.less_equal(pc.binary_length(values), _SURE_CHARACTERS))
    if pc.all(sure).as_py() is not False:
        return floats
    zero = pc.and_(pc.equal(size, 0), pc.invert(pc.match_substring_regex(values, "[1-9]")))
    shortest = pc.equal(pc.cast(floats, pa.string()), values)
    sure = pc.or_(pc.or_(sure, zero), shortest)
    for row in pc.indices_nonzero(pc.invert(pc.fill_null(sure, True))).to_pylist():
        text = values[row].as_py()
        if not _is_meant(text, floats[row].as_py()):
            raise _loss(text, floats.type, name)
    return floats


def _is_meant(text: str, made: float) -> bool:
    """Does a text, written with up to 17 digits, say this float?"""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return False
    if not number.is_finite() or made in (float("inf"), float("-inf")):
        return number.is_nan() or number == made
    if number in (Decimal(repr(made)), Decimal(made)):
        return True
    digits = len(number.as_tuple().digits)
    return digits <= _MOST_DIGITS and Decimal(f"{made:.{digits - 1}e}") == number


def _decimal_of_floats(values: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    try:
        return pc.cast(pc.cast(values, pa.string()), kind)
    except pa.ArrowInvalid as error:
        one = values[0].as_py() if len(values) == 1 else "a value"
        raise _loss(one, kind, name) from error


def _same(values: pa.Array, made: pa.Array, same: pa.Array, name: str) -> pa.Array:
    """What was made; raises `ValueError` where a value is not the same. Null is not compared."""
    if pc.all(same).as_py() is False:
        first = pc.index(same, False).as_py()
        raise _loss(values[first].as_py(), made.type, name)
    return made


def _loss(value: object, kind: pa.DataType, name: str) -> ValueError:
    return ValueError(f"{name}: {value} is no {kind} without loss: round it first")


def _refuse_null(values: pa.Array, what: str) -> None:
    if values.null_count:
        raise ValueError(f"{what} is null, and cannot be")


def _refuse_twice(keys: pa.Array, maps: pa.Array, name: str) -> None:
    """Raises `ValueError` when a key is twice in one of the maps, whose number each has."""
    codes = pc.cast(keys.dictionary_encode().indices, pa.int64())
    pairs = pc.add(pc.multiply(pc.cast(maps, pa.int64()), len(keys)), codes)
    order = pc.array_sort_indices(pairs)
    pairs = pairs.take(order)
    twice = pc.equal(pairs[1:], pairs[:-1])
    if twice.true_count:
        key = keys[order[pc.index(twice, True).as_py()].as_py()].as_py()
        raise ValueError(f"{name} has the key {key!r} twice")


def _filled(part: pa.Array) -> pa.Array:
    """With an empty value for null: under a null struct a part that cannot be null is none."""
    blank = pa.array([None], pa.struct([pa.field("part", part.type, nullable=False)])).field(0)
    n = len(part)
    places = pc.if_else(pc.is_null(part), n, pa.array(range(n), pa.int64()))
    return pa.concat_arrays([part, blank]).take(places)


def _offsets(lists: pa.Array) -> pa.Array:
    sizes = pc.fill_null(pc.cast(pc.list_value_length(lists), pa.int64()), 0)
    ends = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(sizes)])
    return pc.cast(ends, pa.int32())


def _gone(values: pa.Array) -> pa.Array | None:
    return pc.is_null(values) if values.null_count else None


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    fixed = types.is_fixed_size_list(kind) or types.is_list_view(kind)
    return types.is_list(kind) or types.is_large_list(kind) or fixed


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


@cache
def _has_text(kind: pa.DataType) -> bool:
    """Are there texts in it? All maps have some."""
    if pa.types.is_nested(kind):
        return any(_has_text(kind.field(i).type) for i in range(kind.num_fields))
    return _is_text(kind)
