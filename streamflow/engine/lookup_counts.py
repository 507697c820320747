"""What a worker has asked services for, since it started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class LookupCounts:
    """Of one `enrich` stage.

    Attributes:
        keys: Distinct keys of micro-batches for which an answer was wanted.
        cached: Those of them that were answered by the cache.
        calls: How often the function was called; `retried` of these are repetitions of a call that
            failed in passing.
        failed: Calls that raised, or were too late.
        seconds: How long all calls took together; calls that are under way at once all count.
    """

    keys: int = 0
    cached: int = 0
    calls: int = 0
    retried: int = 0
    failed: int = 0
    seconds: float = 0.0
