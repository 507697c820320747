"""Fourth stage: which windows the watermark has made final, and their results.

A window's partials lie in the committed state and, since the last commit, in `TaskState.open`. The
start of a tumbling, hopping or calendar window tells its end, so what closes is one range of keys.
What late rows may still correct is final, but stays for a time. The rows of a sliding window stay
for a size, since those that come later look back on them.
A session's end is known when all that touches it is put together: every session that began is taken
out of the state, and what is not over yet goes back with the next commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.aggregate import AMENDS, END, START, merge
from streamflow.core.keys import decode_partial, place_in, window_range
from streamflow.core.plan import WindowPlan
from streamflow.core.sliding import look_back
from streamflow.core.step import INFINITY, StateView, TaskState
from streamflow.core.window import closed_by
from streamflow.triggers import Every
from streamflow.windows import Session, Sliding, micros

_MIN = -(2**63)


@dataclass(frozen=True)
class Closed:
    """Merged partials of the windows that are final, the state without them, and erased keys."""

    partials: pa.Table | None
    state: TaskState
    erased: tuple[bytes, ...]


def close(plan: WindowPlan, state: TaskState, view: StateView, old: int | None, new: int) -> Closed:
    """Take out the windows that became final as the watermark went from `old` to `new`."""
    if isinstance(plan.window, Session):
        return _close_sessions(plan, state, view, new if new == INFINITY else new - plan.grace)
    first, last = _between(plan, plan.grace, old, new)
    if isinstance(plan.window, Sliding):
        return _close_sliding(plan, state, view, first, last)
    stored = view.scan(*window_range(plan.name, first, last + 1))
    closing = [decode_partial(data) for _, data in stored]
    held = state.open.get(plan.name)
    if held is not None:
        starts = held.column(START)
        due = pc.and_(pc.greater_equal(starts, first), pc.less_equal(starts, last))
        closing.append(held.filter(due))
    if not plan.keep:
        return Closed(_merged(plan, closing), _after(plan, state, last), _keys(stored))
    on_time = [partials.filter(pc.invert(partials.column(AMENDS))) for partials in closing]
    first, last = _between(plan, plan.grace + plan.keep, old, new)
    over = view.scan(*window_range(plan.name, first, last + 1))
    return Closed(_merged(plan, on_time), _after(plan, state, last), _keys(over))


def early(
    plan: WindowPlan, state: TaskState, view: StateView, old: int | None, new: int
) -> pa.Table | None:
    """Merged partials of the windows that give an early result as the watermark goes from `old` to
    `new`, of a state without those that close with it.
    """
    if plan.early is None or new == INFINITY:
        return None
    _, closed = _between(plan, plan.grace, None, new)
    if isinstance(plan.early, Every):
        every = micros(plan.early.interval)
        if old is None or old // every == new // every:
            return None
        first, last = closed + 1, INFINITY - 1
    else:
        first, last = _between(plan, 0, old, new)
        first = max(first, closed + 1)
    stored = view.scan(*window_range(plan.name, first, last + 1))
    found = [decode_partial(data) for _, data in stored]
    held = state.open.get(plan.name)
    if held is not None:
        starts = held.column(START)
        due = pc.and_(pc.greater_equal(starts, first), pc.less_equal(starts, last))
        found.append(held.filter(due))
    return _merged(plan, found)


def last_kept(plan: WindowPlan, new: int) -> int:
    """Where the last window starts that no late row can correct any more."""
    return _between(plan, plan.grace + plan.keep, None, new)[1]


def _between(plan: WindowPlan, wait: int, old: int | None, new: int) -> tuple[int, int]:
    """Where the first and the last window start that ended `wait` before a watermark that goes from
    `old` to `new`, and not before `old`.
    """
    first = _MIN if old is None else closed_by(plan.window, old - wait) + 1
    return first, INFINITY - 1 if new == INFINITY else closed_by(plan.window, new - wait)


def _after(plan: WindowPlan, state: TaskState, last: int) -> TaskState:
    """The state without the partials, not stored yet, of windows that start up to `last`."""
    held = state.open.get(plan.name)
    if held is None:
        return state
    left = held.filter(pc.greater(held.column(START), last))
    return replace(state, open={**state.open, plan.name: left})


def _keys(stored: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    return tuple(key for key, _ in stored)


def _close_sliding(
    plan: WindowPlan, state: TaskState, view: StateView, first: int, last: int
) -> Closed:
    assert isinstance(plan.window, Sliding)
    size = micros(plan.window.size)
    # What starts after `last` looks back on nothing before this; an entry spans a size.
    needed = last - size + 2 if last < INFINITY - 1 else INFINITY
    stored = view.scan(*window_range(plan.name, first - 3 * size, last + 1))
    found = [decode_partial(data) for _, data in stored]
    held = state.open.get(plan.name)
    merged = _merged(plan, [*found, *([held] if held is not None else [])])
    over = [key for key, _ in stored if place_in(key) + size <= needed]
    results = None if merged is None else look_back(plan, merged, first, last)
    return Closed(results, _after(plan, state, needed - 1), tuple(over))


def _close_sessions(plan: WindowPlan, state: TaskState, view: StateView, final: int) -> Closed:
    assert isinstance(plan.window, Session)
    due = state.due.get(plan.name)
    if due is not None and final < due:
        return Closed(None, state, ())
    # One that began at `final` may still touch another that ends there.
    scanned = view.scan(*window_range(plan.name, _MIN, min(final, INFINITY - 1) + 1))
    stored = [(key, data) for key, data in scanned if key not in state.taken]
    held = state.open.get(plan.name)
    found = [decode_partial(data) for _, data in stored] + ([held] if held is not None else [])
    sessions = _merged(plan, found)
    keys = tuple(key for key, _ in stored)
    # What is not scanned, and every row on time to come, is after `final`: it ends a gap later.
    later = final + micros(plan.window.gap) + 1
    if sessions is None:
        return Closed(None, replace(state, due={**state.due, plan.name: later}), keys)
    over = pc.less_equal(sessions.column(END), final)
    left = sessions.filter(pc.invert(over))
    if left.num_rows:
        later = min(later, pc.min(left.column(END)).as_py())
    after = replace(
        state,
        open={**state.open, plan.name: left},
        taken=state.taken | frozenset(keys),
        due={**state.due, plan.name: later},
    )
    ended = sessions.filter(over)
    return Closed(ended if ended.num_rows else None, after, keys)


def _merged(plan: WindowPlan, partials: list[pa.Table]) -> pa.Table | None:
    if not any(table.num_rows for table in partials):
        return None
    return merge(plan, partials)
