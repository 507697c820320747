"""What kind a failure is, when it is tried again, and when nothing more is tried for a time.

Values only: `engine/failures.py` tells the kind of an exception, `engine/retries.py` and
`engine/circuit.py` go by these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from streamflow.arguments import is_duration, is_some_duration, is_whole
from streamflow.errors import TopologyError


class ErrorClass(StrEnum):
    """Kinds of failures, each named for what it takes to be over.

    NETWORK: who is asked was not reached, or broke off. TIMEOUT: there was no answer in time.
    RESOURCE_EXHAUSTION: there is no room, memory or quota, here or there. These pass by themselves.
    PERMISSION: somebody has to allow it. DATA_QUALITY: this record, or key, will never do. LOGIC: a
    program is wrong; also what is not known is taken for this.
    """

    NETWORK = "NETWORK"
    TIMEOUT = "TIMEOUT"
    DATA_QUALITY = "DATA_QUALITY"
    RESOURCE_EXHAUSTION = "RESOURCE_EXHAUSTION"
    PERMISSION = "PERMISSION"
    LOGIC = "LOGIC"


#: What passes by itself.
RETRYABLE = frozenset({ErrorClass.NETWORK, ErrorClass.TIMEOUT, ErrorClass.RESOURCE_EXHAUSTION})


@dataclass(frozen=True)
class RetryPolicy:
    """When something that failed is tried again.

    The wait before a further attempt is drawn between `backoff` and three times the wait before it
    ("decorrelated jitter"), and is never longer than `max_delay`: many that failed together do not
    come back together.

    Attributes:
        max_attempts: How often it is tried in all; None for no end.
        backoff: The shortest wait.
        max_delay: The longest wait.
        within: No attempt begins later than this after the first; None for no end.
        per_minute: How many attempts besides first ones there are in a minute, of everything that
            shares the policy (a stage, in a worker); None for any number.
        retry_on: The kinds of failures after which it is tried again.
    """

    max_attempts: int | None = 3
    backoff: timedelta = timedelta(seconds=1)
    max_delay: timedelta = timedelta(seconds=300)
    within: timedelta | None = None
    per_minute: int | None = None
    retry_on: Iterable[ErrorClass] = RETRYABLE

    def __post_init__(self) -> None:
        where = "RetryPolicy"
        is_whole(where, "max_attempts", self.max_attempts)
        is_whole(where, "per_minute", self.per_minute)
        is_some_duration(where, "backoff", self.backoff)
        is_some_duration(where, "max_delay", self.max_delay)
        is_duration(where, "within", self.within)
        given: Any = self.retry_on
        kinds: frozenset[Any] = frozenset(given if isinstance(given, Collection) else [given])
        if not all(isinstance(kind, ErrorClass) for kind in kinds):
            raise TopologyError(f"{where}: retry_on holds error classes, such as {RETRYABLE}")
        object.__setattr__(self, "retry_on", kinds)
        if not timedelta(0) < self.backoff <= self.max_delay:
            raise TopologyError(f"{where}: backoff is above zero, and max_delay no shorter")
        numbers = (self.max_attempts, self.per_minute)
        if any(number is not None and number < 1 for number in numbers):
            raise TopologyError(f"{where}: max_attempts and per_minute are at least 1, or None")
        if self.within is not None and self.within < timedelta(0):
            raise TopologyError(f"{where}: within is a time, or None")


@dataclass(frozen=True)
class CircuitBreaker:
    """When nothing more is asked of something that fails, so that it can come back.

    Closed, calls are made. It opens when `failure_threshold` of the last `window` calls have
    failed; open, none is made for `open_for`. Then it is half open: one call at a time is made.
    `success_threshold` that succeed in a row close it, and one that fails opens it again, for twice
    as long as before, up to `max_open`.

    Failures that count are those of the kinds NETWORK, TIMEOUT, RESOURCE_EXHAUSTION and PERMISSION:
    all others are answers.
    """

    failure_threshold: int = 5
    success_threshold: int = 3
    window: int = 100
    open_for: timedelta = timedelta(seconds=60)
    max_open: timedelta = timedelta(seconds=300)

    def __post_init__(self) -> None:
        where = "CircuitBreaker"
        for name in ("failure_threshold", "success_threshold", "window"):
            is_whole(where, name, getattr(self, name) or 0)
        is_some_duration(where, "open_for", self.open_for)
        is_some_duration(where, "max_open", self.max_open)
        window, needed, good = self.window, self.failure_threshold, self.success_threshold
        if not (window and needed and good and 1 <= needed <= window and good > 0):
            raise TopologyError(
                f"{where}: thresholds are at least 1, and failure_threshold at most window"
            )
        if not timedelta(0) < self.open_for <= self.max_open:
            raise TopologyError(f"{where}: open_for is above zero, and max_open no shorter")


#: Three attempts, the second after one to three seconds.
THREE_TIMES = RetryPolicy()
#: It opens when half of the last ten calls have failed.
HALF_OF_TEN = CircuitBreaker(window=10)
