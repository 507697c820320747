"""The one function that moves the world: state and a micro-batch in, a `Step` out.

    decode -> gate -> watermark -> window: on time or late -> partials -> results of closed windows

The laws it keeps (tests/laws): how the partition is cut into batches, where commits fall, and
replays after a crash cannot be seen in what comes out; and every record is in one named exit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.aggregate import finish, partial
from streamflow.core.close import close
from streamflow.core.decode import decode
from streamflow.core.gate import Gated, gate
from streamflow.core.plan import TaskPlan, WindowPlan
from streamflow.core.step import Late, Raw, StateView, Step, TaskState
from streamflow.core.watermark import after_all, before_each
from streamflow.core.window import Assigned, assign
from streamflow.schema import EVENT_TIME


def advance(plan: TaskPlan, state: TaskState, view: StateView, batch: MicroBatch) -> Step:
    """Take one micro-batch, which starts at the state's position."""
    gated = gate(plan, batch, decode(plan, batch))
    times = pc.cast(gated.rows.column(EVENT_TIME.name), pa.int64())
    seen = before_each(times, state.seen)
    watermarks = pc.subtract(seen, plan.out_of_orderness)
    after = replace(state, position=batch.stop, seen=after_all(times, state.seen))
    counts = Counter({"in": len(batch), "passed": gated.rows.num_rows})
    counts["rejected"] = len(gated.rejects)
    late: dict[str, tuple[Late, ...]] = {}
    for window in plan.windows:
        on_time = assign(window, batch, gated.rows, gated.places, times, watermarks)
        late[window.name] = on_time.late
        counts["assigned"] += on_time.pairs
        counts["late"] += on_time.pairs - on_time.rows.num_rows
        counts["accumulated"] += on_time.rows.num_rows
        after = _accumulate(window, after, on_time)
    step = Step(
        after,
        batch.start,
        batch.stop,
        rows=(gated.rows,) if plan.sinks and gated.rows.num_rows else (),
        forwarded=_forwarded(plan, batch, gated, times),
        rejects=tuple(sorted(gated.rejects, key=lambda reject: reject.raw.offset)),
        late=late,
        counts=counts,
        rules=gated.rules,
    )
    return _close(plan, state, step, view, batch.tp)


def end_of_input(plan: TaskPlan, state: TaskState, view: StateView, tp: TopicPartition) -> Step:
    """Declare the partition's input complete: the watermark is infinite and every window closes."""
    ended = replace(state, ended=state.position)
    return _close(plan, state, Step(ended, state.position, state.position), view, tp)


def _forwarded(
    plan: TaskPlan, batch: MicroBatch, gated: Gated, times: pa.Array
) -> tuple[tuple[Raw, int], ...]:
    if not plan.topics:
        return ()
    pairs = zip(gated.places.to_pylist(), times.to_pylist(), strict=True)
    return tuple((Raw.of(batch, row), time) for row, time in pairs)


def _accumulate(window: WindowPlan, state: TaskState, on_time: Assigned) -> TaskState:
    """The state with one more partial of a window operator."""
    if not on_time.rows.num_rows:
        return state
    at = pc.cast(on_time.rows.column(EVENT_TIME.name), pa.int64())
    new = partial(window, on_time.rows, on_time.starts, on_time.ends, at)
    held = state.open.get(window.name)
    both = new if held is None else pa.concat_tables([held, new])
    return replace(state, open={**state.open, window.name: both})


def _close(
    plan: TaskPlan, before: TaskState, step: Step, view: StateView, tp: TopicPartition
) -> Step:
    """Emit every window that the watermark has passed between `before` and the step's state."""
    lag = plan.out_of_orderness
    old, new = before.watermark(lag), step.state.watermark(lag)
    if new is None or new == old:
        return step
    results: dict[str, tuple[pa.RecordBatch, ...]] = {}
    erased: list[bytes] = []
    state, counts = step.state, Counter(step.counts)
    for window in plan.windows:
        closed = close(window, state, view, old, new)
        state = closed.state
        erased += closed.erased
        if closed.partials is not None:
            results[window.name] = (finish(window, closed.partials, tp),)
            counts["results"] += closed.partials.num_rows
    return replace(step, state=state, results=results, erased=tuple(erased), counts=counts)
