"""Brings a task's local state up to its changelog, and rebuilds it where it cannot be trusted.

A local state knows how far it has applied the changelog, when, and which state it is of (`born`).

    nothing applied, or too long ago     it is rebuilt
    of another state (one was discarded) it is rebuilt
    of this state, and up to an offset   what follows is read and applied, nothing else
    beyond the end of the changelog      the changelog has lost commits: a person has to decide
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from streamflow.clock import Clock
from streamflow.core.keys import META, number_in
from streamflow.engine.commit import APPLIED, APPLIED_AT
from streamflow.engine.marked import ALL, HOLD_ENTRIES, NOTHING, Entries, Marked, Overrun
from streamflow.engine.refusals import changelog_lost
from streamflow.ports import Changelog, StateStore

#: Tombstones may be compacted away after Kafka's `delete.retention.ms` (a day); a local state that
#: has not been written for half of that could miss one.
STALE_AFTER = timedelta(hours=12)


@dataclass(frozen=True)
class Restored:
    """Where the changelog ended, and the keys of void entries in it (`marked.py`)."""

    stop: int
    void: frozenset[bytes]


async def restore(store: StateStore, changelog: Changelog, clock: Clock, name: str) -> Restored:
    """Bring the local store up to the changelog, which the words of a refusal call `name`.

    Raises:
        StateRefused: the changelog has lost what the local state has.
    """
    first, stop = await changelog.bounds()
    now_ms = int(clock.now().timestamp() * 1000)
    applied, at, meta = store.get([APPLIED, APPLIED_AT, META])
    start = None if applied is None or at is None else int(applied)
    if start is not None and start > stop and meta is not None:
        theirs = await _last_meta(changelog, first, stop)
        if theirs is None or _born(theirs) == _born(meta):
            raise changelog_lost(name, start, stop)
    stale = at is None or now_ms - int(at) > STALE_AFTER.total_seconds() * 1000
    if start is None or stale or not first <= start <= stop:
        void = await _rebuild(store, changelog, first, stop, now_ms)
    else:
        void = await _caught_up(store, changelog, (first, start, stop), meta, now_ms)
    await changelog.close()
    return Restored(stop, void)


async def _caught_up(
    store: StateStore,
    changelog: Changelog,
    bounds: tuple[int, int, int],
    meta: bytes | None,
    now_ms: int,
) -> frozenset[bytes]:
    first, start, stop = bounds
    marked = Marked(meta)
    try:
        await _catch_up(store, changelog, start, stop, now_ms, marked)
        void = marked.void()
    except Overrun:
        return await _rebuild(store, changelog, first, stop, now_ms)
    if meta is not None and _born(store.get([META])[0]) != _born(meta):
        return await _rebuild(store, changelog, first, stop, now_ms)
    return void


async def _rebuild(
    store: StateStore, changelog: Changelog, first: int, stop: int, now_ms: int
) -> frozenset[bytes]:
    for hold in (NOTHING, HOLD_ENTRIES, ALL):
        marked = Marked(None, hold)
        with suppress(Overrun):
            reached = await _load(store, changelog, (first, stop), marked)
            void = marked.void()
            store.apply(_reached(reached, now_ms))
            return void
    raise AssertionError("what is held back cannot have been let through")


async def _load(
    store: StateStore, changelog: Changelog, bounds: tuple[int, int], marked: Marked
) -> int:
    """Load what counts; returns up to where everything does."""
    counting = marked.take if marked.holds else marked.let_through
    store.clear()
    position, stop = bounds
    reached = position
    while position < stop:
        entries, position = await changelog.fetch(position, stop)
        store.load(counting(entries))
        reached = position if marked.whole else reached
    store.loaded()
    return reached


async def _catch_up(
    store: StateStore, changelog: Changelog, start: int, stop: int, now_ms: int, marked: Marked
) -> None:
    """Apply what counts. Where something does not, or is not known to yet, the store is not said to
    be further: it will be found again until it is mended.
    """
    position = reached = start
    while position < stop:
        entries, position = await changelog.fetch(position, stop)
        counting = marked.take(entries)
        reached = position if marked.whole else reached
        store.apply([*counting, *_reached(reached, now_ms)])


def _reached(offset: int, now_ms: int) -> Entries:
    """How far the changelog is applied, and when."""
    return [(APPLIED, str(offset).encode()), (APPLIED_AT, str(now_ms).encode())]


async def _last_meta(changelog: Changelog, first: int, stop: int) -> bytes | None:
    found: bytes | None = None
    position = first
    while position < stop:
        entries, position = await changelog.fetch(position, stop)
        for key, value in entries:
            found = value if key == META else found
    return found


def _born(meta: bytes | None) -> int | None:
    return number_in(meta, "born")
