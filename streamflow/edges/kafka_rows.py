"""Reading one partition from an offset to another as micro-batches, outside any consumer group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition

from streamflow.batch import MicroBatch, TopicPartition

FETCH_BYTES = 8 * 1024 * 1024


async def read_partition(
    connection: Mapping[str, Any], tp: TopicPartition, start: int, stop: int
) -> AsyncIterator[MicroBatch]:
    """What is committed in `[start, stop)`, in order. The batches meet, and the last one ends at
    `stop` or just after it.
    """
    wanted = KafkaTopicPartition(*tp)
    consumer = AIOKafkaConsumer(
        **connection,
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    await consumer.start()
    try:
        consumer.assign([wanted])
        consumer.seek(wanted, start)
        position = start
        while position < stop:
            fetched = await consumer.getmany(wanted, timeout_ms=200)
            rows = [row for row in fetched.get(wanted, ()) if row.offset < stop]
            reached = await consumer.position(wanted)
            if reached > position:
                yield MicroBatch(
                    tp,
                    position,
                    reached,
                    [row.offset for row in rows],
                    [row.key for row in rows],
                    [row.value for row in rows],
                    [row.timestamp for row in rows],
                    [tuple(row.headers) for row in rows],
                )
            position = reached
    finally:
        await consumer.stop()
