"""Event times as numbers: so many seconds, or parts of them, since 1970.

The unit is said, never guessed by the size of a number, for then a time before 1970 or far in the
future would be read in the wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.errors import TopologyError

Unit = Literal["s", "ms", "us", "ns"]

#: Of each unit: how many make a second.
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: Microseconds, far outside of every range of times, that are computed with no overflow.
_FAR = 2**62


@dataclass(frozen=True)
class Epoch:
    """A field with the time since 1970 in a unit."""

    field: str
    unit: Unit


def epoch(field: str, unit: Unit) -> Epoch:
    """The event time is a number: so many of `unit` since 1970-01-01T00:00:00Z, before it below 0.

    Leap seconds are not counted, as in Unix and Kafka. Parts of a microsecond are cut off an
    integer, towards the past; a float, which is only near the time that was meant, is rounded to
    the nearest microsecond. NaN and infinite floats cannot be read.

    Args:
        field: An `int` or `float` field of the model.
        unit: `"s"`, `"ms"`, `"us"` or `"ns"`.

    Raises:
        TopologyError: there is no such unit.
    """
    check_unit(f"epoch({field!r}, unit={unit!r})", unit)
    return Epoch(field, unit)


def check_unit(where: str, unit: Unit) -> None:
    """Raises `TopologyError` when there is no such unit."""
    if unit not in get_args(Unit):
        raise TopologyError(f"{where}: the unit is one of {list(PER_SECOND)}")


def epoch_micros(column: pa.Array, unit: Unit) -> tuple[pa.Array, pa.Array]:
    """Microseconds since 1970, null where there is no number; and which are no time at all.

    A time that is too far away for 64 bits stays far away.
    """
    per_second = PER_SECOND[unit]
    if pa.types.is_integer(column.type):
        return _of_integers(column, per_second), pa.repeat(pa.scalar(False), len(column))
    wild = pc.fill_null(pc.invert(pc.is_finite(column)), False)
    # Below one microsecond it is divided: a product with 0.001 would be off by its own error.
    if per_second > 10**6:
        micros = pc.divide(column, per_second / 10**6)
    else:
        micros = pc.multiply(column, 10**6 / per_second)
    whole = pc.round(micros, round_mode="half_to_even")
    whole = pc.if_else(wild, None, _within(whole, float(_FAR)))
    return pc.cast(whole, pa.int64()), wild


def _of_integers(column: pa.Array, per_second: int) -> pa.Array:
    if per_second <= 10**6:
        factor = 10**6 // per_second
        return pc.multiply(_within(column, _FAR // factor), factor)
    parts = per_second // 10**6
    # Division cuts towards zero; what is left over lies before 1970.
    cut = pc.divide(column, parts)
    before = pc.less(column, pc.multiply(cut, parts))
    return pc.subtract(cut, pc.cast(before, pa.int64()))


def _within(column: pa.Array, bound: float) -> pa.Array:
    limits = pa.scalar(-bound, column.type), pa.scalar(bound, column.type)
    above = pc.max_element_wise(limits[0], column, skip_nulls=False)
    return pc.min_element_wise(limits[1], above, skip_nulls=False)
