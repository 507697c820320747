"""Micro-batches through Faust: the event of a batch topic is one fetched chunk of one partition.

Plain Faust costs 72-87 us per event, most of it in asyncio tasks that it makes for each. Here the
message that Faust carries *is* a micro-batch, so that price is paid once per fetch; conductor,
streams, agents, supervision and rebalancing stay as they are, and ordinary topics of the same app
are carried as ever. What is overridden, and why:

    getmany               hand over batches instead of records for batch topics
    _fetch_records        (consumer thread) make them, with the positions before and after the fetch
    _new_offset           commit only what is acknowledged in order; never for topics whose offsets
                          are committed in a transaction
    perform_seek          open tasks and sinks, and seek to the positions they name
    on_partitions_revoked give the tasks a bounded time to finish, before Faust forgets its acks
    _create_worker_consumer  read_committed, larger fetches, an assignor of our own; waits for its
                          broker at the start
    _new_producer         waits for its broker at the start

tests/unit/test_faust_contract.py fails when a Faust release moves any of these names.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

import faust
from aiokafka import TopicPartition as KafkaTopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.clock import SystemClock
from streamflow.engine.fetch_share import fetch_share
from streamflow.engine.idle_watch import Fetch
from streamflow.fetch_ends import end_waiting_fetches
from streamflow.fetched import Parsed, fetch_whole
from streamflow.group_errors import heed_group_errors
from streamflow.reconnects import space_out_connections

space_out_connections()
end_waiting_fetches()
heed_group_errors()

log = logging.getLogger(__name__)

#: How long the broker may wait to fill a fetch.
FETCH_WAIT_MS = 100
#: Shares of Faust's own bounds. A seek that takes longer than its request time-out ends Faust's
#: recovery without a word, and nothing would ever be assigned again; a group waits for whoever
#: revokes.
SEEK_SHARE, COMMIT_SHARE = 0.5, 0.25
#: Batches that a topic's channel holds.
CHANNEL_BATCHES = 2


class BatchMessage(ConsumerMessage):
    """The message Faust carries: its offset is the last one that the batch covers.

    `stop` is the batch's, kept apart so that whoever takes the batch can let its bytes go.
    """

    __slots__ = ("batch", "stop")

    batch: MicroBatch | None
    stop: int


class BatchTopic(faust.Topic):
    """A topic whose events are micro-batches: `async for batch in stream`."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        kwargs.setdefault("maxsize", CHANNEL_BATCHES)
        super().__init__(app, **kwargs)
        app.batch_topics.update(self.topics)
        fetch_whole(self.topics)

    def _compile_decode(self) -> None:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return self.app.create_event(None, message.batch, None, message)

        self.decode = decode  # type: ignore[method-assign]

    def derive_topic(self, **kwargs: Any) -> Any:
        """Refused: a derived topic would carry `None` instead of records."""
        raise TypeError("group_by, through and forward do not work on micro-batches")


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread; makes micro-batches of what it fetched."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock = SystemClock()
        self._expected: dict[TP, int] = {}

    def forget_positions(self) -> None:
        """The next batch of every partition starts wherever its fetch does."""
        self._expected.clear()

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        self._expected.update(partitions)
        await super()._seek_wait(consumer, partitions)

    async def pause(self, tps: set[TP]) -> None:
        """Let aiokafka fetch nothing from assigned partitions; it goes on being polled."""
        await self.call_thread(_each, self._ensure_consumer().pause, tps)

    async def resume(self, tps: set[TP]) -> None:
        """Let aiokafka fetch from them again."""
        await self.call_thread(_each, self._ensure_consumer().resume, tps)

    async def rejoin(self) -> None:
        """Join the group again, as after a heartbeat that was refused."""
        await self.call_thread(_rejoin, self._ensure_consumer())

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  (Faust's signature)
        max_records: int | None = None,
    ) -> Any:
        app: Any = self.app
        before = {tp: _position(consumer, tp) for tp in active_partitions}
        fetched = await super()._fetch_records(consumer, active_partitions, timeout, None)
        now_ms = int(self._clock.now().timestamp() * 1000)
        records: dict[Any, Any] = {}
        for tp in {*fetched, *(tp for tp in active_partitions if tp.topic in app.batch_topics)}:
            if tp.topic not in app.batch_topics:
                records[tp] = fetched[tp]
                continue
            parsed = list(chain.from_iterable(fetched.get(tp, ())))
            batch = self._batch(consumer, tp, parsed, before.get(tp), now_ms)
            if batch is not None:
                records[tp] = batch
        return records

    def _batch(
        self, consumer: Any, tp: TP, records: list[Parsed], before: int | None, fetched_ms: int
    ) -> MicroBatch | None:
        """One batch, also when the position moved over offsets that no record carries."""
        stop = records[-1].offset + 1 if records else None
        position = _position(consumer, tp)
        if position is not None and (stop is None or position > stop):
            stop = position
        start = self._expected.get(tp, before)
        if start is None or (records and start > records[0].offset):
            start = records[0].offset if records else stop
        if stop is None or start is None or (stop <= start and not records):
            return None
        self._expected[tp] = stop
        return MicroBatch(
            TopicPartition(tp.topic, tp.partition),
            start,
            stop,
            [record.offset for record in records],
            [record.key for record in records],
            [record.value for record in records],
            [record.timestamp for record in records],
            [tuple(record.headers) for record in records],
            fetched_ms,
        )

    def share_fetches(self, partitions: int) -> None:
        """From now on fetch of each of so many partitions its share at once."""
        app: Any = self.app
        if self._consumer is not None and partitions:
            fetcher: Any = self._consumer._fetcher
            fetcher._max_partition_fetch_bytes = fetch_share(app.fetch_memory, partitions)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        app: Any = self.app
        consumer._max_partition_fetch_bytes = fetch_share(app.fetch_memory, 1)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        _start_patiently(self.app, consumer._client)
        if app.group_assignor is not None and self._assignor is not app.assignor:
            consumer._partition_assignment_strategy = (app.group_assignor,)
        elif app.group_assignor is not None:
            log.warning(
                "the app has Faust tables, and so Faust's assignor: no standbys, and tasks "
                "move as it likes"
            )
        return consumer


class BatchConsumer(driver.Consumer):
    """Faust's consumer; carries micro-batches for batch topics and records for all others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._inflight: defaultdict[TP, deque[BatchMessage]] = defaultdict(deque)
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(  # Faust's signature
        self,
        timeout: float,  # noqa: ASYNC109
    ) -> AsyncIterator[tuple[TP, Any]]:
        """Batches of batch topics first, then the records of all others, in turns."""
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop or not self.flow_active:
            return
        app: Any = self.app
        batches = {tp: batch for tp, batch in records.items() if tp.topic in app.batch_topics}
        for tp, message in self._messages(batches, records):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if active is None or tp in active or tp in self._buffered_partitions:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                yield tp, message

    def _messages(self, batches: Any, records: Any) -> Iterable[tuple[TP, Any]]:
        for tp, batch in batches.items():
            message = self._to_batch_message(tp, batch)
            self._inflight[tp].append(message)
            # Faust drops what lies below the offset it read last; a task may seek back, and a
            # batch of the older fetch that is still on its way must not set that mark again.
            self._read_offset[tp] = None
            yield tp, message
        others = {tp: rows for tp, rows in records.items() if tp not in batches}
        for tp, record in self.scheduler.iterate(others):
            yield tp, self._to_message(tp, record)

    def _to_batch_message(self, tp: TP, batch: MicroBatch) -> BatchMessage:
        stamp = batch.timestamps[-1] / 1000.0 if len(batch) else 0.0
        message = BatchMessage(
            tp.topic,
            tp.partition,
            batch.stop - 1,
            stamp,
            0,
            None,
            None,
            None,
            None,
            0,
            0,
            TP(tp.topic, tp.partition),
            generation_id=self.app.consumer_generation_id,
        )
        message.batch = batch
        message.stop = batch.stop
        return message

    def _new_offset(self, tp: TP) -> int | None:
        app: Any = self.app
        if tp.topic not in app.batch_topics:
            return super()._new_offset(tp)
        inflight = self._inflight[tp]
        stop: int | None = None
        while inflight and inflight[0].acked:
            stop = inflight.popleft().stop
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return None if tp.topic in app.managed_topics else stop

    async def perform_seek(self) -> None:
        """Seek ordinary topics to their committed offsets, managed ones to their own positions."""
        self._inflight.clear()
        thread: Any = self._thread
        thread.forget_positions()
        app: Any = self.app
        try:
            async with asyncio.timeout(app.conf.broker_request_timeout * SEEK_SHARE):
                await super().perform_seek()
        except TimeoutError:
            log.warning("no committed offsets to be had, joining the group again")
            await self.rejoin()
            return
        assignment = self.assignment()
        thread.share_fetches(len(assignment))
        await app.on_seek(assignment)

    async def seek_batches(self, positions: Mapping[TopicPartition, int]) -> None:
        """Seek partitions of batch topics; batches already on their way are not taken back."""
        if positions:
            await self.seek_wait({TP(*tp): offset for tp, offset in positions.items()})

    def fetched(self, tp: TopicPartition) -> Fetch | None:
        """The last fetch of a partition that succeeded; None before the first, while it is paused
        and while it is not ours.
        """
        thread: Any = self._thread
        state = _state(thread._consumer, TP(*tp)) if thread._consumer is not None else None
        if state is None or state.paused:
            return None
        # The consumer's thread writes the end first: read the other way round, the end is never
        # older than the fetch that the time stands for.
        stamp, end = state.timestamp, state.lso
        return None if stamp is None or end is None else Fetch(end, stamp)

    async def rejoin(self) -> None:
        """Join the group again: partitions are revoked, and those that are still ours assigned."""
        thread: Any = self._thread
        await thread.rejoin()

    async def pause_batches(self, tps: Iterable[TopicPartition]) -> None:
        """Fetch nothing from these partitions of batch topics, and go on polling."""
        thread: Any = self._thread
        await thread.pause({TP(*tp) for tp in tps} & self.assignment())

    async def resume_batches(self, tps: Iterable[TopicPartition]) -> None:
        """Fetch from them again."""
        thread: Any = self._thread
        await thread.resume({TP(*tp) for tp in tps} & self.assignment())

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the tasks finish and commit acknowledged batches, while both are still ours."""
        app: Any = self.app
        await app.on_revoke()
        with suppress(TimeoutError):  # of ordinary topics; what is not committed comes again
            async with asyncio.timeout(app.conf.broker_session_timeout * COMMIT_SHARE):
                await self.commit()
        for tp in revoked:
            self._inflight.pop(tp, None)
        await super().on_partitions_revoked(revoked)


class BatchProducer(driver.Producer):
    """Faust's producer, for a user's own agents; it waits for its broker at the start."""

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        _start_patiently(self.app, producer.client)
        return producer


class BatchTransport(driver.Transport):
    """Faust's Kafka transport with micro-batches."""

    Consumer = BatchConsumer
    Producer = BatchProducer


def _start_patiently(app: Any, client: Any) -> None:
    """A broker that has gone since the host found it would end Faust's start."""
    client.bootstrap = partial(app.when_a_broker_answers, client.bootstrap)


async def _each(act: Callable[[Any], None], tps: set[TP]) -> None:
    """In the consumer's thread, since aiokafka wakes a future of its own loop."""
    for tp in tps:
        act(KafkaTopicPartition(*tp))


async def _rejoin(consumer: Any) -> None:
    """In the consumer's thread, as `_each`."""
    consumer._coordinator.request_rejoin()


def _position(consumer: Any, tp: TP) -> int | None:
    """Where the next fetch of a partition goes on; None when that is not known yet."""
    state = _state(consumer, tp)
    return state.position if state is not None and state.has_valid_position else None


def _state(consumer: Any, tp: TP) -> Any:
    """What aiokafka knows of a partition; None while it is not assigned."""
    subscription = consumer._subscription.subscription
    assignment = None if subscription is None else subscription.assignment
    return None if assignment is None else assignment.state_value(tp)
