"""The last stage: steps since the last commit become the contents of the next one.

Everything a commit writes is decided here, before a transaction is opened: output records, dead
letters, late records, rows and trailers for the sinks, the changelog, and the changes to local
state that the changelog repeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import Record, TopicPartition
from streamflow.changes import Changed
from streamflow.core import changed, dedup
from streamflow.core.aggregate import AMENDS, REVISIONS, START, merge
from streamflow.core.amend import amend
from streamflow.core.checks import forget
from streamflow.core.extent_records import extent_records
from streamflow.core.headers import (
    Origin,
    dead_letter,
    forwarded,
    late_dead_letter,
    late_record,
    traceparent,
)
from streamflow.core.inherited import swept
from streamflow.core.json_values import json_rows, to_json
from streamflow.core.keys import (
    META,
    decision_entry,
    decode_partial,
    encode_partials,
    entry_name,
    window_range,
)
from streamflow.core.names import Names
from streamflow.core.part import RECORD_BYTES, Part
from streamflow.core.placed import placed
from streamflow.core.plan import Outlet, TaskPlan, WindowPlan
from streamflow.core.poison import Outputs, Screen, screened
from streamflow.core.quality import quality_records
from streamflow.core.step import Reject, StateView, Step, TaskState
from streamflow.core.table_records import table_records
from streamflow.core.window import places_of
from streamflow.stages import Dedup

#: Partials of one window beyond this number are folded into one.
FOLD_AFTER = 64
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Sealed:
    """One commit. `outputs` are in order per topic; `changes` go to changelog and store."""

    state: TaskState
    outputs: tuple[tuple[TopicPartition | str, Sequence[Record]], ...]
    changes: tuple[tuple[bytes, bytes | None], ...]

    def changelog(self) -> list[Record]:
        """The changes as changelog records."""
        return [Record(key, value) for key, value in self.changes]


def seal(
    part: Part,
    steps: Sequence[Step],
    view: StateView,
    *,
    now_ms: int,
    screen: Screen | None = None,
) -> Sealed:
    """Make the commit that follows these steps; `steps[-1]` holds the state they lead to.

    Raises:
        StateRefused: a record of state, rows or dead letters is too large for its topic.
    """
    plan, tp, screen = part.plan, part.tp, screen or Screen()
    with placed(tp):
        steps = [*steps, amend(plan, steps[-1].state, view, tp)]
    steps = [step if step.sends_nothing else part.leaving(step) for step in steps]
    last = steps[-1].state
    commit = last.commit + 1
    outputs, undelivered = _outputs(part, steps, commit, now_ms, screen)
    steps.append(undelivered)
    totals, rules = Counter(last.totals), Counter(last.rules)
    for step in steps:
        totals.update(step.counts)
        rules.update(step.rules)
    stored, forgotten = forget(plan.checks, last, view)
    stored, unread = swept(stored, view)
    tallies = {p.key: last.tallies[p.key] for p in plan.rolling if p.key in last.tallies}
    stored = replace(stored, open={}, taken=frozenset(), kept={}, tallies=tallies)
    born = last.born if last.born is not None else now_ms
    state = replace(stored, commit=commit, totals=dict(totals), rules=dict(rules), born=born)
    changes: dict[bytes, bytes | None] = dict.fromkeys(key for step in steps for key in step.erased)
    changes |= forgotten | dict.fromkeys(unread)
    idle = [d for step in steps for d in step.decisions if d.kind == "idle"]
    changes |= dict(map(decision_entry, idle))
    changelog = part.changelog.topic
    entry_bytes = screen.chunk_bytes(changelog, RECORD_BYTES)
    for window in plan.kept_windows:
        with placed(tp):
            changes |= _store(window, last, view, commit, entry_bytes)
    for stage in plan.stages:
        match stage:
            case Dedup():
                memory = dedup.memory_of(stage, last)
            case Changed():
                memory = changed.memory_of(stage, last)
            case _:
                continue
        changes |= dict(memory.store(last, plan.out_of_orderness, view, commit, entry_bytes))
    changes[META] = part.meta(state)
    outputs += table_records(part, steps, state, screen)
    sealed = Sealed(state, tuple(o for o in outputs if o[1]), tuple(changes.items()))
    screen.must_fit(changelog, sealed.changelog(), now_ms, entry_name)
    return sealed


def _outputs(
    part: Part, steps: Sequence[Step], commit: int, now_ms: int, screen: Screen
) -> tuple[Outputs, Step]:
    """What goes to topics, and a step that counts what their topics do not take."""
    plan, names, tp = part.plan, part.names, part.tp
    made: Outputs = [
        *_topics(plan, names, tp, steps, commit, now_ms),
        *_sides(plan, names, steps, commit, now_ms),
    ]
    if plan.quality_topic is not None:
        state = replace(steps[-1].state, commit=commit)
        said = quality_records(plan, tp, steps, state, now_ms)
        made.append((names.topic(plan.quality_topic), said))
    letters = [plan.rejected_topic, None if plan.routed is None else plan.routed.topic]
    topics = [None if topic is None else names.topic(topic) for topic in letters]
    sent = screened(screen, made, tp, plan.topology, topics, now_ms)
    last = steps[-1]
    step = Step(last.state, last.stop, last.stop, counts=sent.counts, rules=sent.rules)
    return sent.outputs, step


def _store(
    window: WindowPlan, state: TaskState, view: StateView, commit: int, entry_bytes: int
) -> dict[bytes, bytes | None]:
    """Entries for the windows that are still open, one per place and commit; folded beyond 64."""
    held = state.open.get(window.name)
    if held is None or held.num_rows == 0:
        return {}
    changes: dict[bytes, bytes | None] = {}
    merged = merge(window, [held])
    if window.keep:
        counted = pc.cast(merged.column(AMENDS), pa.int64())
        merged = merged.set_column(merged.schema.get_field_index(REVISIONS), REVISIONS, counted)
    places = places_of(window.window, merged.column(START).combine_chunks())
    for place in pc.unique(places).to_pylist():
        table = merged.filter(pc.equal(places, place))
        entries = view.scan(*window_range(window.name, place, place + 1))
        stored = [(key, data) for key, data in entries if key not in state.taken]
        if len(stored) >= FOLD_AFTER:
            table = merge(window, [*(decode_partial(data) for _, data in stored), table])
            changes |= dict.fromkeys(key for key, _ in stored)
        changes |= dict(encode_partials(window.name, place, commit, table, entry_bytes))
    return changes


def _topics(
    plan: TaskPlan,
    names: Names,
    tp: TopicPartition,
    steps: Sequence[Step],
    commit: int,
    now_ms: int,
) -> Iterator[tuple[str, list[Record]]]:
    """What goes to topics. Records that come to one from several ways, windows or stages are in the
    order of their offsets, and those made of one record in theirs, so that where commits and
    batches were cut does not show.
    """

    def at(micros: int) -> int:
        return min(micros // 1000, now_ms)

    for topic, ways in _ways(plan).items():
        rows = [row for way in ways for step in steps for row in step.forwarded.get(way.number, ())]
        if len(ways) > 1:
            rows.sort(key=lambda row: (row[0].offset, row[0].index))
        made = [Record(r.key, r.value, at(time), forwarded(r, commit)) for r, time in rows]
        yield names.topic(topic), made
    rejects, routed = _parted(plan, [reject for step in steps for reject in step.rejects])
    if plan.routed is not None and plan.routed.topic is not None:
        letters = [(r.raw, dead_letter(r, plan.topology, commit)) for r in routed]
        away = [Record(raw.key, raw.value, now_ms, headers) for raw, headers in letters]
        yield names.topic(plan.routed.topic), away
    if plan.rejected_topic is not None:
        letters = [(r.raw, dead_letter(r, plan.topology, commit)) for r in rejects] + [
            (late.raw, late_dead_letter(late, plan.topology, commit))
            for window in plan.windows
            if window.late_is_dead_letter
            for step in steps
            for late in step.late.get(window.name, ())
        ]
        letters.sort(key=lambda letter: letter[0].offset)
        yield (
            names.topic(plan.rejected_topic),
            [Record(raw.key, raw.value, now_ms, headers) for raw, headers in letters],
        )
    for topic in dict.fromkeys(w.late_topic for w in plan.windows if w.late_topic is not None):
        windows = [window.name for window in plan.windows if window.late_topic == topic]
        late = [row for name in windows for step in steps for row in step.late.get(name, ())]
        late.sort(key=lambda row: row.raw.offset)
        records = [
            Record(r.raw.key, r.raw.value, at(r.event_time), late_record(r, commit)) for r in late
        ]
        yield names.topic(topic), records
    yield from _made(plan, names, tp, steps, commit, now_ms)


def _parted(plan: TaskPlan, rejects: list[Reject]) -> tuple[list[Reject], list[Reject]]:
    """Those for the rejected side, and those that thresholds have routed away, where these have an
    exit of their own. They come by offset.
    """
    if plan.routed is None:
        return rejects, []
    away = [reject for reject in rejects if reject.reason == "gate-tripped"]
    return [reject for reject in rejects if reject.reason != "gate-tripped"], away


def _made(
    plan: TaskPlan,
    names: Names,
    tp: TopicPartition,
    steps: Sequence[Step],
    commit: int,
    now_ms: int,
) -> Iterator[tuple[str, list[Record]]]:
    """Results of windows, of checks, and quality over extents."""
    for window in plan.windows:
        if window.topics:
            batches = [b for step in steps for b in step.results.get(window.name, ())]
            records = [r for b in batches for r in _result_records(window, b, tp, commit, now_ms)]
            for topic in window.topics:
                yield names.topic(topic), records
    for one in (*plan.checks, *plan.rolling):
        batches = [b for step in steps for b in step.results.get(one.name, ())]
        records = [r for b in batches for r in extent_records(b, tp, commit, now_ms)]
        for topic in one.topics:
            yield names.topic(topic), records


def _ways(plan: TaskPlan) -> dict[str, list[Outlet]]:
    """The outlets whose rows go to each topic."""
    found: dict[str, list[Outlet]] = {}
    for outlet in plan.outlets:
        for topic in outlet.topics:
            found.setdefault(topic, []).append(outlet)
    return found


def _sides(
    plan: TaskPlan, names: Names, steps: Sequence[Step], commit: int, now_ms: int
) -> Iterator[tuple[str, list[Record]]]:
    """What stages have dropped to sides, by offset: where batches were cut does not show."""
    for topic in sorted({topic for _, topic in plan.sides.values()}):
        rows = [row for step in steps for row in step.aside.get(topic, ())]
        rows.sort(key=lambda row: row[0].offset)
        yield (
            names.topic(topic),
            [
                Record(r.key, r.value, min(time // 1000, now_ms), forwarded(r, commit))
                for r, time in rows
            ],
        )


def _result_records(
    window: WindowPlan, batch: pa.RecordBatch, tp: TopicPartition, commit: int, now_ms: int
) -> Iterator[Record]:
    """Results as JSON, keyed by group and window start so that compaction keeps the last."""
    names = [name for name in batch.schema.names if not name.startswith("_")]
    values = json_rows(batch.select(names))
    key_of = itemgetter(*window.by, "window_start")
    ranges = batch.select(["_offset_first", "_offset_next", "__latest"]).columns
    trace = traceparent(Origin(tp, batch["_offset_first"][0].as_py(), 0, commit))
    for value, first, stop, latest in zip(
        values, *(column.to_pylist() for column in ranges), strict=True
    ):
        origin = Origin(tp, first, stop, commit)
        yield Record(
            to_json(key_of(value)),
            to_json(value),
            min(latest // 1000, now_ms),
            (trace, origin.header()),
        )


def from_micros(micros: int) -> datetime:
    """A time of day from microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=micros)
