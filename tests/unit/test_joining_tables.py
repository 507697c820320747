"""A table that a running app is given later, or again."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest

from streamflow import Topology
from streamflow.batch import Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.keys import META, decode_meta
from streamflow.core.names import Names
from streamflow.core.part import Part
from streamflow.core.rows import Layout, Trailer, decode, encode_trailer
from streamflow.core.step import TaskState
from streamflow.core.table_records import namings
from streamflow.edges.memory import MemoryBroker, MemoryStore
from streamflow.engine.inbox import Arrival
from streamflow.engine.settings import Settings
from streamflow.engine.sink import SinkPartition
from streamflow.engine.sink_buffer import Buffer
from streamflow.engine.table_spec import table_spec
from streamflow.engine.takeover import takeover
from streamflow.errors import SinkRefused
from tests.laws.orders import order, topology

from .memory_world import MemoryWorld
from .test_host import NOW, TP, HurriedClock
from .test_left_behind import ROWS, smaller, started

LAYOUT = Layout("schema", (), "1")


@pytest.fixture
def world() -> MemoryWorld:
    broker = MemoryBroker(int(NOW.timestamp() * 1000))
    broker.create("orders", 1)
    return MemoryWorld(broker, topology, HurriedClock(NOW))


def work(world: MemoryWorld, made: Topology, records: Iterable[Record]) -> None:
    """A worker of this topology takes these records, commits them and leaves."""
    at = world.broker.partition(TP).next_offset
    for record in records:
        world.broker.append(TP, record)

    async def go() -> None:
        host = await started(world, made)
        await host.receive(Arrival(world.broker.fetch(TP, at), lambda: None))
        async with asyncio.timeout(5):
            while world.broker.offsets.get(TP) != world.broker.partition(TP).next_offset:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await host.close()
        assert host.failure is None

    asyncio.run(go())


def rolled(world: MemoryWorld) -> int:
    """Roll all that is committed for the table of orders; how many rows came to be visible?"""
    (sink,) = [s for s in topology.tasks[0].all_sinks if s.name == "orders"]
    spec = table_spec(topology, Settings.load().names("orders"), sink)
    files, log = world.files("orders"), world.broker.partition(ROWS)
    partition = SinkPartition(spec, ROWS, files, clock=SimulatedClock(NOW), owner="orders")
    partition.receive(world.broker.fetch(ROWS, partition.open(log.first_offset, log.next_offset)))
    partition.roll()
    return partition.written.rows


def test_a_table_that_joins_has_what_comes_from_then_on(world: MemoryWorld) -> None:
    work(world, smaller, map(order, range(5)))
    work(world, topology, map(order, range(5, 8)))
    work(world, topology, map(order, range(8, 12)))
    assert rolled(world) == 3 + 4


def test_a_table_that_was_away_goes_on(world: MemoryWorld) -> None:
    work(world, topology, map(order, range(5)))
    assert rolled(world) == 5
    work(world, smaller, map(order, range(5, 8)))
    assert rolled(world) == 0
    work(world, topology, map(order, range(8, 12)))
    work(world, topology, map(order, range(12, 13)))
    assert rolled(world) == 4 + 1


def named(part: Part, state: TaskState) -> dict[str, int]:
    """The commit that is named in each table's rows topic."""
    found: dict[str, int] = {}
    for tp, (record,) in namings(part, state):
        trailer = decode(record.value, record.headers)
        assert isinstance(trailer, Trailer)
        assert trailer.is_naming
        found[tp.topic] = trailer.commit
    return found


def test_an_owner_that_dies_before_its_first_commit_leaves_a_table_joining() -> None:
    old, new = (
        Part(made.tasks[0], Names("orders"), TP, made.version, 1) for made in (smaller, topology)
    )
    store = MemoryStore()
    store.apply([(META, old.meta(TaskState(commit=5)))])

    def opened() -> TaskState:
        meta = store.get([META])[0]
        assert meta is not None
        return new.taken_up(decode_meta(meta)[0], meta)

    joining = {"orders-orders-rows": 0, "orders-per-minute-rows": 5}
    assert named(new, opened()) == joining
    store.apply(takeover(new, opened(), store, (), 0, provisional=True).changes)
    assert named(new, opened()) == joining
    assert named(new, replace(opened(), commit=6)) == dict.fromkeys(joining, 6)


def buffer(after: int | None, start: int = 0) -> Buffer:
    return Buffer(TopicPartition("rows", 0), start, after)


def take(held: Buffer, commit: int, previous: int | None, **more: int | bool) -> None:
    trailer = Trailer(commit=commit, previous=previous, chunks=0, layout=LAYOUT, **more)  # type: ignore[arg-type]
    record = encode_trailer(trailer)
    held.take(held.position, record.value, record.headers)


def test_the_first_trailer_of_a_table_names_none_before_it() -> None:
    held = buffer(after=None)
    take(held, 8, None)
    take(held, 9, 8)
    assert held.commits == 2
    take(held, 12, None)
    assert held.commits == 3


@pytest.mark.parametrize(("commit", "previous"), [(1, None), (8, None), (10, 7), (12, 11)])
def test_what_is_older_or_leaves_some_out_does_not_join(commit: int, previous: int | None) -> None:
    held = buffer(after=8, start=5)
    with pytest.raises(SinkRefused, match="commits were lost, or two owners"):
        take(held, commit, previous)


def test_an_owner_that_knows_no_commit_of_a_table_voids_none_that_waits() -> None:
    held = buffer(after=8, start=5)
    take(held, 0, None, epoch=1, provisional=True)
    take(held, 12, None, epoch=1, provisional=True)
    with pytest.raises(SinkRefused, match="names commit 0 as its last, but the last one here is"):
        take(held, 0, None, epoch=2, provisional=True)
    take(held, 12, 12, epoch=1, provisional=True)
    assert held.commits == 1
