"""A record that the broker refuses is found in few rounds; what cannot be a dead letter is said."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from streamflow import Topology, parquet, source, topic
from streamflow.batch import Record
from streamflow.core.headers import LINEAGE_HEADER, Origin
from streamflow.core.poison import Screen, TopicLimits, TopicPartition, identity
from streamflow.engine.status import conservation
from streamflow.engine.suspects import PARTS, Suspects
from streamflow.errors import Refused, StateRefused
from streamflow.testing import TopologyDriver
from tests.laws.orders import NOON, Order, order, orders, topology

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TP = TopicPartition("orders", 0)


def made(offset: int, commit: int = 1) -> Record:
    return Record(b"k", b"%d" % offset, 0, (Origin(TP, offset, offset + 1, commit).header(),))


def rounds(count: int, bad: set[int]) -> int:
    """How often a commit of so many records is refused, until all that are bad are known."""
    suspects, records = Suspects(), [made(i) for i in range(count)]
    for refused in range(1_000):
        screen = Screen(refused=suspects.alone)
        left = [record for record in records if screen.problem("t", record, 0) is None]
        parts = list(suspects.apart("t", left))
        assert [record for part in parts for record in part] == left
        wrong = [part for part in parts if any(int(record.value or b"") in bad for record in part)]
        if not wrong:
            assert {int(r.value or b"") for r in records if r not in left} == bad
            return refused
        suspects.learn(Refused("t", wrong[0], "no"))
    raise AssertionError("never found")


@pytest.mark.parametrize(
    ("count", "bad", "most"),
    [(1, {0}, 1), (2, {1}, 2), (PARTS, {5}, 2), (5_000, {4_999}, 4), (5_000, {0, 2_500}, 8)],
)
def test_one_of_thousands_is_found_in_a_few_rounds(count: int, bad: set[int], most: int) -> None:
    assert rounds(count, bad) <= most


def test_a_record_is_the_same_in_another_commit_and_another_one_elsewhere() -> None:
    assert identity("t", made(1, commit=1)) == identity("t", made(1, commit=2))
    others = [
        identity("u", made(1)),
        identity("t", made(2)),
        identity("t", made(1)._replace(key=None)),
        identity("t", made(1)._replace(key=b"", value=b"k1")),
        identity("t", made(1)._replace(headers=made(2).headers)),
    ]
    assert len({identity("t", made(1)), *others}) == 6


def test_a_commit_that_succeeds_ends_the_search() -> None:
    suspects = Suspects()
    suspects.learn(Refused("t", [made(1), made(2)], "no"))
    assert len(list(suspects.apart("t", [made(1), made(2)]))) == 2
    suspects.learn(Refused("t", [made(1)], "no"))
    suspects.forget()
    assert not suspects.alone
    assert list(suspects.apart("t", [made(1), made(2)])) == [[made(1), made(2)]]


def test_the_reasons() -> None:
    limits = {"t": TopicLimits(200, oldest_ms=1_000, keyed=True)}
    screen = Screen(limits)
    for record, reason in (
        (Record(b"k", b"", 0), None),
        (Record(b"k", b"v" * 200, 0), "too-large"),
        (Record(b"k", b"", -500), "timestamp"),
        (Record(b"k", b"", None), None),
        (Record(None, b"", 0), "no-key"),
    ):
        problem = screen.problem("t", record, 500 if record.timestamp == 0 else 1_000)
        assert (None if problem is None else problem.reason) == reason
        assert screen.problem("elsewhere", record, 10**9) is None


def test_rows_and_state_come_in_records_that_their_topics_take() -> None:
    driver = TopologyDriver(topology, NOW, commit_records=1_000)
    for name in ("orders-orders-rows", "orders-per-minute-rows"):
        driver.broker.limits[name] = 4_500
    driver.broker.limits["orders-orders-changelog"] = 40_000
    driver.restart()
    driver.send("orders", *(order(n, cents=n, product=f"{n:0100}") for n in range(500)))
    driver.end_of_input()
    assert len(driver.files("orders")) == 500
    assert driver.broker.partition(TopicPartition("orders-orders-rows", 0)).next_offset > 8
    assert "undelivered" not in driver.totals


def test_a_row_that_its_topic_cannot_hold_stops_with_its_coordinates() -> None:
    keeping = Topology("keeping", orders.to(parquet("orders")), orders.rejected.drop())
    driver = TopologyDriver(keeping, NOW)
    driver.broker.limits["keeping-orders-rows"] = 2_500
    driver.restart()
    noise = "".join(sha256(b"%d" % n).hexdigest() for n in range(200))
    driver.send("orders", order(0), order(1))
    with pytest.raises(
        StateRefused, match=r"the row of .*'_offset': 2.* in commit 2 cannot be"
    ) as said:
        driver.send("orders", order(2, product=noise))
    assert "raise max.message.bytes of keeping-orders-rows" in str(said.value)
    driver.broker.limits.clear()
    driver.restart()
    driver.process()
    driver.end_of_input()
    assert len(driver.files("orders")) == 3


def test_a_state_that_its_topic_cannot_hold_stops_with_its_name() -> None:
    lone = Topology("lone", orders.to(topic("clean")), orders.rejected.drop())
    driver = TopologyDriver(lone, NOW)
    driver.broker.limits["lone-orders-changelog"] = 200
    driver.restart()
    with pytest.raises(StateRefused, match="the state's meta record cannot be written"):
        driver.send("orders", order(0))


def test_dead_letters_that_are_not_taken_for_another_reason_stop_with_words() -> None:
    driver = TopologyDriver(topology, NOW)
    driver.broker.refuses = lambda name, record: name == "orders.dlq"
    with pytest.raises(StateRefused, match=r"the dead letter of orders\[0\]@0 cannot be written"):
        driver.send("orders", order(0, cents=-1))


def test_old_and_keyless_records_are_dead_letters_where_the_topic_says_so() -> None:
    nameless = source(topic("orders"), Order, key=None, event_time="at")
    lone = Topology("lone", nameless.to(topic("clean")), nameless.rejected.to(topic("dlq")))
    driver = TopologyDriver(lone, NOON + timedelta(days=2))
    month = int(timedelta(days=1).total_seconds() * 1000)
    driver.broker.settings["clean"] = TopicLimits(oldest_ms=month, keyed=True)
    driver.restart()
    day = 86_400
    keyless = order(2 * day - 5)._replace(key=None)
    driver.send("orders", order(0), order(2 * day - 9), keyless, order(day - 1))
    assert [row["offset"] for row in driver.read("dlq")] == [0, 2, 3]
    assert [row["reason"] for row in driver.read("dlq")] == ["timestamp", "no-key", "timestamp"]
    assert len(driver.records("clean")) == 1
    assert conservation(driver.totals) == [
        "4 in = 4 passed + 0 rejected",
        "3 undelivered, which are dead letters of stage sink",
    ]
    headers = dict(driver.records("dlq")[0].headers)
    assert headers["__connect.errors.stage"] == b"KAFKA_PRODUCE"
    assert headers["streamflow.topic"] == b"clean"
    assert headers["streamflow.timestamp"] == b"%d" % (NOON.timestamp() * 1000)
    assert driver.records("dlq")[0].headers[-1][0] == LINEAGE_HEADER
