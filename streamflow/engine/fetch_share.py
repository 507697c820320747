"""How much is fetched of a partition at once, so that what waits of all of them stays in bounds."""

from __future__ import annotations

#: Of one partition there wait, at the most: what the client has fetched, two batches in the inbox
#: of its lane, and the one that is worked on.
FETCHES_HELD = 4
#: What all partitions may hold together, unless settings say otherwise.
FETCH_MEMORY = 256 * 1024 * 1024
#: More of one at once is no faster; of less the requests themselves would cost most.
LARGEST, SMALLEST = 4 * 1024 * 1024, 64 * 1024


def fetch_share(budget: int, partitions: int) -> int:
    """Bytes to fetch of each partition at once, where all may hold `budget` bytes together.

    A broker gives whole batches, and one at least: a larger one comes all the same.
    """
    return max(SMALLEST, min(budget // (FETCHES_HELD * partitions), LARGEST))
