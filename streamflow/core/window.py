"""Third stage: which windows a row is in, and whether they are final already."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.calendars import calendar_bounds, calendar_start
from streamflow.core.plan import WindowPlan
from streamflow.core.rounding import floor_to
from streamflow.core.step import Late, Raw
from streamflow.windows import (
    Calendar,
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
            return *calendar_bounds(window.unit, window.zone, times), None
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
            return calendar_bounds(window.unit, window.zone, starts)[1]
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
