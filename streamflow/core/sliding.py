"""One result for each time of a group's rows, over those of the group in the size before it.

Rows sorted by group and time are leaves of a tree whose nodes are merged blocks of 2, 4, 8 ... of
them. What a result looks back on is a run of leaves, put together from at most two blocks of each
size: so a window of n rows costs about `2 * log2(n)` merges a row, for every aggregate that merges,
and needs none that can be taken back.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.aggregate import START, in_order, reduce_by, values
from streamflow.core.plan import WindowPlan
from streamflow.windows import Sliding, micros

_TIME, _RUN, _NODE = "__time", "__run", "__node"


def look_back(plan: WindowPlan, merged: pa.Table, first: int, last: int) -> pa.Table | None:
    """The results of the windows that start in `[first, last]`; None when there is none.

    Args:
        plan: The window operator.
        merged: A partial for each time and group, back to a size before the first result's rows.
        first: Where the first window starts, in microseconds.
        last: Where the last window starts.
    """
    leaves = merged.sort_by([(name, "ascending") for name in (*plan.by, START)])
    starts = leaves.column(START)
    wanted = pc.and_(pc.greater_equal(starts, first), pc.less_equal(starts, last))
    rows = pc.indices_nonzero(wanted)
    if not len(rows):
        return None
    begin = _begins(plan, leaves, rows)
    runs = pa.table({_RUN: rows, "low": begin, "high": pc.add(pc.cast(rows, pa.int64()), 1)})
    merges = [part.part.merge for part in plan.parts]
    made = reduce_by(plan, _blocks(plan, leaves, runs), [_RUN], merges)
    named = leaves.select([START, *plan.by]).take(made.column(_RUN))
    for name in values(plan):
        named = named.append_column(name, made.column(name))
    return in_order(plan, named)


def _begins(plan: WindowPlan, leaves: pa.Table, rows: pa.Array) -> pa.Array:
    """The first leaf that each row looks back on: how many leaves come before its window's start.

    Leaves and starts are sorted together; a leaf at the start itself comes before it, outside.
    """
    assert isinstance(plan.window, Sliding)
    size = micros(plan.window.size)
    n, asked = leaves.num_rows, leaves.take(rows)

    def column(name: str) -> Any:
        return pa.chunked_array([*leaves.column(name).chunks, *asked.column(name).chunks])

    starts = asked.column(START).chunks
    times = [*(pc.add(chunk, size) for chunk in leaves.column(START).chunks), *starts]
    both = pa.table({name: column(name) for name in plan.by} | {_TIME: pa.chunked_array(times)})
    both = both.append_column("__asks", pa.array([0] * n + [1] * len(rows), pa.int8()))
    both = both.append_column(_RUN, pa.arange(0, both.num_rows))
    keys = (*plan.by, _TIME, "__asks")
    ordered = both.select([_RUN, "__asks"]).take(
        pc.sort_indices(both, sort_keys=[(name, "ascending") for name in keys])
    )
    asks = ordered.column("__asks")
    before = pc.cumulative_sum(pc.cast(pc.equal(asks, 0), pa.int64()))
    answers = pa.table({_RUN: ordered.column(_RUN), "before": before}).filter(pc.equal(asks, 1))
    return answers.sort_by(_RUN).column("before").combine_chunks()


def _blocks(plan: WindowPlan, leaves: pa.Table, runs: pa.Table) -> pa.Table:
    """The blocks that each run of leaves consists of, with the row of the run."""
    names, merges = values(plan), [part.part.merge for part in plan.parts]
    nodes, found = leaves.select(names), []
    while runs.num_rows:
        low, high = runs.column("low"), runs.column("high")
        odd_low, odd_high = _odd(low), _odd(high)
        for which, node in ((odd_low, low), (odd_high, pc.subtract(high, 1))):
            taken = nodes.take(node.filter(which))
            found.append(taken.append_column(_RUN, runs.column(_RUN).filter(which)))
        low = _half(pc.add(low, pc.cast(odd_low, pa.int64())))
        high = _half(pc.subtract(high, pc.cast(odd_high, pa.int64())))
        runs = pa.table({_RUN: runs.column(_RUN), "low": low, "high": high})
        runs = runs.filter(pc.less(low, high))
        if runs.num_rows:
            nodes = nodes.append_column(_NODE, _half(pa.arange(0, nodes.num_rows)))
            nodes = reduce_by(plan, nodes, [_NODE], merges).sort_by(_NODE).select(names)
    return pa.concat_tables(found)


def _odd(numbers: Any) -> Any:
    return pc.equal(pc.bit_wise_and(numbers, 1), 1)


def _half(numbers: Any) -> Any:
    return pc.divide(numbers, 2)
