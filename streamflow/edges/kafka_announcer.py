"""Short notes to whoever reads one partition on Kafka, in no transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer

from streamflow.batch import Record, TopicPartition


class KafkaAnnouncer:
    """An `Announcer` on Kafka."""

    def __init__(self, connection: Mapping[str, Any], tp: TopicPartition) -> None:
        self._connection = connection
        self._tp = tp
        self._producer: Any = None

    async def publish(self, records: Sequence[Record]) -> None:
        """See `Announcer.publish`."""
        if self._producer is None:
            producer = AIOKafkaProducer(**self._connection)
            await producer.start()
            self._producer = producer
        futures = [
            await self._producer.send(
                self._tp.topic, record.value, record.key, partition=self._tp.partition
            )
            for record in records
        ]
        await asyncio.gather(*futures)

    async def close(self) -> None:
        """See `Announcer.close`."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                await producer.stop()
