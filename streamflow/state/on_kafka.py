"""The tasks of an app on Kafka, looked at and settled from outside. No state of a worker's is used:
what is read goes into a temporary folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from streamflow.batch import TopicPartition
from streamflow.clock import SystemClock
from streamflow.counted import counted
from streamflow.edges.kafka_admin import KafkaAdmin, KafkaOffsets
from streamflow.edges.kafka_changelog import KafkaChangelog
from streamflow.edges.kafka_outbox import KafkaOutbox
from streamflow.edges.rocksdb import RocksStore, StateFolder, identity_of
from streamflow.engine.refusals import has_members
from streamflow.engine.settings import Settings
from streamflow.engine.task_ports import TaskPorts
from streamflow.errors import SettingsError
from streamflow.service import connection, topic_specs
from streamflow.state.reset import Reset, carry_out
from streamflow.state.standing import Place, Reading, Standing, look
from streamflow.topology import Topology


class AppStates:
    """Use it as `async with`.

    Raises:
        SettingsError: no broker answers.
    """

    def __init__(self, topology: Topology, settings: Settings) -> None:
        self.names = settings.names(topology.name)
        self._topology = topology
        self._connection = connection(settings)
        self._session_timeout = settings.session_timeout
        self._replicas = settings.replication_factor
        self._clock = SystemClock()
        self._open = AsyncExitStack()
        self._stores: dict[TopicPartition, RocksStore] = {}

    async def __aenter__(self) -> AppStates:
        self._admin = await self._open.enter_async_context(KafkaAdmin(self._connection))
        self._offsets = KafkaOffsets(self._connection)
        await self._offsets.start()
        self._open.push_async_callback(self._offsets.stop)
        folder = self._open.enter_context(TemporaryDirectory(prefix="streamflow-state-"))
        self._folder = StateFolder(Path(folder))
        self._open.callback(self._folder.close)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for store in self._stores.values():
            store.close()
        await self._open.__aexit__(kind, error, trace)

    async def places(self, source: str | None, partition: int | None) -> list[Place]:
        """The tasks of one source, or of all; all partitions, or one.

        Raises:
            SettingsError: there is none of these.
        """
        plans = {plan.source.topic: plan for plan in self._topology.tasks}
        if not plans:
            raise SettingsError("the topology only archives: it has no tasks, and no state")
        if source is not None and source not in plans:
            raise SettingsError(f"the topology has no source {source!r}; it has {sorted(plans)}")
        wanted = [plan for topic, plan in plans.items() if source in (None, topic)]
        counts = await self._admin.partitions([self.names.source(p.source.topic) for p in wanted])
        places: list[Place] = []
        for plan in wanted:
            topic = self.names.source(plan.source.topic)
            if topic not in counts:
                raise SettingsError(f"source topic {topic!r} does not exist")
            if partition is not None and partition >= counts[topic]:
                raise SettingsError(
                    f"{topic!r} has {counted(counts[topic], 'partition')}, no {partition}"
                )
            chosen = range(counts[topic]) if partition is None else [partition]
            places += [
                Place(plan, self.names, TopicPartition(topic, p), counts[topic]) for p in chosen
            ]
        return places

    async def look(self, place: Place) -> Standing:
        """See `standing.look`."""
        topics = [place.changelog.topic, *(rows.topic for rows in place.rows)]
        there = await self._admin.partitions(topics)
        readers = {
            tp: KafkaChangelog(self._connection, tp)
            for tp in (place.changelog, *place.rows)
            if tp.partition < there.get(tp.topic, 0)
        }
        rows = [readers[tp] for tp in place.rows if tp in readers]
        store = self._folder.store(f"{place.tp.topic}-{place.tp.partition}")
        self._stores[place.tp] = store
        reading = Reading(readers.get(place.changelog), rows, store, self._clock)
        bounds = (await self._offsets.bounds([place.tp]))[place.tp]
        group = await self._admin.group_offset(self.names.app, place.tp)
        return await look(place, reading, bounds, group)

    async def changelog(self, place: Place) -> tuple[str, tuple[int, int] | None]:
        """What a local state of this task is of, and its changelog's bounds; None without one."""
        of = identity_of(f"{await self._admin.cluster()} {place.changelog}")
        there = (await self._admin.partitions([place.changelog.topic])).get(place.changelog.topic)
        if there is None or place.changelog.partition >= there:
            return of, None
        return of, (await self._offsets.bounds([place.changelog]))[place.changelog]

    async def refuse_members(self) -> None:
        """Raises `StateRefused` while workers of the app are at work, or not known to be gone."""
        members = await self._admin.members(self.names.app)
        if members:
            raise has_members(self.names.app, members, self._session_timeout)

    async def carry_out(self, resets: Sequence[Reset]) -> None:
        """Do them one after the other; what was looked at is what is reset."""
        sources = {reset.standing.place.plan.source.topic for reset in resets}
        counts = await self._admin.partitions([self.names.source(s) for s in sources])
        # A changelog that was deleted is made again.
        specs = await topic_specs(self._topology, self.names, self._admin, counts, self._replicas)
        await self._admin.create(specs)
        for reset in resets:
            place = reset.standing.place
            ports = TaskPorts(
                KafkaOutbox(self._connection, self.names.producer(place.tp), self.names.app),
                KafkaChangelog(self._connection, place.changelog),
                self._stores[place.tp],
                self._clock,
            )
            try:
                await carry_out(reset, ports, version=self._topology.version)
            finally:
                await ports.outbox.close()
                await ports.changelog.close()
