"""Third stage: which windows a row is in, and whether they are final already."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
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
    """Rows on time with their windows, and the late ones. Times in microseconds.

    Attributes:
        rows: Those that are on time for a window.
        starts: Where the first such window of each begins.
        ends: Where it ends.
        windows: How many there are, each one `every` after the one before; None for one each.
        amends: How many of these, the first ones, have given their final result and are corrected;
            None where that is not done.
        late: The rows that are late for a window.
        pairs: How many pairs of row and window there are, late ones too.
        missed: How many of these are late.
    """

    rows: pa.RecordBatch
    starts: pa.Array
    ends: pa.Array
    windows: pa.Array | None
    amends: pa.Array | None
    late: tuple[Late, ...]
    pairs: int
    missed: int


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
    starts, ends, windows = windows_of(plan.window, event_times)
    final_at = pc.add(starts if isinstance(plan.window, Session) else ends, plan.grace)
    late = _passed(plan.window, pc.subtract(watermarks, plan.keep), final_at, windows)
    amends = None
    if plan.keep:
        amends = pc.subtract(_passed(plan.window, watermarks, final_at, windows), late)
    pairs = len(starts) if windows is None else pc.sum(windows).as_py() or 0
    missed: int = pc.sum(late).as_py() or 0
    if not missed:
        return Assigned(rows, starts, ends, windows, amends, (), pairs, 0)
    found = _late(plan, batch, (places, event_times, watermarks), (starts, ends, late))
    if windows is None:
        on_time = pc.equal(late, 0)
    else:
        hop = pc.multiply(late, _step(plan.window))
        starts, ends, windows = pc.add(starts, hop), pc.add(ends, hop), pc.subtract(windows, late)
        on_time = pc.greater(windows, 0)
        windows = windows.filter(on_time)
    return Assigned(
        rows.filter(on_time),
        starts.filter(on_time),
        ends.filter(on_time),
        windows,
        None if amends is None else amends.filter(on_time),
        found,
        pairs,
        missed,
    )


def windows_of(window: Window, times: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array | None]:
    """`(start, end)` of the first window of each row, and how many windows it is in, None for one
    each; each begins and ends an `every` after the one before.

    Times are int64 microseconds without nulls. A session's window is that of its row alone.
    """
    match window:
        case Tumbling():
            starts = floor_to(times, micros(window.size), micros(window.offset))
            return starts, pc.add(starts, micros(window.size)), None
        case Hopping():
            size, every, offset = map(micros, (window.size, window.every, window.offset))
            last = floor_to(times, every, offset)
            starts = pc.add(floor_to(pc.subtract(times, size), every, offset), every)
            count = pc.add(pc.divide(pc.subtract(last, starts), every), 1)
            return starts, pc.add(starts, size), count
        case Calendar():
            return *_calendar(window, times), None
        case Session():
            return times, pc.add(times, micros(window.gap)), None
        case Sliding():
            return pc.subtract(times, micros(window.size)), times, None


def each_window(
    window: Window, starts: pa.Array, windows: pa.Array
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """For rows in several windows, one for each: `(which row, start, number)`, numbered from 0."""
    ends = pc.cumulative_sum(windows)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    total: int = offsets[-1].as_py()
    lists = pa.LargeListArray.from_arrays(offsets, pa.nulls(total))
    which = pc.list_parent_indices(lists)
    number = pc.subtract(pa.arange(0, total), offsets.take(which))
    return which, pc.add(starts.take(which), pc.multiply(number, _step(window))), number


def _step(window: Window) -> int:
    """How far the windows of a row are apart."""
    assert isinstance(window, Hopping)
    return micros(window.every)


def _passed(
    window: Window, watermarks: pa.Array, final_at: pa.Array, windows: pa.Array | None
) -> pa.Array:
    """How many windows of each row are final at its watermark: the first ones.

    `final_at` is the time of the first; where there is no watermark yet, none is.
    """
    over = pc.fill_null(pc.subtract(watermarks, final_at), -1)
    passed = pc.cast(pc.greater_equal(over, 0), pa.int64())
    if windows is None:
        return passed
    more = pc.divide(pc.max_element_wise(over, 0), _step(window))
    return pc.min_element_wise(pc.add(passed, more), windows)


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


def _calendar(window: Calendar, times: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Bounds by the zone's midnights. A local date is at most a day from the date in UTC, so the
    window is the one that holds the day before that, or one of the two that follow.

    Arrow's own time zones raise where clocks change at midnight, and from 2038 on they do not
    change at all.
    """
    before = pc.cast(pc.subtract(times, micros(timedelta(days=1))), pa.timestamp("us"))
    days = pc.cast(pc.floor_temporal(before, unit=window.unit), pa.date32()).dictionary_encode()
    bounds = [_bounds(window.unit, window.zone, first) for first in days.dictionary.to_pylist()]
    columns = [pa.array([four[i] for four in bounds], pa.int64()) for i in range(4)]
    edges = [column.take(days.indices) for column in columns]
    starts, ends = edges[:2]
    for start, end in pairwise(edges[1:]):
        begun = pc.greater_equal(times, start)
        starts, ends = pc.if_else(begun, start, starts), pc.if_else(begun, end, ends)
    return starts, ends


def calendar_start(unit: CalendarUnit, zone: str, time: int) -> int:
    """The start of the calendar window that holds a time in microseconds."""
    return _calendar(Calendar(unit, zone), pa.array([time], pa.int64()))[0][0].as_py()


@lru_cache(maxsize=4096)
def _bounds(unit: CalendarUnit, zone: str, first: date) -> tuple[int, ...]:
    """Start of the window whose first day this is, and of the three that follow."""
    firsts = [first]
    for _ in range(3):
        firsts.append(_next(unit, firsts[-1]))
    return tuple(_midnight(zone, day) for day in firsts)


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
    bounds: tuple[pa.Array, pa.Array, pa.Array],
) -> tuple[Late, ...]:
    """One for each row that missed a window, with all that it missed.

    `of_row` holds each row's place in the batch, its event time, and the watermark before it;
    `bounds` the start and end of its first window, and how many of its windows it missed.
    """
    late = pc.greater(bounds[2], 0)
    step = micros(plan.window.every) if isinstance(plan.window, Hopping) else 0
    made: list[Late] = []
    for place, time, watermark, start, end, missed in zip(
        *(column.filter(late).to_pylist() for column in (*of_row, *bounds)), strict=True
    ):
        windows = tuple((start + i * step, end + i * step) for i in range(missed))
        made.append(Late(Raw.of(batch, place), plan.name, windows, time, watermark))
    return tuple(made)
