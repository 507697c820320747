"""What a version of a topology goes on with of the state that another one has left.

That it can be read at all, its id says (`plan.py`). Besides:

- Watermarks stand still over a change of `out_of_orderness`, as no window ends, and none that was
  final opens, by a deployment: the largest event times that there were are moved by as much.
- What a stage remembers of keys is read by a stage that compares the same, and only where it has
  been there in between: a stage that was away has missed records. Else it begins anew, under a
  number of its own, the commit before; entries that nobody reads any more are erased, some with
  each commit.
- Where a version has given early results, final ones of later versions take their place, too.
- Thresholds and bounds of checks that are gone, or others by now, are forgotten: what they have
  stopped goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from streamflow.changes import Changed
from streamflow.core.plan import TaskPlan
from streamflow.core.step import Begun, StateView, TaskState
from streamflow.stages import Dedup

#: So many entries that nobody reads are erased with a commit, about.
SWEPT = 10_000


def taken_up(plan: TaskPlan, state: TaskState) -> TaskState:
    """The state as this plan goes on with it."""
    lag = plan.out_of_orderness
    known = {watch.name: watch.threshold.signature for watch in plan.watches}
    moved = 0 if state.lag is None else lag - state.lag
    state = replace(
        state,
        lag=lag,
        seen=None if state.seen is None else state.seen + moved,
        marks={name: mark + moved for name, mark in state.marks.items()},
        early=state.early | {window.name for window in plan.windows if window.early is not None},
        breakers={name: b for name, b in state.breakers.items() if b.of == known.get(name)},
    )
    return _remembering(plan, state)


def anew(before: TaskState, after: TaskState) -> list[str]:
    """The stages that have been there, and begin anew."""
    old, new = before.memories or {}, after.memories or {}
    return sorted(name for name in new if name in old and new[name] != old[name])


def swept(state: TaskState, view: StateView) -> tuple[TaskState, list[bytes]]:
    """Keys of some of the entries that nobody reads any more, and the state without them."""
    left, erased = list(state.leftover), list[bytes]()
    while left:
        spans = _spans(left[0])
        found = [key for span in spans for key, _ in view.scan(*span, limit=SWEPT)]
        erased += found
        if len(found) >= SWEPT:
            break
        left.pop(0)
    return replace(state, leftover=tuple(left)), erased


def _remembering(plan: TaskPlan, state: TaskState) -> TaskState:
    stages = [stage for stage in plan.stages if isinstance(stage, Dedup | Changed)]
    if state.memories is None:
        begun = {stage.name: Begun(0, stage.compared) for stage in stages}
        return replace(state, memories=begun)
    new: dict[str, Begun] = {}
    for stage in stages:
        old = state.memories.get(stage.name)
        same = old is not None and old.compared == stage.compared
        new[stage.name] = old if old and same else Begun(state.commit, stage.compared)
    gone = {name: old for name, old in state.memories.items() if new.get(name) != old}
    return replace(
        state,
        memories=new,
        marks={name: mark for name, mark in state.marks.items() if name not in gone},
        leftover=(*state.leftover, *_labels(gone)),
    )


def _labels(gone: Mapping[str, Begun]) -> Iterator[str]:
    """What the keys of their entries start with, as text."""
    for name, begun in gone.items():
        yield ("d" if name.startswith("dedup ") else "c") + begun.label(name)


def _spans(label: str) -> list[tuple[bytes, bytes]]:
    """Keys of the entries of a memory, and of the lists of what it forgets."""
    prefixes = (label.encode(), b"x" + label[1:].encode())
    return [(prefix + b"\0", prefix + b"\1") for prefix in prefixes]
