"""Counts attempts by a `RetryPolicy`: how long to wait before the next, and whether there is one.

No library: tenacity and stamina keep the loop, the clock and the randomness to themselves and have
no decorrelated jitter; here a lane does other things while it waits, and tests move the time.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from random import Random

from streamflow.retry import RetryPolicy

#: Of a policy's `per_minute`.
MINUTE_SECONDS = 60.0
#: A task that was lost; there is no end, since its partition waits for it.
FOR_EVER = RetryPolicy(
    max_attempts=None, backoff=timedelta(seconds=0.1), max_delay=timedelta(seconds=10)
)
#: A table that does not take a write: it is nobody's hurry.
TABLE = RetryPolicy(
    max_attempts=None, backoff=timedelta(seconds=1), max_delay=timedelta(seconds=30)
)
#: What will not pass, about a minute: for whoever looks away for less.
OPENING = RetryPolicy(
    max_attempts=11, backoff=timedelta(seconds=0.1), max_delay=timedelta(seconds=10)
)


class RetryBudget:
    """How many attempts besides the first there may be, over a sliding minute."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._at: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Take one, at a time in seconds that never steps back. Was there one?"""
        if self._per_minute is None:
            return True
        while self._at and now - self._at[0] >= MINUTE_SECONDS:
            self._at.popleft()
        if len(self._at) >= self._per_minute:
            return False
        self._at.append(now)
        return True


class Retries:
    """The attempts at one thing, of which the first begins now.

    Args:
        policy: When it is tried again.
        rng: Draws the waits.
        now: Seconds on a scale that never steps back.
        budget: That of all who share the policy.
    """

    def __init__(
        self, policy: RetryPolicy, rng: Random, now: float, budget: RetryBudget | None = None
    ) -> None:
        self._policy = policy
        self._rng = rng
        self._budget = budget or RetryBudget(policy.per_minute)
        self._began = now
        self._wait = policy.backoff.total_seconds()
        #: Attempts so far, the one that is under way included.
        self.attempts = 1

    def wait(self, now: float) -> float | None:
        """After a failure of a kind that is tried again: seconds until the next attempt, None when
        there is none.
        """
        policy = self._policy
        if policy.max_attempts is not None and self.attempts >= policy.max_attempts:
            return None
        shortest, longest = policy.backoff.total_seconds(), policy.max_delay.total_seconds()
        wait = min(longest, self._rng.uniform(shortest, self._wait * 3))
        late = policy.within is not None and (
            now + wait - self._began > policy.within.total_seconds()
        )
        if late or not self._budget.take(now):
            return None
        self._wait = wait
        self.attempts += 1
        return wait
