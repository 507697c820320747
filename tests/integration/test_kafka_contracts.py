"""The ports on Kafka keep the contracts that the memory ports keep too."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition

from streamflow.batch import Record, TopicPartition
from streamflow.broker import Broker
from streamflow.edges.kafka_admin import KafkaAdmin, KafkaOffsets, TopicSpec
from streamflow.edges.kafka_changelog import KafkaChangelog
from streamflow.edges.kafka_outbox import KafkaOutbox
from streamflow.edges.kafka_plain_outbox import KafkaPlainOutbox
from streamflow.edges.kafka_tail import KafkaTail
from streamflow.ports import Outbox
from streamflow.testing import contracts_changelog, contracts_outbox, contracts_plain_outbox
from streamflow.testing.contracts_outbox import first, records, write


class KafkaBench:
    """A bench of the contracts on one fresh topic."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.topic = name
        # A topic that is missing is waited for as long as for any answer.
        self._connection: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "request_timeout_ms": 3_000,
        }

    async def prepare(self) -> None:
        async with KafkaAdmin(self._connection) as admin:
            await admin.create(
                [TopicSpec(self.topic, contracts_outbox.PARTITIONS, {"retention.ms": "-1"})]
            )

    def outbox(self) -> Outbox:
        return KafkaOutbox(self._connection, f"{self.topic}-producer", f"{self.topic}-group")

    def changelog(self) -> KafkaChangelog:
        return KafkaChangelog(self._connection, TopicPartition(self.topic, 0))

    async def committed(self, tp: TopicPartition) -> list[tuple[int, Record]]:
        wanted = KafkaTopicPartition(*tp)
        consumer = AIOKafkaConsumer(
            **self._connection, isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign([wanted])
            await consumer.seek_to_beginning(wanted)
            end = (await consumer.end_offsets([wanted]))[wanted]
            found: list[tuple[int, Record]] = []
            while await consumer.position(wanted) < end:
                fetched = await consumer.getmany(wanted, timeout_ms=50)
                for rows in fetched.values():
                    found += [
                        (r.offset, Record(r.key, r.value, r.timestamp, tuple(r.headers)))
                        for r in rows
                    ]
            return found
        finally:
            await consumer.stop()

    async def end(self, tp: TopicPartition) -> int:
        offsets = KafkaOffsets(self._connection)
        await offsets.start()
        try:
            return (await offsets.bounds([tp]))[tp][1]
        finally:
            await offsets.stop()

    async def position(self, tp: TopicPartition) -> int | None:
        async with KafkaAdmin(self._connection) as admin:
            return await admin.group_offset(f"{self.topic}-group", tp)

    async def trim(self, tp: TopicPartition, before: int) -> None:
        async with KafkaAdmin(self._connection) as admin:
            await admin.trim(tp, before)


class PlainKafkaBench(KafkaBench):
    """One whose outboxes have no transactions."""

    def outbox(self) -> Outbox:
        return KafkaPlainOutbox(self._connection, f"{self.topic}-producer", f"{self.topic}-group")

    def transactional(self) -> Outbox:
        return super().outbox()


Law = Callable[[KafkaBench], Coroutine[Any, Any, None]]


@pytest.fixture
def run(kafka: Broker, fresh: str) -> Callable[..., None]:
    """Runs a law on a fresh topic."""

    async def go(law: Any, kind: type[KafkaBench]) -> None:
        bench = kind(kafka.bootstrap, fresh)
        async with asyncio.timeout(60):
            await bench.prepare()
            await law(bench)

    return lambda law, kind=KafkaBench: asyncio.run(go(law, kind))


@pytest.mark.parametrize("law", contracts_outbox.LAWS, ids=lambda law: law.__name__)
def test_the_outbox_keeps_the_contract(law: Law, run: Callable[..., None]) -> None:
    run(law)


@pytest.mark.parametrize("law", contracts_plain_outbox.LAWS, ids=lambda law: law.__name__)
def test_the_plain_outbox_keeps_the_contract(law: Any, run: Callable[..., None]) -> None:
    run(law, PlainKafkaBench)


@pytest.mark.parametrize("law", contracts_changelog.LAWS, ids=lambda law: law.__name__)
def test_the_changelog_keeps_the_contract(law: Law, run: Callable[..., None]) -> None:
    run(law)


def test_a_tail_that_is_closed_fetches_nothing_and_goes_on_where_it_is_told(
    kafka: Broker, run: Callable[..., None]
) -> None:
    async def law(bench: KafkaBench) -> None:
        tail = KafkaTail({"bootstrap_servers": kafka.bootstrap}, TopicPartition(bench.topic, 0))
        values: list[bytes | None] = []
        position = 0
        for turn in range(3):
            await write(bench, first(bench), records(range(10 * turn, 10 * turn + 10)))
            _, stop = await tail.bounds()
            while position < stop:
                entries, position = await tail.fetch(position, stop)
                values += [value for _, value in entries]
            await tail.close()
            assert [tuple(tp) for tp in tail._consumer.paused()] == [(bench.topic, 0)]
        assert values == [str(n).encode() for n in range(30)]
        await tail.stop()
        assert tail._consumer is None

    run(law)
