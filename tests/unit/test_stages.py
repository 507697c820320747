"""Filters and maps: what is refused when a topology is built, and what bad rows get."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Rule, Topology, TopologyError, Tumbling, cast, parquet, source, topic
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Order(BaseModel, frozen=True):
    shop: str
    cents: int
    note: str | None
    at: AwareDatetime


class Small(BaseModel, frozen=True):
    shop: str
    cents: int


class Noted(BaseModel, frozen=True):
    shop: str
    note: str


class Renamed(BaseModel, frozen=True):
    place: str
    cents: float


class Parsed(BaseModel, frozen=True):
    shop: str
    number: int | None
    cents: int


class PerShop(BaseModel, frozen=True):
    shop: str
    window_start: AwareDatetime
    orders: int


orders = source(topic("orders"), Order, key="shop", event_time="at")


def nonsense(_rows: pa.RecordBatch) -> Any:
    return pa.array(["x", "y"])


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: orders.filter("cent > 1"), r"filter on 'orders': .*'cent'"),
    (lambda: orders.filter("cents + 1"), r"filter on 'orders': gives int64, not true or false"),
    (lambda: orders.filter("cents >"), r"(?s)filter on 'orders': cannot be read as SQL.*\^"),
    (lambda: orders.filter(nonsense), r"gives 2 values for zero rows"),
    (lambda: orders.filter(lambda r: r["x"]), r"cannot be computed on these fields.*KeyError"),
    (lambda: orders.map(Small, cent="cents"), r"map on 'orders': Small has no field 'cent'"),
    (lambda: orders.map(Renamed), r"Renamed.place is neither computed nor a field of the stream"),
    (lambda: orders.map(Small, cents=lambda r: pa.nulls(r.num_rows, pa.list_(pa.int8()))), "list"),
    (
        lambda: orders.map(Small, cents=cast("cents", loss="null")),
        r"'cents' cannot be null, but its cast makes null of what does not fit",
    ),
    (lambda: orders.map(Small, cents=cast("cents", loss="round")), r"not 'round'"),  # type: ignore[arg-type]
    (lambda: orders.map(Small, cents=lambda _: 1), r"gives a int, not a pa.Array"),
    (lambda: orders.map(Small).filter("note = 'x'"), r"'note'"),
    (lambda: orders.map(Small).to(parquet("t", partition_by="note")), r"Small has no field 'note'"),
    (
        lambda: orders.map(Renamed, place="shop").window(Tumbling(timedelta(1)), by="place"),
        r"does not contain the topic's key 'shop'",
    ),
    (
        lambda: orders.map(Small, shop="upper(shop)").window(Tumbling(timedelta(1)), by="shop"),
        r"does not contain the topic's key 'shop'",
    ),
    (
        lambda: (
            orders.gate(Rule("a", "cents > 0")).filter("cents > 1").gate(Rule("a", "cents > 2"))
        ),
        r"two rules are named 'a'",
    ),
    (
        lambda: orders.gate(Rule("known", "shop <> ''", default=("shop", "none"))),
        r"rule 'known' would mend 'shop', which the topic is keyed by",
    ),
]


@pytest.mark.parametrize(("build", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_it_is_refused_in_words(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        build()


def run(stream: Any, *rows: dict[str, Any]) -> TopologyDriver:
    driver = TopologyDriver(
        Topology("orders", stream.to(topic("out")), stream.rejected.to(topic("dlq"))), NOW
    )
    driver.send("orders", *rows)
    driver.end_of_input()
    return driver


def order(**changes: Any) -> dict[str, Any]:
    row = {"shop": "a", "cents": 5, "note": None, "at": "2026-01-01T00:00:00Z"}
    return row | changes


def test_a_filter_sends_records_on_as_they_came() -> None:
    driver = run(orders.filter("note IS NOT NULL"), order(), order(note="x"), order(note="y"))
    assert [row["note"] for row in driver.read("out")] == ["x", "y"]
    assert {"at", "cents"} <= set(driver.read("out")[0])
    assert driver.totals["dropped"] == 1
    assert driver.totals["rejected"] == 0


def test_a_filter_drops_what_is_unknown() -> None:
    driver = run(orders.filter("note <> 'x'"), order(), order(note="x"), order(note="y"))
    assert [row["note"] for row in driver.read("out")] == ["y"]


def test_a_row_that_a_filter_cannot_be_computed_on_is_a_dead_letter() -> None:
    driver = run(orders.filter("cents * 4 > 1"), order(), order(cents=2**62), order(cents=0))
    letter = driver.read("dlq")[0]
    assert (letter["offset"], letter["reason"]) == (1, "failed")
    headers = dict(driver.records("dlq")[0].headers)
    assert b"overflow" in (headers["__connect.errors.exception.message"] or b"")
    assert headers["streamflow.stage"] == b"filter cents * 4 > 1"
    assert (len(driver.read("out")), driver.totals["dropped"]) == (1, 1)


def test_a_map_selects_renames_and_casts() -> None:
    driver = run(orders.map(Renamed, place="shop"), order(shop="b", cents=7))
    assert driver.read("out") == [{"place": "b", "cents": 7.0}]
    record = driver.records("out")[0]
    assert record.key == b"b"
    assert "streamflow.lineage" in dict(record.headers)


def test_a_map_fills_by_a_function() -> None:
    filled = orders.map(Noted, note=lambda rows: pc.fill_null(rows["note"], "none"))
    driver = run(filled, order(), order(note="x"))
    assert [row["note"] for row in driver.read("out")] == ["none", "x"]


def test_a_null_where_the_model_allows_none_is_a_dead_letter() -> None:
    driver = run(orders.map(Noted), order(note="x"), order(), order(note="y"))
    letter = driver.read("dlq")[0]
    assert (letter["offset"], letter["reason"]) == (1, "failed")
    said = dict(driver.records("dlq")[0].headers)["__connect.errors.exception.message"]
    assert said == b"note is null, but Noted says that it cannot be"
    assert [row["note"] for row in driver.read("out")] == ["x", "y"]


def test_a_cast_that_would_lose_something_is_a_dead_letter() -> None:
    half = orders.map(Small, cents=lambda rows: pc.divide(pc.cast(rows["cents"], pa.float64()), 2))
    driver = run(half, order(cents=4), order(cents=5), order(cents=6))
    assert [row["cents"] for row in driver.read("out")] == [2, 3]
    assert [row["offset"] for row in driver.read("dlq")] == [1]


def test_a_function_that_gives_the_wrong_length_makes_dead_letters() -> None:
    def first(rows: pa.RecordBatch) -> pa.Array:
        return pc.unique(rows["cents"])

    driver = run(orders.map(Small, cents=first), order(cents=1), order(cents=1), order(cents=2))
    totals = driver.totals
    assert totals["in"] == totals["passed"] + totals["rejected"] == 3


def test_a_constant_fills_every_row() -> None:
    driver = run(orders.map(Noted, note="'all'"), order(), order())
    assert [row["note"] for row in driver.read("out")] == ["all", "all"]


def test_windows_and_tables_see_the_mapped_rows() -> None:
    mapped = orders.filter("cents > 1").map(Small)
    counts = mapped.window(Tumbling(timedelta(hours=1)), by="shop").aggregate(
        PerShop, orders=Count()
    )
    driver = TopologyDriver(
        Topology(
            "orders",
            mapped.to(parquet("small", partition_by="shop")),
            mapped.rejected.drop(),
            counts.to(topic("counts")),
            counts.late.drop(),
        ),
        NOW,
    )
    driver.send("orders", order(), order(cents=0), order(cents=9))
    driver.end_of_input()
    assert [row["orders"] for row in driver.read("counts")] == [2]
    assert driver.files("small") == [{"cents": 5}, {"cents": 9}]
    assert "_offset" in driver.tables("small")[0].column_names


def test_a_rule_that_drops_is_in_the_balance_and_moves_the_watermark() -> None:
    gated = orders.gate(Rule("paid", "cents > 0", action="drop"))
    counts = gated.window(Tumbling(timedelta(hours=1)), by="shop").aggregate(
        PerShop, orders=Count()
    )
    driver = TopologyDriver(
        Topology(
            "orders",
            counts.to(topic("counts")),
            counts.late.drop(),
            gated.rejected.to(topic("dlq")),
        ),
        NOW,
    )
    driver.send("orders", order(), order(cents=0, at="2026-01-01T05:00:00Z"), order())
    totals = driver.totals
    assert (totals["in"], totals["passed"], totals["dropped"]) == (3, 2, 1)
    assert totals["late"] == 1
    assert [row["orders"] for row in driver.read("counts")] == [1]


def parsed(loss: Any) -> Any:
    return orders.map(Parsed, number=cast("note", loss=loss), cents=cast("cents * 2"))


def test_a_cast_makes_null_of_what_does_not_fit_or_rejects_its_row() -> None:
    rows = [order(note=note) for note in ("1", "x", None, "2.5", "-7", str(2**63))]
    driver = run(parsed("null"), *rows, order(note="8", cents=2**62))
    assert [row["number"] for row in driver.read("out")] == [1, None, None, None, -7, None]
    assert [row["offset"] for row in driver.read("dlq")] == [6]  # its cents overflow

    driver = run(parsed("reject"), *rows)
    assert [row["number"] for row in driver.read("out")] == [1, None, -7]
    letters = [(row["offset"], row["reason"]) for row in driver.read("dlq")]
    assert letters == [(1, "failed"), (3, "failed"), (5, "failed")]


def test_what_a_cast_does_with_loss_is_part_of_the_version() -> None:
    versions = [
        Topology("t", one.drop(), one.rejected.drop()).version
        for one in (parsed("null"), parsed("reject"), parsed("null"))
    ]
    assert versions[0] == versions[2] != versions[1]


@given(
    st.lists(st.one_of(st.none(), st.integers(-9, 9).map(str), st.sampled_from("xy")), max_size=20),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
def test_a_cast_looks_at_each_row_alone(notes: list[str | None], batches: list[int]) -> None:
    stream = parsed("null")
    edges = [stream.to(topic("out")), stream.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("orders", *edges), NOW, batches=batches)
    driver.send("orders", *[order(note=note) for note in notes])
    expected = [None if note is None or note in "xy" else int(note) for note in notes]
    assert [row["number"] for row in driver.read("out")] == expected
