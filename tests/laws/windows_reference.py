"""What each kind of window means, one row at a time in plain Python, without the engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from streamflow.windows import Calendar, Hopping, Session, Sliding, Tumbling, Window

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


class Event(NamedTuple):
    """A row: its number in its partition, its group, a value and its time."""

    offset: int
    group: str
    value: int
    at: datetime


class Result(NamedTuple):
    """A final row."""

    group: str
    start: datetime
    end: datetime
    rows: int
    total: int
    values: int


@dataclass
class Expected:
    """All final rows, per late row its offset and how many windows it missed, and how many pairs of
    row and window were on time. A sliding window's row is on time once, and seen by many results.
    """

    results: list[Result] = field(default_factory=list[Result])
    late: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    on_time: int = 0


def reference(
    window: Window,
    partition: Sequence[Event],
    lag: timedelta,
    grace: timedelta,
    given: Mapping[int, datetime] | None = None,
) -> Expected:
    """Take one partition's rows in order, then end the input. Before the row of an offset in
    `given` the watermark is there at least.
    """
    expected = Expected()
    held: dict[tuple[str, datetime, datetime], list[Event]] = defaultdict(list)
    watermark: datetime | None = None
    for event in partition:
        missed = 0
        floor = (given or {}).get(event.offset)
        if floor is not None and (watermark is None or floor > watermark):
            watermark = floor
        for start, end in windows(window, event.at):
            final_at = (event.at if isinstance(window, Session) else end) + grace
            if watermark is not None and watermark >= final_at:
                missed += 1
            else:
                held[event.group, start, end].append(event)
        if missed:
            expected.late.append((event.offset, missed))
        if watermark is None or event.at - lag > watermark:
            watermark = event.at - lag
    expected.on_time = sum(map(len, held.values()))
    groups = held
    if isinstance(window, Session):
        groups = _sessions(held)
    if isinstance(window, Sliding):
        groups = _looking_back(held)
    for (group, start, end), events in groups.items():
        numbers = [event.value for event in events]
        made = Result(group, start, end, len(events), sum(numbers), len(set(numbers)))
        expected.results.append(made)
    expected.results.sort()
    return expected


def windows(window: Window, at: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Every window that holds a time, found by trying."""
    match window:
        case Tumbling():
            yield from windows(Hopping(window.size, window.size, window.offset), at)
        case Hopping():
            number = (at - EPOCH - window.offset) // window.every - window.size // window.every - 1
            for k in range(number, number + 2 * (window.size // window.every) + 5):
                start = EPOCH + window.offset + k * window.every
                if start <= at < start + window.size:
                    yield start, start + window.size
        case Calendar():
            day = at.astimezone(ZoneInfo(window.zone)).date() - timedelta(days=40)
            firsts: list[datetime] = []
            for _ in range(90):
                if _begins(window, day):
                    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(window.zone))
                    firsts.append(midnight.astimezone(UTC))
                day += timedelta(days=1)
            start = max(first for first in firsts if first <= at)
            yield start, min(first for first in firsts if first > at)
        case Session():
            yield at, at + window.gap
        case Sliding():
            yield at - window.size, at


def _begins(window: Calendar, day: object) -> bool:
    if window.unit == "day":
        return True
    return day.weekday() == 0 if window.unit == "week" else day.day == 1  # type: ignore[attr-defined]


Groups = dict[tuple[str, datetime, datetime], list[Event]]


def _looking_back(single: Groups) -> Groups:
    """Each time of a group with all the group's rows after its start, up to its end."""
    return {
        (group, start, end): [
            event
            for (other, _, at), events in single.items()
            for event in events
            if other == group and start < at <= end
        ]
        for group, start, end in single
    }


def _sessions(single: Groups) -> Groups:
    """Join windows of a group that touch, until none do."""
    open_: dict[str, list[tuple[datetime, datetime, list[Event]]]] = defaultdict(list)
    for (group, start, end), events in sorted(single.items(), key=lambda item: item[0]):
        sessions = open_[group]
        if sessions and start <= sessions[-1][1]:
            before, until, inside = sessions.pop()
            sessions.append((before, max(until, end), inside + events))
        else:
            sessions.append((start, end, events))
    return {(g, start, end): events for g, found in open_.items() for start, end, events in found}
