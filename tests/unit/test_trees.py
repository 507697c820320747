"""Streams that fork and branch: what each way gets, and what is refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Count,
    Rule,
    Threshold,
    Topology,
    TopologyError,
    Tumbling,
    parquet,
    source,
    topic,
)
from streamflow.engine.status import conservation
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Order(BaseModel, frozen=True):
    shop: str
    cents: int
    note: str | None
    at: AwareDatetime


class Small(BaseModel, frozen=True):
    shop: str
    cents: int


class PerShop(BaseModel):
    shop: str
    window_start: AwareDatetime
    orders: int


class PerNoted(PerShop):
    pass


orders = source(topic("orders"), Order, key="shop", event_time="at")
clean = orders.gate(Rule("positive", "cents > 0"))


def order(cents: int, note: str | None = None, minutes: float = 0) -> dict[str, Any]:
    return {"shop": "a", "cents": cents, "note": note, "at": NOW + minutes * MINUTE}


def run(*edges: Any) -> TopologyDriver:
    return TopologyDriver(Topology("orders", *edges), NOW)


def cents(driver: TopologyDriver, name: str) -> list[int]:
    return [row["cents"] for row in driver.read(name)]


def test_edges_start_anywhere() -> None:
    driver = run(
        orders.to(topic("raw")),
        clean.filter("cents > 10").to(topic("large")),
        clean.filter("note = 'x'").map(Small).to(parquet("small")),
        clean.rejected.to(topic("dlq")),
    )
    driver.send("orders", order(0), order(5, "x"), order(50), order(60, "x"))
    driver.end_of_input()
    assert cents(driver, "raw") == [0, 5, 50, 60]
    assert cents(driver, "large") == [50, 60]
    assert [row["cents"] for row in driver.files("small")] == [5, 60]
    assert [row["offset"] for row in driver.read("dlq")] == [0]
    totals = driver.totals
    assert (totals["in"], totals["forked"], totals["passed"]) == (4, 7, 8)
    assert (totals["rejected"], totals["dropped"]) == (1, 2)
    balance = "4 in + 7 forked = 8 passed + 1 rejected + 2 dropped"
    assert conservation(totals) == [balance]


def test_the_first_condition_that_is_true_takes_a_record() -> None:
    large, noted, rest = clean.branch("cents > 10", "note <> 'x'")
    driver = run(
        large.to(topic("large")),
        noted.drop(),
        rest.to(topic("rest")),
        clean.rejected.to(topic("dlq")),
    )
    sent = [order(11, "y"), order(5, "y"), order(6), order(7, "x"), order(0, "y")]
    driver.send("orders", *sent)
    assert cents(driver, "large") == [11]
    assert cents(driver, "rest") == [6, 7]
    (task,) = driver._tasks.values()
    counts = {"branch cents > 10": 1, "branch note <> 'x'": 1, "branch rest": 2, "positive": 1}
    assert task.state.rules == counts
    assert (driver.totals["passed"], driver.totals["forked"]) == (4, 0)


def test_a_condition_is_looked_at_only_where_those_before_were_not_true() -> None:
    known, overflowing, rest = orders.branch("note = 'x'", "cents * 4 > 100")
    edges = [stream.to(topic(f"t{i}")) for i, stream in enumerate([known, overflowing, rest])]
    driver = run(*edges, rest.rejected.to(topic("dlq")))
    driver.send("orders", order(2**62, "x"), order(2**62), order(26), order(1))
    assert [cents(driver, f"t{i}") for i in range(3)] == [[2**62], [26], [1]]
    (letter,) = driver.read("dlq")
    assert (letter["offset"], letter["reason"]) == (1, "failed")
    assert dict(driver.records("dlq")[0].headers)["streamflow.stage"] == b"branch"


def test_a_record_can_be_rejected_on_one_way_and_go_on_another() -> None:
    strict = clean.gate(Rule("noted", "note IS NOT NULL"))
    driver = run(
        strict.to(topic("strict")), clean.to(topic("all")), orders.rejected.to(topic("dlq"))
    )
    driver.send("orders", order(0), order(1), order(2, "x"))
    assert (cents(driver, "strict"), cents(driver, "all")) == ([2], [1, 2])
    assert [(r["offset"], r["rule"]) for r in driver.read("dlq")] == [(0, "positive"), (1, "noted")]


def test_a_window_has_the_watermark_of_the_records_on_the_way_to_it() -> None:
    noted = clean.gate(Rule("noted", "note IS NOT NULL"))
    one = clean.window(Tumbling(MINUTE), by="shop").aggregate(PerShop, orders=Count())
    two = noted.window(Tumbling(MINUTE), by="shop").aggregate(PerNoted, orders=Count())
    driver = run(
        one.to(topic("all")),
        one.late.to(topic("all-late")),
        two.to(topic("noted")),
        two.late.to(topic("noted-late")),
        clean.rejected.drop(),
    )
    driver.send("orders", order(1, "x"), order(2, None, 5), order(3, "x"))
    assert (len(driver.read("all")), cents(driver, "all-late")) == (1, [3])
    assert (driver.read("noted"), driver.read("noted-late")) == ([], [])
    driver.send("orders", order(0, "x", 9), order(4, "x", 2))  # the first is rejected everywhere
    assert [row["orders"] for row in driver.read("noted")] == [2]
    assert len(driver.read("all")) == 1


def test_deduplications_side_by_side_remember_apart() -> None:
    one = clean.dedup("shop", within=MINUTE, name="one")
    two = clean.filter("cents > 1").dedup("shop", within=MINUTE, name="two")
    driver = run(one.to(topic("one")), two.to(topic("two")), clean.rejected.drop())
    driver.send("orders", order(1), order(2), order(3))
    assert (cents(driver, "one"), cents(driver, "two")) == ([1], [2])


def both(*streams: Any) -> Topology:
    edges = [stream.to(topic(f"t{i}")) for i, stream in enumerate(streams)]
    return Topology("orders", *edges, orders.rejected.drop())


def arms(*edges: Callable[[Any], Any]) -> Topology:
    made = clean.branch("cents > 10", "note = 'x'")
    return Topology(
        "orders",
        *(edge(arm) for edge, arm in zip(edges, made, strict=False)),
        clean.rejected.drop(),
    )


ANY = Threshold(max_count=1, last=5)
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: arms(lambda arm: arm.to(topic("a")), lambda arm: arm.drop()),
        "topology 'orders': the stream 'branch rest' leads nowhere; add .*drop",
    ),
    (clean.branch, "give it a condition for each arm but the last"),
    (lambda: clean.branch("cents > 1", "cents > 1"), "'cents > 1' is there twice"),
    (lambda: clean.branch("cents + 1"), "branch on 'orders': gives int64, not true or false"),
    (lambda: clean.branch("cent > 1"), "branch on 'orders': there is no field 'cent'"),
    (
        lambda: both(clean.dedup("shop", within=MINUTE), orders.dedup("shop", within=MINUTE)),
        "two deduplications are named 'dedup shop', on streams side by side",
    ),
    (
        lambda: both(clean, orders.gate(Rule("positive", "cents >= 0"))),
        "two rules are named 'positive', on streams side by side",
    ),
    (
        lambda: both(
            clean.gate(Rule("a", "cents > 1"), threshold=ANY),
            clean.gate(Rule("b", "cents > 1"), threshold=ANY),
        ),
        "two thresholds are named 'gate', on streams side by side",
    ),
    (
        lambda: Topology("orders", orders.to(topic("x")), clean.rejected.drop()),
        "the rejected side of 'orders' is that of a stream which goes nowhere",
    ),
    (
        lambda: Topology(
            "orders", clean.to(topic("x")), clean.rejected.drop(), orders.rejected.drop()
        ),
        "the rejected side of 'orders' goes two ways",
    ),
    (
        lambda: Topology("orders", orders.drop(), clean.to(topic("x")), clean.rejected.drop()),
        "the passed records of 'orders' are sent on and dropped",
    ),
    (
        lambda: Topology(
            "orders",
            clean.filter("cents > 1").to(topic("x")),
            clean.filter("cents > 2").to(topic("x")),
            clean.rejected.drop(),
        ),
        "the records of 'orders' go to 'x' twice",
    ),
]


@pytest.mark.parametrize(("build", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_it_is_refused_in_words(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        build()


def test_one_rule_can_be_in_several_gates() -> None:
    noted = Rule("noted", "note IS NOT NULL")
    topology = both(clean.gate(noted), orders.gate(noted))
    driver = TopologyDriver(topology, NOW)
    driver.send("orders", order(0), order(1))
    (task,) = driver._tasks.values()
    assert task.state.rules == {"noted": 3, "positive": 1}


def test_where_an_edge_starts_is_part_of_the_version() -> None:
    def version(*streams: Any) -> str:
        return both(*streams).version

    assert version(clean, orders) == version(clean, orders)
    assert version(clean, orders) != version(clean, clean.filter("cents > 1"))
    assert version(clean, orders) != version(orders, clean)
