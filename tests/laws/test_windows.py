"""Every kind of window keeps the laws and gives what plain Python computes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Calendar,
    Count,
    Distinct,
    Hopping,
    Session,
    Sliding,
    Sum,
    Topology,
    Tumbling,
    parquet,
    source,
    topic,
)
from streamflow.batch import TopicPartition
from streamflow.core.seal import FOLD_AFTER
from streamflow.testing import CRASH_POINTS, TopologyDriver
from streamflow.windows import Window
from tests.examples import law

from .windows_reference import Event, Result, reference

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LAG, GRACE = 20 * SECOND, 30 * SECOND
HOUR = timedelta(hours=1)

WINDOWS: dict[str, tuple[Window, timedelta]] = {
    # The window, and how far apart events typically are.
    "tumbling": (Tumbling(MINUTE), 10 * SECOND),
    "tumbling, moved": (Tumbling(7 * SECOND, offset=2 * SECOND), 3 * SECOND),
    "below a second": (Tumbling(timedelta(milliseconds=250)), timedelta(milliseconds=70)),
    "hopping": (Hopping(MINUTE, 20 * SECOND), 10 * SECOND),
    "hopping, unevenly": (Hopping(MINUTE, 25 * SECOND, offset=5 * SECOND), 10 * SECOND),
    "session": (Session(30 * SECOND), 12 * SECOND),
    "sliding": (Sliding(40 * SECOND), 3 * SECOND),
    "sliding, many in one": (Sliding(5 * MINUTE), 5 * SECOND),
    "sliding, few in one": (Sliding(3 * SECOND), 5 * SECOND),
    "session of a tick": (Session(timedelta(microseconds=1)), timedelta(microseconds=1)),
    "day in Berlin": (Calendar("day", "Europe/Berlin"), 5 * HOUR),
    "week in New York": (Calendar("week", "America/New_York"), 30 * HOUR),
    "month": (Calendar("month"), 100 * HOUR),
    "day where midnight is skipped": (Calendar("day", "America/Sao_Paulo"), 5 * HOUR),
    "day whose last minutes come twice": (Calendar("day", "America/St_Johns"), HOUR / 2),
    "day in a winter to come": (Calendar("day", "Australia/Sydney"), HOUR / 2),
}
STARTS = {  # near a change of the clocks
    "day in Berlin": datetime(2024, 10, 25, tzinfo=UTC),
    "day where midnight is skipped": datetime(2018, 11, 2, tzinfo=UTC),
    "day whose last minutes come twice": datetime(2010, 11, 7, tzinfo=UTC),
    "day in a winter to come": datetime(2050, 6, 10, 12, tzinfo=UTC),
    "month": datetime(1969, 12, 20, tzinfo=UTC),
}


class Reading(BaseModel, frozen=True):
    sensor: str
    value: int
    at: AwareDatetime


class Level(BaseModel, frozen=True):
    sensor: str
    level: float | None
    value: int
    at: AwareDatetime


class PerLevel(BaseModel, frozen=True):
    sensor: str
    level: float | None
    window_start: AwareDatetime
    rows: int
    total: int
    values: int


class Summary(BaseModel, frozen=True):
    sensor: str
    window_start: AwareDatetime
    rows: int
    total: int
    values: int


@cache
def topology(kind: str) -> Topology:
    """Readings of several sensors, keyed by nothing finer than one of them."""
    readings = source(
        topic("readings"), Reading, key="sensor", event_time="at", out_of_orderness=LAG
    )
    summary = readings.window(WINDOWS[kind][0], by="sensor", grace=GRACE).aggregate(
        Summary, rows=Count(), total=Sum("value"), values=Distinct("value")
    )
    return Topology(
        "windows",
        readings.rejected.to(topic("dlq")),
        summary.to(topic("summaries")),
        summary.to(parquet("summaries")),
        summary.late.to(topic("late")),
    )


steps = st.lists(
    st.tuples(st.integers(-6, 10), st.sampled_from("AB"), st.integers(0, 3), st.integers(0, 999)),
    max_size=40,
)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def events(kind: str, moves: Sequence[tuple[int, str, int, int]]) -> list[dict[str, Any]]:
    """Rows whose times wander forward, sometimes back; equal times and exact bounds are likely."""
    at = STARTS.get(kind, datetime(2024, 5, 1, tzinfo=UTC))
    made: list[dict[str, Any]] = []
    for move, sensor, value, jitter in moves:
        at += move * WINDOWS[kind][1]
        exact = at + timedelta(microseconds=jitter if jitter % 3 else 0)
        made.append({"sensor": sensor, "value": value, "at": exact})
    return made


def start(kind: str, batches: Sequence[int], commit_records: int) -> TopologyDriver:
    return TopologyDriver(topology(kind), NOW, batches=batches, commit_records=commit_records)


def run(
    kind: str,
    rows: Sequence[dict[str, Any]],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
    keep_disk: bool = True,
) -> TopologyDriver:
    driver = TopologyDriver(
        topology(kind),
        NOW,
        batches=batches,
        commit_records=commit_records,
        keep_disk=keep_disk,
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


def results(driver: TopologyDriver) -> list[Result]:
    return as_results(driver.read("summaries"))


def as_results(rows: Sequence[dict[str, Any]]) -> list[Result]:
    return sorted(
        Result(
            row["sensor"],
            row["window_start"],
            row["window_end"],
            row["rows"],
            row["total"],
            row["values"],
        )
        for row in rows
    )


def late(driver: TopologyDriver) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for record in driver.records("late"):
        headers = dict(record.headers)
        lineage = headers["streamflow.lineage"] or b""
        missed = (headers.get("streamflow.late.windows_us") or b"").count(b",") + 1
        found.append((int.from_bytes(lineage[13:21], "big"), missed))
    return found


@pytest.mark.parametrize("kind", WINDOWS)
@law(450, cases=len(WINDOWS))
@given(moves=steps, batches=cuts, commit_records=st.integers(1, 20))
def test_what_comes_out_is_what_plain_python_computes(
    kind: str, moves: list[tuple[int, str, int, int]], batches: list[int], commit_records: int
) -> None:
    driver = start(kind, batches, commit_records)
    driver.send("readings", *events(kind, moves))
    early = results(driver)
    driver.end_of_input()
    log = driver.broker.partition(TopicPartition("readings", 0)).records
    rows = [Reading.model_validate_json(record.value or b"") for _, record in log]
    partition = [Event(i, row.sensor, row.value, row.at) for i, row in enumerate(rows)]
    expected = reference(WINDOWS[kind][0], partition, LAG, GRACE)
    assert results(driver) == expected.results
    watermark = max((event.at for event in partition), default=NOW) - LAG
    assert early == [row for row in expected.results if row.end + GRACE <= watermark]
    assert late(driver) == expected.late
    totals = driver.totals
    assert totals["assigned"] == totals["accumulated"] + totals["late"]
    assert totals["late"] == sum(missed for _, missed in expected.late)
    assert totals["accumulated"] == expected.on_time
    assert totals["results"] == len(expected.results) == len(driver.files("summaries"))


@pytest.mark.parametrize("kind", WINDOWS)
@law(300, cases=len(WINDOWS))
@given(steps, cuts, st.integers(1, 20), st.sampled_from(CRASH_POINTS), st.booleans())
def test_cuts_commits_and_crashes_are_unobservable(
    kind: str,
    moves: list[tuple[int, str, int, int]],
    batches: list[int],
    commit_records: int,
    point: str,
    keep_disk: bool,
) -> None:
    rows = events(kind, moves)
    whole = run(kind, rows)
    crashed = run(kind, rows, batches, commit_records, crash_at=point, keep_disk=keep_disk)
    assert results(crashed) == results(whole)
    assert late(crashed) == late(whole)
    assert sorted(map(str, crashed.files("summaries"))) == sorted(
        map(str, whole.files("summaries"))
    )
    assert crashed.totals == whole.totals


LEVELS = [0.0, -0.0, "NaN", None, 1.5]
BY_LEVEL = ["tumbling", "hopping", "session", "sliding"]


@cache
def by_level(kind: str) -> Topology:
    levels = source(topic("levels"), Level, key="sensor", event_time="at", out_of_orderness=LAG)
    summary = levels.window(WINDOWS[kind][0], by=("sensor", "level"), grace=GRACE).aggregate(
        PerLevel, rows=Count(), total=Sum("value"), values=Distinct("value")
    )
    return Topology(
        "levels", levels.rejected.drop(), summary.to(topic("summaries")), summary.late.drop()
    )


@pytest.mark.parametrize("kind", BY_LEVEL)
@law(cases=len(BY_LEVEL))
@given(steps, st.lists(st.sampled_from(LEVELS), min_size=40, max_size=40), cuts, st.integers(1, 20))
def test_zeros_of_both_signs_are_one_group_and_so_is_every_nan(
    kind: str,
    moves: list[tuple[int, str, int, int]],
    levels: list[float | str | None],
    batches: list[int],
    commit_records: int,
) -> None:
    rows = events(kind, moves)
    sent = [{**row, "level": level} for row, level in zip(rows, levels, strict=False)]
    driver = TopologyDriver(by_level(kind), NOW, batches=batches, commit_records=commit_records)
    driver.send("levels", *sent)
    driver.end_of_input()
    partition = [
        Event(i, f"{row['sensor']} {_number(level)}", row["value"], row["at"])
        for i, (row, level) in enumerate(zip(rows, levels, strict=False))
    ]
    found = [
        {**row, "sensor": f"{row['sensor']} {_number(row['level'])}"}
        for row in driver.read("summaries")
    ]
    assert as_results(found) == reference(WINDOWS[kind][0], partition, LAG, GRACE).results


def _number(level: float | str | None) -> str:
    return str(level if level is None or isinstance(level, str) else level + 0.0)


class Rare(Summary, frozen=True):
    pass


TWO: dict[str, Window] = {
    "readings.summary": Tumbling(20 * SECOND),
    "readings.rare": Session(30 * SECOND),
}


@cache
def two_windows() -> Topology:
    readings = source(
        topic("readings"), Reading, key="sensor", event_time="at", out_of_orderness=LAG
    )
    edges = [readings.rejected.drop()]
    for window, model in zip(TWO.values(), (Summary, Rare), strict=True):
        made = readings.window(window, by="sensor").aggregate(
            model, rows=Count(), total=Sum("value"), values=Distinct("value")
        )
        edges += [made.to(topic(f"out-{made.name}")), made.late.to(topic("late"))]
    return Topology("two", *edges)


@law()
@given(steps, cuts, st.integers(1, 20))
def test_a_topic_of_late_records_of_two_windows_is_in_the_order_of_the_records(
    moves: list[tuple[int, str, int, int]], batches: list[int], commit_records: int
) -> None:
    rows = events("hopping", moves)
    driver = TopologyDriver(two_windows(), NOW, batches=batches, commit_records=commit_records)
    driver.send("readings", *rows)
    partition = [Event(i, row["sensor"], row["value"], row["at"]) for i, row in enumerate(rows)]
    nothing = timedelta(0)
    expected = [
        (offset, place)
        for place, window in enumerate(TWO.values())
        for offset, _ in reference(window, partition, LAG, nothing).late
    ]
    headers = [dict(record.headers) for record in driver.records("late")]
    places = [list(TWO).index((h["streamflow.late.window"] or b"").decode()) for h in headers]
    assert list(zip([o for o, _ in late(driver)], places, strict=True)) == sorted(expected)


def test_a_long_session_joins_the_short_ones_within_it_and_after_them() -> None:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    seconds = [0, 20, 40, 60, 80, 100, 55, 95]
    rows = [{"sensor": "A", "value": s, "at": at + s * SECOND} for s in seconds]
    # One partial holds all of the first six, and two lie within it.
    driver = start("session", [6, 1, 1], commit_records=1)
    driver.send("readings", *rows)
    driver.end_of_input()
    (found,) = results(driver)
    assert (found.rows, found.end - found.start) == (8, 130 * SECOND)


@pytest.mark.parametrize("commit_records", [1, 100])
def test_a_session_is_emitted_as_soon_as_the_watermark_is_there(commit_records: int) -> None:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    driver = start("session", [1], commit_records)
    for seconds, emitted in [(0, 0), (5, 0), (60, 0), (79, 0), (81, 1), (84, 1), (85, 2), (150, 3)]:
        row = {"sensor": f"S{seconds}", "value": 0, "at": at + seconds * SECOND}
        driver.send("readings", row)
        assert len(results(driver)) == emitted, seconds
    # A row that comes late, but not too late, ends before what has been seen to be open.
    for seconds, emitted in [(101, 3), (181, 8)]:
        row = {"sensor": "S", "value": 0, "at": at + seconds * SECOND}
        driver.send("readings", row)
        assert len(results(driver)) == emitted, seconds


def test_a_session_that_is_taken_out_of_many_entries_is_counted_once() -> None:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    # Commits that move no watermark leave an entry each; the last row has all of them read.
    seconds = [100, *[60] * FOLD_AFTER, 132]
    driver = start("session", [1], commit_records=1)
    for number, second in enumerate(seconds):
        sensor = "A" if second == 60 else "B"
        driver.send("readings", {"sensor": sensor, "value": number, "at": at + second * SECOND})
    driver.end_of_input()
    assert [(row.group, row.rows) for row in results(driver)] == [
        ("A", FOLD_AFTER),
        ("B", 1),
        ("B", 1),
    ]
