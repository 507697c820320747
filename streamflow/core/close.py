"""Fourth stage: which windows the watermark has made final, and their results.

A window's partials lie in the committed state and, since the last commit, in `TaskState.open`. The
start of a tumbling, hopping or calendar window tells its end, so what closes is one range of keys.
A session's end is known when all that touches it is put together: every session that began is taken
out of the state, and what is not over yet goes back with the next commit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.aggregate import END, START, merge
from streamflow.core.keys import decode_partial, window_range
from streamflow.core.plan import WindowPlan
from streamflow.core.step import INFINITY, StateView, TaskState
from streamflow.core.window import closed_by
from streamflow.windows import Session, micros

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
    first = _MIN if old is None else closed_by(plan.window, old - plan.grace) + 1
    last = INFINITY - 1 if new == INFINITY else closed_by(plan.window, new - plan.grace)
    stored = view.scan(*window_range(plan.name, first, last + 1))
    closing = [decode_partial(data) for _, data in stored]
    still_open = dict(state.open)
    held = still_open.pop(plan.name, None)
    if held is not None:
        due = pc.less_equal(held.column(START), last)
        closing.append(held.filter(due))
        still_open[plan.name] = held.filter(pc.invert(due))
    return Closed(
        _merged(plan, closing),
        replace(state, open=still_open),
        tuple(key for key, _ in stored),
    )


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
