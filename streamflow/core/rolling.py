"""Quality over extents of records: each record of a micro-batch counts in the extent that it comes
in, and an extent of time is over when a record of a later one comes.

Extents do not go back, so one is open at a time, and what is known of it are a few counts, which
lie in the state (`Tally`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.decode import Decoded
from streamflow.core.flow import Flow
from streamflow.core.plan import RollingPlan, TaskPlan
from streamflow.core.step import Tally, TaskState
from streamflow.core.watermark import event_times
from streamflow.core.window import ends_of, windows_of
from streamflow.event_time import years_around
from streamflow.quality import QUALITY
from streamflow.rules import score
from streamflow.stages import rules_of

#: The last millisecond that a column of times holds.
_LAST_MS = years_around(timedelta(0)).stop // 1000 - 1

#: Offsets that are named of each rule and reason.
EXAMPLES = 3
REJECTED, REFUSED, RULE = "rejected", "refused ", "rule "
_SCHEMA = pa.schema([*QUALITY, pa.field("__latest", pa.int64())])

Issues = Mapping[str, list[int]]


def issues_of(batch: MicroBatch, decoded: Decoded, passed: Flow) -> Issues:
    """What is wrong in a micro-batch: by name, the places of the records, rising, one for each
    time.
    """
    row = {offset: place for place, offset in enumerate(batch.offsets)} if passed.rejects else {}
    found = {REJECTED: sorted({row[one.raw.offset] for one in passed.rejects})}
    for one in decoded.rejects:
        found.setdefault(f"{REFUSED}{one.reason}", []).append(row[one.raw.offset])
    for name, places in passed.broken.items():
        found[f"{RULE}{name}"] = pa.concat_arrays(places).to_pylist()
    return {name: sorted(places) for name, places in found.items() if places}


def tally(
    task: TaskPlan,
    plan: RollingPlan,
    batch: MicroBatch,
    decoded: Decoded,
    issues: Issues,
    state: TaskState,
) -> tuple[TaskState, pa.RecordBatch | None]:
    """The state with the records of a micro-batch in their extents; and what there is to say of
    those that are over.
    """
    if not len(batch):
        return state, None
    over = _Over(task, plan, batch.tp, state.tallies.get(plan.key, Tally()))
    at = over.numbers(batch, decoded, state.idle)
    if at is None:
        over.count(None, batch, range(len(batch)), issues)
        return over.after(state), None
    runs = pc.run_end_encode(windows_of(plan.window, at)[0])
    first = 0
    ends: list[int] = runs.run_ends.to_pylist()
    for start, stop in zip(runs.values.to_pylist(), ends, strict=True):
        over.count(start, batch, range(first, stop), issues)
        first = stop
    if plan.counted:
        over.end_before(over.known.rows)
    return over.after(state), over.results()


def end_by_clock(
    task: TaskPlan, plan: RollingPlan, tp: TopicPartition, state: TaskState
) -> tuple[TaskState, pa.RecordBatch | None]:
    """What there is to say of an extent of time that a decision of a clock has ended."""
    over = _Over(task, plan, tp, state.tallies.get(plan.key, Tally()))
    if plan.counted or not over.known.records:
        return state, None
    if state.ended is not None:
        over.say()
    elif state.idle is not None:
        over.end_before(state.idle)
    return over.after(state), over.results()


@dataclass
class _Over:
    """The walk over the extents of some records; `known` is the one that is open."""

    task: TaskPlan
    plan: RollingPlan
    tp: TopicPartition
    known: Tally
    made: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def numbers(self, batch: MicroBatch, decoded: Decoded, idle: int | None) -> pa.Array | None:
        """What tells the extent of each record: its number, or the time that the clock shows after
        it, which goes by event times and, where the partition was idle, by the watermark. Before
        the first time it shows that one; None where there is none yet.
        """
        n, known = len(batch), self.known
        if self.plan.counted:
            self.known = replace(known, rows=known.rows + n)
            return pa.arange(known.rows, known.rows + n)
        times = event_times(decoded.rows)
        if len(times) < n:
            place = pc.index_in(pa.arange(0, n), value_set=pc.cast(decoded.places, pa.int64()))
            times = times.take(place)
        floor = max((at for at in (known.clock, idle) if at is not None), default=None)
        clock = pc.fill_null_forward(pc.cumulative_max(times, skip_nulls=True))
        if floor is not None:
            clock = pc.max_element_wise(clock, pa.scalar(floor, pa.int64()))
        if clock.null_count == n:
            return None
        self.known = replace(known, clock=clock[n - 1].as_py())
        return pc.fill_null_backward(clock)

    def count(self, start: int | None, batch: MicroBatch, records: range, issues: Issues) -> None:
        """Add records to the extent that starts here; the one before it is over."""
        if self.known.start is not None and start is not None and start > self.known.start:
            self.say()
        known, counts = self.known, Counter(self.known.counts)
        examples = {name: list(offsets) for name, offsets in known.examples.items()}
        for name, places in issues.items():
            here = places[bisect_left(places, records.start) : bisect_left(places, records.stop)]
            if here:
                counts[name] += len(here)
                named = examples.setdefault(name, [])
                _name(named, (batch.offsets[place] for place in here))
        # A timestamp that no column holds is that of a dead letter.
        stamps = batch.timestamps[records.start : records.stop]
        latest = max(min(stamp, _LAST_MS) for stamp in stamps) * 1000
        self.known = replace(
            known,
            start=start,
            records=known.records + len(records),
            counts=dict(counts),
            examples=examples,
            first=known.first if known.records else batch.offsets[records.start],
            next=batch.offsets[records.stop - 1] + 1,
            latest=max(latest, known.latest) if known.records else latest,
        )

    def end_before(self, stop: int) -> None:
        """Say what there is to say where the extent ends here or before."""
        if self.known.start is not None and self._end(self.known.start) <= stop:
            self.say()

    def say(self) -> None:
        """The extent is over."""
        known = self.known
        end = None if known.start is None else self._end(known.start)
        names = ("row_first", "row_next") if self.plan.counted else ("window_start", "window_end")
        counts = Counter(known.counts)
        refused = sorted(name for name in counts if name.startswith(REFUSED))
        rules = rules_of(self.task.stages)
        issues = sum(counts[name] for name in refused)
        issues += sum(counts[f"{RULE}{rule.name}"] for rule in rules)
        self.made.append(
            {
                "topology": self.task.topology,
                "quality": self.plan.name,
                **dict(zip(names, (known.start, end), strict=True)),
                "records": known.records,
                "rejected": counts[REJECTED],
                "issues": issues,
                "score": score(issues, known.records),
                "refused": [
                    {
                        "reason": name.removeprefix(REFUSED),
                        "records": counts[name],
                        "examples": known.examples[name],
                    }
                    for name in refused
                ],
                "rules": [
                    {
                        "rule": rule.name,
                        "severity": rule.severity,
                        "broken": counts[f"{RULE}{rule.name}"],
                        "fixed": counts[f"{RULE}{rule.name}:fixed"],
                        "examples": known.examples.get(f"{RULE}{rule.name}", []),
                    }
                    for rule in rules
                ],
                "_topic": self.tp.topic,
                "_partition": self.tp.partition,
                "_offset_first": known.first,
                "_offset_next": known.next,
                "__latest": known.latest,
            }
        )
        self.known = Tally(rows=known.rows, clock=known.clock)

    def after(self, state: TaskState) -> TaskState:
        """The state after all this."""
        return replace(state, tallies={**state.tallies, self.plan.key: self.known})

    def results(self) -> pa.RecordBatch | None:
        """What was said."""
        return pa.RecordBatch.from_pylist(self.made, schema=_SCHEMA) if self.made else None

    def _end(self, start: int) -> int:
        return ends_of(self.plan.window, pa.array([start], pa.int64()))[0].as_py()


def _name(named: list[int], offsets: Iterable[int]) -> None:
    """Name offsets that were not, as long as there are few."""
    for offset in offsets:
        if len(named) >= EXAMPLES:
            return
        if offset not in named:
            named.append(offset)
