"""What a worker has asked services for, since it started."""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.counted import counted


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

    def __str__(self) -> str:
        """The shares that tell whether it is the service that a worker waits for."""
        cached = f"{self.cached / self.keys:.0%} cached, " if self.cached else ""
        each = f" of {1000 * self.seconds / self.calls:,.0f} ms" if self.calls else ""
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{cached}{counted(self.calls, 'call')}{each}{failed}"
