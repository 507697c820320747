"""A topic into a table without a task: killed in the middle of rolls, over holes."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition

from streamflow.batch import Record, TopicPartition
from streamflow.broker import Broker
from streamflow.edges.kafka_admin import KafkaAdmin
from streamflow.engine.faults import VARIABLE
from tests.integration.worker import WorkerUnderTest

DAY_MS = 86_400_000
PARTITIONS = 2
CLICKS = 3_000


def clicks(first: int, count: int) -> list[Record]:
    """With headers that repeat, tombstones, and without a key."""
    return [
        Record(
            None if i % 7 == 0 else f"user-{i % 50}".encode(),
            None if i % 11 == 0 else b"%d " % i * 20,
            (20_000 + i % 3) * DAY_MS + i,
            (("trace", b"%d" % i), ("hop", b"1"), ("hop", None)) if i % 2 else (),
        )
        for i in range(first, first + count)
    ]


async def transact(bootstrap: str, topic: str, records: Sequence[Record], *, commits: bool) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}-{commits}")
    await producer.start()
    try:
        await producer.begin_transaction()
        for i, record in enumerate(records):
            more = {"timestamp_ms": record.timestamp, "headers": list(record.headers)}
            value = record.value if record.key else record.value or b""  # one of both is needed
            await producer.send(topic, value, record.key, i % PARTITIONS, **more)
        await (producer.commit_transaction() if commits else producer.abort_transaction())
    finally:
        await producer.stop()


async def committed(bootstrap: str, topic: str) -> list[tuple[Any, ...]]:
    """Every committed record of the topic, with its place."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        tps = [KafkaTopicPartition(topic, p) for p in range(PARTITIONS)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        found: list[tuple[Any, ...]] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for r in records:
                    headers = [{"key": key, "value": value} for key, value in r.headers]
                    where = (r.topic, r.partition, r.offset)
                    found.append((*where, r.key, r.value, headers, r.timestamp))
        return sorted(found, key=lambda row: row[1:3])
    finally:
        await consumer.stop()


def archived(folder: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        rows = connection.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
        return (
            rows.select("_topic, _partition, _offset, key, value, headers, epoch_ms(_timestamp)")
            .order("_partition, _offset")
            .fetchall()
        )


def ends_of(under_test: WorkerUnderTest) -> dict[TopicPartition, int]:
    """Where the chains of cuts end."""
    found: dict[TopicPartition, int] = {}
    for path in (under_test.lake / "raw" / "clicks.streamflow").glob("*clicks-0*.json"):
        cut = orjson.loads(path.read_bytes())
        tp = TopicPartition(cut["topic"], cut["partition"])
        found[tp] = max(found.get(tp, 0), cut["next"])
    return found


async def trim(bootstrap: str, tp: TopicPartition, before: int) -> None:
    async with KafkaAdmin({"bootstrap_servers": bootstrap}) as admin:
        await admin.trim(tp, before)


async def bounds(bootstrap: str, topic: str) -> dict[str, int]:
    async with KafkaAdmin({"bootstrap_servers": bootstrap}) as admin:
        return await admin.partitions([topic])


def test_a_topic_is_in_its_table_once_though_workers_are_killed(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    under_test = WorkerUnderTest(
        kafka.bootstrap, fresh, tmp_path, "tests.integration.apps.archiving"
    )
    topic = under_test.prefix + "clicks"
    try:
        under_test.create("clicks", PARTITIONS)
        under_test.create("orders", 1)
        order = Record(b"1", orjson.dumps({"id": "1", "at": "2026-01-01T00:00:00Z"}))
        under_test.produce("orders", [order], 1)
        under_test.produce("clicks", clicks(0, CLICKS), PARTITIONS, 16_000)
        asyncio.run(transact(kafka.bootstrap, topic, clicks(CLICKS, 30), commits=False))
        asyncio.run(transact(kafka.bootstrap, topic, clicks(CLICKS, 60), commits=True))

        killed = under_test.start("--until-end", **{VARIABLE: "files-written:4"})
        _, err = killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL, err.decode()[-4000:]
        assert len(archived(under_test.lake / "raw" / "clicks")) < CLICKS

        asyncio.run(transact(kafka.bootstrap, topic, clicks(CLICKS + 60, 20), commits=False))
        summary = under_test.finish(under_test.start("--until-end"))
        wanted = asyncio.run(committed(kafka.bootstrap, topic))
        assert len(wanted) == CLICKS + 60
        assert archived(under_test.lake / "raw" / "clicks") == wanted
        assert (summary["totals"]["in"], summary["archived"], summary["lag"]) == (1, PARTITIONS, 0)
        assert asyncio.run(bounds(kafka.bootstrap, f"{fresh}-raw-clicks-rows")) == {}

        # Up to its end a partition is archived, so retention may take it; but not more of it.
        ends = ends_of(under_test)
        under_test.produce("clicks", clicks(0, 10), PARTITIONS)
        for tp, end in ends.items():
            asyncio.run(trim(kafka.bootstrap, tp, end + tp.partition))
        refused = under_test.start("--until-end")
        _, err = refused.communicate(timeout=60)
        assert refused.returncode == 2, err.decode()[-4000:]
        tp = TopicPartition(topic, 1)
        assert f"{tp} starts at offset {ends[tp] + 1}, but the archive".encode() in err
        assert b"records were deleted before they were archived" in err
    finally:
        under_test.close()
