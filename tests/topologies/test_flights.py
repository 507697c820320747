"""The main topology, driven in memory on small inputs; the whole year is in tests/oracle."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamflow.testing import CRASH_POINTS, TopologyDriver
from topologies.flights import topology

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEN = datetime(2013, 6, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def flight(at: datetime = TEN, delay: int | None = 0, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "year": 2013,
        "month": 6,
        "day": 1,
        "dep_time": None if delay is None else 600,
        "sched_dep_time": 600,
        "dep_delay": delay,
        "arr_time": 800,
        "sched_arr_time": 800,
        "arr_delay": 0,
        "carrier": "UA",
        "flight": 1,
        "tailnum": "N1",
        "origin": "EWR",
        "dest": "ORD",
        "air_time": 100,
        "distance": 719,
        "hour": at.hour,
        "minute": at.minute,
        "time_hour": at.replace(minute=0),
    }
    return row | changes


@pytest.fixture
def driver() -> TopologyDriver:
    return TopologyDriver(topology, NOW)


def test_an_hour_is_final_when_the_watermark_is_six_hours_past_it(driver: TopologyDriver) -> None:
    driver.send("flights", flight(delay=10), flight(delay=20, dest="BOS"), flight(delay=30))
    driver.send("flights", flight(TEN + 8 * HOUR - timedelta(minutes=1)))
    assert driver.read("flights.hourly") == []

    driver.send("flights", flight(TEN + 8 * HOUR))
    assert driver.read("flights.hourly") == [
        {
            "origin": "EWR",
            "window_start": TEN,
            "flights": 3,
            "mean_delay": 20.0,
            "max_delay": 30,
            "destinations": 2,
            "window_end": TEN + HOUR,
            "revision": 0,
            "final": True,
        }
    ]


def test_an_hour_whose_delays_are_unknown_has_none(driver: TopologyDriver) -> None:
    driver.send("flights", flight(dep_delay=None))
    driver.end_of_input()
    made = [(row["flights"], row["mean_delay"], row["max_delay"]) for row in driver.files("hourly")]
    assert made == [(1, None, None)]
    assert [row["max_delay"] for row in driver.read("flights.hourly")] == [None]


def test_a_flight_behind_a_final_hour_is_late_with_its_lateness(driver: TopologyDriver) -> None:
    driver.send("flights", flight(TEN + 8 * HOUR), flight())
    late = driver.read("flights.late")
    assert [row["lateness"] for row in late] == [7 * HOUR]
    assert driver.totals["late"] == 1


def test_a_late_flight_is_still_a_clean_row(driver: TopologyDriver) -> None:
    driver.send("flights", flight(TEN + 8 * HOUR), flight())
    driver.end_of_input()
    assert len(driver.files("flights")) == 2


def test_a_cancelled_flight_is_a_dead_letter_and_moves_no_watermark(driver: TopologyDriver) -> None:
    driver.send("flights", flight(TEN + 20 * HOUR, delay=None), flight())
    assert [(r["reason"], r["rule"]) for r in driver.read("flights.dlq")] == [("rule", "departed")]
    assert driver.read("flights.late") == []


def test_a_flight_without_tail_number_is_flagged_counted_and_passed(driver: TopologyDriver) -> None:
    driver.send("flights", flight(tailnum=None), flight())
    driver.end_of_input()
    warnings = [row for table in driver.tables("flights") for row in table["_warnings"].to_pylist()]
    assert warnings == [["has_tailnum"], None]


@pytest.mark.parametrize("keep_disk", [True, False], ids=["disk-kept", "disk-lost"])
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_anywhere_changes_nothing(point: str, keep_disk: bool) -> None:
    driver = TopologyDriver(topology, NOW, keep_disk=keep_disk)
    driver.send("flights", flight(delay=5), flight(TEN + HOUR))
    with driver.crash(at=point):
        driver.send(
            "flights", flight(delay=15), flight(delay=None), flight(TEN + 8 * HOUR), flight()
        )
        driver.end_of_input()
    driver.process()
    driver.end_of_input()

    hours = [
        (r["window_start"], r["flights"], r["max_delay"]) for r in driver.read("flights.hourly")
    ]
    assert hours == [(TEN, 2, 15), (TEN + HOUR, 1, 0), (TEN + 8 * HOUR, 1, 0)]
    assert sorted(hours) == sorted(
        (r["window_start"], r["flights"], r["max_delay"]) for r in driver.files("hourly")
    )
    assert len(driver.read("flights.dlq")) == 1
    assert len(driver.read("flights.late")) == 1
    assert len(driver.files("flights")) == 5
