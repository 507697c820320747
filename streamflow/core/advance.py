"""The one function that moves the world: state and a micro-batch in, a `Step` out.

    decode -> gate -> watermark -> window: on time or late -> partials -> results of closed windows

The laws it keeps (tests/laws): how the partition is cut into batches, where commits fall, and
replays after a crash cannot be seen in what comes out; and every record is in one named exit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.aggregate import START, finish, merge, partial
from streamflow.core.decode import decode
from streamflow.core.gate import Gated, gate
from streamflow.core.keys import decode_partial, window_range
from streamflow.core.plan import TaskPlan, WindowPlan
from streamflow.core.step import INFINITY, Late, Raw, StateView, Step, TaskState
from streamflow.core.watermark import after_all, before_each
from streamflow.core.window import assign
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
    open_partials = dict(state.open)
    late: dict[str, tuple[Late, ...]] = {}
    for window in plan.windows:
        on_time = assign(window, batch, gated.rows, gated.places, times, watermarks)
        late[window.name] = on_time.late
        counts["assigned"] += gated.rows.num_rows
        counts["late"] += len(on_time.late)
        counts["accumulated"] += on_time.rows.num_rows
        if on_time.rows.num_rows:
            at = pc.cast(on_time.rows.column(EVENT_TIME.name), pa.int64())
            new = partial(window, on_time.rows, on_time.starts, at)
            held = open_partials.get(window.name)
            open_partials[window.name] = new if held is None else pa.concat_tables([held, new])
    step = Step(
        replace(after, open=open_partials),
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
    open_partials = dict(step.state.open)
    counts = Counter(step.counts)
    for window in plan.windows:
        first = -(2**63) if old is None else window.closed_by(old) + 1
        last = INFINITY - 1 if new == INFINITY else window.closed_by(new)
        stored = view.scan(*window_range(window.name, first, last + 1))
        erased += [key for key, _ in stored]
        closing = [decode_partial(data) for _, data in stored]
        held = open_partials.pop(window.name, None)
        if held is not None:
            due = pc.less_equal(held.column(START), last)
            closing.append(held.filter(due))
            open_partials[window.name] = held.filter(pc.invert(due))
        rows = _results(window, closing, tp)
        if rows is not None:
            results[window.name] = (rows,)
            counts["results"] += rows.num_rows
    return replace(
        step,
        state=replace(step.state, open=open_partials),
        results=results,
        erased=tuple(erased),
        counts=counts,
    )


def _results(
    window: WindowPlan, partials: Sequence[pa.Table], tp: TopicPartition
) -> pa.RecordBatch | None:
    if not any(table.num_rows for table in partials):
        return None
    return finish(window, merge(window, partials), tp)
