"""Lanes whose stages wait for answers: nobody else waits, and nothing is lost or done twice."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, per_key, source, topic
from streamflow.batch import Record, TopicPartition
from streamflow.clock import SystemClock
from streamflow.core.names import Names
from streamflow.edges.memory import MemoryBroker, MemoryChangelog, MemoryOutbox, MemoryStore
from streamflow.engine.inbox import PATIENCE_SECONDS, QUEUE_BATCHES, Arrival
from streamflow.engine.lookups import Lookups, no_wait
from streamflow.engine.pauses import Pauses
from streamflow.engine.retries import FOR_EVER
from streamflow.engine.task import Task, TaskLimits
from streamflow.engine.task_lane import TaskLane
from streamflow.engine.task_ports import TaskPorts
from streamflow.enrich import OnLookupError
from streamflow.errors import StreamflowError
from streamflow.ports import StateStore
from streamflow.retry import RetryPolicy
from tests.unit.test_lanes import Consumer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST, SECOND = (TopicPartition("sales", partition) for partition in range(2))


#: As often as a call is made before the task is taken up again.
ATTEMPTS = 3


class Sale(BaseModel):
    sku: str
    partition: int
    at: AwareDatetime


class Priced(BaseModel):
    sku: str
    partition: int
    cents: int | None


class Service:
    """Answers at once, but for what is `held`, and fails as often as is said."""

    def __init__(self, failures: int = 0) -> None:
        self.held = asyncio.Event()
        self.failures = failures
        self.under_way = 0
        self.most = 0

    async def price(self, sku: str) -> dict[str, int]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if sku == "held":
                await self.held.wait()
            if sku == "flaky" and self.failures:
                self.failures -= 1
                raise ConnectionError("away")
            await asyncio.sleep(0)
            return {"cents": len(sku)}
        finally:
            self.under_way -= 1


class Broker(Consumer):
    """A consumer that brings what was sought, but not of a partition that is paused."""

    def __init__(self, log: list[str], worker: "Worker") -> None:
        super().__init__(log)
        self._worker = worker
        self._sought: dict[TopicPartition, int] = {}

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        await super().seek(positions)
        self._sought |= positions
        await self._bring(tp for tp in positions if not self._worker.pauses.reasons(tp))

    async def resume(self, tps: Iterable[TopicPartition]) -> None:
        await super().resume(tps)
        await self._bring(tps)

    async def _bring(self, tps: Iterable[TopicPartition]) -> None:
        for tp in tps:
            if tp in self._sought:
                await self._worker.feed(tp, self._sought.pop(tp))


class Worker:
    """Lanes of two partitions that share what answers, on a Kafka in memory."""

    def __init__(
        self,
        service: Service,
        on_error: OnLookupError = "retry",
        concurrency: int = 2,
        limits: TaskLimits | None = None,
        **more: Any,
    ) -> None:
        sales = source(topic("sales"), Sale, key="sku", event_time="at")
        look_up = per_key(service.price)
        priced = sales.enrich(
            Priced, look_up, key="sku", on_error=on_error, concurrency=concurrency, **more
        )
        topology = Topology("sales", priced.to(topic("out")), sales.rejected.to(topic("dlq")))
        (self._plan,), self._version = topology.tasks, topology.version
        self.broker = MemoryBroker(int(NOW.timestamp() * 1000))
        self._names = Names("sales")
        for name in ("sales", "dlq", self._names.changelog("sales")):
            self.broker.create(name, 2)
        self.broker.create("out", 1)
        self.stores = {tp: MemoryStore() for tp in (FIRST, SECOND)}
        self._limits = limits or TaskLimits(records=1)
        self.lookups = Lookups(SystemClock(), wait=no_wait)
        self.log: list[str] = []
        self.consumer = Broker(self.log, self)
        self.pauses = Pauses(self.consumer)
        self.lanes = {tp: self.lane(tp) for tp in (FIRST, SECOND)}

    def lane(
        self,
        tp: TopicPartition,
        on_refused: Callable[[StreamflowError], None] | None = None,
        retry: RetryPolicy = FOR_EVER,
    ) -> TaskLane:
        async def bounds() -> tuple[int, int]:
            return 0, self.broker.partition(tp).next_offset

        async def seek(tp: TopicPartition, position: int) -> None:
            await self.consumer.seek({tp: position})

        lane = TaskLane(
            tp,
            lambda: self._task(tp),
            bounds,
            seek,
            self.pauses,
            on_refused or refused,
            interval=0.01,
            bounded=False,
        )
        lane.retry = retry
        return lane

    def store(self, tp: TopicPartition) -> StateStore:
        """The local state of a task, for each of its lives."""
        return self.stores[tp]

    async def fence(self, tp: TopicPartition) -> None:
        """Somebody else takes the partition for a moment: the task is lost at its next commit."""
        await MemoryOutbox(self.broker, self._names.producer(tp)).fence()

    def _task(self, tp: TopicPartition) -> Task:
        changelog = TopicPartition(self._names.changelog("sales"), tp.partition)
        ports = TaskPorts(
            MemoryOutbox(self.broker, self._names.producer(tp)),
            MemoryChangelog(self.broker, changelog),
            self.store(tp),
            SystemClock(),
            answer=self.lookups.answer,
        )
        return Task(
            self._plan,
            self._names,
            tp,
            ports,
            partitions=2,
            version=self._version,
            limits=self._limits,
        )

    async def start(self) -> None:
        for lane in self.lanes.values():
            await lane.open()
            lane.start()

    async def send(self, tp: TopicPartition, *skus: str) -> None:
        start = self.broker.partition(tp).next_offset
        for sku in skus:
            value = orjson.dumps({"sku": sku, "partition": tp.partition, "at": NOW})
            self.broker.append(tp, Record(sku.encode(), value))
        await self.feed(tp, start)

    async def feed(self, tp: TopicPartition, start: int) -> None:
        if self.broker.partition(tp).next_offset > start:
            await self.lanes[tp].put(Arrival(self.broker.fetch(tp, start), lambda: None))

    def out(self, tp: TopicPartition) -> list[tuple[str, int]]:
        rows = [orjson.loads(record.value or b"") for record in self.broker.records("out")]
        return [(row["sku"], row["cents"]) for row in rows if row["partition"] == tp.partition]

    async def close(self) -> None:
        for lane in self.lanes.values():
            await lane.close(1)


def refused(error: StreamflowError) -> None:
    raise error


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110
        await asyncio.sleep(0)


def go(test: Callable[[], Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await test()

    asyncio.run(bounded())


def test_a_partition_that_waits_for_an_answer_holds_nobody_up() -> None:
    async def test() -> None:
        service = Service()
        worker = Worker(service)
        await worker.start()
        await worker.send(FIRST, "tea", "held", "milk")
        await until(lambda: service.under_way == 1)
        for done in range(1, 4):
            await worker.send(SECOND, "tea")
            await until(lambda: len(worker.out(SECOND)) == done)  # noqa: B023
        assert worker.out(FIRST) == []
        service.held.set()
        await until(lambda: bool(worker.out(FIRST)))
        assert worker.out(FIRST) == [("tea", 3), ("held", 4), ("milk", 4)]
        await worker.close()

    go(test)


def test_all_partitions_together_have_no_more_calls_under_way_than_is_said() -> None:
    async def test() -> None:
        service = Service()
        worker = Worker(service, concurrency=1)
        await worker.start()
        await worker.send(FIRST, "a", "b", "c")
        await worker.send(SECOND, "d", "e", "f")
        await until(lambda: len(worker.out(FIRST)) == len(worker.out(SECOND)) == 3)
        assert service.most == 1
        await worker.close()

    go(test)


def test_what_waits_for_an_answer_when_the_partition_is_revoked_is_done_by_its_next_owner() -> None:
    async def test() -> None:
        service = Service()
        worker = Worker(service)
        await worker.start()
        await worker.send(FIRST, "tea")
        await until(lambda: len(worker.out(FIRST)) == 1)
        await worker.send(FIRST, "milk", "held")
        await until(lambda: service.under_way == 1)
        await worker.lanes[FIRST].close(0.01)
        assert service.under_way == 0
        assert worker.out(FIRST) == [("tea", 3)]
        service.held.set()
        lane = worker.lanes[FIRST] = worker.lane(FIRST)
        position = await lane.open()
        assert position == 1
        lane.start()
        await worker.feed(FIRST, position)
        await until(lambda: len(worker.out(FIRST)) == 3)
        assert worker.out(FIRST) == [("tea", 3), ("milk", 4), ("held", 4)]
        await worker.close()

    go(test)


def test_a_lookup_that_fails_for_some_time_is_tried_again_and_nothing_is_lost() -> None:
    async def test() -> None:
        worker = Worker(Service(failures=ATTEMPTS))
        await worker.start()
        await worker.send(FIRST, "tea", "flaky", "milk")
        await until(lambda: len(worker.out(FIRST)) == 1)  # all before it
        await until(lambda: len(worker.out(FIRST)) == 3)
        assert worker.out(FIRST) == [("tea", 3), ("flaky", 5), ("milk", 4)]
        await worker.close()

    go(test)


def test_whoever_brings_batches_of_all_partitions_is_not_held_up_by_one_that_waits() -> None:
    async def test() -> None:
        service = Service()
        worker = Worker(service)
        await worker.start()
        await worker.send(FIRST, "held")
        await until(lambda: service.under_way == 1)
        for _ in range(QUEUE_BATCHES):
            await worker.send(FIRST, "tea")
        assert worker.log == []
        for _ in range(2):  # the second was on its way
            await worker.send(FIRST, "milk")
            assert worker.log == ["pause sales[0]"]
        await worker.send(SECOND, "tea")
        await until(lambda: len(worker.out(SECOND)) == 1)
        service.held.set()
        await until(lambda: len(worker.out(FIRST)) == QUEUE_BATCHES + 3)
        wanted = [("held", 4), *[("tea", 3)] * QUEUE_BATCHES, *[("milk", 4)] * 2]
        assert worker.out(FIRST) == wanted
        assert worker.log == ["pause sales[0]", "resume sales[0]"]
        await worker.close()

    go(test)


def test_a_lane_that_was_closed_while_it_waited_leaves_no_pause_behind() -> None:
    async def test() -> None:
        service = Service()
        worker = Worker(service)
        await worker.start()
        await worker.send(FIRST, "held")
        await until(lambda: service.under_way == 1)
        for _ in range(QUEUE_BATCHES + 1):
            await worker.send(FIRST, "tea")
        await worker.lanes[FIRST].close(0.01)
        await worker.send(FIRST, "tea")
        assert worker.pauses.reasons(FIRST) == frozenset()
        assert worker.log == ["pause sales[0]", "resume sales[0]"]
        await worker.close()

    go(test)


def test_what_comes_while_a_task_is_lost_is_brought_again_by_its_seek() -> None:
    async def test() -> None:
        worker = Worker(Service(failures=ATTEMPTS))
        await worker.start()
        lane = worker.lanes[FIRST]
        await worker.send(FIRST, "flaky")
        await until(lambda: not lane.is_open)
        await worker.send(FIRST, "tea")
        await worker.send(FIRST, "milk")
        assert worker.log == ["pause sales[0]"]
        await until(lambda: len(worker.out(FIRST)) == 3)
        assert worker.out(FIRST) == [("flaky", 5), ("tea", 3), ("milk", 4)]
        assert worker.log == ["pause sales[0]", "seek sales[0] 0", "resume sales[0]"]
        await worker.close()

    go(test)


def test_a_lane_that_only_computes_lets_whoever_brings_batches_wait() -> None:
    async def test() -> None:
        worker = Worker(Service())
        lane = worker.lanes[FIRST]
        await lane.open()
        for _ in range(QUEUE_BATCHES):
            await worker.send(FIRST, "tea")
        bringing = asyncio.create_task(worker.send(FIRST, "milk"))
        await asyncio.wait({bringing}, timeout=2 * PATIENCE_SECONDS)
        assert not bringing.done()
        lane.start()
        await bringing
        await until(lambda: len(worker.out(FIRST)) == QUEUE_BATCHES + 1)
        assert worker.log == []
        await worker.close()

    go(test)


def test_a_lane_that_is_closed_lets_go_of_whoever_brings_batches() -> None:
    async def test() -> None:
        worker = Worker(Service())
        for _ in range(QUEUE_BATCHES):
            await worker.send(FIRST, "tea")
        bringing = asyncio.create_task(worker.send(FIRST, "milk"))
        await asyncio.sleep(0)
        assert not bringing.done()
        await worker.lanes[FIRST].close(0)
        await bringing
        assert worker.log == []

    go(test)
