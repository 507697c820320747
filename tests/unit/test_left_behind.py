"""A table that the topology has no more, while rows of it are in its rows topic only."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from streamflow import Topology, source, topic
from streamflow.batch import TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.names import Names
from streamflow.destinations import Parquet
from streamflow.edges.memory import MemoryBroker
from streamflow.engine.faults import no_faults
from streamflow.engine.host import Host
from streamflow.engine.inbox import Arrival
from streamflow.engine.settings import Settings
from streamflow.engine.sink import SinkPartition
from streamflow.engine.table_spec import table_spec
from tests.laws.orders import Order, order, topology

from .memory_world import MemoryWorld
from .sink_log import Crash
from .test_host import NOW, TP, Consumer, HurriedClock, settled

ORDERS = next(e.destination for e in topology.edges if isinstance(e.destination, Parquet))
ROWS = TopicPartition("orders-orders-rows", 0)
#: The same, without the table of its orders.
smaller = Topology("orders", *(e for e in topology.edges if e.destination != ORDERS))
smallest = Topology("orders", *(e for e in smaller.edges if not isinstance(e.destination, Parquet)))


@pytest.fixture
def world() -> MemoryWorld:
    return committed(topology)


def committed(topology: Topology) -> MemoryWorld:
    """An app that has committed five orders, and rolled none into a file."""
    clock = HurriedClock(NOW)
    broker = MemoryBroker(int(NOW.timestamp() * 1000))
    broker.create("orders", 1)
    for second in range(5):
        broker.append(TP, order(second))
    made = MemoryWorld(broker, topology, clock)

    async def go() -> None:
        host = await started(made, topology)
        await host.receive(Arrival(broker.fetch(TP, 0), lambda: None))
        async with asyncio.timeout(5):
            while broker.offsets.get(TP) != 5:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await host.close()
        assert host.failure is None

    asyncio.run(go())
    return made


async def started(world: MemoryWorld, made: Topology) -> Host:
    world.topology = made
    host = Host(made, Settings.load(), world, SimulatedClock(NOW), no_faults)
    await host.prepare(Consumer())
    read = [*host.source_topics, *host.rows_topics]
    await host.assign([TopicPartition(name, 0) for name in read])
    await settled(host)
    return host


def failure(world: MemoryWorld, made: Topology) -> str:
    """Why a worker of this topology stops; nothing when it does not."""

    async def go() -> str:
        host = await started(world, made)
        await host.close()
        return str(host.failure or "")

    return asyncio.run(go())


def drain(world: MemoryWorld, faults: Callable[[str], None] = no_faults) -> SinkPartition:
    """Roll all that is committed for the table."""
    (sink,) = [s for s in topology.tasks[0].all_sinks if s.name == "orders"]
    files = world.files("orders")
    spec = table_spec(topology, Settings.load().names("orders"), sink)
    partition = SinkPartition(
        spec, ROWS, files, clock=SimulatedClock(NOW), owner="orders", faults=faults
    )
    log = world.broker.partition(ROWS)
    partition.open(log.first_offset, log.next_offset)
    partition.receive(world.broker.fetch(ROWS, 0))
    assert partition.written.rows == 0
    partition.roll()
    return partition


def test_a_worker_that_would_leave_rows_behind_names_the_command(world: MemoryWorld) -> None:
    said = failure(world, smaller)
    assert said.startswith(f"{ROWS}: the topology writes the table 'orders' no more, but rows of")
    assert "`streamflow sink drain TOPOLOGY orders --table orders`" in said
    assert failure(world, topology) == ""


def test_what_is_drained_is_left_behind_no_more(world: MemoryWorld) -> None:
    assert drain(world).written.rows == 5
    assert failure(world, smaller) == ""


def test_a_cut_that_is_not_finished_is_not_rolled(world: MemoryWorld) -> None:
    def die(point: str) -> None:
        if point == "files-written":
            raise Crash

    with pytest.raises(Crash):
        drain(world, die)
    assert world.files("orders").names(private=True)
    assert "rows of it up to commit" in failure(world, smaller)


def test_rows_whose_topic_was_deleted_are_given_up(world: MemoryWorld) -> None:
    del world.broker.topics[ROWS.topic]
    assert failure(world, smaller) == ""


def test_a_commit_without_the_table_knows_it_no_more(world: MemoryWorld) -> None:
    drain(world)
    world.broker.append(TP, order(6))

    async def go() -> None:
        host = await started(world, smaller)
        task = host.tasks[TP].task
        assert task is not None
        assert set(task.tables) == {"orders", "per-minute"}
        await host.receive(Arrival(world.broker.fetch(TP, 5), lambda: None))
        await host.close()
        assert host.failure is None
        assert world.broker.offsets[TP] == 6

    asyncio.run(go())
    assert failure(world, smaller) == ""
    assert "'per-minute' no more" in failure(world, smallest)


def at(path: str) -> Topology:
    """The same, with the table of its orders there."""
    there = replace(ORDERS, path=path)
    edges = [
        replace(e, destination=there) if e.destination == ORDERS else e for e in topology.edges
    ]
    return Topology("orders", *edges)


def test_a_table_does_not_get_the_rows_of_another_whose_topic_has_the_same_name() -> None:
    world = committed(at("lake/orders"))
    words = "the rows in it are of the table 'lake/orders', and not of 'lake-orders'"
    assert words in failure(world, at("lake-orders"))
    assert failure(world, at("lake/orders")) == ""


def elsewhere(world: MemoryWorld) -> Topology:
    """The app with neither its source nor its tables: another source has come."""
    world.broker.create("letters", 1)
    letters = source(topic("letters"), Order, key="country", event_time="at")
    return Topology("orders", letters.to(topic("out")), letters.rejected.to(topic("not-read")))


def test_a_source_that_leaves_with_its_tables_leaves_no_rows_behind(world: MemoryWorld) -> None:
    said = failure(world, elsewhere(world))
    assert said.startswith(f"{ROWS}: the topology writes the table 'orders' no more, but rows of")
    drain(world)
    assert "'per-minute' no more" in failure(world, elsewhere(world))
    del world.broker.topics["orders-per-minute-rows"]
    assert failure(world, elsewhere(world)) == ""


def test_a_source_whose_changelog_is_gone_is_forgotten(world: MemoryWorld) -> None:
    del world.broker.topics["orders-orders-changelog"]
    assert failure(world, elsewhere(world)) == ""


def test_topics_of_others_are_none_of_the_sources() -> None:
    names = Names("app", prefix="test.")
    assert names.changelog_of("test.orders") == names.changelog("orders") == "app-orders-changelog"
    assert names.changelog_of("orders") is None
