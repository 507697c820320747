"""Windows beside each other, of which one has nothing to give; and what a version gives another."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel, Field, create_model

from streamflow import (
    Calendar,
    Count,
    Max,
    Mean,
    Rule,
    Sum,
    Topology,
    Tumbling,
    day,
    parquet,
    source,
    topic,
)
from streamflow.edge import Edge
from streamflow.errors import StateRefused
from streamflow.testing import TopologyDriver

NOW = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Reading(BaseModel):
    key: str
    value: int
    at: AwareDatetime


class PerMinute(BaseModel):
    key: str
    window_start: AwareDatetime
    n: int


class Positive(PerMinute):
    pass


def driver_of(*, both: bool, idle_after: timedelta | None = None) -> TopologyDriver:
    """A window of all readings, and with `both` one of those above zero: there are none."""
    readings = source(topic("readings"), Reading, key="key", event_time="at", idle_after=idle_after)
    all_of_them = readings.window(Tumbling(MINUTE), by="key").aggregate(PerMinute, n=Count())
    table = parquet("all", partition_by=day("window_start"))
    edges: list[Edge] = [
        readings.rejected.drop(),
        all_of_them.to(topic("all")),
        all_of_them.to(table),
        all_of_them.late.drop(),
    ]
    if both:
        above = readings.gate(Rule("above", "value > 0"))
        positive = above.window(Tumbling(MINUTE), by="key").aggregate(Positive, n=Count())
        edges += [positive.to(topic("positive")), positive.late.drop()]
    return TopologyDriver(Topology("readings", *edges), NOW)


def reading(**after: float) -> dict[str, Any]:
    return {"key": "a", "value": 0, "at": NOW + timedelta(**after)}


@pytest.mark.parametrize("both", [False, True])
def test_a_window_that_has_no_rows_keeps_none_beside_it_open_where_a_partition_is_idle(
    both: bool,
) -> None:
    driver = driver_of(both=both, idle_after=5 * MINUTE)
    driver.send("readings", reading(), reading(seconds=10))
    for _ in range(10):
        driver.advance(MINUTE)
    assert [row["n"] for row in driver.read("all")] == [2]


@pytest.mark.parametrize("both", [False, True])
def test_a_table_of_results_is_complete_by_the_watermark_of_its_own_window(both: bool) -> None:
    driver = driver_of(both=both)
    for days in range(4):
        driver.send("readings", reading(days=days))
        driver.advance(timedelta(hours=1))
    marks = [name for name in driver._tables.files["all"].names() if name.endswith("_SUCCESS")]
    assert marks == [f"date=2024-05-0{number}/_SUCCESS" for number in (1, 2, 3)]


def grouped(nullable: bool) -> Topology:
    """Windows by a key and a group that can be null, or cannot."""
    kind: Any = (int | None) if nullable else int
    record = create_model("R", key=(str, ...), group=(kind, ...), at=(AwareDatetime, ...))
    result = create_model(
        "O", key=(str, ...), group=(kind, ...), window_start=(AwareDatetime, ...), n=(int, ...)
    )
    rows = source(topic("rows"), record, key="key", event_time="at")
    made = rows.window(Tumbling(MINUTE), by=("key", "group")).aggregate(result, n=Count())
    return Topology("x", rows.rejected.drop(), made.to(topic("out")), made.late.drop())


def test_a_group_that_a_version_before_had_null_does_not_come_out_where_none_may_be() -> None:
    driver = TopologyDriver(grouped(nullable=True), NOW)
    driver.send("rows", {"key": "a", "group": None, "at": NOW})
    driver.deploy(grouped(nullable=False))
    with pytest.raises(StateRefused, match="has null in group, whose model has none there"):
        driver.send("rows", {"key": "a", "group": 1, "at": NOW + 5 * MINUTE})
    assert driver.read("out") == []
    driver.deploy(grouped(nullable=True))
    driver.end_of_input()
    assert [row["group"] for row in driver.read("out")] == [None, 1]


class Price(BaseModel):
    key: str
    paid: Decimal = Field(decimal_places=2)
    at: AwareDatetime


class Paid(BaseModel):
    key: str
    window_start: AwareDatetime
    mean: float
    total: float
    most: float


CENTS = [1, 30, 1999, 123456, 99999999, 45035996273704961]


@pytest.mark.parametrize("cents", CENTS)
def test_a_decimal_becomes_the_float_next_to_it(cents: int) -> None:
    prices = source(topic("prices"), Price, key="key", event_time="at")
    paid = prices.window(Tumbling(MINUTE), by="key").aggregate(
        Paid, mean=Mean("paid"), total=Sum("paid"), most=Max("paid")
    )
    edges = [prices.rejected.drop(), paid.to(topic("out")), paid.late.drop()]
    driver = TopologyDriver(Topology("prices", *edges), NOW)
    price = Decimal(cents).scaleb(-2)
    driver.send("prices", {"key": "a", "paid": str(price), "at": NOW})
    driver.end_of_input()
    (row,) = driver.read("out")
    assert {row["mean"], row["total"], row["most"]} == {float(price)}


def test_a_day_begins_when_the_clocks_change_where_they_pass_over_midnight() -> None:
    readings = source(topic("readings"), Reading, key="key", event_time="at")
    days = readings.window(Calendar("day", "America/Toronto"), by="key")
    counted = days.aggregate(PerMinute, n=Count())
    edges = [readings.rejected.drop(), counted.to(topic("out")), counted.late.drop()]
    driver = TopologyDriver(Topology("readings", *edges), NOW)
    # On 1919-03-30 the clocks went from 23:30 to 00:30, which was 04:30 in UTC.
    change = datetime(1919, 3, 31, 4, 30, tzinfo=UTC)
    times = [change - timedelta(microseconds=1), change, change + timedelta(hours=10)]
    driver.send("readings", *({"key": "a", "value": 1, "at": at} for at in times))
    driver.end_of_input()
    assert [(row["window_start"], row["n"]) for row in driver.read("out")] == [
        (datetime(1919, 3, 30, 5, 0, tzinfo=UTC), 1),
        (change, 2),
    ]
