"""The edges of a worker over a Kafka in memory: the world that a `Host` is given in unit tests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from streamflow import Topology
from streamflow.batch import TopicPartition
from streamflow.clock import Clock
from streamflow.core.names import Names
from streamflow.edges.memory import (
    MemoryAnnouncer,
    MemoryBroker,
    MemoryChangelog,
    MemoryOutbox,
    MemoryPlainOutbox,
)
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.delivery import Delivery
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.sharing import MarkPorts
from streamflow.engine.task_ports import TaskPorts
from streamflow.ports import Changelog, TableFiles
from tests.unit.local_states import MemoryStates


class MemoryWorld:
    """A worker's edges; what is in `broker` outlives it, and its stores outlive a task.

    `before_bounds` is awaited before a partition's bounds are told: a broker that is slow, or away.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        topology: Topology,
        clock: Clock,
        delivery: Delivery = "exactly_once",
    ) -> None:
        self.broker = broker
        self.topology = topology
        self.delivery: Delivery = delivery
        self.before_bounds: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)
        self._names = Names(topology.name)
        sources = [plan.source.topic for plan in topology.tasks]
        logs = {source: self._names.changelog(source) for source in sources}
        self.disk = MemoryStates(broker, logs, clock)
        self.open, self.stores = self.disk.open_now, self.disk.disk
        self._clock = clock
        self._files: dict[str, MemoryFiles] = {}

    async def prepare(self) -> Mapping[str, int]:
        """Every topic of the topology; internal ones with as many partitions as their source."""
        for plan in self.topology.tasks:
            width = len(self.broker.topics[plan.source.topic])
            internal = [self._names.rows(sink.name) for sink in plan.all_sinks]
            internal.append(self._names.changelog(plan.source.topic))
            for name in (*plan.output_topics, *internal):
                self.broker.create(name, width)
        self.broker.create(self._names.control.topic, 1)
        return await self.partitions()

    async def ranges(self) -> None:
        return None

    async def partitions(self) -> Mapping[str, int]:
        sources = [plan.source.topic for plan in self.topology.tasks]
        return {topic: len(self.broker.topics[topic]) for topic in sources}

    async def bounds(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        await self.before_bounds()
        logs = {tp: self.broker.partition(tp) for tp in tps}
        return {tp: (log.first_offset, log.next_offset) for tp, log in logs.items()}

    async def group_offset(self, tp: TopicPartition) -> int | None:
        return self.broker.offsets.get(tp)

    async def group_partitions(self) -> Sequence[TopicPartition]:
        return list(self.broker.offsets)

    async def exists(self, topic: str) -> bool:
        return topic in self.broker.topics

    async def trim(self, tp: TopicPartition, before: int) -> None:
        self.broker.partition(tp).trim(before)

    def task_ports(self, tp: TopicPartition) -> TaskPorts:
        outbox = MemoryOutbox if self.delivery == "exactly_once" else MemoryPlainOutbox
        changelog = TopicPartition(self._names.changelog(tp.topic), tp.partition)
        return TaskPorts(
            outbox(self.broker, self._names.producer(tp)),
            MemoryChangelog(self.broker, changelog),
            self.disk.store(tp),
            self._clock,
        )

    @property
    def lookups(self) -> Mapping[str, LookupCounts]:
        return {}

    def states(self) -> MemoryStates:
        return self.disk

    def marks(self, topic: str) -> MarkPorts:
        tp = self._names.watermarks(topic)
        return MarkPorts(MemoryAnnouncer(self.broker, tp), MemoryChangelog(self.broker, tp))

    def log(self, tp: TopicPartition) -> Changelog:
        return MemoryChangelog(self.broker, tp)

    def files(self, table: str) -> TableFiles:
        return self._files.setdefault(table, MemoryFiles())

    async def close(self) -> None:
        assert not self.open
