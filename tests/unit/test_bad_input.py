"""What bad input gets: a dead letter with offset, field and reason; nothing around it is lost."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from streamflow import Topology, source, topic
from streamflow.batch import Record
from streamflow.testing import TopologyDriver
from tests.laws.orders import Order, order, topology

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = order(0)
ROW: dict[str, Any] = orjson.loads(GOOD.value or b"")


def without(name: str) -> bytes:
    return orjson.dumps({key: value for key, value in ROW.items() if key != name})


def with_(**changes: Any) -> bytes:
    return orjson.dumps(ROW | changes)


BAD: list[tuple[str, bytes | None, bytes | None, str, str]] = [
    # what, key, value, reason, field
    ("not JSON", b"FR", b"{oops", "not-json", ""),
    ("an empty value", b"FR", b"", "not-json", ""),
    ("no value", b"FR", None, "no-value", ""),
    ("two documents", b"FR", (GOOD.value or b"") * 2, "not-json", ""),
    ("two documents and a comma", b"FR", b"%s,%s" % (GOOD.value, GOOD.value), "not-json", ""),
    ("half a document", b"FR", (GOOD.value or b"")[:30], "not-json", ""),
    ("no object", b"FR", b"[1]", "invalid", ""),
    ("a wrong type", b"FR", with_(cents="many"), "invalid", "cents"),
    ("a missing field", b"FR", without("cents"), "invalid", "cents"),
    ("a null", b"FR", with_(at=None), "invalid", "at"),
    ("a time without a zone", b"FR", with_(at="2024-05-01T12:00:00"), "invalid", "at"),
    ("a null key", None, GOOD.value, "wrong-key", "country"),
    ("another key", b"DE", GOOD.value, "wrong-key", "country"),
    ("invalid UTF-8", b"FR", b'{"country":"\xff\xfe"}', "not-json", ""),
    ("an integer beyond 64 bits", b"FR", with_(cents=2**63), "invalid", "cents"),
    ("a number out of range", b"FR", with_(cents=-1), "invalid", "cents"),
    ("a decimal with too many places", b"FR", with_(price="1.234"), "invalid", "price"),
    ("an event time after all calendars", b"FR", with_(at="9999-06-01T00:00Z"), "event-time", ""),
    ("an event time before them", b"FR", with_(at="0001-06-01T00:00:00Z"), "event-time", ""),
    ("a broken rule", b"FR", with_(cents=1000), "rule", ""),
]


@pytest.mark.parametrize(
    ("key", "value", "reason", "field"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD]
)
def test_it_is_a_dead_letter_and_its_neighbours_are_untouched(
    key: bytes | None, value: bytes | None, reason: str, field: str
) -> None:
    driver = TopologyDriver(topology, NOW)
    bad = Record(key, value, 1_700_000_000_000, (("mine", b"\x00\xff"), ("mine", None)))
    driver.send("orders", GOOD, bad, GOOD)

    letters = driver.read("orders.dlq")
    assert [(r["offset"], r["reason"], r["field"]) for r in letters] == [(1, reason, field)]
    letter = driver.records("orders.dlq")[0]
    assert (letter.key, letter.value, letter.headers[:2]) == (key, value, bad.headers)
    assert [record.value for record in driver.records("orders.clean")] == [GOOD.value] * 2


def test_an_unknown_field_passes_as_the_model_says() -> None:
    driver = TopologyDriver(topology, NOW)
    driver.send("orders", Record(b"FR", with_(new="field")))
    assert driver.totals["passed"] == 1


def test_a_value_of_one_megabyte_passes_or_dies_as_the_contract_says() -> None:
    driver = TopologyDriver(topology, NOW)
    driver.send(
        "orders", Record(b"FR", with_(product="x" * 1_000_000)), Record(b"FR", b"x" * 1_000_000)
    )
    assert driver.totals["passed"] == 1
    assert len(driver.records("orders.dlq")[0].value or b"") == 1_000_000


def test_only_bad_records_in_a_batch_are_no_trouble() -> None:
    driver = TopologyDriver(topology, NOW)
    driver.send("orders", *(Record(b"FR", b"{") for _ in range(50)))
    driver.end_of_input()
    assert driver.totals["rejected"] == 50
    assert driver.files("orders") == []


def test_a_dead_letter_says_what_connect_says() -> None:
    driver = TopologyDriver(topology, NOW)
    driver.send("orders", GOOD, Record(b"FR", with_(cents="many")))
    headers = dict(driver.records("orders.dlq")[0].headers)
    assert headers["__connect.errors.topic"] == b"orders"
    assert headers["__connect.errors.partition"] == b"0"
    assert headers["__connect.errors.offset"] == b"1"
    assert headers["__connect.errors.connector.name"] == b"orders"
    assert b"valid integer" in (headers["__connect.errors.exception.message"] or b"")
    assert headers["streamflow.stage"] == b"decode"
    assert headers["streamflow.severity"] == b"critical"


def test_a_topology_that_only_validates_counts_what_it_drops() -> None:
    stream = source(topic("orders"), Order, key="country", event_time="at")
    only = Topology("only", stream.drop(), stream.rejected.to(topic("orders.dlq")))
    driver = TopologyDriver(only, NOW)
    driver.send("orders", GOOD, Record(b"FR", b"{"), GOOD)
    driver.end_of_input()
    assert +driver.totals == {"in": 3, "passed": 2, "rejected": 1}
    assert [row["offset"] for row in driver.read("orders.dlq")] == [1]
