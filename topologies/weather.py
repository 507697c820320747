"""Rain at the three airports of New York, from their hourly observations: real data with gaps.

weather -> validate -> plausible, from working stations -> one per airport and hour -> rain only
-> spells of rain
"""

from datetime import timedelta

from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Calendar,
    Count,
    Max,
    Rule,
    Session,
    Sum,
    Threshold,
    Topology,
    parquet,
    source,
    topic,
)


class Observation(BaseModel, frozen=True):
    origin: str
    temp: float | None
    wind_speed: float | None
    wind_gust: float | None
    precip: float
    pressure: float | None
    visib: float
    time_hour: AwareDatetime


class Rain(BaseModel, frozen=True):
    origin: str
    inches: float
    wind: float | None
    time_hour: AwareDatetime


class Spell(BaseModel, frozen=True):
    """Hours of rain that follow each other; a gap of two hours ends it."""

    origin: str
    window_start: AwareDatetime
    hours: int
    inches: float
    strongest_wind: float | None


class RainyDay(BaseModel, frozen=True):
    """A day of New York, which has 23 or 25 hours when the clocks change."""

    origin: str
    window_start: AwareDatetime
    hours: int
    inches: float


#: A station without pressure eight times in a row is being repaired: for six hours what it says is
#: not taken, and after that only once it has told the pressure three times in a row.
repaired = Threshold(max_count=7, last=8, action="route", resume_after=timedelta(hours=6), probe=3)

observed = (
    source(topic("weather"), Observation, key="origin", event_time="time_hour")
    .gate(
        Rule("wind_in_range", "wind_speed BETWEEN 0 AND 200"),
        Rule("has_temp", "temp IS NOT NULL", severity="warning"),
        Rule("has_pressure", "pressure IS NOT NULL", severity="info", threshold=repaired),
    )
    .dedup("origin", "time_hour", within=timedelta(days=2))
)
rain = observed.filter("precip > 0").map(Rain, inches="precip", wind="wind_speed")

spells = rain.window(Session(timedelta(hours=2)), by="origin").aggregate(
    Spell, hours=Count(), inches=Sum("inches"), strongest_wind=Max("wind")
)
days = rain.window(Calendar("day", "America/New_York"), by="origin").aggregate(
    RainyDay, hours=Count(), inches=Sum("inches")
)

topology = Topology(
    "weather",
    rain.rejected.to(topic("weather.dlq")),
    spells.to(topic("weather.spells")),
    spells.to(parquet("spells", partition_by="origin")),
    spells.late.to(topic("weather.late")),
    days.to(parquet("rainy-days")),
    days.late.to(topic("weather.late")),
)
