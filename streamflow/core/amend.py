"""Corrected results of windows that late rows came to after their final one."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import TopicPartition
from streamflow.core.aggregate import AMENDS, REVISIONS, START, finish, in_order, reduce_by
from streamflow.core.keys import decode_partial, window_range
from streamflow.core.plan import TaskPlan, WindowPlan
from streamflow.core.step import INFINITY, StateView, Step, TaskState

_NEW = "__new"


def amended(
    plan: WindowPlan, state: TaskState, view: StateView, tp: TopicPartition, last: int
) -> pa.RecordBatch | None:
    """A result for each window, up to the one that starts at `last`, and group that late rows came
    to since the last commit, over all its rows. None when there is none.

    Revision 0 is what came on time, also where nothing did; each commit with late rows adds 1.
    """
    held = state.open.get(plan.name)
    if held is None:
        return None
    late = held.filter(pc.and_(held.column(AMENDS), pc.less_equal(held.column(START), last)))
    if not late.num_rows:
        return None
    starts = pc.unique(late.column(START))
    scans = [view.scan(*window_range(plan.name, at, at + 1)) for at in starts.to_pylist()]
    stored = [decode_partial(data) for scan in scans for _, data in scan]
    here = held.filter(pc.is_in(held.column(START), value_set=starts))
    partials = pa.concat_tables([*stored, here])
    old = pa.repeat(pa.scalar(False), partials.num_rows - here.num_rows)
    new = pa.chunked_array([old, *here.column(AMENDS).chunks], pa.bool_())
    merged = reduce_by(
        plan,
        partials.append_column(_NEW, new),
        [START, *plan.by],
        [part.part.merge for part in plan.parts],
        [(REVISIONS, "sum"), (_NEW, "any")],
    )
    changed = in_order(plan, merged.filter(merged.column(_NEW)))
    return finish(plan, changed, tp, revisions=pc.add(changed.column(REVISIONS), 1))


def amend(plan: TaskPlan, state: TaskState, view: StateView, tp: TopicPartition) -> Step:
    """The corrected results of the commit that follows this state."""
    results: dict[str, tuple[pa.RecordBatch, ...]] = {}
    counts = Counter[str]()
    for window in plan.windows:
        batch = amended(window, state, view, tp, INFINITY - 1) if window.keep else None
        if batch is not None:
            results[window.name] = (batch,)
            counts["results"] += batch.num_rows
            counts["revised"] += batch.num_rows
    return Step(state, state.position, state.position, results=results, counts=counts)
