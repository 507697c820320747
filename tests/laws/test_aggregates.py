"""Every aggregate gives what plain Python computes over the rows, however they were cut."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    AggregateFunction,
    ApproxDistinct,
    Collect,
    Count,
    First,
    Frequent,
    Hopping,
    Last,
    Quantile,
    Session,
    Sliding,
    StdDev,
    TopK,
    Topology,
    Tumbling,
    Variance,
    parquet,
    source,
    topic,
)
from streamflow.batch import TopicPartition
from streamflow.testing import CRASH_POINTS, TopologyDriver
from streamflow.windows import Window
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
#: No row is late: lateness has laws of its own.
LAG, GRACE = timedelta(hours=1), timedelta(0)
WINDOWS: dict[str, Window] = {
    "tumbling": Tumbling(MINUTE),
    "hopping": Hopping(MINUTE, 20 * SECOND),
    "session": Session(15 * SECOND),
    "sliding": Sliding(40 * SECOND),
}
LIMIT, K, ERROR = 4, 3, 0.02
#: What is nearer to 0 counts as 0 in quantiles.
SMALLEST_NORMAL = 2.0**-1022


class Reading(BaseModel, frozen=True):
    sensor: str
    whole: int | None
    real: float | None
    name: str | None
    at: AwareDatetime


class Summary(BaseModel, frozen=True):
    sensor: str
    window_start: AwareDatetime
    rows: int
    variance_whole: float | None
    variance: float | None
    deviation: float | None
    first: str | None
    last: int | None
    names: list[str]
    wholes: list[int]
    top: list[str]
    top_by_name: list[float]
    median: float | None
    high: float | None
    kinds: int
    often: list[str] | None
    often_whole: list[int] | None
    span: int | None


class Span(AggregateFunction):
    """The largest value less the smallest; None where there is none."""

    fields = ("whole",)
    state = pa.struct([("low", pa.int64()), ("high", pa.int64())])
    type = pa.int64()

    def init(self) -> dict[str, Any]:
        return {"low": None, "high": None}

    def accumulate(self, state: dict[str, Any], rows: pa.RecordBatch) -> dict[str, Any]:
        here = pc.min_max(rows["whole"]).as_py()
        return self.merge(state, {"low": here["min"], "high": here["max"]})

    def merge(self, state: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        for name, choose in (("low", min), ("high", max)):
            found = [one[name] for one in (state, other) if one[name] is not None]
            state[name] = choose(found, default=None)
        return state

    def result(self, state: dict[str, Any]) -> int | None:
        return None if state["low"] is None else state["high"] - state["low"]


AGGREGATES: dict[str, Any] = {
    "rows": Count(),
    "variance_whole": Variance("whole"),
    "variance": Variance("real"),
    "deviation": StdDev("real"),
    "first": First("name"),
    "last": Last("whole"),
    "names": Collect("name", limit=LIMIT),
    "wholes": Collect("whole"),
    "top": TopK(K, by="real", of="name"),
    "top_by_name": TopK(1, by="name", of="real"),
    "median": Quantile("real", 0.5, error=ERROR),
    "high": Quantile("whole", 0.9, error=ERROR),
    "kinds": ApproxDistinct("name"),
    "often": Frequent("name", K, limit=K),
    "often_whole": Frequent("whole", 2),
    "span": Span(),
}


class Near(NamedTuple):
    """A value to a relative error of `ERROR`."""

    value: float


class Spread(NamedTuple):
    """A variance or standard deviation, and by how much it may be off: means are floats, rounded to
    a part of their own size, which is a larger part of a small distance from them.
    """

    value: float
    off: float


class Row(NamedTuple):
    offset: int
    reading: Reading


@cache
def topology(kind: str) -> Topology:
    readings = source(
        topic("readings"), Reading, key="sensor", event_time="at", out_of_orderness=LAG
    )
    summary = readings.window(WINDOWS[kind], by="sensor", grace=GRACE).aggregate(
        Summary, **AGGREGATES
    )
    return Topology(
        "aggregates",
        readings.rejected.to(topic("dlq")),
        summary.to(topic("summaries")),
        summary.to(parquet("summaries")),
        summary.late.to(topic("late")),
    )


def by_age(rows: Sequence[Row]) -> list[Reading]:
    return [row.reading for row in sorted(rows, key=lambda row: (row.reading.at, row.offset))]


def variance(values: Sequence[float]) -> Spread | None:
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    found = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    rounded = len(values) * math.ulp(max(map(abs, values)))
    return Spread(found, 2 * rounded * math.sqrt(found) + rounded**2 + 1e-9 * found)


def deviation(values: Sequence[float]) -> Spread | None:
    found = variance(values)
    if found is None:
        return None
    rounded = len(values) * math.ulp(max(map(abs, values)))
    return Spread(math.sqrt(found.value), rounded + 1e-9 * math.sqrt(found.value))


def top(rows: Sequence[Reading], k: int, by: str, of: str) -> list[Any]:
    """Sorting is stable, also when reversed: rows of equal `by` stay in the order of their age."""
    both = [row for row in rows if getattr(row, by) is not None and getattr(row, of) is not None]
    ranked = sorted(both, key=lambda row: getattr(row, by), reverse=True)
    return [getattr(row, of) for row in ranked[:k]]


def quantile(values: Sequence[float], q: float) -> Near | None:
    if not values:
        return None
    found = sorted(values)[math.floor(q * (len(values) - 1))]
    return Near(found if abs(found) >= SMALLEST_NORMAL else 0.0)


def frequent(values: Sequence[Any], k: int, limit: int) -> list[Any] | None:
    """Python orders text by code points, which is also the order of its bytes."""
    counts = Counter(values)
    if len(counts) > limit:
        return None
    return sorted(counts, key=lambda value: (-counts[value], value))[:k]


def expected(rows: Sequence[Row]) -> dict[str, Any]:
    """What one window's rows give."""
    oldest = by_age(rows)
    reals = [row.real for row in oldest if row.real is not None]
    wholes = [row.whole for row in oldest if row.whole is not None]
    return {
        "rows": len(rows),
        "variance_whole": variance(wholes),
        "variance": variance(reals),
        "deviation": deviation(reals),
        "first": oldest[0].name,
        "last": oldest[-1].whole,
        "names": [row.name for row in oldest if row.name is not None][:LIMIT],
        "wholes": wholes,
        "top": top(oldest, K, "real", "name"),
        "top_by_name": top(oldest, 1, "name", "real"),
        "median": quantile(reals, 0.5),
        "high": quantile(wholes, 0.9),
        "kinds": len({row.name for row in oldest if row.name is not None}),
        "often": frequent([row.name for row in oldest if row.name is not None], K, limit=K),
        "often_whole": frequent(wholes, 2, 99),
        "span": max(wholes) - min(wholes) if wholes else None,
    }


def windows(kind: str, rows: Sequence[Row]) -> dict[tuple[str, datetime], list[Row]]:
    """Rows by sensor and start of the window."""
    found: dict[tuple[str, datetime], list[Row]] = {}
    if kind == "session":
        for sensor in {row.reading.sensor for row in rows}:
            mine = sorted((r for r in rows if r.reading.sensor == sensor), key=lambda r: r[1].at)
            start = last = None
            for row in mine:
                if start is None or last is None or row.reading.at > last + 15 * SECOND:
                    start = row.reading.at
                last = row.reading.at
                found.setdefault((sensor, start), []).append(row)
        return found
    if kind == "sliding":
        for sensor, at in {(row.reading.sensor, row.reading.at) for row in rows}:
            begin = at - 40 * SECOND
            found[sensor, begin] = [
                row for row in rows if row[1].sensor == sensor and begin < row[1].at <= at
            ]
        return found
    every = MINUTE if kind == "tumbling" else 20 * SECOND
    for row in rows:
        latest = START + (row.reading.at - START) // every * every
        for back in range(MINUTE // every):
            key = (row.reading.sensor, latest - back * every)
            found.setdefault(key, []).append(row)
    return found


def nearly(made: Any, wanted: Any) -> bool:
    """Equal; floats to the error that is allowed, or to a relative 1e-9."""
    if isinstance(wanted, Near):
        off = abs(made - wanted.value) if isinstance(made, float) else math.inf
        return off <= ERROR * 1.000001 * abs(wanted.value)
    if isinstance(wanted, Spread):
        return isinstance(made, float) and abs(made - wanted.value) <= wanted.off
    if isinstance(made, float) and isinstance(wanted, float):
        return made == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    return made == wanted


readings = st.tuples(
    st.integers(-3, 8),
    st.sampled_from("AB"),
    st.none() | st.integers(-3, 3) | st.sampled_from([2**53 + 1, 10**9]),
    st.none() | st.sampled_from([0.0, -1.5, 2.5, 1e9, 1e9 + 1]) | st.floats(-1e6, 1e6),
    st.none() | st.sampled_from(["", "a", "b", "ab", "é"]),
)
streams = st.lists(readings, max_size=20)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def rows_of(moves: Sequence[tuple[int, str, int | None, float | None, str | None]]) -> list[Any]:
    """Rows whose times wander forward, sometimes back; equal times are likely."""
    at, made = START, []
    for move, sensor, whole, real, name in moves:
        at += move * 3 * SECOND
        made.append({"sensor": sensor, "whole": whole, "real": real, "name": name, "at": at})
    return made


def run(
    kind: str,
    rows: Sequence[dict[str, Any]],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
    keep_disk: bool = True,
) -> TopologyDriver:
    driver = TopologyDriver(
        topology(kind), NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    half = len(rows) // 2
    driver.send("readings", *rows[:half])
    if crash_at is None:
        driver.send("readings", *rows[half:])
    else:
        with driver.crash(at=crash_at):
            driver.send("readings", *rows[half:])
            driver.end_of_input()
        driver.process()
    driver.end_of_input()
    return driver


def results(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, datetime], dict[str, Any]]:
    return {
        (row["sensor"], row["window_start"]): {name: row[name] for name in AGGREGATES}
        for row in rows
    }


def differences(
    made: dict[tuple[str, datetime], dict[str, Any]],
    wanted: dict[tuple[str, datetime], dict[str, Any]],
    same: Callable[[Any, Any], bool] = nearly,
) -> list[str]:
    if made.keys() != wanted.keys():
        return [f"windows {sorted(made)} instead of {sorted(wanted)}"]
    return [
        f"{key} {name}: {made[key][name]!r} instead of {value!r}"
        for key, row in wanted.items()
        for name, value in row.items()
        if not same(made[key][name], value)
    ]


def reference(kind: str, driver: TopologyDriver) -> dict[tuple[str, datetime], dict[str, Any]]:
    """What plain Python makes of the records that a driver was sent."""
    log = driver.broker.partition(TopicPartition("readings", 0)).records
    rows = [Row(at, Reading.model_validate_json(r.value or b"")) for at, r in log]
    assert [row.offset for row in rows] == sorted({row.offset for row in rows})
    return {key: expected(mine) for key, mine in windows(kind, rows).items()}


def within_rounding(
    made: dict[tuple[str, datetime], dict[str, Any]],
    exact: dict[tuple[str, datetime], dict[str, Any]],
) -> dict[tuple[str, datetime], dict[str, Any]]:
    """The same results, of which each spread may be off on either side by what rounding makes."""
    return {
        key: {
            name: Spread(value, 2 * exact[key][name].off)
            if isinstance(exact[key][name], Spread)
            else value
            for name, value in row.items()
        }
        for key, row in made.items()
    }


@pytest.mark.parametrize("kind", WINDOWS)
@law(cases=len(WINDOWS))
@given(streams, cuts, st.integers(1, 20))
def test_aggregates_are_what_plain_python_computes(
    kind: str, moves: list[Any], batches: list[int], commit_records: int
) -> None:
    driver = run(kind, rows_of(moves), batches, commit_records)
    wanted = reference(kind, driver)
    assert differences(results(driver.read("summaries")), wanted) == []
    assert differences(results(driver.files("summaries")), wanted) == []


@pytest.mark.parametrize("kind", WINDOWS)
@law(cases=len(WINDOWS))
@given(streams, cuts, st.integers(1, 20), st.sampled_from(CRASH_POINTS), st.booleans())
def test_cuts_commits_and_crashes_are_unobservable_in_aggregates(
    kind: str,
    moves: list[Any],
    batches: list[int],
    commit_records: int,
    point: str,
    keep_disk: bool,
) -> None:
    rows = rows_of(moves)
    whole = run(kind, rows)
    crashed = run(kind, rows, batches, commit_records, crash_at=point, keep_disk=keep_disk)
    made, wanted = results(crashed.read("summaries")), results(whole.read("summaries"))
    assert differences(made, within_rounding(wanted, reference(kind, whole))) == []
