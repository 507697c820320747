"""What comes of Debezium's change events, one small stream at a time."""

import re
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, TopologyError, debezium, epoch, source, topic
from streamflow.batch import Record
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START_MS = 1_714_521_600_000


class Customer(BaseModel, frozen=True):
    id: int
    name: str | None
    lsn: int
    ts: int | None


class Name(BaseModel, frozen=True):
    id: int
    name: str | None


class Dated(BaseModel, frozen=True):
    id: int
    at: AwareDatetime


customers = source(
    topic("customers"),
    Customer,
    key="id",
    event_time=epoch("ts", "ms"),
    envelope=debezium(lsn="source.lsn", ts="ts_ms"),
)
latest = customers.changed("id", by="lsn")


def event(op: str | None, lsn: int, *, before: Any = None, after: Any = None) -> dict[str, Any]:
    origin = {"version": "3.0.0.Final", "connector": "postgresql", "lsn": lsn}
    said = {"before": before, "after": after, "source": origin, "ts_ms": START_MS + lsn}
    return {"op": op, **said, "transaction": None}


def row(name: str = "Ann", key: int = 1) -> dict[str, Any]:
    return {"id": key, "name": name}


def record(value: Any, key: Any = b'{"id":1}') -> Record:
    return Record(key, value if value is None or isinstance(value, bytes) else orjson.dumps(value))


def drive(*records: Record, stream: Stream = latest) -> TopologyDriver:
    edges = stream.map(Name).to(topic("out")), stream.to(topic("events"))
    sides = stream.rejected.to(topic("dlq")), stream.conflicts.to(topic("conflicts"))
    driver = TopologyDriver(Topology("customers", *edges, *sides), NOW)
    driver.send("customers", *records)
    return driver


def says(driver: TopologyDriver) -> list[tuple[str, bytes | None]]:
    found = [
        (dict(record.headers)["streamflow.change"], record) for record in driver.records("out")
    ]
    return [((change or b"").decode(), record.value) for change, record in found]


def test_created_read_and_updated_rows_are_those_after_the_change() -> None:
    driver = drive(
        record(event("c", 1, after=row())),
        record(event("r", 2, after=row("Bob", 2)), b'{"id":2}'),
        record(event("u", 3, before=row(), after=row("Eve"))),
    )
    assert says(driver) == [
        ("new", b'{"id":1,"name":"Ann"}'),
        ("new", b'{"id":2,"name":"Bob"}'),
        ("changed", b'{"id":1,"name":"Eve"}'),
    ]


def test_a_deletion_deletes_its_key_and_the_tombstone_after_it_is_dropped() -> None:
    deletion = event("d", 2, before=row())
    driver = drive(record(event("c", 1, after=row())), record(deletion), record(None))
    assert says(driver)[1:] == [("deleted", None)]
    assert driver.rules["debezium: tombstone"] == 1
    totals = driver.totals
    assert (totals["in"], totals["passed"], totals["dropped"]) == (3, 4, 1)
    # Records that were not made anew go on as they came.
    assert driver.records("events")[1].value == orjson.dumps(deletion)


def test_a_tombstone_that_comes_again_does_not_delete_what_came_since() -> None:
    deleted = record(event("d", 2, before=row())), record(None)
    again = record(event("c", 3, after=row("Eve")))
    driver = drive(record(event("c", 1, after=row())), *deleted, again, *deleted, again)
    assert [change for change, _ in says(driver)] == ["new", "deleted", "new"]
    assert len(driver.records("conflicts")) == 1


def test_a_deletion_of_the_same_time_as_a_change_comes_after_it() -> None:
    driver = drive(record(event("c", 1, after=row())), record(event("d", 1, before=row())))
    assert [change for change, _ in says(driver)] == ["new", "deleted"]


def test_by_contents_a_deletion_counts_whatever_its_time() -> None:
    events = event("c", 5, after=row()), event("d", 1, before=row())
    driver = drive(*map(record, events), stream=customers.changed("id"))
    assert [change for change, _ in says(driver)] == ["new", "deleted"]


@pytest.mark.parametrize(
    "key",
    [
        b'{"id":1}',
        b'{"schema":{"type":"struct"},"payload":{"id":1}}',
        b"1",
    ],
)
@pytest.mark.parametrize("before", [row(), {"id": 1}, None])
@pytest.mark.parametrize("wrapped", [False, True])
def test_keys_and_schemas_in_every_form(key: bytes, before: Any, wrapped: bool) -> None:
    events = event("c", 1, after=row()), event("d", 2, before=before)
    values = [{"schema": {"type": "struct"}, "payload": one} if wrapped else one for one in events]
    driver = drive(*(record(value, key) for value in values))
    assert [change for change, _ in says(driver)] == ["new", "deleted"]
    assert driver.read("dlq") == []


def test_text_keys_are_text_or_json() -> None:
    class Item(BaseModel):
        name: str
        at: int | None

    stream = source(
        topic("items"),
        Item,
        key="name",
        event_time=epoch("at", "ms"),
        envelope=debezium(at="ts_ms"),
    ).changed("name")
    driver = TopologyDriver(
        Topology("items", stream.to(topic("out")), stream.rejected.to(topic("dlq"))), NOW
    )
    value = event("c", 1, after={"name": "a"})
    for key in (b"a", b'{"name":"a"}', b'"a"', b'{"name":"b"}', b'{"name":"a","other":1}', None):
        driver.send("items", record(value, key))
    assert [letter["reason"] for letter in driver.read("dlq")] == ["wrong-key"] * 4


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (b"{", "not-json", ""),
        (b'{"op":"c"} x', "not-json", "trailing"),
        (b"[]", "envelope", "Expected `object`"),
        (b'{"op":1}', "envelope", r"at `\$.op`"),
        (b'{"id":1,"name":"Ann"}', "envelope", "it has no op"),
        (b'{"schema":{},"payload":null}', "envelope", "it has no op"),
        (event("t", 1), "envelope", "empties a table"),
        (event("m", 1), "envelope", "'m' is none of c, u, d, r"),
        (event("c", 1), "envelope", "without a row in after"),
        (event("u", 1, after=[1]), "envelope", "without a row in after"),
        (event("d", 1, before=[1]), "envelope", "Expected `object`"),
        (event("c", 1, after={}), "invalid", "[Rr]equired"),
        (event("c", 1, after={"id": "x", "name": None}), "invalid", "integer"),
        ({**event("c", 1, after=row()), "source": None}, "invalid", "integer"),
        ({**event("c", 1, after=row()), "source": 5}, "envelope", "source"),
        ({**event("c", 1, after=row()), "source": {"lsn": "x"}}, "invalid", "integer"),
        (event("c", 1, after=row()) | {"ts_ms": None}, "event-time", "no event time"),
    ],
)
def test_what_is_no_change_event_is_a_dead_letter_byte_for_byte(
    value: Any, reason: str, words: str
) -> None:
    sent = record(value)
    good = record(event("c", 1, after=row("Bob", 2)), b'{"id":2}')
    # What has no value is no value of the decoder either: places move.
    driver = drive(
        record(None), good, sent, record(event("u", 2, after=row("Eve", 2)), b'{"id":2}')
    )
    (letter,) = driver.records("dlq")
    assert letter.value == sent.value
    assert driver.read("dlq")[0]["reason"] == reason
    assert driver.read("dlq")[0]["offset"] == 2
    message = dict(letter.headers)["__connect.errors.exception.message"] or b""
    assert re.search(words, message.decode())
    assert [change for change, _ in says(driver)] == ["new", "changed"]


def test_a_deletion_that_names_no_row_is_a_dead_letter() -> None:
    driver = drive(record(event("d", 1), None))
    assert [letter["reason"] for letter in driver.read("dlq")] == ["envelope"]


def test_fields_of_the_envelope_stand_in_for_columns_of_their_name() -> None:
    made = {"id": 1, "name": "Ann", "lsn": 99}
    driver = drive(*(record(event("c", lsn, after=made)) for lsn in (1, 2)))
    assert len(says(driver)) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "source.lsn"}, "declare 'lsn' with"),
        ({"lns": "source.lsn"}, "has no field 'lns'"),
        ({"id": "source.lsn"}, "is a field of the row"),
        ({"lsn": "source..lsn"}, "no path of names"),
        ({"lsn": "source.lsn x"}, "no path of names"),
        ({"lsn": 5}, "no path of names"),
        ({"lsn": "after.lsn"}, "the row has its own fields"),
        ({"lsn": "source", "ts": "source.ts_ms"}, "of which other fields take parts"),
    ],
)
def test_fields_that_cannot_be_filled_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        source(
            topic("customers"),
            Customer,
            key="id",
            event_time=epoch("ts", "ms"),
            envelope=debezium(**fields),
        )


def test_an_envelope_needs_a_key_and_to_be_one() -> None:
    times: Any = {"event_time": "at"}
    with pytest.raises(TopologyError, match=r"needs key="):
        source(topic("t"), Dated, **times, envelope=debezium())
    with pytest.raises(TopologyError, match=r"say envelope=debezium\(\)"):
        source(topic("t"), Dated, **times, key="id", envelope="debezium")  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=r"declare 'at' with \| None"):
        source(topic("t"), Dated, **times, key="id", envelope=debezium())


def test_deletions_that_nothing_tells_from_other_rows_are_refused() -> None:
    with pytest.raises(TopologyError, match=r"add \.changed"):
        Topology("t", customers.to(topic("out")), customers.rejected.drop())
