"""The one function that moves the world: state and a micro-batch in, a `Step` out.

    decode -> stages -> watermark -> windows: on time or late -> partials -> results of closed ones

The laws it keeps (tests/laws): how the partition is cut into batches, where commits fall, and
replays after a crash cannot be seen in what comes out; and every record is in one named exit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import repeat

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.changes import CHANGE
from streamflow.core.aggregate import finish, partial
from streamflow.core.amend import amended
from streamflow.core.breaker import half_open
from streamflow.core.checks import Reached, judge_extents, take
from streamflow.core.close import close, early, last_kept
from streamflow.core.decode import Decoded, decode
from streamflow.core.enrichment import Answers
from streamflow.core.flow import Arrived, Asking, Flow, flow
from streamflow.core.json_values import json_rows, to_json
from streamflow.core.placed import placed
from streamflow.core.plan import TaskPlan, WindowPlan
from streamflow.core.recall import Known, Recalled, recall
from streamflow.core.rolling import end_by_clock, issues_of, tally
from streamflow.core.step import Breaker, Decision, Late, Raw, StateView, Step, TaskState, mark_of
from streamflow.core.watermark import after_all, event_times, judged
from streamflow.core.window import Assigned, assign
from streamflow.enrich import Enrich

#: What became of the key of a forwarded record: `new`, `changed` or `deleted`.
CHANGE_HEADER = "streamflow.change"


def advance(
    plan: TaskPlan,
    state: TaskState,
    view: StateView,
    batch: MicroBatch,
    known: Known | None = None,
    but: frozenset[bytes] = frozenset(),
    answered: dict[Enrich, Answers] | None = None,
) -> Asking[Step]:
    """Take one micro-batch, which starts at the state's position.

    Where a threshold stops the partition, the step ends before the batch does, after the row that
    tripped it; where a record must not be passed by, before that. Whoever drives it answers what it
    asks, and nothing has happened yet whatever becomes of that. What is `known`, but for some
    hashes, is not decoded; `answered` are answers from before.
    """
    recalled = recall(plan, batch, known, but)
    decoded = decode(plan, recalled.rest)
    answered = {} if answered is None else answered
    passed = yield from flow(plan, recalled, decoded, state, view, answered)

    def again(until: int, but: frozenset[bytes]) -> Asking[Step]:
        part = batch.cut(batch.start, until)
        return advance(plan, state, view, part, known, but, answered)

    stop = batch.stop if passed.stop is None else passed.stop
    failure = passed.failure
    if failure is not None and failure.offset < stop:
        before = Step(state, batch.start, batch.start)
        if failure.offset > batch.start:
            before = yield from again(failure.offset, but)
        early = before.state.position < failure.offset
        return before if early else replace(before, failure=failure)
    if stop < batch.stop:
        return (yield from again(stop, but))
    if overtaken := passed.learned.gone.intersection(recalled.all) - but:
        # Their keys have changed within the batch, perhaps before these records.
        return (yield from again(batch.stop, but | overtaken))
    with placed(batch.tp):
        closed = _taken(plan, state, view, batch, recalled, decoded, passed)
    if not closed.stopped:
        return closed
    stop = min(closed.stopped.values()) + 1
    if stop < batch.stop:
        return (yield from again(stop, but))
    return stopped_by_checks(plan, closed, batch.fetched)


def _taken(
    plan: TaskPlan,
    state: TaskState,
    view: StateView,
    batch: MicroBatch,
    recalled: Recalled,
    decoded: Decoded,
    passed: Flow,
) -> Step:
    """The step of a micro-batch that nothing before windows and checks has stopped."""
    counts = Counter({"in": len(batch), "rejected": len(passed.rejects), "dropped": passed.dropped})
    counts["passed"] = sum(arrived.rows.num_rows for arrived in passed.arrived)
    counts.update(+Counter(forked=passed.forked, expanded=passed.expanded))
    after = replace(passed.state, position=batch.stop)
    reached: dict[str, Reached] = {}
    late: dict[str, tuple[Late, ...]] = {}
    for arrived in passed.arrived:
        refused = {reject.raw.offset for reject in arrived.refused}
        moving = _moving(decoded, recalled, refused)
        for window in arrived.outlet.windows:
            marks, after = judged(window.name, plan.out_of_orderness, arrived.rows, moving, after)
            times = event_times(arrived.rows)
            on_time = assign(window, recalled.rest, arrived.rows, arrived.places, times, marks)
            late[window.name] = on_time.late
            counts["assigned"] += on_time.pairs
            counts["late"] += on_time.missed
            counts["accumulated"] += on_time.pairs - on_time.missed
            after = _accumulate(window, after, on_time)
        for checks in arrived.outlet.checks:
            lag = plan.out_of_orderness
            after, tardy, reached[checks.key] = take(
                checks, recalled.rest, arrived.rows, arrived.places, moving, lag, after
            )
            passed.rules += tardy
    after, said = _rolled(plan, batch, decoded, passed, after)
    step = Step(
        replace(after, seen=_seen(plan, decoded, recalled, passed, after)),
        batch.start,
        batch.stop,
        rows={a.outlet.number: (a.rows,) for a in passed.arrived if a.outlet.sinks and len(a.rows)},
        forwarded={a.outlet.number: _forwarded(recalled.rest, a) for a in passed.arrived},
        aside={topic: tuple(records) for topic, records in passed.aside.items()},
        rejects=tuple(sorted(passed.rejects, key=lambda reject: reject.raw.offset)),
        late=late,
        results=said,
        counts=counts,
        rules=passed.rules,
        learned=passed.learned,
    )
    return _close(plan, state, step, view, batch.tp, reached)


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
    said: dict[str, tuple[pa.RecordBatch, ...]] = {}
    for rolling in plan.rolling:
        after, made = end_by_clock(plan, rolling, tp, after)
        said |= {} if made is None else {rolling.name: (made,)}
    step = Step(after, here, here, decisions=(decision,), results=said)
    with placed(tp):
        closed = _close(plan, state, step, view, tp, {})
    return stopped_by_checks(plan, closed, (decision.at or 0) // 1000)


def _rolled(
    plan: TaskPlan, batch: MicroBatch, decoded: Decoded, passed: Flow, state: TaskState
) -> tuple[TaskState, dict[str, tuple[pa.RecordBatch, ...]]]:
    """The state with the records in the extents of quality, and what is said of those over."""
    said: dict[str, tuple[pa.RecordBatch, ...]] = {}
    issues = issues_of(batch, decoded, passed) if plan.rolling else {}
    for rolling in plan.rolling:
        state, made = tally(plan, rolling, batch, decoded, issues, state)
        said |= {} if made is None else {rolling.name: (made,)}
    return state, said


def stopped_by_checks(plan: TaskPlan, step: Step, at_ms: int) -> Step:
    """The step with its partition stopped by what checks have found at its end."""
    found = {
        watch.name: Breaker(
            watch.threshold.signature,
            phase="open",
            tripped=step.stopped[watch.name],
            fetched=at_ms,
        )
        for watch in plan.watches
        if watch.name in step.stopped
    }
    rules = step.rules + Counter({f"{name}:tripped": 1 for name in found})
    breakers = {**step.state.breakers, **found}
    return replace(step, state=replace(step.state, breakers=breakers), rules=rules)


def on_trial_no_more(state: TaskState, good: Iterable[str]) -> tuple[TaskState, Counter[str]]:
    """The state with these checks closed, where they were half open; and a count of those."""
    over = [n for n in good if n in state.breakers and state.breakers[n].phase == "half_open"]
    breakers = {**state.breakers, **{n: replace(state.breakers[n], phase="closed") for n in over}}
    return replace(state, breakers=breakers), Counter({f"{name}:resumed": 1 for name in over})


def resume(state: TaskState, names: Iterable[str], now_ms: int) -> Step:
    """Decide that a partition which these thresholds have stopped goes on, half open."""
    after = {name: half_open(state.breakers[name], now_ms) for name in names}
    at = state.position
    return Step(replace(state, breakers={**state.breakers, **after}), at, at)


def _forwarded(batch: MicroBatch, arrived: Arrived) -> tuple[tuple[Raw, int], ...]:
    if not arrived.outlet.topics:
        return ()
    raws = [Raw.of(batch, row) for row in arrived.places.to_pylist()]
    changes: list[str] = []
    if arrived.outlet.changes:
        changes = arrived.rows.column(CHANGE.name).to_pylist()
        raws = list(map(Raw.with_header, raws, repeat(CHANGE_HEADER), changes))
    if arrived.outlet.remade:
        fields = [name for name in arrived.outlet.schema.names if not name.startswith("_")]
        values = map(to_json, json_rows(arrived.rows.select(fields)))
        made = zip(raws, values, arrived.rows.column("_index").to_pylist(), strict=True)
        raws = [replace(raw, value=value, index=index) for raw, value, index in made]
        gone = {row for row, change in enumerate(changes) if change == "deleted"}
        raws = [replace(raw, value=None) if i in gone else raw for i, raw in enumerate(raws)]
    return tuple(zip(raws, event_times(arrived.rows).to_pylist(), strict=True))


def _moving(decoded: Decoded, recalled: Recalled, refused: Iterable[int]) -> pa.RecordBatch:
    """The rows that move a watermark: all that were not rejected, dropped ones too, and those that
    are known.
    """
    rows, bad = decoded.rows, pa.array(sorted(refused), pa.int64())
    if len(bad):
        rows = rows.filter(pc.invert(pc.is_in(rows["_offset"], value_set=bad)))
    return recalled.among(rows)


def _seen(
    plan: TaskPlan, decoded: Decoded, recalled: Recalled, passed: Flow, state: TaskState
) -> int | None:
    """The largest event time that all windows have seen; without windows, that of the records
    which were not rejected on all ways.
    """
    if plan.windows:
        marks = [state.marks.get(mark_of(window.name)) for window in plan.windows]
        known = [mark for mark in marks if mark is not None]
        return min(known) if len(known) == len(marks) else None
    refused = [{reject.raw.offset for reject in one.refused} for one in passed.arrived]
    moving = _moving(decoded, recalled, set[int].intersection(*refused))
    return after_all(event_times(moving), state.seen)


def _accumulate(window: WindowPlan, state: TaskState, on_time: Assigned) -> TaskState:
    """The state with one more partial of a window operator."""
    if not on_time.rows.num_rows:
        return state
    new = partial(window, on_time, event_times(on_time.rows))
    held = state.open.get(window.name)
    both = new if held is None else pa.concat_tables([held, new])
    return replace(state, open={**state.open, window.name: both})


def _close(
    plan: TaskPlan,
    before: TaskState,
    step: Step,
    view: StateView,
    tp: TopicPartition,
    reached: Mapping[str, Reached],
) -> Step:
    """Emit every window that the watermark has passed between `before` and the step's state."""
    lag = plan.out_of_orderness
    results = dict(step.results)
    erased: list[bytes] = []
    state, counts = step.state, Counter(step.counts)
    for window in plan.windows:
        old, new = before.watermark(lag, window.name), step.state.watermark(lag, window.name)
        if new is None or new == old:
            continue
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
    rules, stopped = Counter(step.rules), dict[str, int]()
    for checks in plan.checks:
        found = judge_extents(checks, before, state, view, tp, lag, reached.get(checks.key))
        stopped |= found.stopped
        state, resumed = on_trial_no_more(found.state, found.good)
        rules += resumed
        erased += found.erased
        rules += found.counts
        if found.results is not None:
            results[checks.name] = (found.results,)
    return replace(
        step,
        state=state,
        results=results,
        erased=tuple(erased),
        counts=counts,
        rules=rules,
        stopped=stopped,
    )
