"""One column of a partial, and what aggregates ask of the columns they are computed on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.reductions import Reduction
from streamflow.errors import TopologyError


@dataclass(frozen=True)
class Part:
    """One column of a partial.

    Attributes:
        name: Its suffix; the column is `<output>.<name>`.
        first: Over rows: Arrow's hash aggregate, such as `max`, or a reduction.
        merge: Over partials: Arrow's hash aggregate, or a reduction.
        type: The column's Arrow type.
        prepare: Makes the column that `first` is computed on.
        columns: The columns of the rows that `prepare` is given; the aggregate's field if empty.
    """

    name: str
    first: str | Reduction
    merge: str | Reduction
    type: pa.DataType
    prepare: Callable[..., Any] | None = None
    columns: tuple[str, ...] = ()


def number(kind: pa.DataType | None, what: str, field: str) -> pa.DataType:
    """The type, which has to be that of numbers."""
    if kind is None or not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    ):
        raise TopologyError(f"{what}: {field!r} is {kind}, not a number")
    return kind


def orderable(kind: pa.DataType | None, what: str, field: str) -> pa.DataType:
    """The type, which has to be one whose values have an order."""
    if kind is None or pa.types.is_nested(kind) or pa.types.is_boolean(kind):
        raise TopologyError(f"{what}: values of {field!r} ({kind}) have no order")
    return kind


def single(kind: pa.DataType | None, what: str, field: str) -> pa.DataType:
    """The type, which must not be that of lists."""
    if kind is None or pa.types.is_nested(kind):
        raise TopologyError(f"{what}: {field!r} is {kind}, not a single value")
    return kind


def canonical(column: Any) -> Any:
    """The values, -0.0 as 0.0 and every NaN as one: Arrow groups by bytes, and tells them apart."""
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), math.nan, pc.add(column, 0.0))


def whole(what: str, name: str, value: Any) -> None:
    """Raises unless it is a whole number from 1 to what a list can hold."""
    if type(value) is not int or not 1 <= value < 2**31:
        raise TopologyError(
            f"{what}: {name} is {value!r}; it must be a whole number from 1, below 2^31"
        )
