"""Reads whole topics and tables, as whoever comes after the app would."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition

from streamflow.core.headers import LINEAGE_HEADER, read_lineage

TOPICS = ("passed", "dead", "late", "minutes")
TABLES = {
    "readings": '_partition, _offset, sensor, event, value, "at"',
    "minutes": "sensor, window_start, readings, total, largest",
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


#: A multiset of comparable rows.
Rows = Counter[tuple[Any, ...]]


class Logged(NamedTuple):
    """A record with its place."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]


async def read(bootstrap: str, topic: str) -> list[Logged]:
    """Every committed record of a topic in which no transaction is open any more."""
    consumer = _consumer(bootstrap, "read_committed")
    every = _consumer(bootstrap, "read_uncommitted")
    await consumer.start()
    await every.start()
    try:
        partitions = await consumer._client._wait_on_metadata(topic)
        tps = [KafkaTopicPartition(topic, partition) for partition in sorted(partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        deadline = time.monotonic() + 60
        while (ends := await consumer.end_offsets(tps)) != await every.end_offsets(tps):
            assert time.monotonic() < deadline, f"a transaction stays open in {topic}: {ends}"
        found: list[Logged] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for rows in (await consumer.getmany(timeout_ms=200)).values():
                found += [
                    Logged(r.partition, r.offset, r.key or b"", r.value or b"", dict(r.headers))
                    for r in rows
                ]
        return found
    finally:
        await consumer.stop()
        await every.stop()


async def found(bootstrap: str, prefix: str, lake: Path) -> tuple[Mapping[str, Rows], int]:
    """Everything that came out, as `oracle.expected` says it, and how many commits sent it."""
    topics = {name: await read(bootstrap, f"{prefix}{name}") for name in TOPICS}
    return outcome(topics, f"{prefix}readings", lake)


def outcome(
    topics: Mapping[str, Iterable[Logged]], source: str, lake: Path
) -> tuple[Mapping[str, Rows], int]:
    """What is in topics and tables, and how many commits sent it."""
    out, commits = in_topics(topics, source)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, columns in TABLES.items():
            out[f"{name}*"] = _table(connection, lake / name, columns)
    return out, commits


def in_topics(topics: Mapping[str, Iterable[Logged]], source: str) -> tuple[dict[str, Rows], int]:
    """What is in topics, and how many commits sent it."""
    commits: dict[int, int] = {}
    out: dict[str, Rows] = {}
    for name, records in topics.items():
        rows: Rows = Counter()
        for record in records:
            origin = read_lineage(record.headers[LINEAGE_HEADER], [source])
            partition = origin.tp.partition
            commits[partition] = max(commits.get(partition, 0), origin.commit)
            rows[_comparable(name, record, (partition, origin.first))] += 1
        out[name] = rows
    return out, sum(commits.values())


def _comparable(name: str, record: Logged, origin: tuple[int, int]) -> tuple[Any, ...]:
    if name == "minutes":
        row = orjson.loads(record.value)
        start = datetime.fromisoformat(row["window_start"])
        return row["sensor"], start, row["readings"], row["total"], row["largest"]
    if name == "late":
        start, watermark = (
            EPOCH + timedelta(microseconds=int(record.headers[f"streamflow.late.{word}_us"]))
            for word in ("window_start", "watermark")
        )
        return *origin, record.value, start, watermark
    return *origin, record.value


def _table(connection: Any, folder: Path, columns: str) -> Rows:
    files = f"{folder}/**/*.parquet"
    rows = connection.execute(
        f"SELECT {columns} FROM read_parquet('{files}', hive_partitioning = true)"
    ).fetchall()
    return Counter(
        tuple(cell.astimezone(UTC) if isinstance(cell, datetime) else cell for cell in row)
        for row in rows
    )


def _consumer(bootstrap: str, isolation: str) -> Any:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level=isolation, enable_auto_commit=False
    )
