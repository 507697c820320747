"""Reading one changelog partition on Kafka, outside any consumer group, a fetch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from operator import attrgetter
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition

from streamflow.batch import TopicPartition
from streamflow.fetched import Parsed, fetch_unread

FETCH_BYTES = 8 * 1024 * 1024
_ENTRY = attrgetter("key", "value")


class KafkaChangelog:
    """A `Changelog` on Kafka."""

    #: What is asked for at once.
    fetch_bytes = FETCH_BYTES

    def __init__(self, connection: Mapping[str, Any], tp: TopicPartition) -> None:
        self._connection = connection
        self._tp = KafkaTopicPartition(*tp)
        self._consumer: Any = None
        fetch_unread([tp.topic])

    async def bounds(self) -> tuple[int, int]:
        """See `Changelog.bounds`."""
        consumer = await self._started()
        first = await consumer.beginning_offsets([self._tp])
        stop = await consumer.end_offsets([self._tp])
        return first[self._tp], stop[self._tp]

    async def read(self, start: int, stop: int) -> Sequence[tuple[bytes, bytes | None]]:
        """See `Changelog.read`."""
        records: list[tuple[bytes, bytes | None]] = []
        while start < stop:
            some, start = await self.fetch(start, stop)
            records += some
        return records

    async def fetch(
        self, start: int, stop: int
    ) -> tuple[Iterable[tuple[bytes, bytes | None]], int]:
        """See `Changelog.fetch`."""
        consumer = await self._started()
        # Seeking forgets what was fetched ahead.
        if await consumer.position(self._tp) != start:
            consumer.seek(self._tp, start)
        fetched = await consumer.getmany(self._tp, timeout_ms=200)
        batches: list[Iterator[Parsed]] = fetched.get(self._tp, [])
        position = await consumer.position(self._tp)
        parsed: Iterable[Parsed] = chain.from_iterable(batches)
        if position > stop:
            parsed = (one for one in parsed if one.offset < stop)
        return map(_ENTRY, parsed), min(position, stop)

    async def close(self) -> None:
        """See `Changelog.close`."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(Exception):
                await consumer.stop()

    async def _started(self) -> Any:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **self._connection,
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=self.fetch_bytes,
                fetch_max_wait_ms=100,
            )
            try:
                await consumer.start()
            except BaseException:  # cancelled, too: a task that opens may be told to stop
                await consumer.stop()
                raise
            consumer.assign([self._tp])
            self._consumer = consumer
        return self._consumer
