"""The one function that moves the world: state and a micro-batch in, a `Step` out.

    decode -> gate -> watermark -> window: on time or late -> partials -> results of closed windows

The laws it keeps (tests/laws): how the partition is cut into batches, where commits fall, and
replays after a crash cannot be seen in what comes out; and every record is in one named exit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.aggregate import finish, partial
from streamflow.core.amend import amended
from streamflow.core.breaker import half_open
from streamflow.core.chain import Chained, chain
from streamflow.core.close import close, early, last_kept
from streamflow.core.decode import Decoded, decode
from streamflow.core.json_values import json_rows, to_json
from streamflow.core.plan import TaskPlan, WindowPlan
from streamflow.core.step import Decision, Late, Raw, StateView, Step, TaskState
from streamflow.core.watermark import after_all, before_each
from streamflow.core.window import Assigned, assign
from streamflow.schema import EVENT_TIME


def advance(plan: TaskPlan, state: TaskState, view: StateView, batch: MicroBatch) -> Step:
    """Take one micro-batch, which starts at the state's position.

    Where a threshold stops the partition, the step ends before the batch does, after the row that
    tripped it.
    """
    decoded = decode(plan, batch)
    passed = chain(plan, batch, decoded, state, view)
    if passed.stop is not None and passed.stop < batch.stop:
        return advance(plan, state, view, batch.cut(batch.start, passed.stop))
    moving = _moving(decoded, passed)
    watermarks = _watermarks(plan, state, moving, passed.rows)
    times = _micros(passed.rows)
    after = replace(passed.state, position=batch.stop, seen=after_all(_micros(moving), state.seen))
    counts = Counter({"in": len(batch), "passed": passed.rows.num_rows})
    counts["rejected"], counts["dropped"] = len(passed.rejects), passed.dropped
    late: dict[str, tuple[Late, ...]] = {}
    for window in plan.windows:
        on_time = assign(window, batch, passed.rows, passed.places, times, watermarks)
        late[window.name] = on_time.late
        counts["assigned"] += on_time.pairs
        counts["late"] += on_time.missed
        counts["accumulated"] += on_time.pairs - on_time.missed
        after = _accumulate(window, after, on_time)
    step = Step(
        after,
        batch.start,
        batch.stop,
        rows=(passed.rows,) if plan.sinks and passed.rows.num_rows else (),
        forwarded=_forwarded(plan, batch, passed, times),
        rejects=tuple(sorted(passed.rejects, key=lambda reject: reject.raw.offset)),
        late=late,
        counts=counts,
        rules=passed.rules,
    )
    return _close(plan, state, step, view, batch.tp)


def decide(
    plan: TaskPlan, state: TaskState, view: StateView, tp: TopicPartition, decision: Decision
) -> Step:
    """Apply what a clock decided, at the state's position: windows that the watermark passes by it
    close, and rows after it are judged by it. A watermark below the partition's own does nothing.
    """
    here = state.position
    assert decision.offset == here, f"{tp}: decided at {decision.offset}, applied at {here}"
    if decision.kind == "end_of_input":
        after = replace(state, ended=here)
    else:
        given = decision.watermark
        after = replace(state, idle=given if state.idle is None else max(given, state.idle))
    return _close(plan, state, Step(after, here, here, decisions=(decision,)), view, tp)


def resume(state: TaskState, names: Iterable[str], now_ms: int) -> Step:
    """Decide that a partition which these thresholds have stopped goes on, half open."""
    after = {name: half_open(state.breakers[name], now_ms) for name in names}
    at = state.position
    return Step(replace(state, breakers={**state.breakers, **after}), at, at)


def _forwarded(
    plan: TaskPlan, batch: MicroBatch, passed: Chained, times: pa.Array
) -> tuple[tuple[Raw, int], ...]:
    if not plan.topics:
        return ()
    raws = [Raw.of(batch, row) for row in passed.places.to_pylist()]
    if plan.remade:
        fields = [name for name in plan.schema.names if not name.startswith("_")]
        values = map(to_json, json_rows(passed.rows.select(fields)))
        raws = [replace(raw, value=value) for raw, value in zip(raws, values, strict=True)]
    return tuple(zip(raws, times.to_pylist(), strict=True))


def _moving(decoded: Decoded, passed: Chained) -> pa.RecordBatch:
    """The rows that move the watermark: all that were not rejected, dropped ones too."""
    if len(passed.rejects) == len(decoded.rejects):
        return decoded.rows
    refused = pa.array([reject.raw.offset for reject in passed.rejects], pa.int64())
    return decoded.rows.filter(pc.invert(pc.is_in(decoded.rows["_offset"], value_set=refused)))


def _watermarks(
    plan: TaskPlan, state: TaskState, moving: pa.RecordBatch, rows: pa.RecordBatch
) -> pa.Array:
    """For each row the watermark before it in its partition."""
    before = pc.subtract(before_each(_micros(moving), state.seen), plan.out_of_orderness)
    if state.idle is not None:
        before = pc.max_element_wise(before, pa.scalar(state.idle, pa.int64()))
    if moving.num_rows == rows.num_rows:
        return before
    return before.take(pc.index_in(rows["_offset"], value_set=moving["_offset"]))


def _micros(rows: pa.RecordBatch) -> pa.Array:
    return pc.cast(rows.column(EVENT_TIME.name), pa.int64())


def _accumulate(window: WindowPlan, state: TaskState, on_time: Assigned) -> TaskState:
    """The state with one more partial of a window operator."""
    if not on_time.rows.num_rows:
        return state
    new = partial(window, on_time, _micros(on_time.rows))
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
        made: list[pa.RecordBatch] = []
        until = last_kept(window, new) if window.keep else 0
        corrected = amended(window, state, view, tp, until) if window.keep else None
        closed = close(window, state, view, old, new)
        state = closed.state
        erased += closed.erased
        if closed.partials is not None:
            made.append(finish(window, closed.partials, tp))
            counts["results"] += closed.partials.num_rows
        if corrected is not None:
            made.append(corrected)
            counts["results"] += corrected.num_rows
            counts["revised"] += corrected.num_rows
        soon = early(window, state, view, old, new)
        if soon is not None:
            made.append(finish(window, soon, tp, final=False))
            counts["early"] += soon.num_rows
        if made:
            results[window.name] = tuple(made)
    return replace(step, state=state, results=results, erased=tuple(erased), counts=counts)
