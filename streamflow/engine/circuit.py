"""A circuit breaker: closed, open, half open. Pure: times are arguments, nobody waits here.

No library: of aiobreaker, pybreaker, circuitbreaker and purgatory none has a window of calls and a
clock that is given, and most count failures in a row.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from streamflow.retry import CircuitBreaker

Phase = Literal["closed", "open", "half_open"]


class Circuit:
    """The state of one `CircuitBreaker`. Times are seconds on a scale that never steps back.

    Caller: asks `begin` before each call and, when it gives a number, says with it how the call
    ended: `succeeded`, `failed`, or `abandoned` when that is not known.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self.phase: Phase = "closed"
        #: Since when it was last opened; of what lies before it nothing counts any more.
        self._turn = 0
        self._failed: deque[bool] = deque(maxlen=breaker.window)
        self._until = 0.0
        self._open_seconds = 0.0
        self._probing = False
        self._good = 0

    def seconds_left(self, now: float) -> float:
        """For how long it stays open; 0 when calls may be made, at least one at a time."""
        return max(0.0, self._until - now) if self.phase == "open" else 0.0

    def begin(self, now: float) -> int | None:
        """Begin a call: the number to end it by, or None while it may not be made."""
        if self.phase == "open" and now >= self._until:
            self.phase, self._probing, self._good = "half_open", False, 0
        if self.phase == "open" or self._probing:
            return None
        self._probing = self.phase == "half_open"
        return self._turn

    def succeeded(self, call: int) -> None:
        """A call was answered."""
        if call != self._turn or self.phase == "open":
            return
        if self.phase == "closed":
            self._failed.append(False)
            return
        self._probing = False
        self._good += 1
        if self._good >= self._breaker.success_threshold:
            self._turn += 1
            self.phase, self._open_seconds = "closed", 0.0

    def failed(self, call: int, now: float) -> None:
        """A call was not answered."""
        if call != self._turn or self.phase == "open":
            return
        if self.phase == "half_open":
            self._open(now)
            return
        self._failed.append(True)
        if sum(self._failed) >= self._breaker.failure_threshold:
            self._open(now)

    def abandoned(self, call: int) -> None:
        """A call was given up by whoever made it, which says nothing."""
        if call == self._turn:
            self._probing = False

    def _open(self, now: float) -> None:
        first, longest = (
            d.total_seconds() for d in (self._breaker.open_for, self._breaker.max_open)
        )
        self._open_seconds = min(longest, self._open_seconds * 2 or first)
        self._until = now + self._open_seconds
        self._turn += 1
        self.phase, self._probing = "open", False
        self._failed.clear()
