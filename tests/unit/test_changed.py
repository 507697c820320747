"""What change detection passes, drops and says, one small stream at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, TopologyError, content, source, topic
from streamflow.batch import Record, TopicPartition
from streamflow.core.keys import META
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)


class Item(BaseModel, frozen=True):
    name: str
    price: int | None
    tags: list[str] | None
    at: AwareDatetime | None


class Label(BaseModel, frozen=True):
    name: str
    text: str | None


class Strict(BaseModel, frozen=True):
    name: str
    price: int
    weight: float
    at: AwareDatetime


items = source(topic("items"), Item, key="name", event_time="at", tombstones="delete")
strict = source(topic("items"), Strict, key="name", event_time="at")


def drive(stream: Stream, *records: Any) -> TopologyDriver:
    edges = stream.to(topic("out")), stream.rejected.to(topic("dlq"))
    driver = TopologyDriver(Topology("items", *edges), NOW)
    driver.send("items", *records)
    return driver


def item(price: int | None, second: int = 0, **more: Any) -> dict[str, Any]:
    at = START + timedelta(seconds=second)
    return {"name": "a", "price": price, "tags": ["x"], "at": at} | more


def gone(key: bytes | None = b"a", second: int = 0) -> Record:
    stamp = int((START + timedelta(seconds=second)).timestamp() * 1000)
    return Record(key, None, stamp)


def says(driver: TopologyDriver) -> list[str]:
    headers = [dict(record.headers) for record in driver.records("out")]
    return [(one["streamflow.change"] or b"").decode() for one in headers]


def test_zeros_of_both_signs_are_one_content() -> None:
    row = {"name": "a", "price": 1, "weight": 0.0, "at": START}
    driver = drive(strict.changed("name"), row, {**row, "weight": -0.0}, {**row, "weight": 0.5})
    assert says(driver) == ["new", "changed"]


def test_a_record_is_new_then_unchanged_then_changed() -> None:
    driver = drive(items.changed("name"), item(1), item(1), item(2), item(2, tags=["y"]))
    assert says(driver) == ["new", "changed", "changed"]
    name = "changed name by content()"
    assert driver.rules == {f"{name}: new": 1, f"{name}: changed": 2, f"{name}: unchanged": 1}


def test_only_the_named_fields_are_compared() -> None:
    stream = items.changed("name", by=content("tags"))
    driver = drive(stream, item(1), item(2), item(2, tags=["x", "y"]), item(2, tags=None))
    assert says(driver) == ["new", "changed", "changed"]


def test_the_same_record_of_a_later_time_makes_older_ones_lose() -> None:
    stream = items.changed("name", by=content("price"))
    driver = drive(stream, item(1, 0), item(1, 9), item(2, 5), item(1, 5), item(3, 9))
    assert says(driver) == ["new", "changed"]
    assert driver.rules[f"{stream.stages[0].name}: conflict"] == 1  # type: ignore[union-attr]


def test_by_a_field_a_record_that_does_not_move_it_is_unchanged_whatever_it_holds() -> None:
    driver = drive(items.changed("name", by="at"), item(1, 5), item(2, 5), item(3, 4), item(1, 6))
    assert says(driver) == ["new", "changed"]
    name = "changed name by at"
    assert driver.rules[f"{name}: unchanged"] == driver.rules[f"{name}: conflict"] == 1


def test_a_tombstone_deletes_its_key_once_and_the_key_can_come_again() -> None:
    stream = items.changed("name")
    driver = drive(stream, gone(), item(1, 1), gone(), gone(), item(1, 1), item(1, 1))
    assert says(driver) == ["new", "deleted", "new"]
    assert [record.value is None for record in driver.records("out")] == [False, True, False]


def test_the_row_of_a_tombstone_has_its_key_and_kafkas_time() -> None:
    stream = items.changed("name").filter("_change = 'deleted'")
    driver = drive(stream, item(1), gone(second=7))
    assert says(driver) == ["deleted"]
    assert driver.records("out")[0].timestamp == gone(second=7).timestamp


def test_after_a_map_a_deletion_is_a_tombstone_again() -> None:
    stream = items.changed("name").map(Label, text="upper(name)")
    driver = drive(stream, item(1), gone())
    assert [record.value for record in driver.records("out")] == [b'{"name":"a","text":"A"}', None]
    assert says(driver) == ["new", "deleted"]


def test_a_tombstone_without_a_readable_key_is_a_dead_letter() -> None:
    driver = drive(items.changed("name"), item(1), gone(None), gone(b"\xff"))
    assert [letter["reason"] for letter in driver.read("dlq")] == ["no-value", "no-value"]
    assert says(driver) == ["new"]


def test_without_being_told_a_record_without_a_value_is_a_dead_letter() -> None:
    driver = drive(strict.changed("name"), gone())
    assert [letter["reason"] for letter in driver.read("dlq")] == ["no-value"]


def test_a_record_that_does_not_say_how_new_it_is_is_a_dead_letter() -> None:
    stream = items.changed("name", by="at", sequence="price")
    driver = drive(stream, item(None), item(1), item(2), gone(), item(2), item(3))
    (letter,) = driver.read("dlq")
    assert (letter["reason"], letter["offset"]) == ("failed", 0)
    headers = dict(driver.records("dlq")[0].headers)
    assert b"price is null" in (headers["__connect.errors.exception.message"] or b"")
    assert says(driver) == ["new", "changed", "deleted", "new"]


def test_a_header_that_came_with_the_record_is_replaced() -> None:
    came = Record(b"a", orjson.dumps(item(1)), 0, (("streamflow.change", b"deleted"), ("x", b"1")))
    (record,) = drive(items.changed("name"), came).records("out")
    names = [name for name, _ in record.headers]
    assert names.count("streamflow.change") == 1
    assert "x" in names
    assert dict(record.headers)["streamflow.change"] == b"new"


def test_the_state_forgets_what_is_over() -> None:
    stream = strict.changed("name", forget_after=timedelta(seconds=60))
    row = {"price": 1, "weight": 0.5, "at": START}
    driver = drive(stream, *({**row, "name": f"item {i}"} for i in range(50)))
    store = driver._stores[TopicPartition("items", 0)]

    def entries() -> int:
        keys = [key for key, _ in store.scan(b"", b"\xff")]
        return sum(not key.startswith(b"~") and key != META for key in keys)

    assert entries() == 50 + 1  # the keys, and one list of them
    for name, second in [("item 1", 1000), ("item 2", 2000)]:
        at = START + timedelta(seconds=second)
        driver.send("items", {**row, "name": name, "at": at})
    assert entries() == 2
    # The watermark before the first of them was not there yet.
    assert says(driver) == ["new"] * 50 + ["changed", "new"]


def test_without_a_time_to_forget_nothing_is_listed() -> None:
    driver = drive(strict.changed("name"), {"name": "a", "price": 1, "weight": 0.5, "at": START})
    store = driver._stores[TopicPartition("items", 0)]
    assert [key[:1] for key, _ in store.scan(b"", b"l")] == [b"c"]


def test_nothing_is_stored_for_what_is_known_already() -> None:
    driver = drive(items.changed("name"), item(1))
    written = len(driver.records("items-items-changelog"))
    driver.send("items", item(1))
    changes = driver.records("items-items-changelog")[written:]
    assert [record.key for record in changes] == [META]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (strict.changed, "name the fields that say what a record is about"),
        (lambda: items.changed("nam"), "Item has no field 'nam'"),
        (lambda: items.changed("name", by="cost"), "Item has no field 'cost'"),
        (lambda: items.changed("name", by=content("cost")), "Item has no field 'cost'"),
        (lambda: items.changed("name", sequence="cost"), "Item has no field 'cost'"),
        (lambda: strict.changed("name", by="weight"), "'weight' is double; an int or an Aware"),
        (lambda: items.changed("name", sequence="name"), "'name' is string; an int or an Aware"),
        (lambda: items.changed("name", forget_after=timedelta(0)), "is not above zero"),
        (lambda: items.changed("name").changed("name"), "once is enough"),
        (lambda: items.changed("name", "price"), "deletes what 'name' names"),
        (lambda: strict.changed("name", "at").changed("at"), "once is enough"),
    ],
)
def test_it_is_refused_in_words(build: Any, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        build()


def test_keys_have_to_be_comparable() -> None:
    keyed = source(topic("items"), Item, key="name", event_time="at")
    with pytest.raises(TopologyError, match="cannot compare 'tags'"):
        keyed.changed("tags")


def test_tombstones_need_a_key_and_fields_that_can_be_null() -> None:
    with pytest.raises(TopologyError, match=r'tombstones="delete" needs key'):
        source(topic("items"), Item, event_time="at", tombstones="delete")
    with pytest.raises(TopologyError, match=r"declare 'price' with \| None"):
        source(topic("items"), Strict, key="name", event_time="at", tombstones="delete")


def test_deletions_that_nothing_tells_from_other_rows_are_refused() -> None:
    with pytest.raises(TopologyError, match=r"add \.changed"):
        Topology("items", items.to(topic("out")), items.rejected.drop())


def test_a_century_is_the_longest_to_remember() -> None:
    stream = strict.changed("name", forget_after=timedelta(days=40_000))
    with pytest.raises(TopologyError, match="at most a century"):
        Topology("items", stream.to(topic("out")), stream.rejected.drop())


def test_what_lost_a_conflict_can_go_to_a_topic() -> None:
    stream = strict.changed("name", by="price")
    edges = stream.to(topic("out")), stream.rejected.drop(), stream.conflicts.to(topic("lost"))
    driver = TopologyDriver(Topology("items", *edges), NOW)
    row = {"name": "a", "weight": 0.5, "at": START}
    driver.send("items", *({**row, "price": price} for price in (5, 3, 5, 6, 4)))
    assert [row["price"] for row in driver.read("lost")] == [3, 4]
    headers = dict(driver.records("lost")[0].headers)
    assert headers["streamflow.stage"] == b"changed name by price"


def test_duplicates_of_several_stages_go_to_their_topic_in_order() -> None:
    day = timedelta(days=1)
    stream = strict.dedup("price", within=day).dedup("name", within=day)
    sides = stream.rejected.drop(), stream.duplicates.to(topic("twice"))
    driver = TopologyDriver(Topology("items", stream.to(topic("out")), *sides), NOW)
    pairs = [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 4)]
    driver.send("items", *({"name": n, "price": p, "weight": 0, "at": START} for n, p in pairs))
    assert [row["price"] for row in driver.read("twice")] == [2, 1, 3]


def test_sides_that_do_not_exist_and_two_ways_out_are_refused() -> None:
    with pytest.raises(TopologyError, match="no dedup stage to give duplicates"):
        _ = strict.changed("name").duplicates
    with pytest.raises(TopologyError, match="no changed stage to give conflicts"):
        _ = strict.conflicts
    stream = strict.changed("name")
    twice = [stream.conflicts.to(topic("x")), stream.conflicts.to(topic("y"))]
    with pytest.raises(TopologyError, match="conflicts side of 'items' goes two ways"):
        Topology("items", stream.to(topic("out")), stream.rejected.drop(), *twice)
    with pytest.raises(TopologyError, match="different kinds of records"):
        Topology(
            "items",
            stream.to(topic("out")),
            stream.rejected.drop(),
            stream.conflicts.to(topic("out")),
        )
