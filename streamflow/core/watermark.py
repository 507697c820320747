"""The watermark of a source partition: the largest event time so far, less the out-of-orderness.

A row is judged by the watermark of the rows *before it*, so that how a partition was cut into
micro-batches cannot be seen.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.step import TaskState, mark_of
from streamflow.schema import EVENT_TIME


def before_each(event_times: pa.Array, seen: int | None) -> pa.Array:
    """For each row the largest event time before it, in microseconds; null where there is none.

    Args:
        event_times: int64 microseconds, without nulls.
        seen: The largest event time before the first row.
    """
    if len(event_times) == 0:
        return event_times
    if seen is not None:
        highest = pc.cumulative_max(event_times, start=seen)
    else:
        highest = pc.cumulative_max(event_times)
    return pa.concat_arrays([pa.array([seen], pa.int64()), highest[:-1]])


def judged(
    name: str, lag: int, rows: pa.RecordBatch, moving: pa.RecordBatch, state: TaskState
) -> tuple[pa.Array, TaskState]:
    """The watermark before each of the rows that come to a window operator, null for none yet; and
    the state after all that move it, which the rows are among.
    """
    moved, mark = event_times(moving), state.marks.get(mark_of(name))
    before = pc.subtract(before_each(moved, mark), lag)
    if state.idle is not None:
        before = pc.max_element_wise(before, pa.scalar(state.idle, pa.int64()))
    if not rows["_offset"].equals(moving["_offset"]):
        before = before.take(pc.index_in(rows["_offset"], value_set=moving["_offset"]))
    latest = after_all(moved, mark)
    marks = {**state.marks, mark_of(name): latest} if latest is not None else state.marks
    return before, replace(state, marks=marks)


def after_each(name: str, lag: int, moving: pa.RecordBatch, state: TaskState) -> pa.Array:
    """The watermark of a window operator after each of these rows, which move it; `state` is that
    before them.
    """
    mark = state.marks.get(mark_of(name))
    start = {} if mark is None else {"start": mark}
    marks = pc.subtract(pc.cumulative_max(event_times(moving), **start), lag)
    if state.idle is None:
        return marks
    return pc.max_element_wise(marks, pa.scalar(state.idle, pa.int64()))


def event_times(rows: pa.RecordBatch) -> pa.Array:
    """The event time of each row in microseconds."""
    return pc.cast(rows.column(EVENT_TIME.name), pa.int64())


def after_all(event_times: pa.Array, seen: int | None) -> int | None:
    """The largest event time of `seen` and these rows."""
    if len(event_times) == 0:
        return seen
    highest: int = pc.max(event_times).as_py()
    return highest if seen is None else max(seen, highest)
