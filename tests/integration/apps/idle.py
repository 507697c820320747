"""Readings per sensor and minute, of a topic whose partitions may fall silent.

While a file `SLOW` lies beside the state, each micro-batch takes longer than a partition may be
silent.
"""

import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Topology, Tumbling, source, topic
from streamflow.engine.settings import Settings

IDLE_AFTER = timedelta(seconds=1)
SLOW = Path(Settings.load().lake).parent / "SLOW"


class Reading(BaseModel):
    """What a sensor says."""

    sensor: str
    at: AwareDatetime
    padding: str = ""


class PerMinute(BaseModel):
    """How often a sensor spoke in a minute."""

    sensor: str
    window_start: AwareDatetime
    readings: int


def slowly(rows: pa.RecordBatch) -> pa.Array:
    """Keep all, in good time."""
    if rows.num_rows and SLOW.exists():
        time.sleep(1.5 * IDLE_AFTER.total_seconds())
    return pc.is_valid(rows["sensor"])


readings = source(
    topic("readings"), Reading, key="sensor", event_time="at", idle_after=IDLE_AFTER
).filter(slowly)
minutes = readings.window(Tumbling(timedelta(minutes=1)), by="sensor").aggregate(
    PerMinute, readings=Count()
)
topology = Topology(
    "idle",
    minutes.to(topic("minutes")),
    minutes.late.to(topic("late")),
    readings.rejected.to(topic("dlq")),
)
