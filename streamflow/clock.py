"""The one place that reads the machine's clock; everything else is handed a `Clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What tells the time. The engine reads it; the core is handed values only."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a scale that never steps back; only differences mean anything."""
        ...


Timer = Callable[[], float]
"""Seconds of work on a scale of its own; only differences mean anything."""


def cpu_seconds() -> float:
    """What this thread has computed: a `Timer` that other threads and processes do not disturb."""
    return time.thread_time()


def millis(time: datetime) -> int:
    """A time as Kafka has it: milliseconds since 1970."""
    return int(time.timestamp() * 1000)


def from_millis(time: int) -> datetime:
    """A time of Kafka's."""
    return datetime.fromtimestamp(time / 1000, UTC)


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SimulatedClock:
    """A clock that moves only when it is told to. For tests."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, by: timedelta) -> None:
        """Move the time forward by `by`."""
        if by < timedelta(0):
            raise ValueError(f"time does not go back: {by}")
        self._now += by
        self._elapsed += by.total_seconds()
