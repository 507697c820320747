"""A task's transactional producer on Kafka, through aiokafka.

aiokafka 0.14 commits a transaction in which a send has failed, so every send's future is kept and
looked at before `commit` (tests/integration/test_client_contract.py). Records go out as whole
producer batches, one partition at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.errors import (
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidProducerEpoch,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownTopicOrPartitionError,
    kafka_errors,
)
from aiokafka.producer.message_accumulator import BatchBuilder

from streamflow.batch import Record, TopicPartition
from streamflow.edges.partitioner import default_partitions
from streamflow.errors import Fenced, Refused, TaskLost, Unavailable

#: A producer batch of this many bytes is closed and sent; a larger record travels alone.
BATCH_BYTES = 900_000
#: The largest request; the broker's and the topic's own limits are what counts.
REQUEST_BYTES = 64 * 1024 * 1024
TRANSACTION_TIMEOUT_MS = 15_000
#: aiokafka asks for ever; after this the broker has ended the transaction by itself.
STEP_SECONDS = TRANSACTION_TIMEOUT_MS / 1000
#: aiokafka waits for answers when it stops, which may never come; then its connections are cut.
STOP_SECONDS = 2.0
_STOPPING: set[asyncio.Task[None]] = set()


class InvalidRecord(BrokerResponseError):
    """The broker has looked into a record and does not take it."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker does not take a record, such as one without key in a compacted topic."


#: Codes above 79 are unknown to aiokafka 0.14: without this, it would be like any unknown error.
kafka_errors.setdefault(InvalidRecord.errno, InvalidRecord)
#: The broker will say so of these records whenever they come.
POISON = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    InvalidTimestampError,
    InvalidRecord,
)
#: No record is to blame.
OUTAGES = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidTopicError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownTopicOrPartitionError,
)


class Sent(NamedTuple):
    """A batch that is on its way; its future gives the offset after its last record."""

    tp: TopicPartition
    records: Sequence[Record]
    future: asyncio.Future[Any]


def usual_bytes(topic: str) -> int:
    """The size of batches where nothing is known of what the topic takes."""
    del topic
    return BATCH_BYTES


class KafkaOutbox:
    """An `Outbox` on Kafka. Each `fence` makes a new producer with the same transactional id.

    `batch_bytes` tells how large a batch a topic takes; a step that takes more than `seconds` has
    failed.
    """

    _transactional = True

    def __init__(
        self,
        connection: Mapping[str, Any],
        transactional_id: str,
        group: str,
        batch_bytes: Callable[[str], int] = usual_bytes,
        seconds: float = STEP_SECONDS,
    ) -> None:
        self._connection = connection
        self._id = transactional_id
        self._group = group
        self._batch_bytes = batch_bytes
        self._seconds = seconds
        self._producer: Any = None
        self._sent: list[Sent] = []
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
        async with self._errors("flush"):
            results = await asyncio.gather(*(s.future for s in self._sent), return_exceptions=True)
        failed = [(s, r) for s, r in zip(self._sent, results, strict=True) if _is_error(r)]
        for sent, error in failed:
            if isinstance(error, POISON):
                raise Refused(sent.tp.topic, sent.records, f"{error!r}") from error
        async with self._errors("flush"):
            for sent, result in zip(self._sent, results, strict=True):
                if isinstance(result, BaseException):
                    raise result
                ends[sent.tp] = max(ends.get(sent.tp, 0), result)
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
        self._sent = []

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
        stopping = asyncio.create_task(_stopped(producer))
        _STOPPING.add(stopping)
        stopping.add_done_callback(_STOPPING.discard)
        await asyncio.shield(stopping)  # whoever waits may be cancelled, the connections are closed
        for one in sent:
            one.future.cancel()
            _ignore(one.future)
        with suppress(Exception):
            _ignore(producer._txn_manager.wait_for_transaction_end())

    async def _send(self, tp: TopicPartition, records: Sequence[Record]) -> None:
        batch, first = self._batch(tp.topic), 0
        for i, record in enumerate(records):
            if not _append(batch, record):
                await self._send_batch(tp, records[first:i], batch)
                batch, first = self._batch(tp.topic), i
                _append(batch, record)
        if batch.record_count():
            await self._send_batch(tp, records[first:], batch)

    def _batch(self, topic: str) -> Any:
        """An empty batch of the size that its topic takes; a larger record is alone in one."""
        return BatchBuilder(self._batch_bytes(topic), 0, is_transactional=self._transactional)

    async def _send_batch(self, tp: TopicPartition, records: Sequence[Record], batch: Any) -> None:
        batch.close()
        future = await self._producer.send_batch(batch, tp.topic, partition=tp.partition)
        future.add_done_callback(_ignore)  # nobody looks at it when the task is cancelled
        done = asyncio.ensure_future(_next_offset(future, len(records)))
        self._sent.append(Sent(tp, records, done))

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
            async with asyncio.timeout(self._seconds):
                yield
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"{self._id}: another owner has taken this task over ({step})") from error
        except OUTAGES as error:
            raise Unavailable(
                f"{self._id}: {step} failed: {error!r}; is a topic missing, or a right of this"
                " worker's? It is tried again until it has them"
            ) from error
        except (TaskLost, asyncio.CancelledError):
            raise
        except Exception as error:
            if isinstance(self._sender_failure, ProducerFenced | InvalidProducerEpoch):
                words = f"{self._id}: another owner has taken this task over ({step})"
                raise Fenced(words) from error
            raise TaskLost(f"{self._id}: {step} failed: {error!r}") from error

    @property
    def _sender_failure(self) -> BaseException | None:
        """Why the client's sender has ended; whatever is asked of it then fails in other words."""
        sender = None if self._producer is None else self._producer._sender.sender_task
        return sender.exception() if sender and sender.done() and not sender.cancelled() else None


async def _stopped(producer: Any) -> None:
    with suppress(Exception):
        async with asyncio.timeout(STOP_SECONDS):
            await producer.stop()
            return
    with suppress(Exception):
        await producer.client.close()


def _is_error(result: Any) -> bool:
    return isinstance(result, BaseException)


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
