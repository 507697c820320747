"""Sends records as whole producer batches.

Goals: order per partition, every send acknowledged by all in-sync replicas, and well over 100,000
records a second. So the partitioner runs once per distinct key, records are appended to a batch of
their partition in a plain loop, and the event loop is entered once per chunk, not once per record.
Batches of a partition are sent one after the other by an idempotent producer, which keeps order
and makes retries harmless.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamflow.batch import Record
from streamflow.clock import Clock, SystemClock
from streamflow.counted import counted
from streamflow.edges.partitioner import default_partitions
from streamflow.errors import SettingsError, StreamflowError
from streamflow.produce.limits import OVERHEAD_BYTES, Limits
from streamflow.produce.topics import existing_topic

#: A batch is sent at this many bytes, or at the topic's limit where that is lower.
BATCH_BYTES = 900_000
#: The largest request; the topic's own limit is what counts.
REQUEST_BYTES = 64 * 1024 * 1024
#: Records between two looks at the event loop.
CHUNK_RECORDS = 2_000
#: Keys whose partition is remembered.
KNOWN_KEYS = 100_000
#: When the input has nothing for this long, what has come so far is sent.
LINGER_SECONDS = 0.2


def ignore(count: int) -> None:
    """A progress that nobody looks at."""


async def produce_records(
    connection: Mapping[str, Any],
    topic: str,
    records: Iterable[Record],
    partitions: int,
    on_progress: Callable[[int], None] = ignore,
) -> int:
    """Send records to a topic that exists; returns how many, all acknowledged.

    Args:
        connection: What Kafka clients are given: `bootstrap_servers` and so on.
        topic: The topic.
        records: In the order in which each partition will have them.
        partitions: How many partitions the topic is expected to have.
        on_progress: Told the number of records handed over so far.

    Raises:
        SettingsError: the topic is missing or has another number of partitions.
        StreamflowError: the broker refused records or stopped answering.
    """
    chunks = _chunks(iter(records), CHUNK_RECORDS)
    return await produce_chunks(connection, topic, chunks, partitions, on_progress)


async def produce_chunks(
    connection: Mapping[str, Any],
    topic: str,
    chunks: Iterator[Sequence[Record]],
    partitions: int,
    on_progress: Callable[[int], None] = ignore,
    *,
    rate: float | None = None,
    clock: Clock | None = None,
    tally: Tally | None = None,
) -> int:
    """As `produce_records`, for an input that comes in chunks and may be slow or end in an error.

    The next chunk is fetched on a thread of its own. When it fails, what came before is sent
    first, and the failure is raised then.

    `rate` is in records per second, by `clock`; as fast as it goes if None. `tally` is kept while
    it runs, for whoever interrupts it.
    """
    limits = await _look_up(connection, topic, partitions)
    pace = Pace(rate, clock or SystemClock())
    sender = Sender(connection, topic, partitions, limits, tally or Tally())
    await sender.start()
    try:
        async for chunk in _fetched(chunks, sender):
            for part in pace.parts(chunk):
                await sender.add(part)
                on_progress(sender.count)
                await pace.wait(sender)
    finally:
        await sender.stop()
    return sender.count


@dataclass
class Tally:
    """How far the sending has come.

    Attributes:
        sent: Records that were given to the client in batches.
        acknowledged: Those of them that all in-sync replicas have.
    """

    sent: int = 0
    acknowledged: int = 0


class Pace:
    """Spreads records over time: `rate` per second, counted from the first."""

    def __init__(self, rate: float | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._started: float | None = None

    def parts(self, chunk: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """The chunk, cut into tenths of a second."""
        if self._rate is None:
            yield chunk
            return
        size = max(1, int(self._rate / 10))
        if self._started is None:
            self._started = self._clock.monotonic()
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]

    async def wait(self, sender: Sender) -> None:
        """Wait until what the sender has is due; it is sent before the wait."""
        if self._rate is None or self._started is None:
            return
        await sender.flush()
        due = self._started + sender.count / self._rate
        await asyncio.sleep(max(0.0, due - self._clock.monotonic()))


class Sender:
    """One topic's producer, with an open batch per partition, between `start` and `stop`."""

    def __init__(
        self,
        connection: Mapping[str, Any],
        topic: str,
        partitions: int,
        limits: Limits,
        tally: Tally,
    ) -> None:
        self.count = 0
        self._tally = tally
        self._topic = topic
        self._partitions = partitions
        self._places: dict[bytes, int] = {}
        self._keyless = 0
        self._open: dict[int, Any] = {}
        self._sent: list[tuple[int, asyncio.Future[Any]]] = []
        self._producer: Any = AIOKafkaProducer(
            **connection,
            acks="all",
            enable_idempotence=True,
            max_batch_size=min(BATCH_BYTES, limits.max_bytes - OVERHEAD_BYTES),
            max_request_size=REQUEST_BYTES,
        )

    async def start(self) -> None:
        """Connect."""
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise self._words(error) from error

    async def add(self, records: Sequence[Record]) -> None:
        """Take records over; batches that are full are sent."""
        places, opened = self._place(records), self._open
        for record in records:
            key = record.key
            partition = places[key] if key is not None else self._keyless
            batch = opened.get(partition)
            if batch is None:
                batch = opened[partition] = self._producer.create_batch()
            headers = list(record.headers) if record.headers else []
            added = batch.append(
                timestamp=record.timestamp, key=key, value=record.value, headers=headers
            )
            if added is None:
                await self._send(partition)
                batch = opened[partition] = self._producer.create_batch()
                batch.append(
                    timestamp=record.timestamp, key=key, value=record.value, headers=headers
                )
        self.count += len(records)
        self._check_done()
        # Enough for the producer's own task to send what it has.
        await asyncio.sleep(0)

    def _place(self, records: Sequence[Record]) -> dict[bytes, int]:
        """The partition of every key of the records; those of earlier ones are kept for a while."""
        places = self._places
        if len(places) > KNOWN_KEYS:
            places.clear()
        keys = {record.key for record in records}
        new = [key for key in keys if key is not None and key not in places]
        places |= zip(new, default_partitions(new, self._partitions), strict=True)
        return places

    async def flush(self) -> None:
        """Send all that was taken over, without waiting for the answers."""
        for partition in list(self._open):
            await self._send(partition)

    async def stop(self) -> None:
        """Send what is left, wait until all is acknowledged, and disconnect.

        Raises:
            StreamflowError: not everything was acknowledged.
        """
        try:
            await self.flush()
            waiting = [future for _, future in self._sent]
            await asyncio.gather(*waiting, return_exceptions=True)
            self._check_done()
        finally:
            await self._producer.stop()

    async def _send(self, partition: int) -> None:
        batch = self._open.pop(partition)
        batch.close()
        if partition == self._keyless:
            # Records without a key fill one partition's batch, then the next one's.
            self._keyless = (self._keyless + 1) % self._partitions
        try:
            future = await self._producer.send_batch(batch, self._topic, partition=partition)
        except KafkaError as error:
            raise self._words(error) from error
        self._tally.sent += batch.record_count()
        self._sent.append((batch.record_count(), future))

    def _check_done(self) -> None:
        """Look at every answer once."""
        waiting: list[tuple[int, asyncio.Future[Any]]] = []
        failed: list[tuple[int, BaseException]] = []
        for count, future in self._sent:
            if not future.done():
                waiting.append((count, future))
            elif (error := future.exception()) is not None:
                failed.append((count, error))
            else:
                self._tally.acknowledged += count
        self._sent = waiting
        if failed:
            lost = sum(count for count, _ in failed)
            raise self._words(failed[0][1], f" for {counted(lost, 'record')}") from failed[0][1]

    def _words(self, error: BaseException, what: str = "") -> StreamflowError:
        detail = f": {error}" if str(error) else ""
        return StreamflowError(
            f"topic {self._topic!r}: {type(error).__name__}{what}{detail}; not all of the "
            f"{counted(self.count, 'record')} handed over are in the topic"
        )


async def _look_up(connection: Mapping[str, Any], topic: str, partitions: int) -> Limits:
    found, limits = await existing_topic(connection, topic)
    if found != partitions:
        raise SettingsError(f"topic {topic!r} has {counted(found, 'partition')}, not {partitions}")
    return limits


async def _fetched(
    chunks: Iterator[Sequence[Record]], sender: Sender
) -> AsyncIterator[Sequence[Record]]:
    """The chunks, each fetched on a thread; while the input is slow, nothing is held back."""
    while True:
        fetching = _on_thread(chunks)
        done, _ = await asyncio.wait({fetching}, timeout=LINGER_SECONDS)
        if not done:
            await sender.flush()
        chunk = await fetching
        if chunk is None:
            return
        yield chunk


def _on_thread(chunks: Iterator[Sequence[Record]]) -> asyncio.Future[Sequence[Record] | None]:
    """The next chunk, None at the end.

    The thread is a daemon: an executor's would keep the process from leaving on Ctrl-C for as long
    as nobody types.
    """
    loop = asyncio.get_running_loop()
    fetched: asyncio.Future[Sequence[Record] | None] = loop.create_future()

    def settle(chunk: Sequence[Record] | None, error: Exception | None) -> None:
        if fetched.done():  # cancelled meanwhile
            return
        if error is None:
            fetched.set_result(chunk)
        else:
            fetched.set_exception(error)

    def fetch() -> None:
        chunk, error = None, None
        try:
            chunk = next(chunks, None)
        except Exception as raised:
            error = raised
        # It waits for no input any more: whoever ends the process need not mind it.
        threading.current_thread().name = "produce-input-done"
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, chunk, error)

    threading.Thread(target=fetch, name="produce-input", daemon=True).start()
    return fetched


def _chunks(records: Iterator[Record], size: int) -> Iterator[Sequence[Record]]:
    while chunk := list(islice(records, size)):
        yield chunk
