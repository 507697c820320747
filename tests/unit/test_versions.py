"""Workers of two versions of a topology in one group, as in the middle of a deployment."""

import asyncio
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Topology, Tumbling, source, topic
from streamflow.batch import Record, TopicPartition
from streamflow.clock import SystemClock
from streamflow.core.names import Names
from streamflow.edges.memory import MemoryBroker
from streamflow.engine.faults import no_faults
from streamflow.engine.host import Host
from streamflow.engine.inbox import Arrival
from streamflow.engine.settings import Settings
from streamflow.errors import StateRefused
from tests.unit.test_host import Consumer, settled

from .memory_world import MemoryWorld

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TP = TopicPartition("clicks", 0)
CHANGELOG = TopicPartition(Names("clicks").changelog("clicks"), 0)


class Click(BaseModel, frozen=True):
    page: str
    at: AwareDatetime


class Views(BaseModel, frozen=True):
    page: str
    window_start: AwareDatetime
    clicks: int


def version(size: timedelta, *more: str) -> Topology:
    """Counts clicks in windows of this size; the counts go to further topics too."""
    clicks = source(topic("clicks"), Click, key="page", event_time="at")
    views = clicks.window(Tumbling(size), by="page").aggregate(Views, clicks=Count())
    outputs = [views.to(topic(name)) for name in ("views", *more)]
    sides = clicks.rejected.to(topic("dlq")), views.late.to(topic("late"))
    return Topology("clicks", *outputs, *sides)


RUNNING, WITH_MORE_OUTPUT, WITH_OTHER_WINDOWS = (
    version(MINUTE),
    version(MINUTE, "copy"),
    version(2 * MINUTE),
)


def click(second: int) -> Record:
    at = NOW - timedelta(days=1) + timedelta(seconds=second)
    return Record(b"a", orjson.dumps({"page": "a", "at": at}))


@pytest.fixture
def broker() -> MemoryBroker:
    made = MemoryBroker(int(NOW.timestamp() * 1000))
    made.create(TP.topic, 1)
    return made


def takes_over(broker: MemoryBroker, topology: Topology, *clicks: Record) -> str:
    """A worker of this version is given the partition, commits all there is and leaves; or why it
    has stopped.
    """
    for record in clicks:
        broker.append(TP, record)
    end = broker.partition(TP).next_offset

    async def go() -> str:
        consumer, clock = Consumer(), SystemClock()
        host = Host(
            topology, Settings.load(), MemoryWorld(broker, topology, clock), clock, no_faults
        )
        await host.prepare(consumer)
        await host.assign([TP])
        await settled(host)
        if host.failure is None and consumer.at[TP] < end:
            await host.receive(Arrival(broker.fetch(TP, consumer.at[TP]), lambda: None))
        await host.close()
        assert host.failure is None or isinstance(host.failure, StateRefused)
        return str(host.failure or "")

    return asyncio.run(go())


def views(broker: MemoryBroker, name: str = "views") -> list[int]:
    """The counts of windows, in the order in which they closed."""
    records = broker.fetch(TopicPartition(name, 0), 0).values
    return [orjson.loads(value or b"")["clicks"] for value in records]


def test_versions_that_read_each_other_s_state_take_turns(broker: MemoryBroker) -> None:
    """Each window is counted once, whoever counted which part of it."""
    assert takes_over(broker, RUNNING, click(0), click(1)) == ""
    assert takes_over(broker, WITH_MORE_OUTPUT, click(2), click(60)) == ""
    assert takes_over(broker, RUNNING, click(61), click(120)) == ""
    assert takes_over(broker, WITH_MORE_OUTPUT, click(180)) == ""
    assert views(broker) == [3, 2, 1]
    assert views(broker, "copy") == [3, 1], "the old version does not write it"
    assert broker.offsets[TP] == 7


@pytest.mark.parametrize(
    ("first", "other"), [(RUNNING, WITH_OTHER_WINDOWS), (WITH_OTHER_WINDOWS, RUNNING)]
)
def test_a_version_that_cannot_read_a_state_stops_and_the_other_goes_on(
    broker: MemoryBroker, first: Topology, other: Topology
) -> None:
    """Also the old one, where a newer one has had the partition: it says that it is out of date."""
    assert takes_over(broker, first, click(0), click(1)) == ""
    before = broker.partition(CHANGELOG).next_offset, broker.offsets[TP], views(broker)
    said = takes_over(broker, other, click(2))
    assert said.startswith(f"{TP}: the state in {CHANGELOG} was written by other windows than this")
    assert "if workers of a newer one run in this group, this one is out of date" in said
    assert said.endswith("--partition 0 --to changelog --discard`")
    assert before == (broker.partition(CHANGELOG).next_offset, broker.offsets[TP], views(broker))

    assert takes_over(broker, first, click(240)) == ""
    assert views(broker) == [3]
    assert broker.offsets[TP] == 4
