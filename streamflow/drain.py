"""Makes files of all that is in a rows topic, due or not: before its table leaves the topology, or
afterwards.

It is one more owner of the chain of cuts, so it may run beside workers: whoever takes a cut's name
decides it, and the others follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamflow.batch import TopicPartition
from streamflow.clock import SystemClock
from streamflow.core.names import Names
from streamflow.core.sink_spec import SinkSpec
from streamflow.destinations import table_at
from streamflow.edges.kafka_admin import KafkaAdmin, KafkaOffsets
from streamflow.edges.kafka_rows import read_partition
from streamflow.engine.settings import Settings
from streamflow.engine.sink import SinkPartition
from streamflow.engine.sink_roll import Written
from streamflow.errors import SettingsError
from streamflow.schema import LINEAGE, schema_id
from streamflow.service import connection
from streamflow.table_files import open_table
from streamflow.topology import Topology


async def drain(
    topology: Topology,
    settings: Settings,
    sink: str,
    path: str,
    on_progress: Callable[[TopicPartition, Written], None] = lambda tp, written: None,
) -> Written:
    """Roll everything that is committed for a sink; returns what was made visible.

    Args:
        topology: Its app has, or had, the sink.
        settings: Those of its workers.
        sink: The sink's name.
        path: Its table, below the lake.
        on_progress: Called when a partition is done.

    Raises:
        SettingsError: there is no such rows topic.
        TopologyError: the path is none of a table.
        SinkRefused: the chain of cuts does not fit the topic.
        SinkUnavailable: the table did not take a write; it can be tried again.
    """
    names, path = settings.names(topology.name), table_at(path).location
    client, topic, total = connection(settings), names.rows(sink), Written()
    async with KafkaAdmin(client) as admin:
        count = (await admin.partitions([topic])).get(topic)
    if count is None:
        raise SettingsError(f"there is no topic {topic!r}, so sink {sink!r} has no rows left")
    offsets = KafkaOffsets(client)
    await offsets.start()
    try:
        bounds = await offsets.bounds([TopicPartition(topic, p) for p in range(count)])
    finally:
        await offsets.stop()
    for tp, (first, stop) in bounds.items():
        partition = _partition(topology, names, settings, sink, path, tp)
        start = await asyncio.to_thread(partition.open, first, stop)
        async for batch in read_partition(client, tp, start, stop):
            await asyncio.to_thread(partition.receive, batch)
        await asyncio.to_thread(partition.roll)
        total += partition.written
        on_progress(tp, partition.written)
    return total


def _partition(
    topology: Topology, names: Names, settings: Settings, sink: str, path: str, tp: TopicPartition
) -> SinkPartition:
    """Rows carry their layout, so that nothing of what the topology says of the table is needed:
    the columns named here are those that all rows have.
    """
    spec = SinkSpec(
        name=sink,
        path=path,
        schema=LINEAGE,
        schema_id=schema_id(LINEAGE),
        topology=topology.name,
        topology_version=topology.version,
        storage="auto",
    )
    files = open_table(settings, path)
    return SinkPartition(spec, tp, files, clock=SystemClock(), owner=names.app)
