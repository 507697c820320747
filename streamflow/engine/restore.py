"""Brings a task's local state up to its changelog."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from streamflow.clock import Clock
from streamflow.engine.commit import APPLIED, APPLIED_AT
from streamflow.ports import Changelog, StateStore

#: Changelog records read and applied at a time while restoring.
RESTORE_RECORDS = 10_000
#: Tombstones may be compacted away after Kafka's `delete.retention.ms` (a day); a local state that
#: has not been written for half of that could miss one.
STALE_AFTER = timedelta(hours=12)


async def restore(store: StateStore, changelog: Changelog, clock: Clock) -> None:
    """Bring the local store up to the changelog; rebuild it when it cannot be trusted."""
    first, stop = await changelog.bounds()
    now_ms = int(clock.now().timestamp() * 1000)
    start = _applied(store, first, stop, now_ms)
    if start is None:
        store.clear()
        start = first
    while start < stop:
        end = min(start + RESTORE_RECORDS, stop)
        entries: list[tuple[bytes, Any]] = list(await changelog.read(start, end))
        local = [(APPLIED, str(end).encode()), (APPLIED_AT, str(now_ms).encode())]
        store.apply([*entries, *local])
        start = end
    await changelog.close()


def _applied(store: StateStore, first: int, stop: int, now_ms: int) -> int | None:
    """The changelog offset that the local store is at, None when it must be rebuilt."""
    applied, at = store.get([APPLIED, APPLIED_AT])
    if applied is None or at is None:
        return None
    offset = int(applied)
    stale = now_ms - int(at) > STALE_AFTER.total_seconds() * 1000
    return offset if first <= offset <= stop and not stale else None
