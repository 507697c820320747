"""Checks over extents: rows are reduced as those of windows are; what is over is judged.

An extent of time is a window of all rows of the partition, closed by the watermark; one of rows is
a window over their numbers, closed by the last one. Extents are judged in their order, with what is
remembered of those before (`Extents`), so that neither micro-batches nor commits can be seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.checking import CHECKED
from streamflow.checks import (
    Bounds,
    Check,
    Freshness,
    Measure,
    NullRate,
    RowCount,
    Share,
    Unique,
    Volume,
)
from streamflow.core.aggregate import START, partial
from streamflow.core.close import close
from streamflow.core.compile_checks import (
    EXAMPLES,
    MARKED,
    ROWS,
    first_marked,
    key_column,
    mark_column,
    measured,
)
from streamflow.core.halving import each_alone
from streamflow.core.keys import operator_range
from streamflow.core.memory import keys_of
from streamflow.core.placed import of_rows
from streamflow.core.plan import ChecksPlan
from streamflow.core.step import INFINITY, Extents, StateView, TaskState, mark_of
from streamflow.core.watermark import after_each, event_times, judged
from streamflow.core.window import assign, closed_by, ends_of
from streamflow.rules import Condition, one_per_row

Rows = pa.RecordBatch
#: After so many extents without rows in a row nothing is said of more, until there is a row.
MOST_EMPTY = 1_000
_LATEST, _NEXT = "__latest", "__next"
_SCHEMA = pa.schema([*CHECKED, pa.field(_LATEST, pa.int64())])


@dataclass(frozen=True)
class Found:
    """What is said of the extents that are over: a row for each check, in the schema of results
    followed by `__latest`; the state without them, and the keys that it no longer has. `stopped`
    has for each check that stops the partition the offset of the record that ended the extent;
    `good` are those that could stop it and had nothing against an extent.
    """

    results: pa.RecordBatch | None
    state: TaskState
    erased: tuple[bytes, ...]
    counts: Counter[str]
    stopped: Mapping[str, int] = field(default_factory=dict[str, int])
    good: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reached:
    """How far the end of extents has moved after each of some records: the watermark, or the number
    of rows; not falling.
    """

    offsets: pa.Array
    ends: pa.Array

    def offset(self, end: int) -> int:
        """The offset of the first record after which an extent that ends here is over."""
        first: int = pc.index(pc.greater_equal(self.ends, end), True).as_py()
        return self.offsets[first].as_py()


def take(
    plan: ChecksPlan,
    batch: MicroBatch,
    rows: Rows,
    places: pa.Array,
    moving: Rows,
    lag: int,
    state: TaskState,
) -> tuple[TaskState, Counter[str], Reached]:
    """The state with these rows in their extents, how many were too late for theirs, and how far
    extents have come to their ends.

    `moving` are the rows that move the watermark, `lag` is the out-of-orderness.
    """
    known, n = state.extents.get(plan.key, Extents()), rows.num_rows
    if plan.counted:
        at, before = pa.arange(known.rows, known.rows + n), pa.nulls(n, pa.int64())
        known = replace(known, rows=known.rows + n)
        reached = Reached(rows["_offset"], pc.add(at, 1))
    else:
        at = event_times(rows)
        reached = Reached(moving["_offset"], after_each(plan.key, lag, moving, state))
        before, state = judged(plan.key, lag, rows, moving, state)
    state = replace(state, extents={**state.extents, plan.key: known})
    on_time = assign(plan.whole, batch, _with_columns(plan, rows), places, at, before)
    late = Counter({f"{plan.name}: late": on_time.missed}) if on_time.missed else Counter[str]()
    if not on_time.rows.num_rows:
        return state, late, reached
    held = dict(state.open)
    for window in plan.windows:
        new = partial(window, on_time, event_times(on_time.rows))
        before_it = held.get(window.name)
        held[window.name] = new if before_it is None else pa.concat_tables([before_it, new])
    return replace(state, open=held), late, reached


def judge_extents(
    plan: ChecksPlan,
    before: TaskState,
    state: TaskState,
    view: StateView,
    tp: TopicPartition,
    lag: int,
    reached: Reached | None,
) -> Found:
    """Judge the extents that are over in `state` and were not in `before`; with None for `reached`
    it was a decision of a clock that ended them.
    """
    known = state.extents.get(plan.key, Extents())
    if plan.counted:
        earlier = before.extents.get(plan.key, Extents())
        old, new = earlier.rows, known.rows
    else:
        old, new = before.watermark(lag, plan.key), state.watermark(lag, plan.key)
    if new is None or new == old:
        return Found(None, state, (), Counter())
    closed = close(plan.whole, state, view, old, new)
    erased, keys = list(closed.erased), dict[int, pa.Table | None]()
    for number, window in plan.by_key.items():
        by_key = close(window, closed.state, view, old, new)
        closed = replace(closed, state=by_key.state)
        erased += by_key.erased
        keys[number] = by_key.partials
    over = _Over(plan, tp, known, _values(plan, closed.partials, keys))
    over.judge(
        INFINITY if new == INFINITY else closed_by(plan.whole.window, new - plan.whole.grace)
    )
    after = replace(closed.state, extents={**closed.state.extents, plan.key: over.known})
    made = pa.RecordBatch.from_pylist(over.made, schema=_SCHEMA) if over.made else None
    stopped = {
        name: state.position - 1 if reached is None else reached.offset(end + plan.whole.grace)
        for name, end in over.stopped.items()
    }
    return Found(made, after, tuple(erased), over.counts, stopped, frozenset(over.good))


def forget(
    plans: Sequence[ChecksPlan], state: TaskState, view: StateView
) -> tuple[TaskState, dict[bytes, bytes | None]]:
    """The state without what is kept for checks that are no more, or keep something else now; and
    the entries to erase.
    """
    gone = state.extents.keys() - {plan.key for plan in plans}
    if not gone:
        return state, {}
    marks = {name: mark for name, mark in state.marks.items() if name not in map(mark_of, gone)}
    extents = {key: one for key, one in state.extents.items() if key not in gone}
    entries = [entry for key in gone for entry, _ in view.scan(*operator_range(key))]
    return replace(state, marks=marks, extents=extents), dict.fromkeys(entries)


@dataclass(frozen=True)
class _Values:
    """Of one extent: its number of rows, where they lie, and per check its value and examples."""

    rows: int
    first: int
    next: int
    latest: int
    of: Mapping[int, tuple[float | None, list[int]]]


@dataclass
class _Over:
    """The walk over the extents that are over."""

    plan: ChecksPlan
    tp: TopicPartition
    known: Extents
    found: dict[int, _Values]
    made: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    counts: Counter[str] = field(default_factory=Counter[str])
    stopped: dict[str, int] = field(default_factory=dict[str, int])
    good: set[str] = field(default_factory=set[str])

    def judge(self, last: int) -> None:
        """Judge those that have rows, and between them and up to where `last` starts those that
        have none.
        """
        for start, values in self.found.items():
            self._empty_before(start)
            self._judge(start, values)
        if last != INFINITY:
            self._empty_before(last + 1)

    def _empty_before(self, stop: int) -> None:
        if self.plan.counted:
            return
        known = self.known
        while known.next is not None and known.next < stop and known.empty < MOST_EMPTY:
            at = known.offset
            end = self._end(known.next)
            self._judge(known.next, _Values(0, at, at, end, {}))
            known = self.known

    def _judge(self, start: int, values: _Values) -> None:
        known, end = self.known, self._end(start)
        for number, check in enumerate(self.plan.checks):
            self._say(check, start, end, values, *_value(check, values, values.of.get(number)))
        most = max((c.against for c in self.plan.checks if isinstance(c, Volume)), default=0)
        counts = (*known.counts, values.rows)[-most:] if most else ()
        empty = 0 if values.rows else known.empty + 1
        self.known = replace(known, next=end, empty=empty, counts=counts, offset=values.next)

    def _say(
        self,
        check: Check,
        start: int,
        end: int,
        values: _Values,
        value: float | None,
        examples: list[int],
    ) -> None:
        bounds: Bounds | None = check.bounds
        if isinstance(check, Volume):
            bounds = check.around(self.known.counts)
        low, high = bounds or (None, None)  # exact ones: they are only told as floats
        verdict = "unknown"
        if value is not None and bounds is not None:
            good = (low is None or value >= low) and (high is None or value <= high)
            bad = "warn" if check.severity in ("info", "warning") else "fail"
            verdict = "pass" if good else bad
        name = f"{self.plan.name}: {check.label}"
        self.counts[f"{name}: {verdict}"] += 1
        if check.stop is not None and verdict in ("warn", "fail"):
            self.stopped.setdefault(name, end)
        if check.stop is not None and verdict == "pass":
            self.good.add(name)
        bounds_of = (
            ("row_first", "row_next") if self.plan.counted else ("window_start", "window_end")
        )
        self.made.append(
            {
                "checks": self.plan.name,
                "check": check.label,
                "severity": check.severity,
                "verdict": verdict,
                "value": value,
                "at_least": None if low is None else float(low),
                "at_most": None if high is None else float(high),
                "rows": values.rows,
                **dict(zip(bounds_of, (start, end), strict=True)),
                "examples": examples,
                "_topic": self.tp.topic,
                "_partition": self.tp.partition,
                "_offset_first": values.first,
                "_offset_next": values.next,
                _LATEST: values.latest,
            }
        )

    def _end(self, start: int) -> int:
        return ends_of(self.plan.whole.window, pa.array([start], pa.int64()))[0].as_py()


def _with_columns(plan: ChecksPlan, rows: Rows) -> Rows:
    """The rows with what checks look at: offsets of rows that they mark, and keys."""
    for number, condition in plan.marked.items():
        marked = _truth(condition, rows)
        if plan.checks[number].bounds[1] is None:  # the rows that are missing in the share
            marked = pc.invert(marked)
        at = pc.if_else(marked, rows.column("_offset"), pa.scalar(None, pa.int64()))
        rows = rows.append_column(mark_column(number), at)
    for number in plan.by_key:
        check = plan.checks[number]
        rows = rows.append_column(key_column(number), keys_of(rows, check.fields))
    return rows


def _truth(condition: Condition, rows: Rows) -> pa.Array:
    """Is the condition true on each row? Not where it is null or cannot be computed."""

    def verdict(some: Rows) -> pa.Array:
        return pc.fill_null(pc.cast(one_per_row(condition(some), some), pa.bool_()), False)

    return pc.fill_null(each_alone(verdict, rows, pa.bool_())[0], False)


def _values(
    plan: ChecksPlan, merged: pa.Table | None, keys: Mapping[int, pa.Table | None]
) -> dict[int, _Values]:
    """What was found in the extents with rows, by their starts, which rise."""
    if merged is None:
        return {}
    starts: list[int] = merged.column(START).to_pylist()
    of: dict[int, list[tuple[float | None, list[int]]]] = {}
    rows: list[int] = merged.column(f"{ROWS}.n").to_pylist()
    for number, check in enumerate(plan.checks):
        match check:
            case NullRate() | Share():
                of[number] = _shares(number, check, merged, rows)
            case Unique():
                found = _duplicates(keys[number])
                of[number] = [found[start] for start in starts]
            case Freshness():
                written = pc.cast(merged.column(f"{number}.max"), pa.int64())
                ages = pc.subtract(written, merged.column(_LATEST)).to_pylist()
                of[number] = [(age / 1_000_000, []) for age in ages]
            case Measure():
                columns = {name: merged.column(name) for name in merged.column_names}
                with of_rows(merged):
                    made = measured(number, check, columns).to_pylist()
                of[number] = [(None if one is None else float(one), []) for one in made]
            case _:
                pass
    kept = [merged.column(name).to_pylist() for name in ("__first", _NEXT, _LATEST)]
    return {
        start: _Values(n, first, after, latest, {number: found[i] for number, found in of.items()})
        for i, (start, n, first, after, latest) in enumerate(zip(starts, rows, *kept, strict=True))
    }


def _shares(
    number: int, check: NullRate | Share, merged: pa.Table, rows: list[int]
) -> list[tuple[float | None, list[int]]]:
    marked: list[int] = merged.column(f"{number}.{MARKED}").to_pylist()
    column = {name: merged.column(name) for name in merged.column_names}
    examples = first_marked(number, column).to_pylist()
    if check.at_most is None:
        marked = [n - missing for n, missing in zip(rows, marked, strict=True)]
    return [(m / n, list(at)) for m, n, at in zip(marked, rows, examples, strict=True)]


def _duplicates(by_key: pa.Table | None) -> dict[int, tuple[float | None, list[int]]]:
    """By extent, how many rows have a key that one before has; and where such keys came first."""
    assert by_key is not None
    rows = f"{ROWS}.n"
    summed = by_key.group_by([START], use_threads=False).aggregate([(rows, "sum"), (rows, "count")])
    more = pc.subtract(summed.column(f"{rows}_sum"), summed.column(f"{rows}_count"))
    examples: defaultdict[int, list[int]] = defaultdict(list)
    several = by_key.filter(pc.greater(by_key.column(rows), 1)).sort_by("__first")
    for start, first in zip(
        several.column(START).to_pylist(), several.column("__first").to_pylist(), strict=True
    ):
        if len(examples[start]) < EXAMPLES:
            examples[start].append(first)
    starts = summed.column(START).to_pylist()
    return {
        start: (float(n), examples[start])
        for start, n in zip(starts, more.to_pylist(), strict=True)
    }


def _value(
    check: Check, values: _Values, found: tuple[float | None, list[int]] | None
) -> tuple[float | None, list[int]]:
    """The value of a check over an extent, and examples; without rows, only a number of rows has
    one.
    """
    match check:
        case RowCount() | Volume():
            return float(values.rows), []
        case Unique() if found is None:
            return 0.0, []
        case _:
            return found or (None, [])
