"""A batch that memory does not suffice for is done in parts, and nothing shows of it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import orjson
import pyarrow as pa
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, source, topic
from streamflow.batch import Record, TopicPartition
from streamflow.clock import SystemClock
from streamflow.edges.memory import MemoryBroker, MemoryOutbox
from streamflow.engine.faults import no_faults
from streamflow.engine.host import Host
from streamflow.engine.inbox import Arrival
from streamflow.engine.portions import TRIED, Portions
from streamflow.engine.settings import Settings
from streamflow.engine.task_ports import TaskPorts
from streamflow.errors import TaskLost
from tests.unit.memory_world import MemoryWorld
from tests.unit.test_host import Consumer, settled
from tests.unit.test_lanes import batch

RECORDS = 400
SOON = Settings.load(commit_interval=timedelta(milliseconds=20))


def sizes_of(portions: Portions, records: int) -> list[int]:
    """How many records of a batch are worked on at once, until all are done."""
    rest, found = batch(0, records), list[int]()
    while len(rest):
        part = portions.first_of(rest)
        portions.done(part)
        found.append(len(part))
        rest = rest.cut(part.stop, rest.stop)
    return found


def test_a_batch_is_done_whole_while_memory_suffices() -> None:
    portions = Portions()
    whole = batch(0, 100)
    assert portions.first_of(whole) is whole
    assert not portions.small


def test_parts_are_halved_and_grow_again_after_a_while() -> None:
    portions = Portions()
    portions.too_much(batch(0, 100), MemoryError())
    assert portions.small
    portions.too_much(portions.first_of(batch(0, 100)), MemoryError())
    expected = TRIED * [25] + TRIED * [50] + [100]
    assert sizes_of(portions, sum(expected)) == [*expected[:-1], 100]
    assert not portions.small


def test_smaller_batches_than_the_parts_prove_nothing() -> None:
    portions = Portions()
    portions.too_much(batch(0, 100), MemoryError())
    for _ in range(10 * TRIED):
        assert sizes_of(portions, 10) == [10]
    assert portions.small


def test_a_part_keeps_the_offsets_that_no_record_has() -> None:
    portions = Portions()
    portions.too_much(batch(0, 4), MemoryError())
    compacted = replace(batch(0, 3), offsets=[0, 6, 9], stop=12)
    part = portions.first_of(compacted)
    assert (part.start, part.stop, part.offsets) == (0, 9, [0, 6])


@pytest.mark.parametrize("records", [0, 1])
def test_memory_that_does_not_suffice_for_one_record_names_it(records: int) -> None:
    with pytest.raises(TaskLost, match=r"orders\[0\]@7: memory does not suffice even for this"):
        Portions().too_much(batch(7, 7 + records), MemoryError("oh"))


class Reading(BaseModel):
    sensor: str
    value: int
    at: AwareDatetime


class ShortMemory:
    """A function of a stage for which memory suffices only for so many rows."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.asked: list[int] = []

    def __call__(self, rows: pa.RecordBatch) -> pa.Array:
        self.asked.append(rows.num_rows)
        if rows.num_rows > self.rows:
            raise pa.ArrowMemoryError("malloc of size 1 failed")
        return rows["value"]


def broker_with(records: int) -> MemoryBroker:
    made = MemoryBroker(0)
    made.create("readings", 1)
    for n in range(records):
        value = {"sensor": "a", "value": n, "at": f"2026-01-01T00:00:{n % 60:02}Z"}
        made.append(TopicPartition("readings", 0), Record(b"a", orjson.dumps(value)))
    return made


def passing(function: Callable[[pa.RecordBatch], pa.Array]) -> Topology:
    readings = source(topic("readings"), Reading, key="sensor", event_time="at")
    mapped = readings.map(Reading, value=function)
    return Topology("short", mapped.to(topic("out")), mapped.rejected.drop())


def values_of(broker: MemoryBroker) -> list[int]:
    return [orjson.loads(record.value or b"")["value"] for record in broker.records("out")]


async def worked_off(broker: MemoryBroker, memory: ShortMemory, committed: int) -> Host:
    """A worker that has got all there is, and has committed so much of it."""
    topology = passing(memory)
    world = MemoryWorld(broker, topology, SystemClock())
    host = Host(topology, SOON, world, SystemClock(), no_faults)
    tp = TopicPartition("readings", 0)
    await host.prepare(Consumer())
    await host.assign([tp])
    await settled(host)
    await host.receive(Arrival(broker.fetch(tp, 0), lambda: None))
    async with asyncio.timeout(20):
        while broker.offsets.get(tp) != committed:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return host


def test_all_of_a_batch_comes_out_once_in_parts(caplog: pytest.LogCaptureFixture) -> None:
    broker, memory = broker_with(RECORDS), ShortMemory(30)

    async def go() -> None:
        host = await worked_off(broker, memory, RECORDS)
        await host.close()

    asyncio.run(go())
    assert values_of(broker) == list(range(RECORDS))
    asked = Counter(memory.asked)
    assert (asked[25], asked[50]) == (RECORDS // 25, 2)  # more was tried again after a while
    assert "readings[0]@0..400: memory is short; going on with 200 records at once" in caplog.text


def test_a_record_for_which_alone_memory_does_not_suffice_is_named_and_all_before_it_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class OneTooMany(ShortMemory):
        def __call__(self, rows: pa.RecordBatch) -> pa.Array:
            if 70 in rows["value"].to_pylist():
                raise MemoryError
            return rows["value"]

    broker = broker_with(RECORDS)

    async def go() -> None:
        host = await worked_off(broker, OneTooMany(0), 70)
        async with asyncio.timeout(20):
            while "alone" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await host.close()

    asyncio.run(go())
    assert "readings[0]@70: memory does not suffice even for this record alone" in caplog.text
    assert len(broker.records("out")) == 70


class ShortOutbox(MemoryOutbox):
    """Has no memory for more than sixty records at once."""

    async def produce(self, to: TopicPartition | str, records: Sequence[Record]) -> None:
        if len(records) > 60:
            raise MemoryError
        await super().produce(to, records)


class ShortWorld(MemoryWorld):
    """A worker's edges, with such an outbox."""

    def task_ports(self, tp: TopicPartition) -> TaskPorts:
        return replace(super().task_ports(tp), outbox=ShortOutbox(self.broker, "short"))


def test_a_commit_that_memory_does_not_suffice_for_is_done_in_smaller_ones() -> None:
    broker, tp = broker_with(RECORDS), TopicPartition("readings", 0)

    async def go() -> None:
        topology = passing(ShortMemory(RECORDS))
        world = ShortWorld(broker, topology, SystemClock())
        host = Host(topology, SOON, world, SystemClock(), no_faults)
        consumer = Consumer()
        await host.prepare(consumer)
        await host.assign([tp])
        await settled(host)
        async with asyncio.timeout(20):
            while broker.offsets.get(tp) != RECORDS:
                # Fetched anew from wherever the task goes on.
                await host.receive(Arrival(broker.fetch(tp, consumer.at[tp]), lambda: None))
                await asyncio.sleep(0.01)
        await host.close()

    asyncio.run(go())
    assert values_of(broker) == list(range(RECORDS))
