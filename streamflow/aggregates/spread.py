"""How far values lie apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.part import Part, number
from streamflow.aggregates.reductions import MOMENTS, flat, moments
from streamflow.exact_cast import nearest_float


@dataclass(frozen=True)
class Variance:
    """Sample variance of the values that are not null, as a float: divided by their number less 1.

    Null where there are fewer than two. NaN where a value is NaN or infinite, and where it would be
    larger than any float. Kept of each group: count, mean and sum of squared distances from it.
    Sums of squares are never subtracted, so values far from 0 and near each other keep their
    digits, but for the rounding of the mean: of a billion it is a ten-millionth.

    Raises:
        TopologyError: when the topology is built, for a field that is no number.
    """

    field: str
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = True
    null_where: ClassVar[str] = "there are fewer than two values of {}"

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [_moments(kind, "variance", self.field)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return _variance(flat(parts["moments"]))


@dataclass(frozen=True)
class StdDev:
    """Sample standard deviation: the square root of `Variance`, null and NaN where that is.

    Raises:
        TopologyError: when the topology is built, for a field that is no number.
    """

    field: str
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = True
    null_where: ClassVar[str] = "there are fewer than two values of {}"

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [_moments(kind, "standard deviation", self.field)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return pc.sqrt(_variance(flat(parts["moments"])))


def _moments(kind: pa.DataType | None, what: str, field: str) -> Part:
    number(kind, what, field)
    return Part("moments", moments, moments, MOMENTS, _of_one)


def _of_one(column: Any) -> pa.Array:
    """The moments of each value alone."""
    values = nearest_float(column)
    zeros = pa.repeat(pa.scalar(0.0), len(values))
    count = pc.cast(pc.is_valid(values), pa.int64())
    return pa.StructArray.from_arrays([count, values, zeros], fields=list(MOMENTS))


def _variance(merged: pa.Array) -> pa.Array:
    count, _, m2 = merged.flatten()
    enough = pc.greater(count, 1)
    known = pc.if_else(pc.is_finite(m2), m2, float("nan"))
    divisor = pc.cast(pc.subtract(count, 1), pa.float64())
    return pc.if_else(enough, pc.divide(known, divisor), pa.scalar(None, pa.float64()))
