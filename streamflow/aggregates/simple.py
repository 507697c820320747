"""Aggregates that Arrow computes by itself. Nulls are left out.

Integers are summed in 38 digits and decimals in 76, so sums are exact and cannot wrap. A result
that does not fit the model's field, 38 digits where that is a decimal, is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.part import Part, canonical, number, orderable
from streamflow.aggregates.reductions import distinct, of_lists
from streamflow.errors import TopologyError
from streamflow.exact_cast import nearest_float


@dataclass(frozen=True)
class Count:
    """Number of rows."""

    field: ClassVar[str | None] = None
    null_of_nulls: ClassVar[bool] = False
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = "every {} is"

    def parts(self) -> list[Part]:
        """The columns of its partial."""
        return [Part("n", "count", "sum", pa.int64())]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return parts["n"]


@dataclass(frozen=True)
class Sum:
    """Sum of the values that are not null; null where there is none."""

    field: str
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = "every {} is"

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [_sum(kind, "sum", self.field)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return parts["sum"]


@dataclass(frozen=True)
class Mean:
    """Arithmetic mean of the values that are not null, as a float; null where there is none."""

    field: str
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = "every {} is"

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [_sum(kind, "mean", self.field), Part("n", "count", "sum", pa.int64())]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return pc.divide(nearest_float(parts["sum"]), pc.cast(parts["n"], pa.float64()))


@dataclass(frozen=True)
class Min:
    """Smallest value; null where all are."""

    field: str
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = "every {} is"

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [Part("min", "min", "min", orderable(kind, "min", self.field))]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return parts["min"]


@dataclass(frozen=True)
class Max:
    """Largest value; null where all are."""

    field: str
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = "every {} is"

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [Part("max", "max", "max", orderable(kind, "max", self.field))]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return parts["max"]


@dataclass(frozen=True)
class Distinct:
    """Exact number of different values that are not null. State grows with that number.

    0.0 and -0.0 are one value, and so is every NaN.
    """

    field: str
    null_of_nulls: ClassVar[bool] = False
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = "every {} is"

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        assert kind is not None
        if pa.types.is_nested(kind):
            raise TopologyError(f"distinct: cannot compare values of {self.field!r} ({kind})")
        lists = pa.list_(pa.field("item", kind))
        return [Part("values", "distinct", of_lists(distinct), lists, canonical)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return pc.cast(pc.list_value_length(parts["values"]), pa.int64())


def _sum(kind: pa.DataType | None, what: str, field: str) -> Part:
    given: Any = number(kind, what, field)
    if pa.types.is_floating(given):
        return Part("sum", "sum", "sum", pa.float64())
    # Arrow's sum wraps beyond 128 bits in silence. No number of 64-bit integers gets there, but two
    # decimals of 38 digits can.
    exact = pa.decimal256(76, given.scale) if pa.types.is_decimal(given) else pa.decimal128(38, 0)
    return Part("sum", "sum", "sum", exact, lambda column: pc.cast(column, exact))
