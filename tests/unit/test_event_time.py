"""What event times a source takes, and what the others get."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Calendar,
    Count,
    Hopping,
    Rule,
    Session,
    Topology,
    TopologyError,
    Tumbling,
    source,
    topic,
)
from streamflow.testing import TopologyDriver
from streamflow.windows import Window

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Tick(BaseModel, frozen=True):
    name: str
    seconds: int


class PerName(BaseModel, frozen=True):
    name: str
    window_start: AwareDatetime
    ticks: int


def from_seconds(rows: pa.RecordBatch) -> pa.Array:
    return pc.cast(rows["seconds"], pa.timestamp("s", "UTC"))


def driver_of(window: Window, grace: timedelta = HOUR, **options: Any) -> TopologyDriver:
    ticks = source(topic("ticks"), Tick, key="name", event_time=from_seconds, **options)
    counts = ticks.window(window, by="name", grace=grace).aggregate(PerName, ticks=Count())
    edges = [counts.to(topic("counts")), counts.late.drop(), ticks.rejected.to(topic("dlq"))]
    return TopologyDriver(Topology("ticks", *edges), NOW)


def at(*seconds: int) -> list[dict[str, Any]]:
    return [{"name": "a", "seconds": s} for s in seconds]


def letters(driver: TopologyDriver) -> list[tuple[int, str]]:
    return [(row["offset"], row["reason"]) for row in driver.read("dlq")]


def said(driver: TopologyDriver, letter: int = 0) -> bytes | None:
    return dict(driver.records("dlq")[letter].headers)["__connect.errors.exception.message"]


WINDOWS = [
    Tumbling(HOUR),
    Hopping(HOUR, timedelta(minutes=25)),
    Calendar("day", "Asia/Tokyo"),
    Calendar("month", "America/New_York"),
    Calendar("week"),
    Session(HOUR),
]
FAR = 253_339_228_799  # the last second of the year 9997
LONG_AGO = -62_104_060_800  # the first of the year 2


@pytest.mark.parametrize("window", WINDOWS, ids=repr)
def test_times_that_no_window_can_be_computed_with_are_dead_letters(window: Window) -> None:
    driver = driver_of(window)
    seconds = [0, 9_000_000_000_000, FAR + 1, LONG_AGO - 1, -9_000_000_000_000, 2**62, 5]
    driver.send("ticks", *at(*seconds))
    driver.end_of_input()
    assert letters(driver) == [(offset, "event-time") for offset in (1, 2, 3, 4, 5)]
    assert sum(row["ticks"] for row in driver.read("counts")) >= 2


@pytest.mark.parametrize("window", [*WINDOWS, Tumbling(1000 * DAY)], ids=repr)
@pytest.mark.parametrize("second", [LONG_AGO, FAR])
def test_nothing_overflows_where_windows_and_grace_are_long(window: Window, second: int) -> None:
    driver = driver_of(window, grace=4000 * DAY, out_of_orderness=1000 * DAY)
    driver.send("ticks", *at(second))
    driver.send("ticks", *at(0, 1))
    driver.end_of_input()
    assert letters(driver) == [(0, "event-time")]
    years = b"18 to 9981" if window == Tumbling(1000 * DAY) else b"15 to 9984"
    assert said(driver) == b"the event time is not in the years " + years


LONG = timedelta(days=36_526)


@pytest.mark.parametrize(
    ("window", "options", "what"),
    [
        (Tumbling(LONG), {}, "size in 'ticks.pername'"),
        (Hopping(HOUR, HOUR, offset=-LONG), {}, "offset in 'ticks.pername'"),
        (Session(timedelta.max), {}, "gap in 'ticks.pername'"),
        (Tumbling(HOUR), {"grace": timedelta.max}, "grace in 'ticks.pername'"),
        (Tumbling(HOUR), {"out_of_orderness": LONG}, "out_of_orderness"),
        (Tumbling(HOUR), {"max_future": LONG}, "max_future"),
    ],
)
def test_a_duration_that_event_times_cannot_be_moved_by_is_refused(
    window: Window, options: dict[str, Any], what: str
) -> None:
    with pytest.raises(TopologyError, match=f"{what} of 'ticks' is longer than 36525 days"):
        driver_of(window, **options)


def test_a_time_of_deduplication_is_too() -> None:
    ticks = source(topic("ticks"), Tick, event_time=from_seconds).dedup("name", within=LONG)
    with pytest.raises(TopologyError, match="dedup name of 'ticks' is longer than 36525 days"):
        Topology("ticks", ticks.to(topic("out")), ticks.rejected.drop())


@pytest.mark.parametrize("window", WINDOWS, ids=repr)
def test_the_first_and_the_last_of_the_others_have_windows(window: Window) -> None:
    driver = driver_of(window)
    driver.send("ticks", *at(LONG_AGO, -1, FAR))
    driver.end_of_input()
    assert letters(driver) == []
    starts = [row["window_start"] for row in driver.read("counts")]
    assert {min(starts).year, max(starts).year} <= {1, 2, 9997}


def test_what_is_too_far_in_the_future_is_a_dead_letter_and_moves_no_watermark() -> None:
    driver = driver_of(Tumbling(HOUR), max_future=HOUR)
    now = int(NOW.timestamp())
    driver.send("ticks", *at(now, now + 3600, now + 3601, now + 10**9, now + 60))
    assert letters(driver) == [(2, "future"), (3, "future")]
    assert (
        said(driver)
        == b"the event time is 1:00:01 after the record was fetched; 3600 s are allowed"
    )
    assert driver.read("counts") == []
    driver.advance(2 * HOUR)
    driver.send("ticks", *at(now + 2 * 3600, now + 3 * 3600))
    assert [row["ticks"] for row in driver.read("counts")] == [2, 1]
    assert driver.totals["late"] == 0


def test_without_a_bound_the_future_closes_every_window() -> None:
    driver = driver_of(Tumbling(HOUR))
    now = int(NOW.timestamp())
    driver.send("ticks", *at(now, now + 10**9, now))
    assert (letters(driver), driver.totals["late"]) == ([], 1)


def test_a_bound_below_zero_is_refused() -> None:
    with pytest.raises(TopologyError, match="max_future is below zero"):
        driver_of(Tumbling(HOUR), max_future=-HOUR)


def raises(_rows: pa.RecordBatch) -> Any:
    if _rows.num_rows and 7 in _rows["seconds"].to_pylist():
        raise RuntimeError("seven")
    return from_seconds(_rows)


def test_a_function_may_raise_anything_and_only_its_rows_leave() -> None:
    ticks = source(topic("ticks"), Tick, event_time=raises)
    driver = TopologyDriver(
        Topology("ticks", ticks.to(topic("out")), ticks.rejected.to(topic("dlq"))), NOW
    )
    driver.send("ticks", *at(1, 7, 8))
    assert letters(driver) == [(1, "event-time")]
    assert [row["seconds"] for row in driver.read("out")] == [1, 8]
    assert said(driver) == b"no event time can be computed: RuntimeError: seven"


def never_seven(rows: pa.RecordBatch) -> Any:
    return pc.not_equal(pc.cast(raises(rows), pa.int64()), 0)


def test_a_rule_may_raise_anything_and_is_broken_there() -> None:
    ticks = source(topic("ticks"), Tick, event_time=from_seconds)
    gated = ticks.gate(Rule("not_seven", never_seven))
    driver = TopologyDriver(
        Topology("ticks", gated.to(topic("out")), gated.rejected.to(topic("dlq"))), NOW
    )
    driver.send("ticks", *at(1, 7, 8))
    assert [(row["offset"], row["rule"]) for row in driver.read("dlq")] == [(1, "not_seven")]


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        ("seconds IN (1, 2)", [1]),
        ("seconds IN (1, NULL)", [1, 8]),
        ("seconds IN (NULL)", [1, 8]),
        ("seconds NOT IN (1, NULL)", [8]),
    ],
)
def test_null_in_a_set_is_unknown_as_in_sql(rule: str, passes: list[int]) -> None:
    ticks = source(topic("ticks"), Tick, event_time=from_seconds).gate(Rule("set", rule))
    driver = TopologyDriver(
        Topology("ticks", ticks.to(topic("out")), ticks.rejected.to(topic("dlq"))), NOW
    )
    driver.send("ticks", *at(1, 8))
    assert [row["seconds"] for row in driver.read("out")] == passes
