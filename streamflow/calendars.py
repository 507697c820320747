"""The hours, days, weeks and months of a time zone, as intervals of time.

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
    """The first instant of a local day. Where midnight is skipped, that is when the clocks change;
    where it comes twice, the first.
    """
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    before, after = (_micros(local.replace(fold=fold)) for fold in (0, 1))
    # `fold=0` takes the offset before the change: the instant of it where midnight is the first
    # time that is skipped, and as much after it as is skipped before midnight.
    while after < before - 1 and _local(zone, before - 1).date() >= day:
        middle = (after + before) // 2
        after, before = (after, middle) if _local(zone, middle).date() >= day else (middle, before)
    return before


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


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
    return _local(zone, time).date()


def local_hours(zone: str, times: pa.Array) -> pa.Array:
    """The hour in a zone of each time, as `2013-01-31-05`; times in microseconds since the epoch,
    none null. Where clocks go back, an hour comes twice and has one name.

    Each hour of UTC holds the end of one local hour and the beginning of the next; only where
    clocks change within it are its times looked at one by one.
    """
    hours = pc.cast(pc.floor_temporal(pc.cast(times, pa.timestamp("us")), unit="hour"), pa.int64())
    coded = hours.dictionary_encode()
    halves = [_hour(zone, start) for start in coded.dictionary.to_pylist()]
    change = pa.array([half is None for half in halves], pa.bool_()).take(coded.indices)
    switches, earlier, later = (
        pa.array([half and half[i] for half in halves], kind).take(coded.indices)
        for i, kind in enumerate((pa.int64(), pa.string(), pa.string()))
    )
    names = pc.if_else(pc.less(times, switches), earlier, later)
    if not pc.any(change).as_py():
        return names
    each = [_hour_name(_local(zone, time)) for time in times.filter(change).to_pylist()]
    return pc.replace_with_mask(names, change, pa.array(each, pa.string()))


def end_of_hour(zone: str, first: datetime) -> int:
    """The first instant after a local hour, the second time that it comes where it comes twice;
    `first` is its beginning, without a zone.
    """
    last = first.replace(tzinfo=ZoneInfo(zone)) + timedelta(hours=1) - _MICROSECOND
    return max((last.replace(fold=fold) - _EPOCH) // _MICROSECOND for fold in (0, 1)) + 1


@lru_cache(maxsize=4096)
def _hour(zone: str, start: int) -> tuple[int, str, str] | None:
    """Of an hour of UTC: the instant at which a local hour begins, and the names of that before it
    and of that from it on; None where clocks change within.
    """
    stop = start + timedelta(hours=1) // _MICROSECOND
    first, last = _local(zone, start), _local(zone, stop - 1)
    if first.utcoffset() != last.utcoffset():
        return None
    begun = first.replace(minute=0, second=0)
    switch = stop - (first - begun) // _MICROSECOND
    return switch, _hour_name(first), _hour_name(last)


def _hour_name(local: datetime) -> str:
    return local.replace(tzinfo=None).isoformat("-", "hours")


def _local(zone: str, time: int) -> datetime:
    return (_EPOCH + time * _MICROSECOND).astimezone(ZoneInfo(zone))


@lru_cache(maxsize=4096)
def _bounds(unit: CalendarUnit, zone: str, first: date) -> tuple[int, ...]:
    """Start of the window whose first day this is, and of the three that follow."""
    firsts = [first]
    for _ in range(3):
        firsts.append(following(unit, firsts[-1]))
    return tuple(midnight(zone, day) for day in firsts)
