"""The values that come most often, counted exactly while there are few different ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.part import Part, canonical, single, whole
from streamflow.aggregates.reductions import flat, frequencies, leading, merged_frequencies, relist
from streamflow.errors import TopologyError


@dataclass(frozen=True)
class Frequent:
    """List of the `k` values that come most often, the most frequent first, exactly.

    Values that come equally often are in the order of the values, the smallest first; NaN comes
    after every number, and 0.0 and -0.0 are one value. Nulls are left out, so the list is empty
    where there is nothing else, and shorter where there are fewer than `k` different values.

    Every different value has to be kept with its count. Where a window's group has more than
    `limit` of them the result is null, since the list could be wrong, and nothing more is kept of
    the group: so it is `| None` in the model. Choose `limit` for the number of different values,
    not for `k`. What is kept lies in one record of the state's topic, so `limit` values and 8 bytes
    for each should stay well below a megabyte together.

    Raises:
        TopologyError: for a `k` below 1 and a `limit` below `k`; when the topology is built, for a
            field of lists.
    """

    field: str
    k: int
    limit: int = 10_000
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = True
    null_where: ClassVar[str] = "{} has more different values than its limit"

    def __post_init__(self) -> None:
        whole("frequent", "k", self.k)
        whole("frequent", "limit", self.limit)
        if self.limit < self.k:
            raise TopologyError(f"frequent: limit is {self.limit}, below k, {self.k}; raise it")

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        item = pa.struct([("value", single(kind, "frequent", self.field)), ("n", pa.int64())])
        lists = pa.list_(pa.field("item", item))
        first, merge = frequencies(self.limit), merged_frequencies(self.limit)
        return [Part("counts", first, merge, lists, _once)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        lists = flat(parts["counts"])
        most = leading(self.k, [("n", "descending"), ("value", "ascending")])
        best = most(pc.list_parent_indices(lists), pc.list_flatten(lists), len(lists))
        values = relist(best, pc.struct_field(pc.list_flatten(best), "value"))
        return pc.if_else(lists.is_valid(), values, pa.scalar(None, values.type))


def _once(column: Any) -> pa.Array:
    """Each value with a count of 1; null for null."""
    values = flat(canonical(column))
    ones = pa.repeat(pa.scalar(1, pa.int64()), len(values))
    return pa.StructArray.from_arrays([values, ones], ["value", "n"], mask=values.is_null())
