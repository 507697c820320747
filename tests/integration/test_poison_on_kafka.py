"""What Kafka does not take, on Kafka: the sizes, and a worker that finds what is refused."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamflow.batch import Record
from streamflow.broker import Broker
from streamflow.clock import SystemClock
from streamflow.core.poison import TopicLimits, batch_bytes
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.edges.kafka_limits import KafkaLimits
from streamflow.edges.kafka_outbox import KafkaOutbox
from streamflow.errors import Refused, Unavailable
from tests.integration.worker import FOREVER, WorkerUnderTest

START = datetime(2024, 5, 1, tzinfo=UTC)
LIMIT = 3_000


def note(n: int, text: str = "", key: bytes | None = b"ann") -> Record:
    value = {"author": "ann", "n": n, "text": text, "at": START + n * timedelta(seconds=1)}
    return Record(key, orjson.dumps(value))


@pytest.fixture
def under_test(kafka: Broker, fresh: str, tmp_path: Path) -> Iterator[WorkerUnderTest]:
    yielded = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path, "tests.integration.notes")
    yield yielded
    yielded.close()


async def limit(under_test: WorkerUnderTest, topic: str) -> None:
    """Let a topic take less from now on."""
    admin = AIOKafkaAdminClient(**under_test.connection)
    await admin.start()
    try:
        config = {"max.message.bytes": str(LIMIT), **FOREVER}
        name = under_test.prefix + topic
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, config)])
    finally:
        await admin.close()


def test_a_record_that_kafka_refuses_unforeseen_is_found_and_nothing_else_is_touched(
    under_test: WorkerUnderTest,
) -> None:
    under_test.create("notes", 1)
    worker = under_test.start("--commit-interval", "0.2")
    under_test.produce("notes", [note(0)], 1)
    under_test.wait_until(worker, lambda: under_test.committed("notes", 1) == 1)
    asyncio.run(limit(under_test, "copies"))
    long = "x" * (LIMIT + 1_000)
    sent = [note(n, long if n in {300, 500} else "y" * 20) for n in range(1, 601)]
    under_test.produce("notes", sent, 1)
    under_test.wait_until(worker, lambda: under_test.committed("notes", 1) == 601)
    worker.terminate()
    assert under_test.finish(worker)["totals"]["undelivered"] == 2

    everything = [note(0), *sent]
    letters = under_test.read("dlq")
    assert [(r.key, r.value) for r in letters] == [(r.key, r.value) for r in (sent[299], sent[499])]
    headers = [dict(letter.headers) for letter in letters]
    assert [h["__connect.errors.offset"] for h in headers] == [b"300", b"500"]
    assert {h["streamflow.stage"] for h in headers} == {b"sink"}
    assert {h["streamflow.topic"] for h in headers} == {f"{under_test.prefix}copies".encode()}
    kept = [r.value for r in everything if len(r.value or b"") < LIMIT]
    assert [r.value for r in under_test.read("copies")] == kept
    assert [r.value for r in under_test.read("latest")] == [r.value for r in everything]


def test_a_source_of_small_records_gives_topics_of_small_batches(
    under_test: WorkerUnderTest,
) -> None:
    """All topics are made from the source's limit: no batch of many records may be above theirs."""

    async def create() -> None:
        small = {"max.message.bytes": str(LIMIT), **FOREVER}
        compact = {"cleanup.policy": "compact", **FOREVER}
        async with KafkaAdmin(under_test.connection) as admin:
            await admin.create(
                [
                    TopicSpec(under_test.prefix + "notes", 1, small),
                    TopicSpec(under_test.prefix + "latest", 1, compact),
                    TopicSpec(under_test.prefix + "copies", 1, small),
                ]
            )

    asyncio.run(create())
    texts = [f"{n}" * (2_000 // len(f"{n}")) for n in range(500)]
    for start in range(0, 500, 100):
        some = [note(n, texts[n]) for n in range(start, start + 100)]
        under_test.produce("notes", some, 1, batch_bytes=LIMIT)
    totals = under_test.finish(under_test.start("--until-end"))["totals"]
    assert totals["in"] == totals["passed"] == 500
    assert "undelivered" not in totals
    for topic in ("copies", "latest"):
        assert len(under_test.read(topic)) == 500


def test_the_limits_are_kafkas_own(kafka: Broker, fresh: str) -> None:
    """Just as large as allowed is taken, a byte more is refused; so is what is too old, or has no
    key where one is asked for. A topic that is not there is no fault of a record.
    """
    topics = {
        "small": {"max.message.bytes": str(LIMIT)},
        "recent": {"message.timestamp.before.max.ms": "86400000"},
        "keyed": {"cleanup.policy": "compact"},
        "stamped": {
            "message.timestamp.type": "LogAppendTime",
            "message.timestamp.before.max.ms": "86400000",
        },
    }
    names = {name: f"{fresh}-{name}" for name in topics}
    connection = {"bootstrap_servers": kafka.bootstrap, "request_timeout_ms": 3_000}
    now_ms = int(SystemClock().now().timestamp() * 1000)
    old = now_ms - 2 * 86_400_000
    fits = LIMIT - batch_bytes(Record(b"k", b"x" * 2_000, 5)) + 2_000

    async def refused(topic: str, record: Record) -> str:
        outbox = KafkaOutbox(connection, fresh, f"{fresh}-group")
        await outbox.fence()
        try:
            await outbox.begin()
            await outbox.produce(topic, [Record(b"k", b"v", now_ms)])
            await outbox.produce(topic, [record])
            await outbox.flush()
            await outbox.commit()
        except Refused as error:
            return error.why if list(error.records) == [record] else "others"
        except Unavailable as error:
            return str(error)
        finally:
            await outbox.close()
        return ""

    async def go() -> None:
        async with KafkaAdmin(connection) as admin:
            await admin.create([TopicSpec(names[n], 1, c) for n, c in topics.items()])
        limits = await KafkaLimits(connection, [*names.values(), "nowhere"], SystemClock()).read()
        assert limits == {
            names["small"]: TopicLimits(LIMIT),
            names["recent"]: TopicLimits(limits[names["small"]].bytes and 1_048_588, 86_400_000),
            names["keyed"]: TopicLimits(1_048_588, keyed=True),
            names["stamped"]: TopicLimits(1_048_588),
        }
        assert await refused(names["small"], Record(b"k", b"x" * fits, 5)) == ""
        assert "TooLarge" in await refused(names["small"], Record(b"k", b"x" * (fits + 1), 5))
        assert "InvalidTimestamp" in await refused(names["recent"], Record(b"k", b"v", old))
        assert await refused(names["stamped"], Record(b"k", b"v", old)) == ""
        assert "InvalidRecord" in await refused(names["keyed"], Record(None, b"v", 5))
        assert "is a topic missing" in await refused(f"{fresh}-nowhere", Record(b"k", b"v", 5))

    asyncio.run(go())
