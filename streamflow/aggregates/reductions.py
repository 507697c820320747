"""How items of groups become one value per group, all in columns.

A reduction takes items, the number of each one's group, and how many groups there are: `0..n-1`.
It gives an array of `n`. Those that give lists take lists again through `of_lists`, which is how
partials merge; their results do not depend on how the items were spread over partials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

Reduction = Callable[[pa.Array, pa.Array, int], pa.Array]
Order = Literal["ascending", "descending"]

_GROUP = "__group"
MOMENTS = pa.struct([("n", pa.int64()), ("mean", pa.float64()), ("m2", pa.float64())])
TALLY = pa.struct([("bucket", pa.int32()), ("n", pa.int64())])


def of_lists(reduction: Reduction) -> Reduction:
    """The same reduction over what is in lists of items."""

    def reduce(groups: pa.Array, lists: pa.Array, n: int) -> pa.Array:
        inside = groups.take(pc.list_parent_indices(lists))
        return reduction(inside, pc.list_flatten(lists), n)

    return reduce


def distinct(groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
    """Lists of the different items that are not null, in no order."""
    return _lists(*_unique(groups, items), n)


def smallest(limit: int) -> Reduction:
    """Lists of the `limit` smallest different items, ascending; nulls are left out."""

    def reduce(groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
        groups, items = _unique(groups, items)
        return _cut(groups, items, pa.table({_GROUP: groups, "item": items}), limit, n)

    return reduce


def leading(limit: int, order: Sequence[tuple[str, Order]]) -> Reduction:
    """Lists of the first `limit` items in an order of their fields; nulls are left out.

    No two items may be equal in that order. NaN comes after every number, either way.
    """
    keys = [name for name, _ in order]

    def reduce(groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
        groups, items = _valid(groups, items)
        fields = {name: pc.struct_field(items, name) for name in keys}
        return _cut(groups, items, pa.table({_GROUP: groups, **fields}), limit, n, order)

    return reduce


def tally(groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
    """Lists of `TALLY`, the counts of each bucket added, by bucket; nulls are left out."""
    groups, items = _valid(groups, items)
    table = pa.table([groups, *items.flatten()], [_GROUP, "bucket", "n"])
    summed = table.group_by([_GROUP, "bucket"], use_threads=False).aggregate([("n", "sum")])
    summed = summed.sort_by([(_GROUP, "ascending"), ("bucket", "ascending")])
    columns = [flat(summed.column(name)) for name in ("bucket", "n_sum")]
    return _lists(
        flat(summed.column(_GROUP)), pa.StructArray.from_arrays(columns, fields=list(TALLY)), n
    )


def frequencies(limit: int) -> Reduction:
    """Lists of each value once, the counts of its items added; nulls are left out.

    Null where there are more than `limit` different values.
    """

    def reduce(groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
        kind = items.type
        groups, items = _valid(groups, items)
        table = pa.table([groups, *items.flatten()], [_GROUP, "value", "n"])
        summed = table.group_by([_GROUP, "value"], use_threads=False).aggregate([("n", "sum")])
        summed = summed.sort_by(_GROUP)
        groups = flat(summed.column(_GROUP))
        fits = pc.less_equal(_counts(groups, n), limit)
        kept = summed.filter(fits.take(groups))
        columns = [flat(kept.column(name)) for name in ("value", "n_sum")]
        lists = _lists(
            flat(kept.column(_GROUP)), pa.StructArray.from_arrays(columns, fields=list(kind)), n
        )
        return pc.if_else(fits, lists, pa.scalar(None, lists.type))

    return reduce


def merged_frequencies(limit: int) -> Reduction:
    """The same of lists of values with their counts; null also where one of the lists is."""
    merge = of_lists(frequencies(limit))

    def reduce(groups: pa.Array, lists: pa.Array, n: int) -> pa.Array:
        gone = pc.is_in(pa.arange(0, n), value_set=groups.filter(lists.is_null()))
        made = merge(groups, lists, n)
        return pc.if_else(gone, pa.scalar(None, made.type), made)

    return reduce


def moments(groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
    """Count, mean and sum of squared distances from it, put together from those of parts.

    After Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances" (1979), for any number of parts at once: `m2 = sum(m2_i + n_i * (mean_i - mean)**2)`.
    Means are taken relative to the smallest of the group, so that digits which all share are not
    lost, and equal values have a distance of exactly 0.
    """
    count, mean, m2 = items.flatten()
    sums = _by_group(groups, {"n": (count, "sum"), "pivot": (mean, "min"), "m2": (m2, "sum")})
    weight, total = pc.cast(count, pa.float64()), pc.cast(sums["n"], pa.float64())
    away = pc.subtract(mean, sums["pivot"].take(groups))
    shift = pc.divide(_by_group(groups, {"s": (pc.multiply(weight, away), "sum")})["s"], total)
    off = pc.subtract(away, shift.take(groups))
    between = _by_group(groups, {"s": (pc.multiply(weight, pc.multiply(off, off)), "sum")})["s"]
    merged = [
        sums["n"],
        pc.add(sums["pivot"], shift),
        pc.add(sums["m2"], pc.fill_null(between, 0.0)),
    ]
    return pa.StructArray.from_arrays(merged, fields=list(MOMENTS))


def flat(column: Any) -> Any:
    """The column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def relist(lists: pa.Array, items: pa.Array) -> pa.Array:
    """Lists of the same lengths, with one item of `items` for each of theirs."""
    return pa.ListArray.from_arrays(_running(pc.list_value_length(lists)), items)


def _valid(groups: pa.Array, items: pa.Array) -> tuple[pa.Array, pa.Array]:
    if not items.null_count:
        return groups, items
    valid = items.is_valid()
    return groups.filter(valid), items.filter(valid)


def _unique(groups: pa.Array, items: pa.Array) -> tuple[pa.Array, pa.Array]:
    table = pa.table([*_valid(groups, items)], [_GROUP, "item"])
    table = table.group_by([_GROUP, "item"], use_threads=False).aggregate([])
    table = table.sort_by(_GROUP)
    return flat(table.column(_GROUP)), flat(table.column("item"))


def _cut(
    groups: pa.Array,
    items: pa.Array,
    keys: pa.Table,
    limit: int,
    n: int,
    order: Sequence[tuple[str, Order]] = (("item", "ascending"),),
) -> pa.Array:
    """Lists of the first `limit` items of each group by `order`, which names columns of `keys`."""
    places = pc.sort_indices(keys, sort_keys=[(_GROUP, "ascending"), *order])
    groups = groups.take(places)
    counts = _counts(groups, n)
    if (pc.max(counts).as_py() or 0) > limit:
        starts = _running(counts).slice(0, n)
        rank = pc.subtract(pa.arange(0, len(groups)), starts.take(groups))
        within = pc.less(rank, limit)
        places, counts = places.filter(within), pc.min_element_wise(counts, limit)
    return pa.ListArray.from_arrays(_running(counts), items.take(places))


def _lists(groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
    """Lists of items that are sorted by group."""
    return pa.ListArray.from_arrays(_running(_counts(groups, n)), items)


def _counts(groups: pa.Array, n: int) -> pa.Array:
    found = pc.value_counts(groups)
    where = pc.index_in(pa.arange(0, n), value_set=found.field("values"))
    return pc.fill_null(found.field("counts").take(where), 0)


def _running(counts: pa.Array) -> pa.Array:
    """Where each list starts, and the end of the last."""
    ends = pc.cumulative_sum(pc.cast(counts, pa.int64()))
    return pa.concat_arrays([pa.array([0], pa.int64()), ends]).cast(pa.int32())


def _by_group(groups: pa.Array, steps: dict[str, tuple[pa.Array, str]]) -> dict[str, pa.Array]:
    """Hash aggregates over arrays, by group; each group must have an item."""
    table = pa.table({_GROUP: groups, **{name: column for name, (column, _) in steps.items()}})
    made = table.group_by(_GROUP, use_threads=False).aggregate(
        [(name, function) for name, (_, function) in steps.items()]
    )
    made = made.sort_by(_GROUP)
    return {name: flat(made.column(f"{name}_{function}")) for name, (_, function) in steps.items()}
