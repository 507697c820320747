"""What keys of one field and of several say, and how they are made."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import orjson
import pytest
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import (
    Count,
    Rule,
    Topology,
    TopologyError,
    Tumbling,
    hashed,
    kafka_timestamp,
    masked,
    source,
    topic,
)
from streamflow.batch import Record
from streamflow.envelopes import debezium
from streamflow.keying import keys_for
from streamflow.record_keys import object_of, texts_of_keys
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Line(BaseModel, frozen=True):
    order: str
    line: int
    at: AwareDatetime
    price: float | None = None


class Order(BaseModel, frozen=True):
    order: str
    at: AwareDatetime


class Lines(BaseModel, frozen=True):
    order: str
    line: int
    count: int
    window_start: AwareDatetime


lines = source(topic("lines"), Line, key=("order", "line"), event_time="at")


def line(order: str = "a", number: Any = 1, second: int = 0) -> dict[str, Any]:
    return {"order": order, "line": number, "at": NOW + timedelta(seconds=second)}


def drive(*records: Any) -> TopologyDriver:
    edges = lines.to(topic("out")), lines.rejected.to(topic("dlq"))
    driver = TopologyDriver(Topology("lines", *edges), NOW)
    driver.send("lines", *records)
    return driver


def said(driver: TopologyDriver) -> str:
    """What the one dead letter says is wrong."""
    (letter,) = driver.records("dlq")
    return (dict(letter.headers)["__connect.errors.exception.message"] or b"").decode()


@pytest.mark.parametrize(
    ("key", "texts"),
    [
        (b'{"order":"a","line":1}', (b"a", b"1")),
        (b'{ "line": 1, "order": "a" }', (b"a", b"1")),
        (b'{"schema":{"type":"struct"},"payload":{"order":"a","line":1}}', (b"a", b"1")),
        (b'{"order":"\\u00e4","line":"1"}', ("ä".encode(), b"1")),
        (b'{"order":true,"line":1.0}', (b"true", b"1")),
        (b'{"order":null,"line":[1]}', (None, b"[1]")),
        (b'{"order":"a"}', (None, None)),
        (b'{"order":"a","line":1,"more":2}', (None, None)),
        (b'["a",1]', (None, None)),
        (b"a", (None, None)),
        (b"\xff", (None, None)),
        (b'{"schema":1,"payload":2}', (None, None)),
        (None, (None, None)),
    ],
)
def test_a_key_of_several_fields_is_a_json_object_of_just_these(
    key: bytes | None, texts: tuple[bytes | None, ...]
) -> None:
    assert texts_of_keys([key], ("order", "line"), enveloped=False) == [[text] for text in texts]


def test_fields_may_be_named_as_kafka_connect_names_its_own() -> None:
    row = object_of(b'{"schema":1,"payload":2}', ("payload", "schema")) or {}
    assert {name: bytes(value) for name, value in row.items()} == {"schema": b"1", "payload": b"2"}


@pytest.mark.parametrize(
    ("key", "field", "words"),
    [
        (b'{"order":"b","line":1}', "order", "a JSON object, here of order b'a', line b'1'"),
        (b'{"order":"a","line":2}', "line", "the record's key is b'{"),
        (b"a", "order", "the record's key is b'a', but"),
        (None, "order", "the record has no key, but"),
    ],
)
def test_a_key_that_says_otherwise_is_a_dead_letter_that_names_the_field(
    key: bytes | None, field: str, words: str
) -> None:
    good = line()
    value = orjson.dumps(good)
    driver = drive(good, Record(key, value), good)
    (letter,) = driver.read("dlq")
    assert (letter["reason"], letter["field"], letter["offset"]) == ("wrong-key", field, 1)
    assert words in said(driver)
    assert len(driver.records("out")) == 2


def test_what_a_test_sends_has_the_key_of_its_fields() -> None:
    driver = drive(line("a", 7))
    assert [record.key for record in driver.records("out")] == [b'{"order":"a","line":7}']


def test_a_window_is_grouped_by_all_fields_of_the_key() -> None:
    counted = lines.window(Tumbling(timedelta(minutes=1)), by=("line", "order"))
    results = counted.aggregate(Lines, count=Count())
    topology = Topology(
        "lines", results.to(topic("out")), results.late.drop(), lines.rejected.drop()
    )
    driver = TopologyDriver(topology, NOW)
    driver.send("lines", line("a", 1), line("a", 2), line("a", 1), line("b", 1, second=90))
    driver.end_of_input()
    found = sorted((row["order"], row["line"], row["count"]) for row in driver.read("out"))
    assert found == [("a", 1, 2), ("a", 2, 1), ("b", 1, 1)]
    with pytest.raises(TopologyError, match="does not contain the topic's key 'order' and 'line'"):
        lines.window(Tumbling(timedelta(minutes=1)), by="order")


def test_a_map_that_leaves_a_field_of_the_key_out_leaves_the_key_out() -> None:
    assert lines.map(Line, price="1.5").keys == ("order", "line")
    assert lines.map(Order).keys == ()
    assert lines.map_rows(Order, lambda row: row).keys == ()
    with pytest.raises(TopologyError, match="would be partial per partition"):
        lines.map(Order).window(Tumbling(timedelta(minutes=1)), by="order")


def test_no_function_of_rows_and_no_rule_changes_a_field_of_the_key() -> None:
    kept = lines.map_rows(Line, lambda row: row | {"line": row["line"] % 2})
    driver = TopologyDriver(
        Topology("lines", kept.to(topic("out")), kept.rejected.to(topic("dlq"))), NOW
    )
    driver.send("lines", line("a", 1), line("a", 2))
    assert len(driver.records("out")) == 1
    assert "changes 'line', which the topic is keyed by" in said(driver)
    with pytest.raises(TopologyError, match="would mend 'line', which the topic is keyed by"):
        lines.gate(Rule("even", "line % 2 = 0", default=("line", 0)))


class Price(BaseModel, frozen=True):
    sku: str
    country: str
    at: AwareDatetime | None
    cents: int | None


prices = source(
    topic("prices"), Price, key=("sku", "country"), event_time="at", tombstones="delete"
)


def test_a_record_without_a_value_deletes_what_all_fields_of_its_key_name() -> None:
    changed = prices.changed("country", "sku")
    driver = TopologyDriver(
        Topology("prices", changed.to(topic("out")), changed.rejected.to(topic("dlq"))), NOW
    )
    row = {"sku": "tea", "country": "de", "at": NOW, "cents": 5}
    gone = Record(b'{"country":"de","sku":"tea"}', None, 1_800_000_000_000)
    driver.send("prices", row, row | {"country": "fr"}, gone, Record(b"tea", None), row)
    changes = [dict(record.headers)["streamflow.change"] for record in driver.records("out")]
    assert changes == [b"new", b"new", b"deleted", b"new"]
    assert [letter["reason"] for letter in driver.read("dlq")] == ["no-value"]
    with pytest.raises(TopologyError, match="deletes what 'sku' and 'country' names"):
        prices.changed("sku")


@pytest.mark.parametrize("before", [None, {"id": 1}, {"id": 1, "part": "x", "size": 3}])
def test_a_deletion_of_a_change_event_names_its_row(before: Any) -> None:
    class Part(BaseModel, frozen=True, strict=True):
        id: int
        part: str
        size: int | None

    parts = source(
        topic("parts"), Part, key=("id", "part"), event_time=kafka_timestamp(), envelope=debezium()
    )
    changed = parts.changed("id", "part")
    driver = TopologyDriver(
        Topology("parts", changed.to(topic("out")), changed.rejected.to(topic("dlq"))), NOW
    )
    key = b'{"schema":{},"payload":{"id":1,"part":"x"}}'
    made = {"op": "c", "before": None, "after": {"id": 1, "part": "x", "size": 3}}
    gone = {"op": "d", "before": before, "after": None}
    sent = [Record(key, orjson.dumps(event), 1_767_225_600_000) for event in (made, gone)]
    driver.send("parts", *sent, Record(b"1", orjson.dumps(gone | {"before": None}), 1))
    changes = [dict(record.headers)["streamflow.change"] for record in driver.records("out")]
    assert changes == [b"new", b"deleted"]
    (letter,) = driver.read("dlq")
    assert (letter["reason"], letter["offset"]) == ("envelope", 2)
    assert "a deletion without 'id' and 'part'" in said(driver)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ((), r"key=\(\); name the field"),
        (5, "key=5; name the field"),
        (("order", 5), "name the field"),
        (("order", "order"), "names 'order' twice"),
        (("order", "place"), "no field 'place' to be keyed by"),
    ],
)
def test_a_key_that_names_no_fields_is_refused(key: Any, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        source(topic("lines"), Line, key=key, event_time="at")


def test_every_sensitive_field_of_a_key_tells_records_apart() -> None:
    class Hidden(BaseModel):
        name: Annotated[str, hashed()]
        card: Annotated[str, masked(shown=2)]
        at: AwareDatetime

    hidden = source(topic("hidden"), Hidden, key=("name", "card"), event_time="at")
    with pytest.raises(TopologyError, match=r"Hidden\.card is the key of 'hidden' and marked"):
        Topology("hidden", hidden.to(topic("out")), hidden.rejected.drop())


class Every(BaseModel):
    at: AwareDatetime
    n: int
    x: float
    on: bool
    day: str = Field(alias="Day")
    d: Annotated[Decimal, Field(decimal_places=2)]


@pytest.mark.parametrize(
    ("keys", "made"),
    [
        (("n",), b"1"),
        (("x",), b"2"),
        (("on",), b"true"),
        (("day",), b"mon"),
        (("d",), b"1.50"),
        (("at",), b"2026-01-01 00:00:00.000000Z"),
        (("at", "n"), b'{"at":"2026-01-01 00:00:00.000000Z","n":"1"}'),
    ],
)
def test_a_key_is_made_as_the_source_takes_it(keys: Sequence[str], made: bytes) -> None:
    every = source(topic("every"), Every, key=keys, event_time="at")
    value = orjson.dumps({"at": NOW, "n": 1, "x": 2.0, "on": "yes", "Day": "mon", "d": "1.5"})
    assert keys_for(every.source, [value, b"{}"]) == [made, None]
    driver = TopologyDriver(
        Topology("every", every.to(topic("out")), every.rejected.to(topic("dlq"))), NOW
    )
    driver.send("every", Record(made, value))
    assert driver.read("dlq") == []


def test_a_change_event_is_keyed_by_its_row() -> None:
    parts = source(
        topic("prices"), Price, key=("sku", "country"), event_time="at", envelope=debezium()
    )
    row = {"sku": "tea", "country": "de"}
    events = [
        {"op": "c", "after": row},
        {"schema": {}, "payload": {"op": "d", "before": row, "after": None}},
        {"op": "d", "before": None, "after": None},
        [],
    ]
    key = b'{"sku":"tea","country":"de"}'
    assert keys_for(parts.source, list(map(orjson.dumps, events))) == [key, key, None, None]
