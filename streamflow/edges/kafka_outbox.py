"""A task's transactional producer on Kafka, through aiokafka.

aiokafka 0.14 commits a transaction in which a send has failed, so every send's future is kept and
looked at before `commit` (tests/integration/test_client_contract.py). Records go out as whole
producer batches, one partition at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from streamflow.batch import Record, TopicPartition
from streamflow.edges.partitioner import default_partitions
from streamflow.errors import Fenced, TaskLost

#: A producer batch of this many bytes is closed and sent; a larger record travels alone.
BATCH_BYTES = 900_000
#: The largest request; the broker's and the topic's own limits are what counts.
REQUEST_BYTES = 64 * 1024 * 1024
TRANSACTION_TIMEOUT_MS = 15_000


class KafkaOutbox:
    """An `Outbox` on Kafka. Each `fence` makes a new producer with the same transactional id."""

    def __init__(self, connection: Mapping[str, Any], transactional_id: str, group: str) -> None:
        self._connection = connection
        self._id = transactional_id
        self._group = group
        self._producer: Any = None
        self._sent: list[tuple[TopicPartition, asyncio.Future[Any]]] = []
        self._partitions: dict[str, int] = {}

    async def fence(self) -> None:
        """See `Outbox.fence`."""
        await self.close()
        self._producer = AIOKafkaProducer(
            **self._connection,
            transactional_id=self._id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES,
        )
        async with self._errors("fence"):
            await self._producer.start()

    async def begin(self) -> None:
        """See `Outbox.begin`."""
        self._sent = []
        async with self._errors("begin"):
            await self._producer.begin_transaction()

    async def produce(self, to: TopicPartition | str, records: Sequence[Record]) -> None:
        """See `Outbox.produce`."""
        async with self._errors("produce"):
            if isinstance(to, TopicPartition):
                await self._send(to, records)
                return
            for tp, part in (await self._place(to, records)).items():
                await self._send(tp, part)

    async def flush(self) -> Mapping[TopicPartition, int]:
        """See `Outbox.flush`."""
        ends: dict[TopicPartition, int] = {}
        futures = [future for _, future in self._sent]
        results = await asyncio.gather(*futures, return_exceptions=True)
        async with self._errors("flush"):
            for (tp, _), result in zip(self._sent, results, strict=True):
                if isinstance(result, BaseException):
                    raise result
                ends[tp] = max(ends.get(tp, 0), result)
        return ends

    async def offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `Outbox.offsets`."""
        offsets = {KafkaTopicPartition(*tp): position for tp, position in positions.items()}
        async with self._errors("offsets"):
            await self._producer.send_offsets_to_transaction(offsets, self._group)

    async def commit(self) -> None:
        """See `Outbox.commit`."""
        async with self._errors("commit"):
            await self._producer.commit_transaction()

    async def abort(self) -> None:
        """See `Outbox.abort`."""
        async with self._errors("abort"):
            await self._producer.abort_transaction()

    async def close(self) -> None:
        """See `Outbox.close`."""
        producer, self._producer = self._producer, None
        sent, self._sent = self._sent, []
        if producer is None:
            return
        with suppress(Exception):
            await producer.stop()
        for _, future in sent:
            future.cancel()
            _ignore(future)
        with suppress(Exception):
            _ignore(producer._txn_manager.wait_for_transaction_end())

    async def _send(self, tp: TopicPartition, records: Sequence[Record]) -> None:
        batch = self._producer.create_batch()
        for record in records:
            if not _append(batch, record):
                await self._send_batch(tp, batch)
                batch = self._producer.create_batch()
                _append(batch, record)
        if batch.record_count():
            await self._send_batch(tp, batch)

    async def _send_batch(self, tp: TopicPartition, batch: Any) -> None:
        count = batch.record_count()
        batch.close()
        future = await self._producer.send_batch(batch, tp.topic, partition=tp.partition)
        self._sent.append((tp, asyncio.ensure_future(_next_offset(future, count))))

    async def _place(
        self, topic: str, records: Sequence[Record]
    ) -> dict[TopicPartition, list[Record]]:
        """Records by partition; the partitioner runs once per distinct key.

        Records without a key stay together, in the first partition: Kafka's clients spread them by
        chance, and a task that does its work again would do it in another order.
        """
        if topic not in self._partitions:
            self._partitions[topic] = len(await self._producer.partitions_for(topic))
        count = self._partitions[topic]
        keys = list({record.key for record in records if record.key is not None})
        known: dict[bytes | None, int] = {None: 0}
        known |= zip(keys, default_partitions(keys, count), strict=True)
        placed: dict[TopicPartition, list[Record]] = {}
        for record in records:
            placed.setdefault(TopicPartition(topic, known[record.key]), []).append(record)
        return placed

    @asynccontextmanager
    async def _errors(self, step: str) -> AsyncGenerator[None]:
        """Any failure of the client means that the task is lost; being fenced is said apart."""
        try:
            yield
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"{self._id}: another owner has taken this task over ({step})") from error
        except (TaskLost, asyncio.CancelledError):
            raise
        except Exception as error:
            raise TaskLost(f"{self._id}: {step} failed: {error!r}") from error


def _append(batch: Any, record: Record) -> bool:
    metadata = batch.append(
        key=record.key,
        value=record.value,
        timestamp=record.timestamp,
        headers=list(record.headers),
    )
    return metadata is not None


def _ignore(future: asyncio.Future[Any] | None) -> None:
    """What failed was said by the step that failed; asyncio would log it once more."""
    if future is not None and future.done() and not future.cancelled():
        future.exception()


async def _next_offset(future: Any, count: int) -> int:
    metadata = await future
    return metadata.offset + count
