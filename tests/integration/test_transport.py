"""What micro-batches through Faust promise on a real Kafka."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.broker import Broker
from streamflow.edges.kafka_admin import KafkaAdmin, KafkaOffsets, TopicSpec
from streamflow.engine.app import StreamflowApp, faust_settings
from streamflow.engine.fetch_share import SMALLEST
from streamflow.engine.settings import Settings

PARTITIONS = 2
CODECS = ("gzip", "snappy", "lz4", "zstd")


class Reader:
    """An app of one agent over micro-batches, and what it has got so far."""

    def __init__(self, bootstrap: str, name: str, folder: Path) -> None:
        self.topic = name
        self.batches: list[MicroBatch] = []
        self._connection: dict[str, Any] = {"bootstrap_servers": bootstrap}
        settings = Settings.load(broker=bootstrap, state_dir=folder, session_timeout=6)
        self.app = StreamflowApp(**faust_settings(settings, f"{name}-app"))
        self.app.agent(self.app.batch_topic(name))(self._collect)

    async def _collect(self, stream: Any) -> None:
        async for batch in stream:
            self.batches.append(batch)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        starting = asyncio.create_task(self.app.start())
        try:
            await starting
            yield
        finally:
            with suppress(asyncio.CancelledError):
                await self.app.stop()

    async def create(self) -> None:
        async with KafkaAdmin(self._connection) as admin:
            await admin.create([TopicSpec(self.topic, PARTITIONS, {"retention.ms": "-1"})])

    @asynccontextmanager
    async def producer(self, **options: Any) -> AsyncGenerator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(**self._connection, **options)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def ends(self) -> dict[TopicPartition, int]:
        """The last stable offsets of the partitions that have any record."""
        offsets = KafkaOffsets(self._connection)
        await offsets.start()
        try:
            tps = [TopicPartition(self.topic, p) for p in range(PARTITIONS)]
            return {tp: end for tp, (_, end) in (await offsets.bounds(tps)).items() if end}
        finally:
            await offsets.stop()

    async def read_all(self, records: int = 0) -> None:
        """Wait for so many records, and until the batches reach the last stable offsets.

        The marker of a commit follows the answer by some milliseconds, so the offsets alone may be
        those before it.
        """
        async with asyncio.timeout(30):
            while not await self._has_all(records):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _has_all(self, records: int) -> bool:
        return len(self.values()) >= records and self.stops() == await self.ends()

    def stops(self) -> dict[TopicPartition, int]:
        return {batch.tp: batch.stop for batch in self.batches}

    def values(self) -> list[bytes | None]:
        return [value for batch in self.batches for value in batch.values]

    def check_that_batches_meet(self) -> None:
        """`stop` of one is `start` of the next, from the first offset on; all rows lie within."""
        position = dict.fromkeys((TopicPartition(self.topic, p) for p in range(PARTITIONS)), 0)
        for batch in self.batches:
            assert batch.start == position[batch.tp], (str(batch), position)
            assert batch.start < batch.stop
            assert list(batch.offsets) == sorted(set(batch.offsets))
            assert all(batch.start <= offset < batch.stop for offset in batch.offsets)
            position[batch.tp] = batch.stop

    async def group_offset(self, partition: int) -> int | None:
        consumer = AIOKafkaConsumer(
            **self._connection, group_id=f"{self.topic}-app", enable_auto_commit=False
        )
        await consumer.start()
        try:
            return await consumer.committed(KafkaTopicPartition(self.topic, partition))
        finally:
            await consumer.stop()


Test = Callable[[Reader], Coroutine[Any, Any, None]]
Run = Callable[[Test], None]


@pytest.fixture
def run(kafka: Broker, fresh: str, tmp_path: Path) -> Run:
    async def go(test: Test) -> None:
        reader = Reader(kafka.bootstrap, fresh, tmp_path)
        async with asyncio.timeout(90):
            await reader.create()
            await test(reader)

    return lambda test: asyncio.run(go(test))


async def send(producer: AIOKafkaProducer, topic: str, *values: bytes, partition: int = 0) -> None:
    for value in values:
        await producer.send(topic, value, partition=partition)
    await producer.flush()


def test_batches_meet_over_committed_and_aborted_transactions(run: Run) -> None:
    async def test(reader: Reader) -> None:
        wanted: list[bytes] = []
        async with reader.producer(transactional_id=reader.topic) as producer:

            async def transaction(value: bytes, count: int, *, commits: bool) -> None:
                await producer.begin_transaction()
                await send(producer, reader.topic, *[value] * count)
                if commits:
                    await producer.commit_transaction()
                    wanted.extend([value] * count)
                else:
                    await producer.abort_transaction()

            await transaction(b"before the start", 3, commits=True)
            await transaction(b"aborted before the start", 2, commits=False)
            async with reader.running():
                for turn in range(12):
                    await transaction(b"%d" % turn, 1 + turn % 3, commits=turn % 4 != 2)
                    await transaction(b"aborted %d" % turn, 2, commits=False)
                    if turn % 3 == 0:
                        await reader.read_all(len(wanted))
                await reader.read_all(len(wanted))
        assert reader.values() == wanted
        reader.check_that_batches_meet()
        assert len(reader.batches) > 4

    run(test)


def test_an_open_transaction_is_not_read_and_holds_back_what_follows(run: Run) -> None:
    async def test(reader: Reader) -> None:
        async with (
            reader.producer(transactional_id=reader.topic) as open_one,
            reader.producer() as other,
            reader.running(),
        ):
            await send(other, reader.topic, b"first")
            await reader.read_all()
            await open_one.begin_transaction()
            await send(open_one, reader.topic, b"open")
            await send(other, reader.topic, b"after")
            await asyncio.sleep(0.5)
            assert reader.values() == [b"first"]
            await open_one.commit_transaction()
            await reader.read_all(3)
            assert reader.values() == [b"first", b"open", b"after"]
        reader.check_that_batches_meet()

    run(test)


def test_partitions_are_fetched_by_their_share_and_larger_batches_come_all_the_same(
    run: Run,
) -> None:
    large = b"x" * (2 * SMALLEST)

    async def test(reader: Reader) -> None:
        reader.app.fetch_memory = 1
        async with reader.producer(max_batch_size=3 * SMALLEST) as producer:
            for value in [*[b"small" * 1000] * 200, large, b"last"]:
                await send(producer, reader.topic, value)
        async with reader.running():
            await reader.read_all(202)
        assert sorted(map(len, reader.batches)) != [202]
        bytes_of = [sum(len(value or b"") for value in batch.values) for batch in reader.batches]
        assert max(bytes_of) == len(large)
        reader.check_that_batches_meet()

    run(test)


def test_a_batch_has_everything_that_a_record_has(run: Run) -> None:
    headers = [("a", b"1"), ("b", b""), ("a", b"2"), ("a", b"1"), ("n", None)]

    async def test(reader: Reader) -> None:
        async with reader.producer() as producer, reader.running():
            sent: list[dict[str, Any]] = [
                {"key": b"k", "value": b"v", "timestamp_ms": 1_357_000_000_000, "headers": headers},
                {"key": None, "value": b"no key", "timestamp_ms": 0, "headers": []},
                {"key": b"no value", "value": None, "timestamp_ms": 1, "headers": []},
                {"key": b"", "value": b"", "timestamp_ms": 2, "headers": []},
                {"key": b"\xff\x00", "value": b"\x80\x00", "timestamp_ms": 3, "headers": []},
            ]
            for record in sent:
                await producer.send(reader.topic, partition=1, **record)
            await producer.flush()
            await reader.read_all()
        found = [
            (k, v, at, list(h))
            for b in reader.batches
            for k, v, at, h in zip(b.keys, b.values, b.timestamps, b.headers, strict=True)
        ]
        assert found == [(r["key"], r["value"], r["timestamp_ms"], r["headers"]) for r in sent]
        assert {batch.tp for batch in reader.batches} == {TopicPartition(reader.topic, 1)}

    run(test)


def test_every_compression_is_read(run: Run) -> None:
    async def test(reader: Reader) -> None:
        wanted: list[bytes] = []
        async with reader.running():
            for codec in CODECS:
                async with reader.producer(compression_type=codec) as producer:
                    values = [codec.encode() * 50 + b"%d" % i for i in range(500)]
                    await send(producer, reader.topic, *values)
                    wanted += values
            await reader.read_all()
        assert reader.values() == wanted
        reader.check_that_batches_meet()

    run(test)


def test_partitions_larger_than_a_fetch_come_whole_and_in_order(run: Run) -> None:
    async def test(reader: Reader) -> None:
        async with reader.producer(linger_ms=5) as producer:
            for number in range(3_000):
                value = b"%06d" % number + b"x" * 4_000
                await producer.send(reader.topic, value, partition=number % PARTITIONS)
            await producer.flush()
        async with reader.running():
            await reader.read_all()
        for partition in range(PARTITIONS):
            numbers = [
                int((value or b"")[:6])
                for batch in reader.batches
                if batch.tp.partition == partition
                for value in batch.values
            ]
            assert numbers == list(range(partition, 3_000, PARTITIONS))
        reader.check_that_batches_meet()
        assert len(reader.batches) > PARTITIONS

    run(test)


def test_what_a_stopped_app_has_read_is_committed_and_not_read_again(run: Run) -> None:
    async def test(reader: Reader) -> None:
        async with reader.producer() as producer:
            await send(producer, reader.topic, *[b"%d" % i for i in range(100)])
            async with reader.running():
                await reader.read_all()
            assert await reader.group_offset(0) == 100
        assert reader.values() == [b"%d" % i for i in range(100)]

    run(test)


def test_batches_of_a_derived_topic_are_refused(run: Run) -> None:
    async def test(reader: Reader) -> None:
        topic = reader.app.batch_topic(f"{reader.topic}-other")
        with pytest.raises(TypeError, match="do not work on micro-batches"):
            topic.derive_topic(suffix="-x")

    run(test)
