"""Values of the rows that come first in some order.

Rows are ordered by event time, those of one time by offset, those of one record by `_index`: a
window and all its rows lie in one partition. What is kept of a group is a list of items `(what it
is ordered by, value)`, never longer than the result needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.part import Part, orderable, single, whole
from streamflow.aggregates.reductions import Order, flat, leading, of_lists, relist
from streamflow.schema import EVENT_TIME

_OLDEST: Sequence[tuple[str, Order]] = (
    ("time", "ascending"),
    ("offset", "ascending"),
    ("index", "ascending"),
)
_NEWEST: Sequence[tuple[str, Order]] = (
    ("time", "descending"),
    ("offset", "descending"),
    ("index", "descending"),
)
_PLACE = (EVENT_TIME.name, "_offset", "_index")
#: Names of what an item holds besides the time and the offset of its row.
_VALUE, _RANK = "value", "rank"


@dataclass(frozen=True)
class First:
    """The field of the row with the smallest event time; of several, of the lowest offset.

    Null where that row's field is. One item is kept of each group.
    """

    field: str
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = "the first {} is"

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        assert kind is not None
        return [_leading(1, _OLDEST, (*_PLACE, self.field), [("value", kind)], _items)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return pc.struct_field(pc.list_flatten(flat(parts["rows"])), _VALUE)


@dataclass(frozen=True)
class Last:
    """The field of the row with the largest event time; of several, of the highest offset.

    Null where that row's field is. One item is kept of each group.
    """

    field: str
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = "the last {} is"

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        assert kind is not None
        return [_leading(1, _NEWEST, (*_PLACE, self.field), [("value", kind)], _items)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return pc.struct_field(pc.list_flatten(flat(parts["rows"])), _VALUE)


@dataclass(frozen=True)
class Collect:
    """List of the values that are not null, by event time, then offset; empty where there is none.

    Of more than `limit` only the first `limit` in that order are in it: the oldest, not the first
    to arrive. Up to `limit` values are kept of each group. They lie in one record of the state's
    topic, so they should stay well below a megabyte together.

    Raises:
        TopologyError: for a limit below 1; when the topology is built, for a field of lists.
    """

    field: str
    limit: int = 1000
    null_of_nulls: ClassVar[bool] = False
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = ""

    def __post_init__(self) -> None:
        whole("collect", "limit", self.limit)

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        values = [(_VALUE, single(kind, "collect", self.field))]
        return [_leading(self.limit, _OLDEST, (*_PLACE, self.field), values, _items_not_null)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return _values(flat(parts["rows"]))


@dataclass(frozen=True)
class TopK:
    """List of `of` from the `k` rows with the largest `by`, the largest first.

    Rows of equal `by` are ordered by event time, then offset. Rows in which either field is null
    are left out, so the list is shorter where there are fewer than `k`; it can hold a value twice.
    NaN comes after every number. Up to `k` rows are kept of each group.

    Raises:
        TopologyError: for a `k` below 1; when the topology is built, for a field that is not there,
            `by` without an order, and `of` of lists.
    """

    k: int
    by: str
    of: str
    null_of_nulls: ClassVar[bool] = False
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = ""

    def __post_init__(self) -> None:
        whole("top", "k", self.k)

    @property
    def field(self) -> str:
        """The field whose values are the result."""
        return self.of

    def parts(self, kind: pa.DataType | None, rank: pa.DataType | None = None) -> list[Part]:
        """The columns of its partial, for input columns of these types."""
        value = single(kind, "top", self.of)
        kept = [(_RANK, orderable(rank, "top", self.by)), (_VALUE, value)]
        order: Sequence[tuple[str, Order]] = ((_RANK, "descending"), *_OLDEST)
        columns = (*_PLACE, self.by, self.of)
        return [_leading(self.k, order, columns, kept, _items_not_null)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        return _values(flat(parts["rows"]))


def _leading(
    limit: int,
    order: Sequence[tuple[str, Order]],
    columns: tuple[str, ...],
    kept: Sequence[tuple[str, pa.DataType]],
    make: Callable[..., Any],
) -> Part:
    """The first `limit` rows by `order`, as items of its place and what else is `kept`."""
    place = [("time", pa.int64()), ("offset", pa.int64()), ("index", pa.int32())]
    item = pa.struct([*place, *kept])
    first = leading(limit, order)
    return Part(
        "rows",
        first,
        of_lists(first),
        pa.list_(pa.field("item", item)),
        lambda *given: make(item, *given),
        columns,
    )


def _items(item: Any, times: pa.Array, *rest: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([pc.cast(times, pa.int64()), *rest], fields=list(item))


def _items_not_null(item: Any, times: pa.Array, offsets: pa.Array, *rest: pa.Array) -> pa.Array:
    """As `_items`, null where any of the `rest` is, which leaves the row out."""
    missing = rest[0].is_null()
    for column in rest[1:]:
        missing = pc.or_(missing, column.is_null())
    columns = [pc.cast(times, pa.int64()), offsets, *rest]
    return pa.StructArray.from_arrays(columns, fields=list(item), mask=missing)


def _values(lists: pa.Array) -> pa.Array:
    return relist(lists, pc.struct_field(pc.list_flatten(lists), _VALUE))
