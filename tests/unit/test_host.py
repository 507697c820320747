"""A host over ports in memory: what stops a worker that is given partitions, and what does not."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamflow.batch import Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.keys import META
from streamflow.core.names import Names
from streamflow.core.part import Part
from streamflow.core.step import TaskState
from streamflow.edges.memory import (
    MemoryBroker,
)
from streamflow.engine.delivery import Delivery
from streamflow.engine.faults import no_faults
from streamflow.engine.host import Host
from streamflow.engine.idle_watch import Fetch
from streamflow.engine.inbox import Arrival
from streamflow.engine.seating import Seating
from streamflow.engine.settings import Settings
from streamflow.engine.status import status_of
from streamflow.errors import StateRefused
from tests.laws.orders import order, topology

from .memory_world import MemoryWorld

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TP = TopicPartition("orders", 0)
CHANGELOG = TopicPartition("orders-orders-changelog", 0)


class HurriedClock(SimulatedClock):
    """Five seconds pass each time somebody looks at how long it takes."""

    def monotonic(self) -> float:
        self.advance(timedelta(seconds=5))
        return super().monotonic()


class Consumer:
    """Where a consumer was told to read from."""

    def __init__(self) -> None:
        self.at: dict[Any, int] = {}
        self.seating = Seating()

    async def seek(self, positions: Mapping[Any, int]) -> None:
        self.at |= positions

    async def pause(self, tps: Iterable[Any]) -> None:
        del tps

    async def resume(self, tps: Iterable[Any]) -> None:
        del tps

    async def rejoin(self) -> None:
        raise AssertionError("nobody has fenced this")

    def fetched(self, tp: TopicPartition) -> Fetch | None:
        del tp


@pytest.fixture
def broker() -> MemoryBroker:
    made = MemoryBroker(int(NOW.timestamp() * 1000))
    made.create("orders", 1)
    for second in range(5):
        made.append(TP, order(second))
    return made


async def assigned(
    broker: MemoryBroker,
    consumer: Consumer | None = None,
    delivery: Delivery = "exactly_once",
) -> Host:
    """A worker that was given everything."""
    clock = HurriedClock(NOW)
    world = MemoryWorld(broker, topology, clock, delivery)
    host = Host(topology, Settings.load(), world, clock, no_faults)
    await host.prepare(consumer or Consumer())
    rows = [TopicPartition(topic, 0) for topic in host.rows_topics]
    await host.assign([TP, *rows])
    await settled(host)
    return host


async def settled(host: Host) -> None:
    """Wait until everything is open, or the worker stops."""
    lanes = [*host.tasks.values(), *host.sinks.values()]
    async with asyncio.timeout(20):
        while not (host.finished.is_set() or all(lane.is_open for lane in lanes)):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def work(broker: MemoryBroker) -> None:
    """A worker takes all there is, commits it and leaves."""

    async def go() -> None:
        host = await assigned(broker)
        await host.receive(Arrival(broker.fetch(TP, 0), lambda: None))
        async with asyncio.timeout(5):
            while broker.offsets.get(TP) != 5:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await host.close()
        assert host.failure is None

    asyncio.run(go())


def failure(broker: MemoryBroker) -> str:
    """Why a new worker stops."""

    async def go() -> str:
        host = await assigned(broker)
        await host.close()
        assert isinstance(host.failure, StateRefused)
        return str(host.failure)

    return asyncio.run(go())


def test_without_a_group_offset_work_goes_on_from_the_changelog(broker: MemoryBroker) -> None:
    work(broker)
    del broker.offsets[TP]

    async def go() -> None:
        consumer = Consumer()
        host = await assigned(broker, consumer)
        assert host.failure is None
        assert consumer.at[TP] == 5
        await host.close()

    asyncio.run(go())


def test_a_state_that_has_no_commit_yet_agrees_with_where_it_begins(broker: MemoryBroker) -> None:
    """As owners without transactions leave it where no record has come, and the client says 0."""
    broker.create(CHANGELOG.topic, 1)
    part = Part(topology.tasks[0], Names("orders"), TP, topology.version, 1)
    taken = TaskState(epoch=1, provisional=True, born=5)
    broker.append(CHANGELOG, Record(META, part.meta(taken)))
    broker.offsets[TP] = 0
    work(broker)
    assert broker.offsets[TP] == 5


@pytest.mark.slow
def test_a_group_offset_that_disagrees_names_the_command(broker: MemoryBroker) -> None:
    work(broker)
    broker.offsets[TP] = 3
    said = failure(broker)
    assert said.startswith("orders[0]: the changelog's position is 5, but the group 'orders' has")
    assert "`streamflow state reset TOPOLOGY --source orders --partition 0 --to changelog`" in said


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0, 5])
def test_a_changelog_that_is_gone_is_never_begun_anew_in_silence(
    broker: MemoryBroker, offset: int
) -> None:
    """Also where the group's offset is the one that a new task would begin at."""
    work(broker)
    del broker.topics[CHANGELOG.topic]
    broker.offsets[TP] = offset
    said = failure(broker)
    assert said.startswith(f"orders[0]: the changelog {CHANGELOG} has no state, but the group")
    assert said.endswith("--partition 0 --to group --discard`")


def test_partitions_that_a_source_is_given_stop_the_worker(broker: MemoryBroker) -> None:
    async def go() -> None:
        host = await assigned(broker)
        broker.topics["orders"].append(type(broker.partition(TP))())
        await host.assign([TP, TopicPartition("orders", 1)])
        await settled(host)
        assert host.finished.is_set()
        assert "had 1 partition when this worker started, now it has 2" in str(host.failure)
        assert not any(lane.is_open for lane in host.tasks.values())
        await host.close()

    asyncio.run(go())


def test_without_transactions_a_group_offset_that_lags_is_no_reason_to_stop(
    broker: MemoryBroker,
) -> None:
    work(broker)
    broker.offsets[TP] = 2

    async def go(delivery: Delivery) -> int:
        consumer = Consumer()
        host = await assigned(broker, consumer, delivery)
        assert host.failure is None
        assert host.delivery == delivery
        lanes = list(host.tasks.values())
        assert status_of(host.tasks, {}, {}, {}).delivery == delivery
        await host.close()
        assert len(lanes) == 1
        return consumer.at[TP]

    assert asyncio.run(go("at_least_once")) == 5
    assert broker.offsets[TP] == 2
    # Whoever delivers exactly once afterwards settles it with what it writes first.
    assert asyncio.run(go("exactly_once")) == 5
    assert broker.offsets[TP] == 5
