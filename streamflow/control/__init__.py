"""Telling the workers of an app, through its control topic, to pause partitions and to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamflow.batch import TopicPartition
from streamflow.core.names import Names
from streamflow.edges.kafka_admin import KafkaAdmin
from streamflow.edges.kafka_announcer import KafkaAnnouncer
from streamflow.engine.directives import Directive, record_of
from streamflow.errors import SettingsError
from streamflow.service import control_spec
from streamflow.topology import Topology


async def tell(
    connection: Mapping[str, Any],
    topology: Topology,
    names: Names,
    said: Directive,
    *,
    source: str | None = None,
    partitions: Sequence[int] = (),
) -> list[TopicPartition]:
    """Say it of these partitions, of all where none is named; returns them when the broker has it.

    `source` is a topic as the topology names it; without it all its sources are meant.

    Raises:
        SettingsError: there is no such source or partition, or no broker.
    """
    sources = [plan.source.topic for plan in topology.tasks]
    if not sources:
        raise SettingsError("the topology only archives, and archives go on; stop its workers")
    if source is not None and source not in sources:
        raise SettingsError(f"the topology reads {sources}, not {source!r}")
    wanted = [names.source(name) for name in sources if source in (None, name)]
    async with KafkaAdmin(connection) as admin:
        found = await admin.partitions(wanted)
        tps = [tp for topic in wanted for tp in _chosen(topic, found.get(topic), partitions)]
        await admin.create([control_spec(names)])
    announcer = KafkaAnnouncer(connection, names.control)
    try:
        await announcer.publish([record_of(tp, said) for tp in tps])
    finally:
        await announcer.close()
    return tps


def _chosen(topic: str, count: int | None, partitions: Sequence[int]) -> list[TopicPartition]:
    if count is None:
        raise SettingsError(f"source topic {topic!r} does not exist")
    for partition in partitions:
        if partition not in range(count):
            raise SettingsError(f"{topic} has the partitions 0 to {count - 1}, and no {partition}")
    return [TopicPartition(topic, partition) for partition in partitions or range(count)]
