"""Windows as values: half-open intervals of event time, `[start, end)`.

`Tumbling` and `Hopping` are aligned to the epoch (plus `offset`), in UTC; `Calendar` follows the
days, weeks or months of a time zone, so that some days have 23 or 25 hours; a `Session` lasts as
long as its rows follow each other within a gap; `Sliding` looks back from each row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from streamflow.arguments import in_words, is_some_duration, is_zone
from streamflow.calendars import CalendarUnit
from streamflow.errors import TopologyError

MICROSECOND = timedelta(microseconds=1)
#: A row can be in this many windows; each is an entry of its own.
MOST_WINDOWS = 10_000


def micros(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // MICROSECOND


@dataclass(frozen=True)
class Tumbling:
    """Windows of one size that meet: each row is in exactly one."""

    size: timedelta
    offset: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        _above_zero(self, "size", self.size)
        is_some_duration("Tumbling", "offset", self.offset)


@dataclass(frozen=True)
class Hopping:
    """Windows of one size, one beginning `every` so often: a row is in `size / every` of them."""

    size: timedelta
    every: timedelta
    offset: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        _above_zero(self, "size", self.size)
        _above_zero(self, "every", self.every)
        is_some_duration("Hopping", "offset", self.offset)
        if self.every > self.size:
            raise TopologyError(
                f"Hopping: every {self.every} is longer than size {self.size}, so rows between two "
                "windows would be in none; every may be at most size"
            )
        if self.size // self.every > MOST_WINDOWS:
            raise TopologyError(
                f"Hopping: a row would be in {self.size // self.every:,} windows, more than "
                f"{MOST_WINDOWS:,}; make every longer, or take Sliding"
            )


@dataclass(frozen=True)
class Calendar:
    """The days, weeks (from Monday) or months of a time zone: each row is in exactly one.

    Where the clocks change at midnight, a day begins at its first instant.
    """

    unit: CalendarUnit
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.unit not in ("day", "week", "month"):
            raise TopologyError(f"{self}: the unit is day, week or month")
        is_zone(f"{self}", self.zone)


@dataclass(frozen=True)
class Session:
    """Rows of a group that follow each other within `gap`; it ends `gap` after the last.

    A row exactly `gap` after another is of the same session, as in Kafka Streams and Flink.
    """

    gap: timedelta

    def __post_init__(self) -> None:
        _above_zero(self, "gap", self.gap)


@dataclass(frozen=True)
class Sliding:
    """One window for each time of a group's rows: the rows of the group in `(time - size, time]`.

    Its `window_end` is that time, which belongs to it, and its `window_start` a size before, which
    does not. Rows of a group that have the same time share one result, since they see the same.
    """

    size: timedelta

    def __post_init__(self) -> None:
        _above_zero(self, "size", self.size)


def is_window(where: str, given: object) -> None:
    """Raises `TopologyError` unless it is a window."""
    if not isinstance(given, Window):
        raise TopologyError(
            f"{where}: {given!r} is no window, such as Tumbling(timedelta(hours=1))"
        )


Window = Tumbling | Hopping | Calendar | Session | Sliding


def _above_zero(window: object, name: str, duration: timedelta) -> None:
    is_some_duration(type(window).__name__, name, duration)
    if duration <= timedelta(0):
        kind = type(window).__name__
        raise TopologyError(
            f"{kind}: {name} is {in_words(duration)}; the {name} must be above zero"
        )
