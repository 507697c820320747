"""Makes sure of the topic before anything is sent to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamflow.counted import counted
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.errors import SettingsError
from streamflow.produce.limits import Limits

#: Partitions of a topic that is made without saying how many.
PARTITIONS = 4


async def existing_topic(connection: Mapping[str, Any], topic: str) -> tuple[int, Limits]:
    """Partitions and limits of a topic.

    Raises:
        SettingsError: it does not exist.
    """
    async with KafkaAdmin(connection) as admin:
        found = (await admin.partitions([topic])).get(topic)
        if found is None:
            raise SettingsError(
                f"topic {topic!r} does not exist; `streamflow produce {topic} --create` makes it "
                f"with {PARTITIONS} partitions, --partitions N with N"
            )
        return found, Limits.of(await admin.config(topic))


async def made_topic(
    connection: Mapping[str, Any], topic: str, partitions: int | None
) -> tuple[int, Limits]:
    """As `existing_topic`, and it is made if it does not exist. It keeps its records for ever.

    Raises:
        SettingsError: it exists with a number of partitions other than the one asked for.
    """
    spec = TopicSpec(topic, partitions or PARTITIONS, {"retention.ms": "-1"})
    async with KafkaAdmin(connection) as admin:
        await admin.create([spec])
    found, limits = await existing_topic(connection, topic)
    if partitions is not None and found != partitions:
        raise SettingsError(
            f"topic {topic!r} exists and has {counted(found, 'partition')}, not {partitions};"
            " leave out "
            "--partitions, or send to another topic"
        )
    return found, limits
