"""Where a topology meets the real world: Kafka, RocksDB, file systems and object stores.

This is the composition root of a worker: the one module besides the command line that knows both
the engine and the edges.
"""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from streamflow.batch import TopicPartition
from streamflow.clock import SystemClock
from streamflow.core.journal import LIVE, Execution
from streamflow.core.masking import require_key
from streamflow.core.names import Names
from streamflow.edges.kafka_admin import LOOK_MS, KafkaAdmin, KafkaOffsets, TopicSpec
from streamflow.edges.kafka_announcer import KafkaAnnouncer
from streamflow.edges.kafka_changelog import KafkaChangelog
from streamflow.edges.kafka_limits import KafkaLimits
from streamflow.edges.kafka_outbox import KafkaOutbox
from streamflow.edges.kafka_plain_outbox import KafkaPlainOutbox
from streamflow.edges.kafka_runs import take_up_run
from streamflow.engine.app import StreamflowApp, faust_settings
from streamflow.engine.archive_feed import archives_of
from streamflow.engine.broker_wait import BrokerWait
from streamflow.engine.chain import Table
from streamflow.engine.chosen import NEEDED, Chosen, chosen
from streamflow.engine.delivery import Delivery
from streamflow.engine.faults import faults_from_environment
from streamflow.engine.host import Host
from streamflow.engine.journal import Journal
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.lookups import Lookups
from streamflow.engine.settings import COMMAND_WAIT, Settings
from streamflow.engine.sharing import MarkPorts
from streamflow.engine.suspects import Suspects
from streamflow.engine.task_ports import TaskPorts
from streamflow.errors import CheckFailed, SettingsError
from streamflow.ports import Changelog, Outbox
from streamflow.ranges import Ranges
from streamflow.states import WorkerStates
from streamflow.table_files import open_table
from streamflow.topology import Topology
from streamflow.whoever import whoever

log = logging.getLogger(__name__)

#: Dead letters hold the record and its context: the source's limit and this much more.
LETTER_BYTES = 64 * 1024
#: Entries of a commit without transactions that a crash has left unmarked are mended by the next
#: owner (`engine/marked.py`); for this long the log is not compacted without it.
COMPACTION_LAG_MS = 3_600_000
LAG = "min.compaction.lag.ms"


def connection(settings: Settings) -> dict[str, Any]:
    """What every Kafka client of this worker is given."""
    return {"bootstrap_servers": settings.broker}


def looking(client: dict[str, Any]) -> dict[str, Any]:
    """The same for a client that finds out whether a broker answers at all."""
    return {**client, "request_timeout_ms": LOOK_MS}


async def broker_answers(settings: Settings) -> None:
    """At the start of a command that a person waits for.

    Raises:
        NoBroker: none has answered within `STREAMFLOW_BROKER_WAIT`, or three seconds.
    """

    async def look() -> None:
        async with KafkaAdmin(looking(connection(settings))):
            pass

    wait = BrokerWait(settings.wait_for_broker(COMMAND_WAIT), SystemClock())
    await wait.through(look)


class KafkaWorld:
    """A `World` of Kafka topics, RocksDB states, and files of tables."""

    def __init__(self, topology: Topology, settings: Settings, names: Names) -> None:
        self._topology = topology
        self._settings = settings
        self._names = names
        self._ranges: Ranges | None = None
        self._connection = connection(settings)
        self._clock = SystemClock()
        self._faults = faults_from_environment()
        self._lookups = Lookups(self._clock)
        self._states: WorkerStates | None = None
        self._offsets: KafkaOffsets | None = None
        self._chosen = Chosen(settings.delivery)
        self._limits: KafkaLimits | None = None
        self._suspects: defaultdict[TopicPartition, Suspects] = defaultdict(Suspects)
        self._files: dict[str, Table] = {}
        self._sources = {names.source(p.source.topic): p for p in topology.tasks}

    @property
    def delivery(self) -> Delivery:
        """See `World.delivery`."""
        return self._chosen.delivery

    async def prepare(self) -> Mapping[str, int]:
        """See `World.prepare`."""
        async with KafkaAdmin(looking(self._connection)) as admin:
            self._chosen = chosen(tuple(await admin.lacks(NEEDED)), self._settings)
            if self._chosen.words is not None:
                log.error("%s", self._chosen.words)
            read = [*self._sources, *archives_of(self._topology, self._names)]
            found = await admin.partitions(read)
            missing = [topic for topic in read if topic not in found]
            if missing:
                raise CheckFailed(
                    [
                        f"source topic {topic!r} does not exist; make it: `streamflow produce "
                        f"{topic} FILE --create`, or `streamflow check` with --create-topics"
                        for topic in missing
                    ]
                )
            found = {topic: found[topic] for topic in self._sources}
        if self._offsets is None:
            offsets = KafkaOffsets(self._connection)
            await offsets.start()
            self._offsets = offsets
        if self._settings.run_id is not None:
            self._ranges = await self._run(found)
        async with KafkaAdmin(self._connection) as admin:
            replicas = self._settings.replication_factor
            specs = await topic_specs(self._topology, self._names, admin, found, replicas)
            await admin.create(specs)
            if self.delivery == "at_least_once":
                await keep_uncompacted(admin, specs)
            cluster = await admin.cluster()
        self._limits = KafkaLimits(self._connection, [spec.name for spec in specs], self._clock)
        self._states = WorkerStates(
            self._settings,
            self._names.app,
            {topic: (self._changelog(topic), count) for topic, count in found.items()},
            cluster,
            self._clock,
            self._connection,
        )
        return found

    def _changelog(self, topic: str) -> str:
        return self._names.changelog(self._sources[topic].source.topic)

    async def _run(self, partitions: Mapping[str, int]) -> Ranges:
        tps = [TopicPartition(topic, p) for topic, n in partitions.items() for p in range(n)]
        words = (self._settings.run_from, self._settings.run_to)
        return await take_up_run(
            self._connection, self._names, self._topology.tasks, words, await self.bounds(tps)
        )

    async def ranges(self) -> Ranges | None:
        """See `World.ranges`."""
        return self._ranges

    async def partitions(self) -> Mapping[str, int]:
        """See `World.partitions`."""
        async with KafkaAdmin(self._connection) as admin:
            return await admin.partitions(list(self._sources))

    async def bounds(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """See `World.bounds`."""
        assert self._offsets is not None
        return await self._offsets.bounds(tps)

    async def group_offset(self, tp: TopicPartition) -> int | None:
        """See `World.group_offset`."""
        async with KafkaAdmin(self._connection) as admin:
            return await admin.group_offset(self._names.app, tp)

    async def group_partitions(self) -> Sequence[TopicPartition]:
        """See `World.group_partitions`."""
        async with KafkaAdmin(self._connection) as admin:
            return await admin.group_partitions(self._names.app)

    async def exists(self, topic: str) -> bool:
        """See `World.exists`."""
        async with KafkaAdmin(self._connection) as admin:
            return bool(await admin.partitions([topic]))

    async def trim(self, tp: TopicPartition, before: int) -> None:
        """See `World.trim`."""
        async with KafkaAdmin(self._connection) as admin:
            await admin.trim(tp, before)

    def task_ports(self, tp: TopicPartition) -> TaskPorts:
        """See `World.task_ports`."""
        assert self._limits is not None
        states = self.states()
        return TaskPorts(
            self._outbox(tp, self._limits.batch_bytes),
            KafkaChangelog(self._connection, states.changelog(tp)),
            states.store(tp),
            self._clock,
            self._faults,
            self._lookups.answer,
            self._limits.read,
            self._suspects[tp],
            self._settings.masks,
        )

    @property
    def lookups(self) -> Mapping[str, LookupCounts]:
        """See `World.lookups`."""
        return self._lookups.counts

    def _outbox(self, tp: TopicPartition, batch_bytes: Callable[[str], int]) -> Outbox:
        given = self._connection, self._names.producer(tp), self._names.app, batch_bytes
        if self._chosen.delivery == "exactly_once":
            return KafkaOutbox(*given)
        return KafkaPlainOutbox(*given, has_ids=self._chosen.has_ids)

    def states(self) -> WorkerStates:
        """See `World.states`."""
        assert self._states is not None, "prepare() comes first"
        return self._states

    def marks(self, topic: str) -> MarkPorts:
        """See `World.marks`."""
        tp = self._names.watermarks(self._sources[topic].source.topic)
        return MarkPorts(KafkaAnnouncer(self._connection, tp), KafkaChangelog(self._connection, tp))

    def log(self, tp: TopicPartition) -> Changelog:
        """See `World.log`."""
        return KafkaChangelog(self._connection, tp)

    def files(self, table: str) -> Table:
        """See `World.files`."""
        if table not in self._files:  # one for all partitions, with its connections
            self._files[table] = open_table(self._settings, table, faults=self._faults)
        return self._files[table]

    async def close(self) -> None:
        """See `World.close`."""
        if self._offsets is not None:
            await self._offsets.stop()
        if self._states is not None:
            self._states.close()


async def keep_uncompacted(admin: KafkaAdmin, specs: Sequence[TopicSpec]) -> None:
    """See that changelogs which an earlier version made are left uncompacted for long enough, too:
    an entry of a commit that never was must not outlive the one it would replace.

    Raises:
        SettingsError: the broker does not let us.
    """
    wanted = {spec.name: spec.config[LAG] for spec in specs if LAG in spec.config}
    for topic, config in (await admin.configs(list(wanted))).items():
        found = config.get(LAG, wanted[topic])  # not every broker knows it
        if int(found) < int(wanted[topic]):
            await admin.set_config(topic, LAG, wanted[topic])
            log.warning("%s: %s was %s ms, now %s", topic, LAG, found, wanted[topic])


async def topic_specs(
    topology: Topology,
    names: Names,
    admin: KafkaAdmin,
    partitions: Mapping[str, int],
    replicas: int | None = None,
) -> list[TopicSpec]:
    """Every topic that a topology needs besides its sources. All keep their records for ever:
    time retention goes by event time, and old events would be gone at once. A source that is not
    in `partitions` has none yet.
    """
    own = control_spec(names), journal_spec(names)
    specs: dict[str, TopicSpec] = {spec.name: spec for spec in own}
    for plan in topology.tasks:
        source = names.source(plan.source.topic)
        count = partitions.get(source)
        if count is None:
            continue
        largest = int((await admin.config(source))["max.message.bytes"])
        keep = {"retention.ms": "-1", "max.message.bytes": str(largest + LETTER_BYTES)}
        rows = {"retention.ms": "-1", "max.message.bytes": str(2 * largest + LETTER_BYTES)}
        lag = {LAG: str(COMPACTION_LAG_MS)}
        compact = {"cleanup.policy": "compact", **lag, **rows}
        wanted = [TopicSpec(names.topic(topic), count, keep) for topic in plan.output_topics]
        wanted.append(TopicSpec(names.changelog(plan.source.topic), count, compact))
        wanted += [TopicSpec(names.rows(sink.name), count, rows) for sink in plan.all_sinks]
        if plan.source.idle_after is not None:
            shared = names.watermarks(plan.source.topic).topic
            wanted.append(TopicSpec(shared, 1, {"cleanup.policy": "compact", "retention.ms": "-1"}))
        specs |= {spec.name: spec for spec in wanted}
    return [replace(spec, replicas=replicas) for spec in specs.values()]


def control_spec(names: Names) -> TopicSpec:
    """The topic through which operators tell the workers of an app what to do."""
    config = {"cleanup.policy": "compact", "retention.ms": "-1"}
    return TopicSpec(names.control.topic, 1, config)


def journal_spec(names: Names) -> TopicSpec:
    """The topic in which workers write down what they have done, for three months."""
    kept = timedelta(days=90) // timedelta(milliseconds=1)
    config = {"cleanup.policy": "compact,delete", "retention.ms": str(kept)}
    return TopicSpec(names.live.journal.topic, 1, config)


def topology_app(topology: Topology, settings: Settings | None = None) -> StreamflowApp:
    """The Faust app of a topology, on Kafka. Opens nothing until it is started.

    Raises:
        SettingsError: a field is sensitive, and there is no key to mask it with.
    """
    chosen = settings or Settings.load()
    require_key(topology.tasks, chosen.masks)
    names = chosen.names(topology.name)
    if names.run is not None and not topology.tasks:
        raise SettingsError(
            f"--run-id {names.run!r}: {topology.name!r} only archives, and its tables have every"
            " record; a run is for what is made of them"
        )
    app = StreamflowApp(**faust_settings(chosen, names.app))

    def make() -> Host:
        world = KafkaWorld(topology, chosen, names)
        return Host(topology, chosen, world, SystemClock(), faults_from_environment())

    def journal(host: Host) -> Journal:
        clock = SystemClock()
        announcer = KafkaAnnouncer(connection(chosen), names.live.journal)
        began = clock.now()
        execution = Execution(
            names.run or LIVE,
            uuid.uuid4().hex[:12],
            chosen.worker_id,
            whoever(),
            topology.name,
            topology.version,
            host.delivery,
            started=began,
            heard=began,
        )
        return Journal(announcer, execution, lambda: host.reading, clock)

    topics = [names.source(plan.source.topic) for plan in topology.tasks]
    topics += [names.rows(sink.name) for plan in topology.tasks for sink in plan.all_sinks]
    sources = topics[: len(topology.tasks)]
    topics += archives_of(topology, names)
    app.run_topology(
        topics,
        make,
        journal,
        tasks=sources,
        replicas=chosen.standby_replicas,
        fetch_memory=chosen.fetch_memory,
    )
    return app
