"""Rows made of rows: lists and functions that expand, Python functions, and what is refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import (
    Collect,
    Count,
    Rule,
    Topology,
    TopologyError,
    Tumbling,
    parquet,
    source,
    topic,
)
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Order(BaseModel, frozen=True):
    shop: str
    items: list[str | None] | None
    at: AwareDatetime


class Line(BaseModel):
    shop: str
    items: str


class Numbered(BaseModel):
    shop: str
    number: int = Field(ge=0)


class PerShop(BaseModel):
    shop: str
    window_start: AwareDatetime
    lines: int
    all: list[str]


orders = source(topic("orders"), Order, key="shop", event_time="at")
lines = orders.expand(Line, "items")


def order(*items: str | None, minutes: float = 0) -> dict[str, Any]:
    return {"shop": "a", "items": list(items), "at": NOW + minutes * MINUTE}


def driver_of(stream: Any, *edges: Any) -> TopologyDriver:
    out = [stream.to(topic("out")), stream.to(parquet("out")), stream.rejected.to(topic("dlq"))]
    return TopologyDriver(Topology("orders", *out, *edges), NOW)


def test_a_row_for_each_element_of_a_list_and_none_of_an_empty_one() -> None:
    driver = driver_of(lines)
    nothing = {"shop": "a", "items": None, "at": NOW}
    driver.send("orders", order("x", "y", "z"), order(), nothing, order("w"))
    driver.end_of_input()
    made = [{"shop": "a", "items": item} for item in "xyzw"]
    assert driver.read("out") == made
    (table,) = driver.tables("out")
    places = [(row["_offset"], row["_index"]) for row in table.to_pylist()]
    assert places == [(0, 0), (0, 1), (0, 2), (3, 0)]
    totals = driver.totals
    assert (totals["in"], totals["expanded"]) == (4, 2)
    assert (totals["passed"], totals["dropped"]) == (4, 2)
    (task,) = driver._tasks.values()
    assert task.state.rules == {"expand Line": 2, "expand Line:rows": 4}


def test_a_record_that_fails_in_one_of_its_rows_is_a_dead_letter_as_a_whole() -> None:
    driver = driver_of(lines)
    driver.send("orders", order("x"), order("y", None), order("z"))
    assert [row["items"] for row in driver.read("out")] == ["x", "z"]
    (letter,) = driver.read("dlq")
    assert (letter["offset"], letter["reason"]) == (1, "failed")
    message = dict(driver.records("dlq")[0].headers)["__connect.errors.exception.message"]
    assert b"items is null, but Line says that it cannot be" in (message or b"")


def test_rows_of_a_record_are_numbered_anew_by_each_expansion() -> None:
    def twice(rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
        parents = pa.array([row for row in range(rows.num_rows) for _ in range(2)], pa.int64())
        return parents, pa.RecordBatch.from_arrays([], schema=pa.schema([])).slice(0, 0)

    with pytest.raises(TopologyError, match=r"Numbered\.number is neither made nor a field"):
        lines.expand(Numbered, twice)

    def doubled(rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
        parents = pa.array([row for row in range(rows.num_rows) for _ in range(2)], pa.int64())
        items = rows["items"].take(parents)
        return parents, pa.RecordBatch.from_arrays([items], names=["items"])

    driver = driver_of(lines.filter("items <> 'x'").expand(Line, doubled))
    driver.send("orders", order("x", "y", "z"), order("w"))
    driver.end_of_input()
    (table,) = driver.tables("out")
    places = [(row["_offset"], row["_index"], row["items"]) for row in table.to_pylist()]
    assert places == [(0, 0, "y"), (0, 1, "y"), (0, 2, "z"), (0, 3, "z"), (1, 0, "w"), (1, 1, "w")]


def test_windows_take_the_rows_of_a_record_in_their_order_and_by_its_time() -> None:
    results = lines.window(Tumbling(MINUTE), by="shop").aggregate(
        PerShop, lines=Count(), all=Collect("items")
    )
    driver = driver_of(lines, results.to(topic("per")), results.late.to(topic("late")))
    driver.send("orders", order("b", "a"), order("c"), order("d", minutes=2), order("e", "f"))
    assert [(row["lines"], row["all"]) for row in driver.read("per")] == [(3, ["b", "a", "c"])]
    assert [row["items"] for row in driver.read("late")] == [["e", "f"], ["e", "f"]]


def test_each_row_is_judged_by_the_watermark_before_its_record() -> None:
    results = lines.window(Tumbling(MINUTE), by="shop").aggregate(
        PerShop, lines=Count(), all=Collect("items")
    )
    driver = driver_of(lines, results.to(topic("per")), results.late.to(topic("late")))
    driver.send("orders", order(minutes=5), order("a", "b"))  # as many rows as records
    assert [row["items"] for row in driver.read("late")] == [["a", "b"], ["a", "b"]]


def test_rows_that_are_rejected_after_an_expansion_leave_their_record_its_watermark() -> None:
    known = lines.gate(Rule("known", "items <> 'x'"))
    results = known.window(Tumbling(MINUTE), by="shop").aggregate(
        PerShop, lines=Count(), all=Collect("items")
    )
    driver = driver_of(known, results.to(topic("per")), results.late.to(topic("late")))
    driver.send("orders", order("a"), order("x", "x", minutes=2))
    assert [row["all"] for row in driver.read("per")] == [["a"]]
    assert [row["offset"] for row in driver.read("dlq")] == [1, 1]


def number(row: dict[str, Any]) -> Numbered | dict[str, Any]:
    size = len(row["items"])
    return {"shop": row["shop"], "number": 3 // size} if size < 3 else Numbered(shop="b", number=1)


def test_a_python_function_makes_rows_and_what_it_fails_on_is_a_dead_letter() -> None:
    driver = driver_of(orders.map_rows(Numbered, number))
    driver.send("orders", order("x"), order(), order("x", "y"), order("x", "y", "z"))
    assert driver.read("out") == [{"shop": "a", "number": 3}, {"shop": "a", "number": 1}]
    assert [row["offset"] for row in driver.read("dlq")] == [1, 3]
    words = [
        dict(record.headers)["__connect.errors.exception.message"]
        for record in driver.records("dlq")
    ]
    assert b"ZeroDivisionError" in (words[0] or b"")
    assert b"changes 'shop', which the topic is keyed by" in (words[1] or b"")


def test_what_a_python_function_makes_is_held_against_the_model() -> None:
    driver = driver_of(orders.map_rows(Numbered, lambda row: {"shop": row["shop"], "number": -1}))
    driver.send("orders", order())
    (letter,) = driver.read("dlq")
    assert (letter["offset"], letter["reason"]) == (0, "failed")


def gives(parents: Any, made: Any) -> Callable[[pa.RecordBatch], Any]:
    return lambda rows: (parents(rows), made) if rows.num_rows else (pa.array([], pa.int64()), NONE)


NONE = pa.RecordBatch.from_arrays([pa.array([], pa.string())], names=["items"])
ONE = pa.RecordBatch.from_arrays([pa.array(["x"])], names=["items"])
TWO = pa.RecordBatch.from_arrays([pa.array(["x", "y"])], names=["items"])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (gives(lambda _: pa.array([0]), TWO), "gives 1 parent for 2 rows"),
        (gives(lambda _: pa.array([1]), ONE), "do not rise from 0 to below 1"),
        (gives(lambda _: pa.array([-1]), ONE), "do not rise from 0 to below 1"),
        (gives(lambda _: pa.array([0.0]), ONE), "no pa.Array of integers"),
        (gives(lambda _: pa.array([None], pa.int64()), ONE), "gives 1 parent"),
        (gives(lambda _: pa.array([0]), "x"), "does not give"),
    ],
)
def test_a_function_that_gives_nonsense_is_a_dead_letter(function: Any, words: str) -> None:
    driver = driver_of(orders.expand(Line, function))
    driver.send("orders", order("x"))
    message = dict(driver.records("dlq")[0].headers)["__connect.errors.exception.message"]
    assert words in (message or b"").decode()


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: orders.expand(Line, "item"), "expand: Order has no field 'item'"),
    (lambda: orders.expand(Line, "shop"), "expand on 'orders': 'shop' is string, not a list"),
    (lambda: orders.expand(Numbered, "items"), "Numbered has no field 'items'"),
    (lambda: orders.expand(Line, lambda rows: rows), "does not give"),
    (lambda: orders.expand(Line, lambda rows: (pa.array([0]), ONE)), "do not rise|below 0"),
    (lambda: orders.map_rows(Numbered, "shop"), "'shop' is no function"),  # type: ignore[arg-type]
    (
        lambda: orders.expand(Line, lambda rows: (pa.array([], pa.int64()), pc_items(rows))),
        "Line.items is string, but is made of list",
    ),
]


def pc_items(rows: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pc.take(rows["items"], pa.array([], pa.int64()))], ["items"])


@pytest.mark.parametrize(("build", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_it_is_refused_in_words(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        build()


def test_a_lack_of_memory_is_not_the_row_s_fault() -> None:
    def full(_row: dict[str, Any]) -> Any:
        raise MemoryError

    driver = driver_of(orders.map_rows(Numbered, full))
    with pytest.raises(MemoryError):
        driver.send("orders", order("x"))


def test_arms_that_lead_into_one_topic_have_the_rows_of_a_record_in_their_order() -> None:
    early, rest = lines.branch("items < 'm'")
    edges = [early.to(topic("out")), rest.to(topic("out")), lines.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("orders", *edges), NOW)
    driver.send("orders", order("z", "a", "y", "b"), order("x", "c"))
    assert [row["items"] for row in driver.read("out")] == ["z", "a", "y", "b", "x", "c"]


class Panic(BaseException):
    """What a library in Rust raises."""


def test_what_is_no_exception_is_a_dead_letter_of_its_row() -> None:
    def odd(row: dict[str, Any]) -> dict[str, Any]:
        if row["items"] == ["bad"]:
            raise Panic("in a library")
        return {"shop": row["shop"], "number": 1}

    driver = driver_of(orders.map_rows(Numbered, odd))
    driver.send("orders", order("good"), order("bad"), order("good"))
    assert len(driver.read("out")) == 2
    assert [letter["reason"] for letter in driver.read("dlq")] == ["failed"]
