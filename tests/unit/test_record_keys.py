"""What keys of one field and of several say, and how they are made."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import orjson
import pyarrow as pa
import pytest
from pydantic import AliasChoices, AwareDatetime, BaseModel, Field, StringConstraints

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
from streamflow.record_keys import KeyField, object_of, texts_of_keys
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
        (b'{"order":1.0,"line":-0}', (b"1.0", b"0")),
        (b'{"order":7,"line":1.5}', (b"7", b"1.5")),
        (b'{"order":"a","line":1e999}', (b"a", b"1e999")),
        (b'{"order":%s1%s,"line":1}' % (b"[" * 5000, b"]" * 5000), (None, None)),
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
    found = texts_of_keys([key], lines.source.key_fields, enveloped=False)
    assert found == [[text] for text in texts]


def test_fields_may_be_named_as_kafka_connect_names_its_own() -> None:
    fields = [KeyField(name, name, pa.int64()) for name in ("payload", "schema")]
    row = object_of(b'{"schema":1,"payload":2}', fields) or {}
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


@pytest.mark.parametrize("model", [Price, type("Strict", (Price,), {}, strict=True)])
@pytest.mark.parametrize(
    "key",
    [
        b'{"sku":"7","country":"de"}',
        b'{"sku":7,"country":"de"}',
        b'{"schema":{},"payload":{"country":"de","sku":"7"}}',
    ],
)
def test_a_key_that_is_taken_can_delete(model: type[BaseModel], key: bytes) -> None:
    stream = source(
        topic("prices"),
        model,
        key=("sku", "country"),
        event_time=kafka_timestamp(),
        tombstones="delete",
    ).changed("sku", "country")
    driver = TopologyDriver(
        Topology("prices", stream.to(topic("out")), stream.rejected.to(topic("dlq"))), NOW
    )
    value = b'{"sku":"7","country":"de","at":null,"cents":1}'
    driver.send("prices", Record(key, value, 1_767_225_600_000))
    driver.send("prices", Record(key, None, 1_767_225_600_000))
    assert driver.read("dlq") == []
    changes = [dict(record.headers)["streamflow.change"] for record in driver.records("out")]
    assert changes == [b"new", b"deleted"]


@pytest.mark.parametrize("key", [b'{"id":7}', b'{"id":"7"}', b"7"])
def test_a_key_of_one_field_of_a_change_event_can_delete(key: bytes) -> None:
    class Named(BaseModel, frozen=True, strict=True):
        id: str
        size: int | None

    named = source(
        topic("named"), Named, key="id", event_time=kafka_timestamp(), envelope=debezium()
    ).changed("id")
    driver = TopologyDriver(
        Topology("named", named.to(topic("out")), named.rejected.to(topic("dlq"))), NOW
    )
    for event in ({"op": "c", "after": {"id": "7", "size": 1}}, {"op": "d"}):
        driver.send("named", Record(key, orjson.dumps(event), 1_767_225_600_000))
    changes = [dict(record.headers)["streamflow.change"] for record in driver.records("out")]
    assert changes == [b"new", b"deleted"]


class Renamed(BaseModel, frozen=True):
    order: str = Field(alias="orderId")
    line: int = Field(validation_alias=AliasChoices("lineNo", "line"))
    note: str | None = Field(None, alias="theNote")


@pytest.mark.parametrize("envelope", [None, debezium()])
def test_fields_of_a_key_have_the_names_that_values_have(envelope: Any) -> None:
    stream = source(
        topic("lines"),
        Renamed,
        key=("order", "line"),
        event_time=kafka_timestamp(),
        envelope=envelope,
        tombstones="delete",
    )
    changed = stream.changed("order", "line")
    driver = TopologyDriver(
        Topology("lines", changed.to(topic("out")), changed.rejected.to(topic("dlq"))), NOW
    )
    row = {"orderId": "a", "lineNo": 1, "theNote": "x"}
    made, gone = (row, None) if envelope is None else ({"op": "c", "after": row}, {"op": "d"})
    key = b'{"orderId":"a","lineNo":1}'
    assert keys_for(stream.source, [orjson.dumps(made)]) == [key]
    for value in (orjson.dumps(made), None if gone is None else orjson.dumps(gone)):
        driver.send("lines", Record(key, value, 1_767_225_600_000))
    assert driver.read("dlq") == []
    changes = [dict(record.headers)["streamflow.change"] for record in driver.records("out")]
    assert changes == [b"new", b"deleted"]


def test_what_lies_too_deep_is_a_dead_letter_and_no_failure() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    value = orjson.dumps(line())
    driver = drive(Record(b'{"order":%s,"line":1}' % deep, value), Record(deep, value), line())
    assert [letter["reason"] for letter in driver.read("dlq")] == ["wrong-key"] * 2
    assert len(driver.records("out")) == 1
    free = source(topic("lines"), Line, event_time="at")
    driver = TopologyDriver(
        Topology("lines", free.to(topic("out")), free.rejected.to(topic("dlq"))), NOW
    )
    driver.send("lines", Record(deep, value))
    assert len(driver.records("out")) == 1
    parts = source(
        topic("prices"),
        Price,
        key=("sku", "country"),
        event_time=kafka_timestamp(),
        envelope=debezium(),
    ).changed("sku", "country")
    driver = TopologyDriver(
        Topology("prices", parts.to(topic("out")), parts.rejected.to(topic("dlq"))), NOW
    )
    driver.send(
        "prices",
        Record(deep, b'{"op":"d"}', 0),
        Record(b"a", b'{"op":"c","after":%s}' % deep, 0),
    )
    assert len(driver.read("dlq")) == 2


def test_one_row_has_one_key_however_its_value_is_written() -> None:
    values = [b'{"order":"a","line":%s,"at":"2026-01-01T00:00:00Z"}' % n for n in (b"1", b'"1"')]
    assert keys_for(lines.source, values) == [b'{"order":"a","line":1}'] * 2

    class Trimmed(BaseModel):
        name: Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True)]

    trimmed = source(topic("t"), Trimmed, key="name", event_time=kafka_timestamp())
    assert keys_for(trimmed.source, [b'{"name":" Bob "}', b'{"name":5}']) == [b"bob", None]

    class Numbered(BaseModel):
        n: int

    numbered = source(topic("t"), Numbered, key="n", event_time=kafka_timestamp())
    written = [b'{"n":7}', b'{"n":"007"}', b'{"n":7.0}', b"[]"]
    assert keys_for(numbered.source, written[:1]) == [b"7"]
    assert keys_for(numbered.source, written) == [b"7", b"7", b"7", None]


def test_bytes_may_be_a_key_whatever_they_are() -> None:
    class Token(BaseModel, val_json_bytes="base64"):
        token: bytes

    tokens = source(topic("t"), Token, key="token", event_time=kafka_timestamp())
    assert keys_for(tokens.source, [b'{"token":"_w=="}']) == [b"\xff"]


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
        (("at", "n", "x"), b'{"at":"2026-01-01 00:00:00.000000Z","n":1,"x":2}'),
        (("on", "day", "d"), b'{"on":true,"Day":"mon","d":"1.50"}'),
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
    row = {"sku": "tea", "country": "de", "at": None, "cents": 1}
    partial = {"sku": "tea", "country": "de"}
    events = [
        {"op": "c", "after": row},
        {"schema": {}, "payload": {"op": "d", "before": partial, "after": None}},
        {"op": "d", "before": None, "after": None},
        [],
    ]
    key = b'{"sku":"tea","country":"de"}'
    assert keys_for(parts.source, list(map(orjson.dumps, events))) == [key, key, None, None]
