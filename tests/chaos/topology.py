"""A topology with every way out: a gate, a dedup, windows with a late side, topics and two tables.

Nothing in its results depends on how partitions or commits interleave, so they can be computed
from the log of its source alone (`oracle.py`).
"""

from datetime import timedelta

from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Max, Rule, Sum, Topology, Tumbling, parquet, source, topic

OUT_OF_ORDERNESS = timedelta(seconds=30)
WINDOW = timedelta(minutes=1)
GRACE = timedelta(minutes=1)
ROLL = timedelta(seconds=2)


class Reading(BaseModel, frozen=True):
    sensor: str
    event: str
    value: int | None
    at: AwareDatetime


class Minute(BaseModel, frozen=True):
    sensor: str
    window_start: AwareDatetime
    readings: int
    total: int | None
    largest: int | None


readings = (
    source(
        topic("readings"), Reading, key="sensor", event_time="at", out_of_orderness=OUT_OF_ORDERNESS
    )
    .gate(Rule("known", "value IS NOT NULL", severity="critical"))
    .dedup("event", within=timedelta(hours=1))
)

minutes = readings.window(Tumbling(WINDOW), by="sensor", grace=GRACE).aggregate(
    Minute, readings=Count(), total=Sum("value"), largest=Max("value")
)

topology = Topology(
    "chaos",
    readings.to(topic("passed")),
    readings.to(parquet("readings", partition_by="sensor", roll_interval=ROLL)),
    readings.rejected.to(topic("dead")),
    minutes.to(topic("minutes")),
    minutes.to(parquet("minutes", roll_interval=ROLL)),
    minutes.late.to(topic("late")),
)
