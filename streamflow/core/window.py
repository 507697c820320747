"""Third stage: which windows a row is in, and whether they are final already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.core.plan import WindowPlan
from streamflow.core.rounding import floor_to
from streamflow.core.step import Late, Raw
from streamflow.windows import (
    Calendar,
    CalendarUnit,
    Hopping,
    Session,
    Sliding,
    Tumbling,
    Window,
    micros,
)


@dataclass(frozen=True)
class Assigned:
    """Rows on time with the bounds of their windows (microseconds), and the late ones.

    A row is there once for each of its windows. `pairs` counts rows and windows, late ones too.
    `amends` says which come after their window's final result and correct it, where that is kept.
    """

    rows: pa.RecordBatch
    starts: pa.Array
    ends: pa.Array
    amends: pa.Array | None
    late: tuple[Late, ...]
    pairs: int


def assign(
    plan: WindowPlan,
    batch: MicroBatch,
    rows: pa.RecordBatch,
    places: pa.Array,
    event_times: pa.Array,
    watermarks: pa.Array,
) -> Assigned:
    """Split rows into on time and late: late for a window when the watermark before the row was
    at `end + grace` or beyond; for a session, at `time + grace`: the gap is no grace. What is kept
    for corrections is late only after that.
    """
    which, starts, ends = windows_of(plan.window, event_times)
    final_at = pc.add(starts if isinstance(plan.window, Session) else ends, plan.grace)
    before = watermarks if which is None else watermarks.take(which)
    late = pc.fill_null(pc.greater_equal(before, pc.add(final_at, plan.keep)), False)
    amends = pc.fill_null(pc.greater_equal(before, final_at), False) if plan.keep else None
    found: tuple[Late, ...] = ()
    kept = which
    if late.true_count:
        here = pa.array(range(len(starts)), pa.int64()) if which is None else which
        missed = zip(*(c.filter(late).to_pylist() for c in (here, starts, ends)), strict=True)
        found = _late(plan, batch, (places, event_times, watermarks), missed)
        on_time = pc.invert(late)
        kept, starts, ends = here.filter(on_time), starts.filter(on_time), ends.filter(on_time)
        amends = None if amends is None else amends.filter(on_time)
    rows = rows if kept is None else rows.take(kept)
    return Assigned(rows, starts, ends, amends, found, len(late))


def windows_of(window: Window, times: pa.Array) -> tuple[pa.Array | None, pa.Array, pa.Array]:
    """`(which row, start, end)` for each row and window of it; `which` is None for one each.

    Times are int64 microseconds without nulls. A session's window is that of its row alone.
    """
    match window:
        case Tumbling():
            starts = floor_to(times, micros(window.size), micros(window.offset))
            return None, starts, pc.add(starts, micros(window.size))
        case Hopping():
            return _hopping(window, times)
        case Calendar():
            starts, ends = _calendar(window, times)
            return None, starts, ends
        case Session():
            return None, times, pc.add(times, micros(window.gap))
        case Sliding():
            return None, pc.subtract(times, micros(window.size)), times


def closed_by(window: Window, final: int) -> int:
    """Windows that start at or before this end at or before `final`. Not for sessions, whose end
    does not follow from their start.
    """
    match window:
        case Tumbling():
            return final - micros(window.size)
        case Hopping():
            return final - micros(window.size)
        case Sliding():
            return final - micros(window.size)
        case Calendar():
            return calendar_start(window.unit, window.zone, final) - 1
        case Session():
            raise AssertionError("a session closes by its end")


def ends_of(window: Window, starts: pa.Array) -> pa.Array:
    """The end of each window that starts there. Not for sessions."""
    match window:
        case Tumbling() | Hopping() | Sliding():
            return pc.add(starts, micros(window.size))
        case Calendar():
            return _calendar(window, starts)[1]
        case Session():
            raise AssertionError("a session's end is held beside its start")


def places_of(window: Window, starts: pa.Array) -> pa.Array:
    """Where in the state the partials of windows that start there lie: at the start itself, but
    sessions and sliding windows, which begin at any time, together with others; never after their
    start.
    """
    match window:
        case Session():
            return floor_to(starts, micros(window.gap))
        case Sliding():
            return floor_to(starts, micros(window.size))
        case _:
            return starts


def _hopping(window: Hopping, times: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Row by row, and for each row its windows by start."""
    size, every = micros(window.size), micros(window.every)
    last = floor_to(times, every, micros(window.offset))
    rows = pa.array(range(len(times)), pa.int64())
    which: list[Any] = []
    starts: list[Any] = []
    for back in reversed(range(-(-size // every))):
        start = pc.subtract(last, back * every)
        holds = pc.greater(pc.add(start, size), times)
        which.append(rows.filter(holds))
        starts.append(start.filter(holds))
    row, start = pa.concat_arrays(which), pa.concat_arrays(starts)
    order = pc.sort_indices(pa.table([row, start], ["row", "start"]), sort_keys=_BY_ROW)
    row, start = row.take(order), start.take(order)
    return row, start, pc.add(start, size)


_BY_ROW: Any = [("row", "ascending"), ("start", "ascending")]


def _calendar(window: Calendar, times: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Bounds by the local date of each time.

    Arrow's own rounding to a day of a zone raises where clocks change at midnight.
    """
    zoned = pc.cast(pc.cast(times, pa.timestamp("us")), pa.timestamp("us", tz="UTC"))
    local = pc.local_timestamp(pc.cast(zoned, pa.timestamp("us", tz=window.zone)))
    days = pc.cast(pc.floor_temporal(local, unit=window.unit), pa.date32()).dictionary_encode()
    firsts: list[date] = days.dictionary.to_pylist()
    bounds = [_bounds(window.unit, window.zone, first) for first in firsts]
    starts = pa.array([b[0] for b in bounds], pa.int64()).take(days.indices)
    ends = pa.array([b[1] for b in bounds], pa.int64()).take(days.indices)
    # Clocks that go back over midnight repeat the end of a day when the next one has begun.
    over = pc.greater_equal(times, ends)
    if not over.true_count:
        return starts, ends
    after = pa.array([_bounds(window.unit, window.zone, _next(window.unit, f))[1] for f in firsts])
    return (
        pc.if_else(over, ends, starts),
        pc.if_else(over, after.take(days.indices), ends),
    )


def calendar_start(unit: CalendarUnit, zone: str, time: int) -> int:
    """The start of the calendar window that holds a time in microseconds."""
    return _calendar(Calendar(unit, zone), pa.array([time], pa.int64()))[0][0].as_py()


@lru_cache(maxsize=4096)
def _bounds(unit: CalendarUnit, zone: str, first: date) -> tuple[int, int]:
    """Start of the window whose first day this is, and of the next one."""
    return _midnight(zone, first), _midnight(zone, _next(unit, first))


def _midnight(zone: str, day: date) -> int:
    """The first instant of a local day. Where midnight is skipped, `fold=0` takes the offset before
    the change, which gives the instant of the change; where it comes twice, the first.
    """
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return (local - _EPOCH) // timedelta(microseconds=1)


_EPOCH = datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC"))


def _next(unit: CalendarUnit, first: date) -> date:
    match unit:
        case "day":
            return first + timedelta(days=1)
        case "week":
            return first + timedelta(days=7)
        case "month":
            return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _late(
    plan: WindowPlan,
    batch: MicroBatch,
    of_row: tuple[pa.Array, pa.Array, pa.Array],
    missed: Iterable[tuple[int, int, int]],
) -> tuple[Late, ...]:
    """One for each row that missed a window (row, start, end), with all that it missed.

    `of_row` holds each row's place in the batch, its event time, and the watermark before it.
    """
    windows: dict[int, list[tuple[int, int]]] = {}
    for row, start, end in missed:
        windows.setdefault(row, []).append((start, end))
    made: list[Late] = []
    for row, bounds in windows.items():
        place, time, watermark = (column[row].as_py() for column in of_row)
        made.append(Late(Raw.of(batch, place), plan.name, tuple(bounds), time, watermark))
    return tuple(made)
