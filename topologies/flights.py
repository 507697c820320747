"""Delays per origin and hour of scheduled departure, from flights in the order they really left.

flights -> validate -> departed -> one-hour windows -> hourly delays
"""

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Distinct, Max, Mean, Rule, Topology, Tumbling, parquet, source, topic


class Flight(BaseModel, frozen=True):
    year: int
    month: int
    day: int
    dep_time: int | None
    sched_dep_time: int
    dep_delay: int | None
    arr_time: int | None
    sched_arr_time: int
    arr_delay: int | None
    carrier: str
    flight: int
    tailnum: str | None
    origin: str
    dest: str
    air_time: int | None
    distance: int
    hour: int
    minute: int
    time_hour: AwareDatetime


class Hourly(BaseModel, frozen=True):
    origin: str
    window_start: AwareDatetime
    flights: int
    mean_delay: float | None
    max_delay: int | None
    destinations: int


def scheduled(flights: pa.RecordBatch) -> pa.Array:
    """The scheduled departure: `time_hour` is its hour in UTC, `minute` the minute in it."""
    minutes = pc.multiply(flights["minute"], 60_000_000).cast(pa.duration("us"))
    return pc.add(flights["time_hour"], minutes)


flights = source(
    topic("flights"),
    Flight,
    key="origin",
    event_time=scheduled,
    out_of_orderness=timedelta(hours=1),
).gate(
    Rule("departed", "dep_time IS NOT NULL", severity="critical"),
    Rule("has_tailnum", "tailnum IS NOT NULL", severity="warning"),
    Rule("delay_in_range", "dep_delay BETWEEN -60 AND 720", severity="warning"),
    Rule("distance_in_range", "distance BETWEEN 50 AND 6000", severity="warning"),
)

hourly = flights.window(
    Tumbling(timedelta(hours=1)), by="origin", grace=timedelta(hours=6)
).aggregate(
    Hourly,
    flights=Count(),
    mean_delay=Mean("dep_delay"),
    max_delay=Max("dep_delay"),
    destinations=Distinct("dest"),
)

topology = Topology(
    "flights",
    flights.to(parquet("flights", partition_by=("month", "origin"))),
    flights.rejected.to(topic("flights.dlq")),
    hourly.to(topic("flights.hourly")),
    hourly.to(parquet("hourly")),
    hourly.late.to(topic("flights.late")),
)

app = topology.faust_app()  # for `faust -A topologies.flights worker`; opens nothing
