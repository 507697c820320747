"""What topics take, by their settings on the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from streamflow.clock import Clock
from streamflow.core.poison import TopicLimits
from streamflow.edges.kafka_admin import KafkaAdmin
from streamflow.edges.kafka_outbox import BATCH_BYTES

#: Settings that were read within this time are taken for the present ones: tasks of a worker ask
#: together, when they are assigned.
FRESH_SECONDS = 10.0
#: Kafka's word for any age.
_ANY = 2**62


class KafkaLimits:
    """The limits of some topics, read again where they are asked for after `FRESH_SECONDS`."""

    def __init__(self, connection: Mapping[str, Any], topics: Sequence[str], clock: Clock) -> None:
        self._connection = connection
        self._topics = topics
        self._clock = clock
        self._known: dict[str, TopicLimits] = {}
        self._read: float | None = None
        self._reading = asyncio.Lock()

    async def read(self) -> Mapping[str, TopicLimits]:
        """The limits by topic. Raises `SettingsError` when no broker answers."""
        async with self._reading:
            now = self._clock.monotonic()
            if self._read is None or now - self._read > FRESH_SECONDS:
                async with KafkaAdmin(self._connection) as admin:
                    found = await admin.configs(self._topics)
                self._known = {topic: limits_of(config) for topic, config in found.items()}
                self._read = self._clock.monotonic()
        return self._known

    def batch_bytes(self, topic: str) -> int:
        """How large a batch of records for this topic may be."""
        limit = self._known[topic].bytes if topic in self._known else None
        return BATCH_BYTES if limit is None else min(BATCH_BYTES, limit)


def limits_of(config: Mapping[str, str]) -> TopicLimits:
    """What a topic of these settings takes. Where the broker stamps records, any time will do."""
    oldest = int(config.get("message.timestamp.before.max.ms", _ANY))
    stamped = config.get("message.timestamp.type") == "LogAppendTime"
    return TopicLimits(
        bytes=int(config["max.message.bytes"]) if "max.message.bytes" in config else None,
        oldest_ms=None if stamped or oldest >= _ANY else oldest,
        keyed="compact" in config.get("cleanup.policy", ""),
    )
