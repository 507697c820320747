"""A text that cannot name a folder leaves before it is committed; the rows around it do not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Max, Topology, TopologyError, Tumbling, day, parquet, source, topic
from streamflow.core.folder_name import DEFAULT_PARTITION
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Order(BaseModel, frozen=True):
    shop: str
    place: str | None
    at: AwareDatetime


class PerShop(BaseModel, frozen=True):
    shop: str
    window_start: AwareDatetime
    orders: int


class Last(BaseModel, frozen=True):
    shop: str
    window_start: AwareDatetime
    place: str | None


orders = source(topic("orders"), Order, key="shop", event_time="at")
windows = orders.window(Tumbling(timedelta(hours=1)), by="shop", grace=timedelta(0))
per_shop = windows.aggregate(PerShop, orders=Count())


def topology(**by: Any) -> Topology:
    """The tables named in `by`, partitioned as it says."""
    sides = [orders.rejected.to(topic("orders.dlq")), per_shop.late.drop()]
    return Topology(
        "orders",
        orders.to(parquet("orders", partition_by=by.get("orders", ()))),
        per_shop.to(parquet("per-shop", partition_by=by.get("results", ()))),
        *sides,
    )


def order(shop: str, place: str | None = "x") -> dict[str, Any]:
    return {"shop": shop, "place": place, "at": "2026-01-01T00:00:00Z"}


def run(topology: Topology, *rows: dict[str, Any]) -> TopologyDriver:
    driver = TopologyDriver(topology, NOW)
    driver.send("orders", *rows)
    driver.end_of_input()
    return driver


@pytest.mark.parametrize("by", [{"orders": ("shop",)}, {"results": ("shop", day("window_start"))}])
@pytest.mark.parametrize("bad", ["", DEFAULT_PARTITION, "s" * 251, "é" * 200])
def test_the_record_is_a_dead_letter(by: dict[str, Any], bad: str) -> None:
    driver = run(topology(**by), order("a"), order(bad), order("s" * 250), order("7/8"))
    letters = driver.read("orders.dlq")
    assert [(row["offset"], row["reason"], row["field"]) for row in letters] == [
        (1, "unstorable", "shop")
    ]
    assert driver.totals["in"] == 4 == driver.totals["passed"] + driver.totals["rejected"]
    assert len(driver.files("orders")) == 3 == len(driver.files("per-shop"))


def test_null_has_a_folder() -> None:
    driver = run(topology(orders=("place",)), order("a", None), order("b", ""), order("c"))
    assert [row["field"] for row in driver.read("orders.dlq")] == ["place"]
    assert len(driver.files("orders")) == 2


def test_any_text_will_do_for_a_table_without_folders() -> None:
    driver = run(topology(), order(""), order("s" * 1000))
    assert driver.totals["rejected"] == 0
    assert sorted(row["shop"] for row in driver.files("orders")) == ["", "s" * 1000]


def test_the_words_of_a_long_value_are_short() -> None:
    driver = run(topology(orders=("shop",)), order("s" * 5000))
    headers = dict(driver.records("orders.dlq")[0].headers)
    said = headers["__connect.errors.exception.message"] or b""
    assert len(said) < 200
    assert b"longer than 255 bytes" in said


def test_text_that_an_aggregate_makes_names_no_folder() -> None:
    last = windows.aggregate(Last, place=Max("place"))
    with pytest.raises(TopologyError, match=r"'place' is text that an aggregate makes.*\['shop'\]"):
        Topology(
            "orders",
            last.to(parquet("last", partition_by="place")),
            last.late.drop(),
            orders.rejected.drop(),
        )
