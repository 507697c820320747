"""The end of a transaction whose request or answer is lost, late, or the last of its connection.

The task cannot know what became of it. It does not try to: it is taken up again, which settles it
on the broker, and its changelog tells. A proxy between client and broker makes the trouble.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.broker import Broker
from streamflow.clock import SystemClock
from streamflow.core.names import Names
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.edges.kafka_changelog import KafkaChangelog
from streamflow.edges.kafka_outbox import KafkaOutbox
from streamflow.edges.memory import MemoryStore
from streamflow.engine.task import Task
from streamflow.engine.task_ports import TaskPorts
from streamflow.errors import TaskLost
from tests.chaos.log import TOPICS, Logged, in_topics, read
from tests.chaos.oracle import expected
from tests.chaos.proxy import END_TXN, Proxy, Trouble, Way, proxied
from tests.chaos.readings import readings
from tests.chaos.topology import topology

READINGS, FIRST, SECOND = 900, 300, 600
#: A step that takes longer is given up: long enough for any that meets no trouble.
STEP_SECONDS = 8.0
(PLAN,) = topology.tasks


class Rig:
    """One task on one partition, whose producer goes through a proxy."""

    def __init__(self, kafka: Broker, proxy: Proxy, app: str) -> None:
        self.kafka, self.proxy = kafka, proxy
        self.names = Names(app, f"{app}.")
        self.tp = TopicPartition(self.names.topic("readings"), 0)
        self.changelog = TopicPartition(self.names.changelog("readings"), 0)
        self.log: list[Logged] = []
        self._store = MemoryStore()

    async def prepare(self) -> None:
        """Make all topics, and fill the source."""
        names = [self.tp.topic, self.changelog.topic]
        names += [self.names.topic(topic) for topic in PLAN.output_topics]
        names += [self.names.rows(sink.name) for sink in PLAN.all_sinks]
        connection: dict[str, Any] = {"bootstrap_servers": self.kafka.bootstrap}
        async with KafkaAdmin(connection) as admin:
            await admin.create([TopicSpec(name, 1, {"retention.ms": "-1"}) for name in names])
        producer = AIOKafkaProducer(**connection)
        await producer.start()
        try:
            sent = [
                await producer.send(self.tp.topic, value, key)
                for key, value in islice(readings(3), READINGS)
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()
        self.log = await read(self.kafka.bootstrap, self.tp.topic)

    def task(self) -> Task:
        """A new life of the task, on the same local state."""
        direct = {"bootstrap_servers": self.kafka.bootstrap}
        outbox = KafkaOutbox(
            {"bootstrap_servers": self.proxy.bootstrap},
            self.names.producer(self.tp),
            self.names.app,
            seconds=STEP_SECONDS,
        )
        ports = TaskPorts(
            outbox, KafkaChangelog(direct, self.changelog), self._store, SystemClock()
        )
        return Task(PLAN, self.names, self.tp, ports, partitions=1, version=topology.version)

    def batch(self, start: int, stop: int) -> MicroBatch:
        records = self.log[start:stop]
        return MicroBatch(
            self.tp,
            start,
            stop,
            [record.offset for record in records],
            [record.key for record in records],
            [record.value for record in records],
            [0 for _ in records],
            [() for _ in records],
        )

    async def exact(self) -> None:
        """Everything is in the topics, once."""
        topics = {name: await read(self.kafka.bootstrap, self.names.topic(name)) for name in TOPICS}
        found, _ = in_topics(topics, self.tp.topic)
        wanted = expected(self.log)
        assert found == {name: wanted[name] for name in TOPICS}


async def until_unknown(rig: Rig) -> None:
    """One commit goes well; the second meets the trouble, and nobody knows what became of it."""
    task = rig.task()
    assert await task.open(0) == 0
    await task.receive(rig.batch(0, FIRST))
    assert await task.commit()
    await task.receive(rig.batch(FIRST, SECOND))
    with pytest.raises(TaskLost, match="commit failed: TimeoutError"):
        await task.commit()
    await task.close()


async def finish(rig: Rig, task: Task, position: int) -> None:
    await task.receive(rig.batch(position, READINGS))
    task.end_of_input()
    assert await task.commit()
    await task.close()


def second(rig: Rig, way: Way, then: asyncio.Event | None) -> None:
    """The second end of a transaction is dropped, or waits."""
    rig.proxy.trouble(Trouble(END_TXN, way))
    rig.proxy.trouble(Trouble(END_TXN, way, drop=then is None, then=then))


async def an_answer_is_lost(rig: Rig) -> None:
    second(rig, "answer", None)
    await until_unknown(rig)
    task = rig.task()
    assert await task.open(0) == SECOND
    await finish(rig, task, SECOND)


async def an_answer_is_late(rig: Rig) -> None:
    gate = asyncio.Event()
    second(rig, "answer", gate)
    await until_unknown(rig)
    task = rig.task()
    assert await task.open(0) == SECOND
    gate.set()
    await finish(rig, task, SECOND)


async def a_request_is_lost(rig: Rig) -> None:
    second(rig, "request", None)
    await until_unknown(rig)
    task = rig.task()
    assert await task.open(0) == FIRST
    await finish(rig, task, FIRST)


async def a_request_is_late(rig: Rig) -> None:
    """It comes when the next life has fenced it, and is refused."""
    gate = asyncio.Event()
    second(rig, "request", gate)
    await until_unknown(rig)
    task = rig.task()
    assert await task.open(0) == FIRST
    answered = rig.proxy.trouble(Trouble(END_TXN, "answer"))
    gate.set()
    await answered.met.wait()
    await finish(rig, task, FIRST)


async def connections_are_cut(rig: Rig) -> None:
    """Before the broker hears of the end, before the client hears the answer, and all at once."""
    task = rig.task()
    await task.open(0)
    troubles = [rig.proxy.trouble(Trouble(END_TXN, way, cut=True)) for way in ("request", "answer")]
    await task.receive(rig.batch(0, FIRST))
    assert await task.commit()
    assert all(trouble.met.is_set() for trouble in troubles)
    assert rig.proxy.cut() > 0
    await finish(rig, task, FIRST)


async def everybody_is_refused(rig: Rig) -> None:
    task = rig.task()
    await task.open(0)
    await task.receive(rig.batch(0, FIRST))
    rig.proxy.refusing = True
    rig.proxy.cut()
    with pytest.raises(TaskLost, match="failed: TimeoutError"):
        await task.commit()
    await task.close()
    again = rig.task()
    with pytest.raises(TaskLost, match="fence failed"):
        await again.open(0)
    await again.close()
    rig.proxy.refusing = False
    last = rig.task()
    assert await last.open(0) == 0
    await finish(rig, last, 0)


STORIES = (
    an_answer_is_lost,
    an_answer_is_late,
    a_request_is_lost,
    a_request_is_late,
    connections_are_cut,
    everybody_is_refused,
)


@pytest.fixture(scope="module")
def told(kafka: Broker) -> dict[Any, BaseException | None]:
    """How each story ended; they are told all at once, since each is mostly waiting."""

    async def tell(story: Callable[[Rig], Awaitable[None]]) -> None:
        async with asyncio.timeout(200), proxied(kafka.port) as proxy:
            rig = Rig(kafka, proxy, f"{story.__name__}-{uuid.uuid4().hex[:8]}")
            await rig.prepare()
            await story(rig)
            await rig.exact()

    async def all_told() -> list[BaseException | None]:
        return await asyncio.gather(*map(tell, STORIES), return_exceptions=True)

    return dict(zip(STORIES, asyncio.run(all_told()), strict=True))


def test_a_commit_whose_answer_is_lost_stands_and_is_not_made_again(told: Any) -> None:
    assert told[an_answer_is_lost] is None


def test_a_commit_whose_answer_comes_too_late_stands_and_is_not_made_again(told: Any) -> None:
    assert told[an_answer_is_late] is None


def test_a_commit_whose_request_is_lost_never_was_and_is_made_again(told: Any) -> None:
    assert told[a_request_is_lost] is None


def test_a_commit_whose_request_comes_after_the_next_owner_s_fence_is_refused(told: Any) -> None:
    assert told[a_request_is_late] is None


def test_a_commit_whose_connection_is_cut_is_asked_for_again_by_the_client(told: Any) -> None:
    assert told[connections_are_cut] is None


def test_a_commit_while_the_broker_refuses_everybody_is_given_up_and_made_again(told: Any) -> None:
    assert told[everybody_is_refused] is None
