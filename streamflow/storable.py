"""Which rows hold what their columns say that they cannot, and no step after would find.

Arrow takes a null into a list of values that cannot be null, and points in time beyond the years
that anything else can read. A table that is written then fails, after the commit that has the row;
so such rows are found where columns are made: of values, and by whatever makes new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

_DAY = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_FIRST, _LAST = date.min.toordinal() - _EPOCH, date.max.toordinal() - _EPOCH
#: Microseconds since 1970 of the years 1 to 9999 in UTC; days since 1970.
_MICROS = _FIRST * _DAY, (_LAST + 1) * _DAY - 1
_DAYS = _FIRST, _LAST


Unsure = Sequence[tuple[int, pa.Field, bool]]


def unsure(schema: pa.Schema) -> Unsure:
    """The columns, by their places, in which there is anything to look for; and whether that is in
    their values, and not only a null.
    """
    found = [(i, field, _looked_into(field.type)) for i, field in enumerate(schema)]
    return [(i, field, inside) for i, field, inside in found if inside or not field.nullable]


def unfits(fields: Unsure, rows: pa.RecordBatch) -> dict[int, str]:
    """Why rows cannot have what they have in these columns; empty where all can."""
    found: dict[int, str] = {}
    for place, field, inside in fields:
        column = rows.column(place)
        if inside or column.null_count:
            found |= unfit(column, field)
    return found


def unfit(column: pa.Array, field: pa.Field) -> dict[int, str]:
    """The same of one column."""
    mask = _unfit(column, field)
    if mask is None:
        return {}
    nulls = [] if field.nullable else pc.indices_nonzero(pc.is_null(column)).to_pylist()
    has = "is" if not pa.types.is_nested(field.type) else "holds a null that cannot be, or"
    why = f"{field.name} {has} a time outside the years 1 to 9999 in UTC"
    bad = dict.fromkeys(pc.indices_nonzero(mask).to_pylist(), why)
    return bad | dict.fromkeys(nulls, f"{field.name} is null, and cannot be")


def _can_be_unfit(field: pa.Field) -> bool:
    return not field.nullable or _looked_into(field.type)


def _looked_into(kind: pa.DataType) -> bool:
    if pa.types.is_map(kind):
        return _looked_into(kind.item_type)
    if pa.types.is_list(kind):
        return _can_be_unfit(kind.value_field)
    if pa.types.is_struct(kind):
        return any(map(_can_be_unfit, kind))
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _unfit(column: pa.Array, field: pa.Field) -> pa.Array | None:
    """True for each row that is so; None where no row is."""
    inside = _inside(column)
    nulls = None if field.nullable or not column.null_count else pc.is_null(column)
    return _either(nulls, inside)


def _inside(column: pa.Array) -> pa.Array | None:
    kind = column.type
    if not len(column) or not _looked_into(kind):
        return None
    if pa.types.is_timestamp(kind):
        return _outside(pc.cast(column, pa.int64()), *_MICROS)
    if pa.types.is_date(kind):
        return _outside(pc.cast(column, pa.int32()), *_DAYS)
    if pa.types.is_struct(kind):
        return _of_struct(column)
    if pa.types.is_map(kind):
        column = pa.ListArray.from_arrays(column.offsets, column.items)
    return _of_list(column)


def _of_list(column: pa.Array) -> pa.Array | None:
    items = _unfit(pc.list_flatten(column), column.type.value_field)
    if items is None:
        return None
    rows = pc.unique(pc.list_parent_indices(column).filter(items))
    return pc.is_in(pa.array(range(len(column)), rows.type), value_set=rows)


def _of_struct(column: pa.Array) -> pa.Array | None:
    there = pc.is_valid(column)
    found: pa.Array | None = None
    for field, part in zip(column.type, column.flatten(), strict=True):
        bad = _unfit(part, field)  # of a struct that is null all parts are
        found = _either(found, None if bad is None else pc.and_(bad, there))
    return found if found is not None and found.true_count else None


def _outside(numbers: pa.Array, low: int, high: int) -> pa.Array | None:
    smallest, largest = pc.min_max(numbers).as_py().values()
    if smallest is None or low <= smallest <= largest <= high:
        return None
    return pc.fill_null(pc.or_(pc.less(numbers, low), pc.greater(numbers, high)), False)


def _either(one: pa.Array | None, other: pa.Array | None) -> pa.Array | None:
    if one is None or other is None:
        return other if one is None else one
    return pc.or_(one, other)
