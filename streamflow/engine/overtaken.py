"""Retention that overtakes a reader: what was deleted before it was read is never passed over.

The client goes on at the beginning of a topic where its position is not there any more, and says
nothing. All that shows is that offsets are missing, as they are where a transaction has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streamflow.batch import MicroBatch

Bounds = Callable[[], Awaitable[tuple[int, int]]]
"""The first offset of a partition, and its last stable one."""


async def overtaken(batch: MicroBatch, position: int, bounds: Bounds) -> int | None:
    """Where the topic begins, if that is beyond the position and offsets are missing from there to
    the first record; None if nothing was deleted. It is asked only where some are missing.
    """
    start = max(batch.start, position)
    if next(iter(batch.offsets), batch.stop) <= start:
        return None
    begins, _ = await bounds()
    return begins if begins > start else None
