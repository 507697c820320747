"""Taking a task over where no transaction fences whoever had it before.

The changelog is what owners meet in. A new one reads it to its end, and then writes there, before
anything else, that it is the owner now: a meta record of the last commit with an epoch of its own,
and once more the values of entries that a crash has left without a mark (`marked.py`). Its outbox
tells where that came to lie. Only if it is just where the reading has ended has the owner seen
everything, and is it the owner; else somebody has written in between, and it begins again.

From there on nothing that the one before writes counts: it is void in the changelog by its epoch,
and in the rows topics after the naming that follows. Which of its commits count was decided by the
log: those whose mark lies before. It finds out by its next mark, which is not where it has to be.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from streamflow.core.keys import META, tables_in
from streamflow.core.part import Part
from streamflow.core.seal import Sealed
from streamflow.core.step import TaskState
from streamflow.core.table_records import namings
from streamflow.ports import StateStore


def is_needed(state: TaskState, void: Collection[bytes], *, provisional: bool) -> bool:
    """Has something to be written before a new owner may commit? In transactions only after an
    owner without them: what it has left is to be settled, and it may be alive.
    """
    return provisional or state.provisional or bool(void)


def takeover(
    part: Part,
    state: TaskState,
    store: StateStore,
    void: Collection[bytes],
    now_ms: int,
    *,
    provisional: bool,
) -> Sealed:
    """What a new owner writes first; `state` is what it has read. A state that is new is born here,
    so that all owners that meet have the same.
    """
    born = now_ms if state.born is None else state.born
    owned = replace(state, epoch=state.epoch + 1, provisional=provisional, born=born)
    named = () if provisional else tuple(namings(part, owned))  # else that follows by itself
    before = store.get([META])[0]
    left = (
        {} if before is None else tables_in(before) or {}
    )  # whether they may go is not settled yet
    return Sealed(owned, named, (*mended(store, void), (META, part.meta(owned, left))))


def mended(store: StateStore, void: Collection[bytes]) -> tuple[tuple[bytes, bytes | None], ...]:
    """The values that count under the keys of void entries, to be written once more."""
    keys = sorted(set(void) - {META})
    return tuple(zip(keys, store.get(keys), strict=True)) if keys else ()
