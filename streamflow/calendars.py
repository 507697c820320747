"""The days, weeks and months of a time zone, as intervals of time.

Where clocks change at midnight, a day begins at its first instant.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

CalendarUnit = Literal["day", "week", "month"]
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


def calendar_bounds(unit: CalendarUnit, zone: str, times: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Start and end of the day, week (from Monday) or month that each time lies in; all in
    microseconds since the epoch, int64.

    A local date is at most a day from the date in UTC, so the one that holds a time is the one that
    holds the day before it, or one of the two that follow. Arrow's own time zones raise where
    clocks change at midnight, and from 2038 on they do not change at all.
    """
    before = pc.cast(pc.subtract(times, _DAY // _MICROSECOND), pa.timestamp("us"))
    days = pc.cast(pc.floor_temporal(before, unit=unit), pa.date32()).dictionary_encode()
    bounds = [_bounds(unit, zone, first) for first in days.dictionary.to_pylist()]
    columns = [pa.array([four[i] for four in bounds], pa.int64()) for i in range(4)]
    edges = [column.take(days.indices) for column in columns]
    starts, ends = edges[:2]
    for start, end in pairwise(edges[1:]):
        begun = pc.greater_equal(times, start)
        starts, ends = pc.if_else(begun, start, starts), pc.if_else(begun, end, ends)
    return starts, ends


def calendar_start(unit: CalendarUnit, zone: str, time: int) -> int:
    """The start of the day, week or month that holds a time."""
    return calendar_bounds(unit, zone, pa.array([time], pa.int64()))[0][0].as_py()


def midnight(zone: str, day: date) -> int:
    """The first instant of a local day. Where midnight is skipped, `fold=0` takes the offset before
    the change, which gives the instant of the change; where it comes twice, the first.
    """
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return (local - _EPOCH) // _MICROSECOND


def following(unit: CalendarUnit, first: date) -> date:
    """The first day after the day, week or month that begins at `first`."""
    match unit:
        case "day":
            return first + _DAY
        case "week":
            return first + timedelta(days=7)
        case "month":
            return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def local_date(zone: str, time: int) -> date:
    """The date in a zone at a time."""
    return (_EPOCH + time * _MICROSECOND).astimezone(ZoneInfo(zone)).date()


@lru_cache(maxsize=4096)
def _bounds(unit: CalendarUnit, zone: str, first: date) -> tuple[int, ...]:
    """Start of the window whose first day this is, and of the three that follow."""
    firsts = [first]
    for _ in range(3):
        firsts.append(following(unit, firsts[-1]))
    return tuple(midnight(zone, day) for day in firsts)
