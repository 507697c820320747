"""Answers with a known error from a state that stays small.

Both sketches are functions of the set, or of the counts, of the values alone: they come out the
same whatever the order in which values came and partials merged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.hashes import hashes
from streamflow.aggregates.part import Part, number, single
from streamflow.aggregates.reductions import TALLY, flat, of_lists, smallest, tally
from streamflow.arguments import is_some_number
from streamflow.errors import TopologyError
from streamflow.exact_cast import nearest_float

#: Buckets of a sketch: 0 for zero, `_ONE + i` for values in `(gamma**(i-1), gamma**i]`, the same
#: below 0 for negative ones, so that buckets are in the order of the values.
_ONE = 2**30
_INFINITE, _NAN = 2**31 - 2, 2**31 - 1
#: The smallest and the largest normal float; what is nearer to 0 counts as 0.
_TINY, _HUGE = 2.0**-1022, 1.7976931348623157e308

#: How many hashes are kept: the standard error is 1 / sqrt(_HASHES - 2), 1.6 %.
_HASHES = 4096


@dataclass(frozen=True)
class Quantile:
    """The value below which a part `q` of the values lies, to a relative error of `error`.

    Of `n` values that are not null, sorted, it is number `floor(q * (n - 1))`, counted from 0, and
    the result `r` for a value `x` keeps `abs(r - x) <= error * abs(x)`, but for the rounding of
    floats, a millionth of that. Null where there is none.
    Infinite values are exact, NaN is larger than every number, and what is nearer to 0 than any
    normal float, 2.2e-308, counts as 0.

    A DDSketch: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
    relative-error guarantees" (2019), without a limit on its buckets. Kept of each group: 12 bytes
    for each bucket that has values. At an error of 1 % there are 115 buckets for each factor of 10,
    so delays from a millisecond to a day need at most 920, 11 KiB. Numbers that fill the range of
    floats, from -1.8e308 to 1.8e308, need at most 142,000, 1.7 MB: more than a record of the
    state's topic may have. An error of 0.1 % needs ten times as many.

    Raises:
        TopologyError: for `q` outside 0 to 1, `error` outside 0.0001 to 0.5; when the topology is
            built, for a field that is no number.
    """

    field: str
    q: float
    error: float = 0.01
    null_of_nulls: ClassVar[bool] = True
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = "every {} is"

    def __post_init__(self) -> None:
        is_some_number("quantile", "q", self.q)
        is_some_number("quantile", "error", self.error)
        if not 0 <= self.q <= 1:
            raise TopologyError(f"quantile: q is {self.q!r}; it must be from 0 to 1")
        if not 0.0001 <= self.error <= 0.5:
            raise TopologyError(f"quantile: error is {self.error!r}; it must be from 0.0001 to 0.5")

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        number(kind, "quantile", self.field)
        lists = pa.list_(pa.field("item", TALLY))
        return [Part("buckets", tally, of_lists(tally), lists, self._buckets)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        lists = flat(parts["buckets"])
        groups = pc.list_parent_indices(lists)
        bucket, count = pc.list_flatten(lists).flatten()
        # How many values lie in this bucket of the group or in one before.
        total = pc.cumulative_sum(count)
        table = pa.table({"group": groups, "bucket": bucket, "count": count, "total": total})
        ends = table.group_by("group", use_threads=False).aggregate(
            [("count", "sum"), ("total", "max")]
        )
        n = flat(ends.column("count_sum"))
        wanted = pc.floor(pc.multiply(pc.cast(pc.subtract(n, 1), pa.float64()), self.q))
        before = pc.subtract(flat(ends.column("total_max")), n)
        target = pc.add(before, pc.cast(wanted, pa.int64()))
        mine = pc.index_in(groups, value_set=flat(ends.column("group")))
        reached = table.filter(pc.greater(total, target.take(mine)))
        found = reached.group_by("group", use_threads=False).aggregate([("bucket", "min")])
        where = pc.index_in(pa.arange(0, len(lists)), value_set=flat(found.column("group")))
        return self._value(flat(found.column("bucket_min")).take(where))

    @property
    def _gamma(self) -> float:
        return (1 + self.error) / (1 - self.error)

    def _buckets(self, column: Any) -> pa.Array:
        """An item for each value: its bucket, once; null for null."""
        values = nearest_float(column)
        size = pc.abs(values)
        power = pc.ceil(pc.divide(pc.ln(size), math.log(self._gamma)))
        normal = pc.and_(pc.greater_equal(size, _TINY), pc.is_finite(size))
        usual = pc.add(pc.cast(pc.if_else(normal, power, 0.0), pa.int32()), _ONE)
        bucket = pc.if_else(pc.less(size, _TINY), 0, usual)
        bucket = pc.if_else(pc.is_inf(size), _INFINITE, bucket)
        bucket = pc.if_else(pc.less(values, 0), pc.negate(bucket), bucket)
        bucket = pc.cast(pc.if_else(pc.is_nan(size), _NAN, bucket), pa.int32())
        ones = pa.repeat(pa.scalar(1, pa.int64()), len(bucket))
        return pa.StructArray.from_arrays([bucket, ones], fields=list(TALLY), mask=bucket.is_null())

    def _value(self, bucket: pa.Array) -> pa.Array:
        """The value that is as near as `error` to all of a bucket."""
        size = pc.abs(pc.cast(bucket, pa.int64()))
        gamma = self._gamma
        # As one power, since gamma**i alone can be too large where the value is not.
        middle = math.log(2 / (gamma + 1))
        power = pc.multiply(pc.cast(pc.subtract(size, _ONE), pa.float64()), math.log(gamma))
        value = pc.min_element_wise(pc.exp(pc.add(power, middle)), _HUGE, skip_nulls=False)
        value = pc.if_else(pc.equal(size, 0), 0.0, value)
        value = pc.if_else(pc.equal(size, _INFINITE), math.inf, value)
        value = pc.if_else(pc.equal(size, _NAN), math.nan, value)
        return pc.if_else(pc.less(bucket, 0), pc.negate(value), value)


@dataclass(frozen=True)
class ApproxDistinct:
    """Number of different values that are not null: exact below 4096, above with an error of 1.6 %.

    That is the standard error, 1 / sqrt(4094): two of three results are nearer, and 997 of 1000
    within three times of it. Kept of each group: the 4096 smallest of the values' 64-bit hashes, at
    most 32 KiB, where `Distinct` keeps every value. Bar-Yossef, Jayram, Kumar, Sivakumar, Trevisan,
    "Counting distinct elements in a data stream" (2002). 0.0 and -0.0 are one value, and so is NaN.
    Values that somebody has made to collide are counted wrongly.

    Raises:
        TopologyError: when the topology is built, for a field of lists.
    """

    field: str
    null_of_nulls: ClassVar[bool] = False
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = ""

    def parts(self, kind: pa.DataType | None) -> list[Part]:
        """The columns of its partial, for an input column of this type."""
        single(kind, "distinct", self.field)
        keep = smallest(_HASHES)
        lists = pa.list_(pa.field("item", pa.uint64()))
        return [Part("hashes", keep, of_lists(keep), lists, hashes)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        lists = flat(parts["hashes"])
        count = pc.cast(pc.list_value_length(lists), pa.int64())
        full = pc.equal(count, _HASHES)
        largest = pc.list_flatten(lists.filter(full))
        last = pa.array(range(_HASHES - 1, len(largest), _HASHES), pa.int64())
        share = pc.divide(pc.cast(largest.take(last), pa.float64(), safe=False), 2.0**64)
        estimate = pc.cast(pc.round(pc.divide(float(_HASHES - 1), share)), pa.int64())
        return pc.replace_with_mask(count, full, estimate)
