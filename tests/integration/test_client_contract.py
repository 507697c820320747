"""What streamflow relies on in aiokafka's transactions, on a real broker.

The commit protocol stands on these facts. A client or broker release that changes one of them
must fail here, and not as a lost or doubled record.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumber, ProducerFenced

from streamflow.broker import Broker


@dataclass(frozen=True)
class World:
    """One topic with one partition, one group and one transactional id, used by nobody else."""

    bootstrap: str
    name: str

    @property
    def partition(self) -> TopicPartition:
        return TopicPartition(self.name, 0)

    @asynccontextmanager
    async def producer(self) -> AsyncGenerator[AIOKafkaProducer]:
        """A transactional producer; starting it fences the one before it."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, transactional_id=self.name, linger_ms=0
        )
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    @asynccontextmanager
    async def consumer(
        self, isolation_level: str = "read_committed"
    ) -> AsyncGenerator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=f"{self.name}-reader",
            isolation_level=isolation_level,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
        )
        consumer.assign([self.partition])
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    async def send(self, producer: AIOKafkaProducer, value: bytes) -> int:
        """Send one record and wait until the broker has it."""
        return (await producer.send_and_wait(self.name, value, partition=0)).offset

    async def read_up_to(self, consumer: AIOKafkaConsumer, position: int) -> list[bytes | None]:
        """The values of all records before `position`, once the consumer has arrived there."""
        values: list[bytes | None] = []
        async with asyncio.timeout(20):
            while await consumer.position(self.partition) < position:
                fetched = await consumer.getmany(self.partition, timeout_ms=50)
                values += [record.value for records in fetched.values() for record in records]
        return values

    async def end(self, consumer: AIOKafkaConsumer) -> int:
        return (await consumer.end_offsets([self.partition]))[self.partition]


Test = Callable[[World], Coroutine[Any, Any, None]]
Run = Callable[[Test], None]


async def eventually(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Ask the broker again until it gives the wanted answer."""
    async with asyncio.timeout(20):
        while await ask() != wanted:
            pass


@pytest.fixture
def run(kafka: Broker, fresh: str) -> Run:
    """Runs a coroutine function over a fresh topic that takes records of at most 2000 bytes."""

    async def in_fresh_world(test: Test) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        try:
            configs = {"max.message.bytes": "2000"}
            topic = NewTopic(fresh, num_partitions=1, replication_factor=1, topic_configs=configs)
            await admin.create_topics([topic])
        finally:
            await admin.close()
        async with asyncio.timeout(60):
            await test(World(kafka.bootstrap, fresh))

    return lambda test: asyncio.run(in_fresh_world(test))


def test_the_next_owner_fences_a_produce_to_a_partition_of_the_transaction(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as old:
            await old.begin_transaction()
            await world.send(old, b"before")
            async with world.producer():
                # Only the future of the batch tells. The transaction does not know it yet.
                with pytest.raises(ProducerFenced):
                    await world.send(old, b"after")
                with pytest.raises(ProducerFenced):
                    await old.commit_transaction()

    run(test)


def test_the_next_owner_fences_the_first_produce_of_a_transaction(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as old:
            await old.begin_transaction()
            async with world.producer():
                with pytest.raises(ProducerFenced):
                    await world.send(old, b"after")

    run(test)


def test_the_next_owner_fences_offsets(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as old:
            await old.begin_transaction()
            await world.send(old, b"before")
            async with world.producer(), world.consumer() as reader:
                with pytest.raises(ProducerFenced):
                    await old.send_offsets_to_transaction(
                        {world.partition: 7}, f"{world.name}-reader"
                    )
                assert await reader.committed(world.partition) is None

    run(test)


def test_the_next_owner_fences_the_end_of_a_transaction(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as old:
            await old.begin_transaction()
            await world.send(old, b"before")
            async with world.producer() as new, world.consumer() as reader:
                with pytest.raises(ProducerFenced):
                    await old.commit_transaction()
                await new.begin_transaction()
                offset = await world.send(new, b"new")
                await new.commit_transaction()
                assert await world.read_up_to(reader, offset + 1) == [b"new"]

    run(test)


def test_only_committed_transactions_are_read(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as producer, world.consumer() as reader:
            await producer.begin_transaction()
            await world.send(producer, b"aborted")
            await producer.abort_transaction()
            await producer.begin_transaction()
            offset = await world.send(producer, b"committed")
            await producer.commit_transaction()
            assert await world.read_up_to(reader, offset + 1) == [b"committed"]
            async with world.consumer("read_uncommitted") as all_of_it:
                values = await world.read_up_to(all_of_it, offset + 1)
                assert values == [b"aborted", b"committed"]

    run(test)


def test_offsets_are_committed_with_the_transaction_and_not_without(run: Run) -> None:
    async def test(world: World) -> None:
        group = f"{world.name}-reader"
        async with world.producer() as producer, world.consumer() as reader:
            await producer.begin_transaction()
            await producer.send_offsets_to_transaction({world.partition: 3}, group)
            assert await reader.committed(world.partition) is None
            await producer.commit_transaction()
            await eventually(lambda: reader.committed(world.partition), 3)

            await producer.begin_transaction()
            await producer.send_offsets_to_transaction({world.partition: 9}, group)
            await producer.abort_transaction()
            async with world.producer():
                assert await reader.committed(world.partition) == 3

    run(test)


def test_a_new_owner_sees_every_commit_of_the_old_one_at_once(run: Run) -> None:
    """Why a task starts its producer before it reads its offsets.

    `commit_transaction` returns when the coordinator has decided, and the markers follow some
    milliseconds later: until then `committed()` mostly gives the offset before. Starting a producer
    with the same transactional id waits for the markers.
    """

    async def test(world: World) -> None:
        group = f"{world.name}-reader"
        async with world.consumer() as reader:
            for turn in range(1, 21):
                async with world.producer() as old:
                    await old.begin_transaction()
                    await world.send(old, b"value")
                    await old.send_offsets_to_transaction({world.partition: turn}, group)
                    await old.commit_transaction()
                    async with world.producer():
                        assert await reader.committed(world.partition) == turn
                        assert await world.end(reader) == 2 * turn

    run(test)


def test_a_new_owner_undoes_what_the_old_one_left_open(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as old, world.consumer() as reader:
            await old.begin_transaction()
            await world.send(old, b"value")
            await old.send_offsets_to_transaction({world.partition: 9}, f"{world.name}-reader")
            async with world.producer():
                assert await reader.committed(world.partition) is None
                # The record and the marker of the abort: nothing is left open.
                assert await world.end(reader) == 2
                assert await world.read_up_to(reader, 2) == []

    run(test)


def test_the_end_for_a_committed_reader_is_the_last_stable_offset(run: Run) -> None:
    async def test(world: World) -> None:
        async with (
            world.producer() as producer,
            world.consumer() as reader,
            world.consumer("read_uncommitted") as all_of_it,
        ):
            await producer.begin_transaction()
            await world.send(producer, b"one")
            await world.send(producer, b"two")
            assert await world.end(reader) == 0
            assert await world.end(all_of_it) == 2
            await producer.commit_transaction()
            # Two records and the marker of the commit.
            await eventually(lambda: world.end(reader), 3)
            assert await world.end(all_of_it) == 3

    run(test)


def test_a_commit_does_not_notice_a_failed_send_but_its_future_does(run: Run) -> None:
    """Why every future is looked at before a commit.

    `commit_transaction` waits for the batches but ignores how they ended: it succeeds, and the
    refused record is lost.
    """

    async def test(world: World) -> None:
        async with world.producer() as producer, world.consumer() as reader:
            await producer.begin_transaction()
            await world.send(producer, b"good")
            too_large = await producer.send(world.name, b"x" * 5000, partition=0)
            await producer.commit_transaction()
            assert isinstance(too_large.exception(), MessageSizeTooLargeError)
            assert await world.read_up_to(reader, 2) == [b"good"]

    run(test)


def test_after_a_failed_send_the_caller_aborts_and_takes_a_new_producer(run: Run) -> None:
    """The refused batch has used up sequence numbers that the broker never saw.

    From then on the broker refuses everything this producer sends to that partition, in later
    transactions too.
    """

    async def test(world: World) -> None:
        async with world.producer() as producer, world.consumer() as reader:
            await producer.begin_transaction()
            await world.send(producer, b"good")
            too_large = await producer.send(world.name, b"x" * 5000, partition=0)
            await asyncio.wait([too_large])
            assert isinstance(too_large.exception(), MessageSizeTooLargeError)
            await producer.abort_transaction()

            await producer.begin_transaction()
            with pytest.raises(OutOfOrderSequenceNumber):
                await world.send(producer, b"next")
            await producer.abort_transaction()

            async with world.producer() as another:
                await another.begin_transaction()
                offset = await world.send(another, b"next")
                await another.commit_transaction()
                assert await world.read_up_to(reader, offset + 1) == [b"next"]

    run(test)


def test_a_failed_batch_fails_its_one_future(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as producer:
            await producer.begin_transaction()
            batch = producer.create_batch()
            for _ in range(30):
                assert batch.append(key=None, value=b"x" * 100, timestamp=None) is not None
            batch.close()
            sent = await producer.send_batch(batch, world.name, partition=0)
            with pytest.raises(MessageSizeTooLargeError):
                await sent
            await producer.abort_transaction()

    run(test)


def test_a_batch_built_by_hand_is_part_of_the_transaction(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as producer, world.consumer() as reader:
            await producer.begin_transaction()
            batch = producer.create_batch()
            for value in (b"one", b"two", b"three"):
                assert batch.append(key=None, value=value, timestamp=1_357_000_000_000) is not None
            batch.close()
            metadata = await (await producer.send_batch(batch, world.name, partition=0))
            assert metadata.offset == 0
            assert await world.end(reader) == 0
            await producer.commit_transaction()
            assert await world.read_up_to(reader, 3) == [b"one", b"two", b"three"]

    run(test)


def test_a_full_batch_built_by_hand_says_so(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as producer:
            batch = producer.create_batch()
            taken = 0
            while batch.append(key=None, value=b"x" * 1000, timestamp=None) is not None:
                taken += 1
            # The limit is the producer's max_batch_size, 16 KiB unless told otherwise.
            assert 14 <= taken <= 16

    run(test)


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_the_position_passes_trailing_markers(run: Run, end: str) -> None:
    """How a task knows that it has read everything: its position equals the end offset.

    The position without a round trip is
    `consumer._subscription.subscription.assignment.state_value(partition).position`.
    """

    async def test(world: World) -> None:
        async with world.producer() as producer, world.consumer() as reader:
            await producer.begin_transaction()
            await world.send(producer, b"first")
            await producer.commit_transaction()
            assert await world.read_up_to(reader, 2) == [b"first"]

            await producer.begin_transaction()
            await world.send(producer, b"second")
            if end == "commit":
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()
            read = await world.read_up_to(reader, 4)
            assert read == ([b"second"] if end == "commit" else [])
            assert await world.end(reader) == 4
            subscription = reader._subscription.subscription
            assert subscription is not None
            assert subscription.assignment is not None
            assert subscription.assignment.state_value(world.partition).position == 4

    run(test)


def test_the_position_passes_a_marker_that_comes_alone(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.producer() as producer, world.consumer("read_uncommitted") as reader:
            await producer.begin_transaction()
            await world.send(producer, b"first")
            assert await world.read_up_to(reader, 1) == [b"first"]
            await producer.commit_transaction()
            assert await world.read_up_to(reader, 2) == []

    run(test)
