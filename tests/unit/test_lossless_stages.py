"""Stages make dead letters of what their models cannot hold, or a function should not have made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    create_model,
    field_validator,
)

from streamflow import Rule, Topology, TopologyError, cast, parquet, source, topic
from streamflow.batch import Record
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Cents = Annotated[Decimal, Field(decimal_places=2)]


class Address(BaseModel):
    street: str | None = None
    city: str | None = None


class Came(BaseModel):
    k: str
    at: AwareDatetime
    n: int = 0
    f: float | None = None
    s: str | None = None
    rest: bool | None = None
    addr: Address | None = None
    addrs: list[Address] = []
    ints: list[int | None] = []
    tags: dict[str, int] | None = None


came = source(topic("in"), Came, key="k", event_time="at")


def made(kind: Any, **config: Any) -> Any:
    """A model with the key and one field."""
    return create_model("Made", k=(str, ...), x=(kind, ...), **config)


def row(**changes: Any) -> dict[str, Any]:
    return {"k": "a", "at": "2026-01-01T12:30:15Z"} | changes


def run(stream: Any, *rows: dict[str, Any]) -> TopologyDriver:
    edges = [stream.to(topic("out")), stream.to(parquet("t")), stream.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("t", *edges), NOW)
    driver.send("in", *rows)
    driver.end_of_input()
    return driver


def values(driver: TopologyDriver, name: str = "x") -> list[Any]:
    assert sum(len(table) for table in driver.tables("t")) == len(driver.read("out"))
    return [one[name] for one in driver.read("out")]


def letters(driver: TopologyDriver) -> list[tuple[int, str]]:
    words = [
        dict(one.headers)["__connect.errors.exception.message"] for one in driver.records("dlq")
    ]
    found = [one["offset"] for one in driver.read("dlq")]
    return [(at, (one or b"").decode()) for at, one in zip(found, words, strict=True)]


def test_a_map_rounds_nothing() -> None:
    driver = run(came.map(made(Cents | None), x="f"), row(f=0.5), row(f=1.239), row(f=4.35))
    assert values(driver) == ["0.50", "4.35"]
    words = "ValueError: x: 1.239 is no decimal128(38, 2) without loss: round it first"
    assert letters(driver) == [(1, words)]

    driver = run(came.map(made(Cents | None), x=cast("f", loss="null")), row(f=0.5), row(f=1.239))
    assert values(driver) == ["0.50", None]
    driver = run(came.map(made(bool), x="n"), row(n=1), row(n=5))
    assert (values(driver), [at for at, _ in letters(driver)]) == ([True], [1])
    driver = run(came.map(made(date), x="at"), row(at="2026-01-01T00:00:00Z"), row())
    assert (values(driver), [at for at, _ in letters(driver)]) == (["2026-01-01"], [1])
    driver = run(came.map(made(float), x="n"), row(n=2**60), row(n=2**60 + 1))
    assert (values(driver), [at for at, _ in letters(driver)]) == ([2.0**60], [1])


def test_an_expansion_rounds_nothing() -> None:
    def priced(rows: pa.RecordBatch) -> Any:
        return pa.array(range(len(rows)), pa.int64()), pa.record_batch({"x": rows["f"]})

    driver = run(came.expand(made(Cents), priced), row(f=0.5), row(f=1.239))
    assert (values(driver), [at for at, _ in letters(driver)]) == (["0.50"], [1])


def test_a_fix_rounds_nothing() -> None:
    fix = Rule("r", "f > 0", fix=("f", lambda rows: pa.repeat(2**60 + 1, len(rows))))
    driver = run(came.gate(fix), row(f=1.0), row(f=-1.0))
    assert values(driver, "f") == [1.0]
    assert "f: 1152921504606846977 is no double without loss" in letters(driver)[0][1]


def test_a_loss_that_makes_null_does_so_for_all_that_the_field_cannot_hold() -> None:
    days = ("2024-02-30", "0000-01-01", "2024-02-29")
    driver = run(
        came.map(made(date | None), x=cast("s", loss="null")), *[row(s=day) for day in days]
    )
    assert (values(driver), letters(driver)) == ([None, None, "2024-02-29"], [])
    driver = run(came.map(made(AwareDatetime | None), x=cast("n", loss="null")), row(n=10**18))
    assert (values(driver), letters(driver)) == ([None], [])
    lists = cast(lambda rows: rows["ints"], loss="null")
    driver = run(came.map(made(list[int] | None), x=lists), row(ints=[1]), row(ints=[1, None]))
    assert (values(driver), letters(driver)) == ([[1], None], [])


class Zip(BaseModel):
    zip: int


class OldAddress(BaseModel):
    zip: str


class Old(BaseModel):
    k: str
    at: AwareDatetime
    addr: OldAddress | None = None


class New(BaseModel):
    k: str
    addr: Zip | None


def test_a_cast_inside_of_a_struct_leaves_null_structs_alone() -> None:
    old = source(topic("in"), Old, key="k", event_time="at")
    driver = run(old.map(New), row(addr={"zip": "7"}), row(addr=None), row(addr={"zip": "x"}))
    assert (values(driver, "addr"), [at for at, _ in letters(driver)]) == ([{"zip": 7}, None], [2])


def test_a_struct_that_a_function_made_null_goes_on_and_into_tables() -> None:
    class City(BaseModel):
        city: str

    def hidden(rows: pa.RecordBatch) -> pa.Array:
        none = pa.scalar(None, rows["addr"].type)
        return pc.if_else(pc.greater(rows["n"], 0), rows["addr"], none)

    stream = came.map(made(City | None), x=hidden)
    driver = run(stream, row(n=1, addr={"city": "B"}), row(n=0, addr={"city": "B"}), row(n=1))
    assert (values(driver), letters(driver)) == ([{"city": "B"}, None, None], [])
    driver = run(stream, row(n=1, addr={"street": "s"}))
    assert letters(driver) == [(0, "ValueError: x.city is null, and cannot be")]


class Town(BaseModel):
    town: str | None = None


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: came.map(made(Town | None), x="addr"), r"Made\.x\.town is not in what it is made of"),
    (lambda: came.map(made(list[Town]), x="addrs"), r"Made\.x\.town is not in what it is made of"),
    (
        lambda: came.expand(create_model("Made", k=(str, ...), addrs=(Town, ...)), "addrs"),
        r"expand on 'in': Made\.addrs\.town is not in what it is made of",
    ),
]


@pytest.mark.parametrize(("build", "words"), REFUSED)
def test_a_field_that_no_struct_has_is_refused(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        build()


def test_fields_of_a_struct_are_selected_by_name() -> None:
    city = create_model("City", city=(str | None, ...))
    driver = run(came.map(made(city | None), x="addr"), row(addr={"street": "s", "city": "c"}))
    assert values(driver) == [{"city": "c"}]


def _stars(rows: pa.RecordBatch) -> pa.Array:
    return pc.binary_replace_slice(rows["s"], start=1, stop=100, replacement="***")


def test_text_that_a_function_cut_within_a_letter_is_a_dead_letter() -> None:
    names = [row(s=name) for name in ("Anna", "Émile", "Bob")]
    fixed = came.gate(Rule("r", "f > 0", fix=("s", _stars)))
    exploded = came.expand(
        made(str),
        lambda rows: (pa.array(range(len(rows)), pa.int64()), pa.record_batch({"x": _stars(rows)})),
    )
    for stream, name in (
        (came.map(made(str), x=_stars), "x"),
        (came.map(made(str | None), x=cast(_stars, loss="null")), "x"),
        (exploded, "x"),
        (fixed, "s"),
    ):
        driver = run(stream, *[one | {"f": -1.0} for one in names])
        assert [at for at, _ in letters(driver)] == ([0, 1, 2] if name == "s" else [1])
        assert "UTF8" in letters(driver)[1 if name == "s" else 0][1]


def test_a_map_that_has_a_key_twice_is_a_dead_letter() -> None:
    def tags(rows: pa.RecordBatch) -> pa.Array:
        made = [[("x", 1), ("x", 2)] if n == 7 else [("x", n)] for n in rows["n"].to_pylist()]
        return pa.array(made, pa.map_(pa.string(), pa.int64()))

    driver = run(came.map(made(dict[str, int]), x=tags), row(n=1), row(n=7), row(n=2))
    assert values(driver) == [{"x": 1}, {"x": 2}]
    assert letters(driver) == [(1, "ValueError: x has the key 'x' twice")]


def test_null_lists_over_values_go_on_as_null() -> None:
    def pairs(rows: pa.RecordBatch) -> pa.Array:
        pair = [None if n == 7 else [float(n), 2.0] for n in rows["n"].to_pylist()]
        return pa.array(pair, pa.list_(pa.float64(), 2))

    stream = came.map(made(list[float] | None), x=pairs)
    driver = run(stream, row(n=1), row(n=7), row(n=2))
    assert values(driver) == [[1.0, 2.0], None, [2.0, 2.0]]
    driver = run(stream.expand(made(float), "x"), row(n=1), row(n=7), row(n=3))
    assert values(driver) == [1.0, 2.0, 3.0, 2.0]


def test_a_condition_that_gives_numbers_makes_dead_letters() -> None:
    def wrong(rows: pa.RecordBatch) -> pa.Array:
        return rows["n"] if len(rows) else pc.greater(rows["n"], 0)

    driver = run(came.filter(wrong), row(n=1), row(n=0))
    words = "ValueError: the condition gives int64, not true or false"
    assert letters(driver) == [(0, words), (1, words)]


class Bill(BaseModel):
    k: str
    cents: int = Field(ge=0)


def test_an_instance_that_was_changed_since_is_validated_again() -> None:
    def taxed(given: dict[str, Any]) -> Bill:
        bill = Bill(k=given["k"], cents=given["n"])
        if given["f"] is None:
            bill.cents -= 1
            return bill
        return bill.model_copy(update={"cents": bill.cents * given["f"]})

    driver = run(came.map_rows(Bill, taxed), row(n=499, f=1.19), row(n=1), row(n=0), row(n=5, f=2))
    assert values(driver, "cents") == [0, 10]
    assert [at for at, _ in letters(driver)] == [0, 2]
    assert "Input should be a valid integer, got a number with a fra" in letters(driver)[0][1]
    assert "Input should be greater than or equal to 0" in letters(driver)[1][1]


class Line(BaseModel):
    sku: str = Field(alias="SKU", max_length=3)
    price: Cents


class Longer(Line):
    more: int = 0


class Billed(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=str.upper)
    k: str
    lines: list[Line] = Field(alias="LINES")
    total: Annotated[int | None, Field(ge=0), AfterValidator(lambda n: n and n * 100)]
    note: str = ""

    @field_validator("note", mode="before")
    @classmethod
    def _joined(cls, parts: Any) -> str:
        assert isinstance(parts, list)
        return "-".join(parts)


class Signed(Billed):
    by: str = ""


def test_an_instance_with_aliases_and_validators_is_as_it_was() -> None:
    def billed(given: dict[str, Any]) -> Billed:
        line = Longer(SKU="abc", price=Decimal("1.50"), more=7)
        if given["n"]:
            line = line.model_copy(update={"sku": "abcd"})
        lines = [line, {"SKU": "x", "price": "2"}]
        return Signed.model_validate(
            {"K": given["k"], "LINES": lines, "TOTAL": 5, "NOTE": ["a", "b"], "BY": "me"}
        )

    driver = run(came.map_rows(Billed, billed), row(), row(n=1))
    lines = [{"sku": "abc", "price": "1.50"}, {"sku": "x", "price": "2.00"}]
    assert driver.read("out") == [{"K": "a", "LINES": lines, "TOTAL": 500, "NOTE": "a-b"}] or (
        driver.read("out") == [{"k": "a", "lines": lines, "total": 500, "note": "a-b"}]
    )
    assert [at for at, _ in letters(driver)] == [1]
    assert "String should have at most 3 characters" in letters(driver)[0][1]


def test_a_default_can_be_a_dict() -> None:
    rule = Rule("tagged", "tags IS NOT NULL", default=("tags", {"a": 1}))
    stream = came.gate(rule).map(made(dict[str, int]), x="tags")
    driver = run(stream, row(), row(tags={"b": 2}))
    assert values(driver) == [{"a": 1}, {"b": 2}]
    with pytest.raises(TopologyError, match="is no map<string, int64>"):
        came.gate(Rule("tagged", "tags IS NOT NULL", default=("tags", {"a": 1.5})))


@pytest.mark.parametrize(
    ("key", "number"),
    [(b"1.500000000", "1.5"), (b"0.000000000", "0"), (b"-0.000000001", "-0.000000001")],
)
def test_a_decimal_key_has_all_its_places(key: bytes, number: str) -> None:
    class Keyed(BaseModel):
        k: Decimal
        at: AwareDatetime

    keyed = source(topic("in"), Keyed, key="k", event_time="at")
    edges = [keyed.to(topic("out")), keyed.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("t", *edges), NOW)
    value = b'{"k":"%s","at":"2026-01-01T00:00:00Z"}' % number.encode()
    driver.broker.append(driver.broker.place("in", key), Record(key, value))
    driver.process()
    assert (len(driver.records("out")), driver.records("dlq")) == (1, [])


def test_an_arm_that_is_called_like_the_last_is_counted_by_itself() -> None:
    first, last = came.branch("rest")
    edges = [first.to(topic("first")), last.to(topic("last")), came.rejected.drop()]
    driver = TopologyDriver(Topology("t", *edges), NOW)
    driver.send("in", row(rest=True), row(rest=True), row(rest=False))
    assert driver.rules == {"branch rest 0": 2, "branch rest": 1}
