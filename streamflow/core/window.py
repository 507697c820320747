"""Third stage: which window a row is in, and whether that window is final already."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.core.plan import WindowPlan
from streamflow.core.step import Late, Raw


@dataclass(frozen=True)
class Assigned:
    """Rows on time with the start of their window (microseconds), and the late ones."""

    rows: pa.RecordBatch
    starts: pa.Array
    late: tuple[Late, ...]


def window_starts(plan: WindowPlan, event_times: pa.Array) -> pa.Array:
    """The start of each time's tumbling window, also before 1970 (division rounds down)."""
    shifted = pc.subtract_checked(event_times, plan.offset)
    quotient = pc.divide(shifted, plan.size)
    remainder = pc.subtract(shifted, pc.multiply(quotient, plan.size))
    floor = pc.subtract(quotient, pc.cast(pc.less(remainder, 0), pa.int64()))
    return pc.add(pc.multiply(floor, plan.size), plan.offset)


def assign(
    plan: WindowPlan,
    batch: MicroBatch,
    rows: pa.RecordBatch,
    places: pa.Array,
    event_times: pa.Array,
    watermarks: pa.Array,
) -> Assigned:
    """Split rows into on time and late: late when the watermark before the row was at
    `end + grace` or beyond.
    """
    starts = window_starts(plan, event_times)
    final_at = pc.add(starts, plan.size + plan.grace)
    late = pc.fill_null(pc.greater_equal(watermarks, final_at), False)
    if not late.true_count:
        return Assigned(rows, starts, ())
    found: list[Late] = []
    for row in pc.indices_nonzero(late).to_pylist():
        start, time = starts[row].as_py(), event_times[row].as_py()
        raw = Raw.of(batch, places[row].as_py())
        found.append(Late(raw, plan.name, start, start + plan.size, time, watermarks[row].as_py()))
    on_time = pc.invert(late)
    return Assigned(rows.filter(on_time), starts.filter(on_time), tuple(found))
