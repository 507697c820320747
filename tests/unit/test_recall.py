"""Which records are known by their bytes, and where bytes alone do not decide."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
import pyarrow as pa
import pytest
from pydantic import AfterValidator, AwareDatetime, BaseModel

from streamflow import (
    Count,
    Rule,
    Threshold,
    Topology,
    Tumbling,
    debezium,
    epoch,
    header,
    kafka_timestamp,
    source,
    topic,
)
from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.advance import advance
from streamflow.core.changed import learn_stored
from streamflow.core.names import Names
from streamflow.core.part import Part
from streamflow.core.plan import TaskPlan
from streamflow.core.recall import Known, known_of, recall
from streamflow.core.seal import seal
from streamflow.core.step import Step, TaskState
from streamflow.edges.memory import MemoryStore
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver

TP = TopicPartition("items", 0)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Item(BaseModel, frozen=True):
    name: str
    price: int
    at: AwareDatetime


class Checked(BaseModel, frozen=True):
    name: Annotated[str, AfterValidator(lambda name: name.upper())]
    price: int
    at: AwareDatetime


class Told(BaseModel, frozen=True):
    name: str
    at: AwareDatetime | None


class Per(BaseModel, frozen=True):
    name: str
    window_start: AwareDatetime
    items: int


class Priced(BaseModel, frozen=True):
    name: str
    price: int


items = source(topic("items"), Item, key="name", event_time="at")
#: What a function reads and may find changed.
SHIFTS = {"at": "at"}


def plan_of(stream: Stream, *more: Any) -> TaskPlan:
    edges = stream.to(topic("out")), stream.rejected.drop(), *more
    return Topology("items", *edges).tasks[0]


def batch_of(start: int, *values: dict[str, Any] | None) -> MicroBatch:
    made = [None if value is None else orjson.dumps(value) for value in values]
    keys = [b"a" if value is None else value["name"].encode() for value in values]
    n = len(values)
    offsets = range(start, start + n)
    return MicroBatch(TP, start, start + n, offsets, keys, made, [0] * n, [()] * n)


def item(name: str = "a", price: int = 1, second: int = 0) -> dict[str, Any]:
    return {"name": name, "price": price, "at": START + second * SECOND}


def known_after(plan: TaskPlan, *batches: MicroBatch) -> tuple[Known, TaskState, MemoryStore]:
    known, state, store = known_of(plan, 1_000), TaskState(), MemoryStore()
    assert known is not None
    for batch in batches:
        step = advanced(plan, state, store, batch, known)
        known.learn(step.learned)
        state = commit(plan, step, store)
    return known, state, store


def advanced(
    plan: TaskPlan, state: TaskState, store: MemoryStore, batch: MicroBatch, known: Known
) -> Step:
    """The step of a batch on whose way nothing is asked for."""
    asking = advance(plan, state, store, batch, known)
    with pytest.raises(StopIteration) as done:
        next(asking)
    return done.value.value


def commit(plan: TaskPlan, step: Step, store: MemoryStore) -> TaskState:
    sealed = seal(Part(plan, Names("x"), TP, "", 1), [step], store, now_ms=0)
    store.apply(sealed.changes)
    return sealed.state


def rest(plan: TaskPlan, batch: MicroBatch, known: Known) -> list[int]:
    """The offsets that have to be decoded."""
    return list(recall(plan, batch, known, frozenset()).rest.offsets)


def test_only_what_is_new_or_changed_is_decoded() -> None:
    plan = plan_of(items.changed("name"))
    known, _, _ = known_after(plan, batch_of(0, item("a"), item("b"), item("c")))
    again = batch_of(3, item("a"), item("b", 2), item("c"), item("d"), None)
    found = recall(plan, again, known, frozenset())
    assert list(found.rest.offsets) == [4, 6, 7]
    assert found.offsets.to_pylist() == [3, 5]
    assert found.rest.start == 3
    assert found.rest.stop == 8


def test_what_a_record_said_before_it_changed_is_not_known_any_more() -> None:
    plan = plan_of(items.changed("name"))
    known, _, _ = known_after(plan, batch_of(0, item("a", 1)), batch_of(1, item("a", 2)))
    assert rest(plan, batch_of(2, item("a", 1), item("a", 2)), known) == [2]


def test_it_is_known_after_a_restart_as_far_as_there_is_room() -> None:
    plan = plan_of(items.changed("name"))
    first = batch_of(0, *(item(f"item {i}") for i in range(5)))
    _, state, store = known_after(plan, first)
    for most, left in ((1_000, 0), (5, 0), (3, 2)):
        known = known_of(plan, most)
        assert known is not None
        learn_stored(known, state, store)
        assert len(rest(plan, first, known)) == left
    assert known_of(plan, 0) is None


def test_what_another_version_of_the_topology_knew_is_looked_at_again() -> None:
    old = plan_of(items.changed("name"))
    _, state, store = known_after(old, batch_of(0, item("a")))
    new = plan_of(items.gate(Rule("dear", "price < 0")).changed("name"))
    known = known_of(new, 1_000)
    assert known is not None
    learn_stored(known, state, store)
    step = advanced(new, state, store, batch_of(1, item("a")), known)
    assert step.counts["rejected"] == 1


def test_a_change_and_what_was_before_it_within_a_batch() -> None:
    plan = plan_of(items.changed("name", by="price"))
    known, state, store = known_after(plan, batch_of(0, item("a", 1), item("b", 1)))
    batch = batch_of(2, item("a", 2), item("b", 1), item("a", 1))
    step = advanced(plan, state, store, batch, known)
    name = "changed name by price"
    assert step.rules == {f"{name}: changed": 1, f"{name}: unchanged": 1, f"{name}: conflict": 1}


def test_a_value_and_a_key_are_told_apart() -> None:
    plan = plan_of(items.changed("name"))
    known, _, _ = known_after(plan, batch_of(0, item("a")))
    value = orjson.dumps(item("a"))
    for other in (replace(batch_of(1, item("a")), keys=[b"b"]), batch_of(1, item("a", 2))):
        assert rest(plan, other, known) == [1]
    for values, keys in (([value + b"\xff"], [b"a"]), ([value], [None]), ([value + b"a"], [b""])):
        assert rest(plan, replace(batch_of(1, item("a")), values=values, keys=keys), known) == [1]


def test_what_has_become_too_far_ahead_or_unstorable_is_looked_at() -> None:
    near = source(topic("items"), Item, key="name", event_time="at", max_future=SECOND)
    plan, now = plan_of(near.changed("name")), int(START.timestamp() * 1000)
    batch = replace(batch_of(0, item("a", second=3)), fetched=now + 2_000)
    known, _, _ = known_after(plan, batch)
    assert rest(plan, batch, known) == []
    assert rest(plan, replace(batch, fetched=now + 1_999), known) == [0]
    for stamp in (2**60, -(2**60)):
        assert rest(plan, replace(batch, timestamps=[stamp]), known) == [0]


def test_rows_in_envelopes_are_known_and_deletions_are_not() -> None:
    # Where a deletion has no time of its own it has Kafka's, which no bytes say.
    told = source(topic("items"), Told, key="name", event_time="at", envelope=debezium())
    plan = plan_of(told.changed("name"))
    row: dict[str, Any] = {"name": "a", "at": START}
    batch = batch_of(0, item("a"), item("a"), item("a"))
    rows = [{"op": "c", "after": row}, {"op": "c", "after": row}, {"op": "d", "before": row}]
    created, again, deleted = map(orjson.dumps, rows)
    known, _, _ = known_after(plan, replace(batch, values=[created, again, created]))
    assert rest(plan, replace(batch, values=[created, deleted, again]), known) == [1]
    known, _, _ = known_after(plan, replace(batch, values=[created, again, deleted]))
    assert rest(plan, replace(batch, values=[created, deleted, again]), known) == [0, 1, 2]


@pytest.mark.parametrize("keys", [0, 10])
def test_a_record_that_is_known_moves_the_watermark(keys: int) -> None:
    rows = items.changed("name").gate(Rule("cheap", "price < 5"))
    counted = rows.window(Tumbling(10 * SECOND), by="name").aggregate(Per, items=Count())
    edges = counted.to(topic("counts")), counted.late.to(topic("late")), rows.rejected.drop()
    driver = TopologyDriver(Topology("items", *edges), START, recall_keys=keys)
    driver.send("items", item("b", price=9, second=50), item("a"))
    assert driver.read("late") == []
    # What was rejected before is dropped as unchanged now.
    driver.send("items", item("b", price=9, second=50), item("c"))
    assert [row["name"] for row in driver.read("late")] == ["c"]


def test_a_full_memory_learns_nothing_more() -> None:
    plan = plan_of(items.changed("name"))
    known = known_of(plan, 2)
    assert known is not None
    names = [f"item {i}" for i in range(5)]
    step = advanced(plan, TaskState(), MemoryStore(), batch_of(0, *map(item, names)), known)
    known.learn(step.learned)
    assert len(known.times) == 2


FEW = Threshold(last=9, max_count=3)
double = items.map(Priced, price="price * 2")
tagged = items.gate(Rule("dear", "price < 5", "warning"))
limited = Rule("dear", "price < 5", threshold=FEW)


@pytest.mark.parametrize(
    "stream",
    [
        items.changed("name"),
        items.changed("name", by="price", sequence="price"),
        items.changed("name", by="_event_time"),
        tagged.filter("price > 0").changed("name"),
        double.changed("name"),
        source(topic("items"), Item, event_time=epoch("price", "s")).changed("name"),
        source(topic("items"), Item, event_time=lambda rows: rows["at"]).changed("name"),
    ],
)
def test_where_bytes_decide_everything_records_are_known(stream: Stream) -> None:
    assert known_of(plan_of(stream), 10) is not None


@pytest.mark.parametrize(
    "stream",
    [
        items,
        items.changed("name", forget_after=SECOND),
        items.changed("name", "_partition"),
        items.changed("name", by="_timestamp"),
        items.changed("name", sequence="_offset"),
        items.filter("_offset > 5").changed("name"),
        items.filter(lambda rows: pa.repeat(True, rows.num_rows)).changed("name"),
        items.map(Priced, price="_offset").changed("name"),
        items.gate(limited).changed("name"),
        items.gate(Rule("dear", "price < 5"), threshold=FEW).changed("name"),
        items.dedup("name", within=SECOND).changed("name"),
        source(topic("items"), Item, event_time=kafka_timestamp()).changed("name"),
        source(topic("items"), Item, event_time=header("at")).changed("name"),
        source(topic("items"), Item, event_time=lambda rows: rows[SHIFTS["at"]]).changed("name"),
        source(topic("items"), Item, event_time="at", missing_event_time="ingest_time").changed(
            "name"
        ),
        source(topic("items"), Checked, event_time="at").changed("name"),
    ],
)
def test_where_they_do_not_every_record_is_decoded(stream: Stream) -> None:
    assert known_of(plan_of(stream), 10) is None


def test_where_records_go_another_way_before_every_record_is_decoded() -> None:
    both = tagged.changed("name")
    assert known_of(plan_of(both, tagged.to(topic("all"))), 10) is None
    assert known_of(plan_of(both, tagged.filter("price > 0").to(topic("all"))), 10) is None
    first, second = items.branch("price > 5")
    assert known_of(plan_of(first.changed("name"), second.drop()), 10) is None


def test_where_quality_is_kept_over_extents_every_record_is_decoded() -> None:
    rows = items.changed("name")
    assert known_of(plan_of(rows, rows.quality_over(10).to(topic("quality"))), 10) is None
