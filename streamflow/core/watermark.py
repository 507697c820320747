"""The watermark of a source partition: the largest event time so far, less the out-of-orderness.

A row is judged by the watermark of the rows *before it*, so that how a partition was cut into
micro-batches cannot be seen.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


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


def after_all(event_times: pa.Array, seen: int | None) -> int | None:
    """The largest event time of `seen` and these rows."""
    if len(event_times) == 0:
        return seen
    highest: int = pc.max(event_times).as_py()
    return highest if seen is None else max(seen, highest)
