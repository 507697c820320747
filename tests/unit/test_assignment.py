"""A worker from assignment to revocation, on a Kafka in memory."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from aiokafka.errors import KafkaConnectionError
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, source, topic
from streamflow.batch import Record, TopicPartition
from streamflow.clock import SystemClock
from streamflow.core.names import Names
from streamflow.edges.memory import (
    MemoryBroker,
)
from streamflow.engine import opening
from streamflow.engine.faults import no_faults
from streamflow.engine.host import Host
from streamflow.engine.inbox import Arrival
from streamflow.engine.settings import Settings
from streamflow.errors import NoBroker, StateRefused, StreamflowError
from tests.unit.memory_world import MemoryWorld
from tests.unit.test_lanes import Consumer, until

AT = datetime(2026, 1, 1, tzinfo=UTC)
TPS = [TopicPartition("clicks", partition) for partition in range(2)]


class Click(BaseModel):
    n: int
    at: AwareDatetime


clicks = source(topic("clicks"), Click, event_time="at")
topology = Topology("clicks", clicks.to(topic("out")), clicks.rejected.to(topic("dlq")))
NAMES = Names("clicks")


class Worker:
    """A host, its consumer, and what it was told."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.log: list[str] = []
        self.consumer = Consumer(self.log)
        clock = SystemClock()
        self.world = MemoryWorld(broker, topology, clock)
        settings = Settings.load(commit_interval=0.01)
        self.host = Host(topology, settings, self.world, clock, no_faults)
        self._broker = broker

    async def assigned(self, tps: Iterable[TopicPartition] = TPS) -> None:
        if self.host.partitions == {}:
            await self.host.prepare(self.consumer)
        await self.host.assign(tps)

    @property
    def ready(self) -> bool:
        lanes = self.host.tasks.values()
        return bool(lanes) and all(lane.is_open for lane in lanes)

    async def bring(self, tp: TopicPartition) -> None:
        """Everything that is in a partition, as the consumer brings it after a seek."""
        lane = self.host.tasks[tp]
        assert lane.task is not None
        await self.host.receive(
            Arrival(self._broker.fetch(tp, lane.task.state.position), lambda: None)
        )


def broker_with(clicks: int) -> MemoryBroker:
    broker = MemoryBroker(int(AT.timestamp() * 1000))
    for name in ("clicks", "out", "dlq", NAMES.changelog("clicks"), NAMES.control.topic):
        broker.create(name, len(TPS))
    for tp in TPS:
        add(broker, tp, range(clicks))
    return broker


def add(broker: MemoryBroker, tp: TopicPartition, numbers: Iterable[int]) -> None:
    for n in numbers:
        broker.append(tp, Record(None, orjson.dumps({"n": n, "at": AT})))


def out(broker: MemoryBroker) -> list[int]:
    return sorted(orjson.loads(record.value or b"")["n"] for record in broker.records("out"))


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        async with asyncio.timeout(30):
            await story()

    asyncio.run(go())


def test_partitions_are_held_until_their_lanes_are_open_and_nobody_waits_for_that() -> None:
    async def story() -> None:
        worker, gate = Worker(broker_with(3)), asyncio.Event()
        worker.world.before_bounds = gate.wait
        await worker.assigned()
        assert worker.host.assigned
        assert not worker.ready
        assert worker.log == ["pause clicks[0]", "pause clicks[1]"]
        worker.log.clear()
        gate.set()
        await until(lambda: worker.ready and len(worker.log) == 4)
        assert sorted(worker.log) == [
            *(f"resume {tp}" for tp in TPS),
            *(f"seek {tp} 0" for tp in TPS),
        ]
        assert all(
            worker.log.index(f"seek {tp} 0") < worker.log.index(f"resume {tp}") for tp in TPS
        )
        await worker.host.close()

    run(story)


@pytest.mark.parametrize("steps", range(12))
def test_partitions_that_are_revoked_while_they_open_leave_nothing_open(steps: int) -> None:
    """However far opening has come; the next assignment opens them as if nothing had been."""

    async def story() -> None:
        broker = broker_with(3)
        worker = Worker(broker)
        await worker.assigned()
        for _ in range(steps):
            await asyncio.sleep(0)
        await worker.host.revoke()
        assert not worker.world.open
        assert not worker.host.tasks
        said = len(worker.log)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(worker.log) == said, "nothing goes on after it"
        await worker.assigned()
        await until(lambda: worker.ready)
        for tp in TPS:
            await worker.bring(tp)
        await until(lambda: len(out(broker)) == 6)
        await worker.host.close()
        assert out(broker) == [0, 0, 1, 1, 2, 2]

    run(story)


@pytest.mark.slow
def test_a_revocation_that_a_client_does_not_hear_of_at_once_leaves_nothing_open() -> None:
    """As `wait_for` of Python 3.11 does, when what it waits for comes with the cancellation."""

    async def story() -> None:
        broker = broker_with(3)
        worker, waits, deaf = Worker(broker), asyncio.Event(), [True]

        async def wait() -> None:
            try:
                await waits.wait()
            except asyncio.CancelledError:
                if not deaf:
                    raise
                deaf.clear()  # one of the two goes on as if nothing had been
                await asyncio.sleep(0.05)

        worker.world.before_bounds = wait
        await worker.assigned()
        await asyncio.sleep(0.01)
        await worker.host.revoke()
        assert not worker.world.open
        going_on = [repr(one.get_coro()) for one in asyncio.all_tasks()]
        assert not [one for one in going_on if "_passed" in one or "_open" in one]
        waits.set()
        await worker.assigned()
        await until(lambda: worker.ready)
        await worker.host.close()

    run(story)


@pytest.mark.slow
def test_a_broker_that_is_away_is_asked_again_until_it_is_back() -> None:
    async def story() -> None:
        worker, tries = Worker(broker_with(3)), iter([KafkaConnectionError(), NoBroker("away")])

        async def away() -> None:
            error = next(tries, None)
            if error is not None:
                raise error

        worker.world.before_bounds = away
        await worker.assigned(TPS[:1])
        await until(lambda: worker.ready)
        assert worker.host.failure is None
        await worker.host.close()

    run(story)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StateRefused("look at it"), "look at it"),
        (ValueError("a defect"), "clicks[0]: cannot be opened, after 2 attempts: ValueError('a d"),
    ],
)
@pytest.mark.slow
def test_what_does_not_pass_stops_the_worker(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "OPENING", replace(opening.OPENING, max_attempts=2))

    async def story() -> None:
        worker = Worker(broker_with(3))

        async def fail() -> None:
            raise error

        worker.world.before_bounds = fail
        await worker.assigned(TPS[:1])
        await worker.host.finished.wait()
        assert isinstance(worker.host.failure, StreamflowError)
        assert str(worker.host.failure).startswith(said)
        await worker.host.close()

    run(story)


def test_a_task_that_another_worker_has_is_given_up_and_the_group_is_asked_who_has_what() -> None:
    async def story() -> None:
        broker = broker_with(2)
        zombie, owner = Worker(broker), Worker(broker)
        await zombie.assigned()
        await until(lambda: zombie.ready)
        await zombie.bring(TPS[0])
        await until(lambda: len(out(broker)) == 2)

        await owner.assigned(TPS[:1])
        await until(lambda: owner.ready)
        add(broker, TPS[0], range(2, 5))
        zombie.log.clear()
        await zombie.bring(TPS[0])
        await until(lambda: "rejoin" in zombie.log)
        assert not zombie.host.tasks[TPS[0]].is_open
        assert zombie.host.tasks[TPS[1]].is_open, "the fence of one says nothing of the other"

        await owner.bring(TPS[0])
        await until(lambda: len(out(broker)) == 5)
        await zombie.host.close()
        await owner.host.close()
        assert out(broker) == [0, 1, 2, 3, 4]
        assert zombie.log.count("rejoin") == 1

    run(story)
