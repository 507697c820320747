"""A worker that delivers at least once is killed, and one that delivers exactly once finishes.

Tables are those of one run that nothing has interrupted; topics have all of it, some of it twice.
"""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from streamflow.broker import Broker
from streamflow.core.names import Names
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.engine.chosen import NEEDED
from streamflow.engine.faults import VARIABLE
from streamflow.service import LAG
from tests.integration.test_crashes import (
    CHUNK,
    FLIGHTS,
    PARTITIONS,
    TABLES,
    TOPICS,
    expected,
    left_behind,
    some_flights,
)
from tests.integration.worker import WorkerUnderTest

__all__ = ["expected"]


#: A changelog as an earlier version made it, which may be compacted at once.
EARLIER = {"cleanup.policy": "compact", "retention.ms": "-1", "max.message.bytes": "2162690"}


def _changelog(under_test: WorkerUnderTest) -> str:
    return Names(under_test.app, under_test.prefix).changelog("flights")


async def _of_an_earlier_version(under_test: WorkerUnderTest) -> None:
    async with KafkaAdmin(under_test.connection) as admin:
        await admin.create([TopicSpec(_changelog(under_test), PARTITIONS, EARLIER)])


async def _config(under_test: WorkerUnderTest) -> dict[str, str]:
    async with KafkaAdmin(under_test.connection) as admin:
        found = await admin.config(_changelog(under_test))
    return {name: found[name] for name in (*EARLIER, LAG)}


def test_kafka_has_transactions(kafka: Broker) -> None:
    async def go() -> Any:
        async with KafkaAdmin({"bootstrap_servers": kafka.bootstrap}) as admin:
            return await admin.lacks(NEEDED | {9_999: "Nonsense"})

    assert asyncio.run(go()) == ["Nonsense"]


def test_tables_are_exact_over_kills_without_transactions_and_a_change_of_delivery(
    kafka: Broker, fresh: str, tmp_path: Path, expected: dict[str, list[tuple[Any, ...]]]
) -> None:
    # A worker passes every step once for each of its tasks when it takes them over.
    plain = {"STREAMFLOW_DELIVERY": "at_least_once"}
    under_test = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path)
    try:
        under_test.create("flights", PARTITIONS)
        asyncio.run(_of_an_earlier_version(under_test))
        first = under_test.start("--commit-interval", "0.1", **plain, **{VARIABLE: "mark:9"})
        under_test.produce("flights", some_flights()[:CHUNK], PARTITIONS)
        under_test.wait_until(first, lambda: under_test.committed("flights", PARTITIONS) > 0)
        mended = {**EARLIER, LAG: "3600000"}
        under_test.wait_until(first, lambda: asyncio.run(_config(under_test)) == mended)
        under_test.produce("flights", some_flights()[CHUNK : 4 * CHUNK], PARTITIONS)
        first.communicate(timeout=60)
        assert first.returncode == -9

        under_test.produce("flights", some_flights()[4 * CHUNK :], PARTITIONS)
        second = under_test.start("--until-end", **plain, **{VARIABLE: "name:6"})
        second.communicate(timeout=60)
        assert second.returncode == -9

        summary = under_test.finish(under_test.start("--until-end"))
        assert summary["totals"]["in"] == FLIGHTS
        assert summary["delivery"] == "exactly_once"
        found = left_behind(under_test)
        for table in TABLES:
            assert found[table] == expected[table], table
        for topic in TOPICS:
            there, wanted = Counter(found[topic]), Counter(expected[topic])
            assert there.keys() == wanted.keys(), topic
            assert not wanted - there, topic
    finally:
        under_test.close()
