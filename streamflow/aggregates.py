"""Aggregates as values: what to keep per group, how partial results merge, and what comes out.

Each aggregate describes its *partial*: columns that a micro-batch's rows are reduced to and that
merge with other partials of the same group in any order. Nulls are left out; `null_of_nulls` says
whether the result is null where there is nothing but nulls. Integers and decimals are summed in
decimal128, so they are exact and cannot wrap; an overflow of 38 digits is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.errors import TopologyError


@dataclass(frozen=True)
class Part:
    """One column of a partial.

    Attributes:
        name: Its suffix; the column is `<output>.<name>`.
        first: Arrow's hash aggregate over rows, such as `max`.
        merge: Arrow's hash aggregate over partials; `union` for lists of distinct values.
        type: The column's Arrow type.
        prepare: Makes the column that `first` is computed on.
    """

    name: str
    first: str
    merge: str
    type: pa.DataType
    prepare: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Count:
    """Number of rows."""

    field: ClassVar[str | None] = None
    null_of_nulls: ClassVar[bool] = False

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [Part("n", "count", "sum", pa.int64())]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return parts["n"]


@dataclass(frozen=True)
class Sum:
    """Sum of the values that are not null; null where there is none."""

    field: str
    null_of_nulls: ClassVar[bool] = True

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

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [_sum(kind, "mean", self.field), Part("n", "count", "sum", pa.int64())]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        total = pc.cast(parts["sum"], pa.float64())
        return pc.divide(total, pc.cast(parts["n"], pa.float64()))


@dataclass(frozen=True)
class Min:
    """Smallest value; null where all are."""

    field: str
    null_of_nulls: ClassVar[bool] = True

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [Part("min", "min", "min", _orderable(kind, "min", self.field))]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return parts["min"]


@dataclass(frozen=True)
class Max:
    """Largest value; null where all are."""

    field: str
    null_of_nulls: ClassVar[bool] = True

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        return [Part("max", "max", "max", _orderable(kind, "max", self.field))]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return parts["max"]


@dataclass(frozen=True)
class Distinct:
    """Exact number of different values that are not null. State grows with that number."""

    field: str
    null_of_nulls: ClassVar[bool] = False

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        assert kind is not None
        if pa.types.is_nested(kind):
            raise TopologyError(f"distinct: cannot compare values of {self.field!r} ({kind})")
        return [Part("values", "distinct", "union", pa.list_(pa.field("item", kind)))]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return pc.cast(pc.list_value_length(parts["values"]), pa.int64())


Aggregate = Count | Sum | Mean | Min | Max | Distinct


def _sum(kind: pa.DataType | None, what: str, field: str) -> Part:
    if pa.types.is_floating(kind):
        return Part("sum", "sum", "sum", pa.float64())
    if pa.types.is_integer(kind):
        exact = pa.decimal128(38, 0)
    elif pa.types.is_decimal(kind):
        assert kind is not None
        exact = pa.decimal128(38, kind.scale)
    else:
        raise TopologyError(f"{what}: {field!r} is {kind}, not a number")
    return Part("sum", "sum", "sum", exact, lambda column: pc.cast(column, exact))


def _orderable(kind: pa.DataType | None, what: str, field: str) -> pa.DataType:
    if kind is None or pa.types.is_nested(kind) or pa.types.is_boolean(kind):
        raise TopologyError(f"{what}: values of {field!r} ({kind}) have no order")
    return kind
