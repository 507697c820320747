"""A partition that a gate has paused: it waits over kills and rebalances, and loses nothing."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from streamflow.batch import Record, TopicPartition
from streamflow.broker import Broker
from streamflow.cli import main
from streamflow.edges.kafka_admin import KafkaAdmin
from streamflow.edges.partitioner import default_partition
from streamflow.engine.settings import Settings
from streamflow.service import topology_app
from tests.integration.pausing import made
from tests.integration.test_web import free_port, get
from tests.integration.worker import WorkerUnderTest

PARTITIONS = 2
START = datetime(2024, 5, 1, tzinfo=UTC)
#: One sensor of each partition.
BROKEN, WELL = (
    next(n for n in map(str, range(100)) if default_partition(n.encode(), PARTITIONS) == p)
    for p in range(PARTITIONS)
)


def reading(sensor: str, n: int, value: int | None = 1) -> Record:
    at = START + n * timedelta(seconds=1)
    return Record(
        sensor.encode(), orjson.dumps({"sensor": sensor, "n": n, "value": value, "at": at})
    )


#: The gate trips at the third that is missing, which is the eighth record: it stops at offset 8.
TRIPS = [*range(5), None, None, None, *range(8, 30)]


@pytest.fixture
def under_test(kafka: Broker, fresh: str, tmp_path: Path) -> Iterator[WorkerUnderTest]:
    yielded = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path, "tests.integration.pausing")
    yielded.create("readings", PARTITIONS)
    yield yielded
    yielded.close()


def offsets(under_test: WorkerUnderTest) -> list[int]:
    """What the group has committed of each partition."""

    async def go() -> list[int]:
        async with KafkaAdmin(under_test.connection) as admin:
            topic = under_test.prefix + "readings"
            tps = [TopicPartition(topic, p) for p in range(PARTITIONS)]
            return [await admin.group_offset(under_test.app, tp) or 0 for tp in tps]

    return asyncio.run(go())


def passed(under_test: WorkerUnderTest, sensor: str) -> list[int]:
    rows = [orjson.loads(record.value or b"") for record in under_test.read("passed")]
    return [row["n"] for row in rows if row["sensor"] == sensor]


def send(under_test: WorkerUnderTest, *records: Record) -> None:
    under_test.produce("readings", records, PARTITIONS)


def test_a_paused_partition_waits_over_kills_and_rebalances_and_loses_nothing(
    under_test: WorkerUnderTest,
) -> None:
    send(under_test, *[reading(BROKEN, n, value) for n, value in enumerate(TRIPS)])
    options = ("--commit-interval", "0.05")
    sent = 0

    def well_goes_on(worker: Any) -> None:
        """The other partition gets records, and this worker commits them: it does not stand."""
        nonlocal sent
        send(under_test, *[reading(WELL, n) for n in range(sent, sent + 10)])
        sent += 10
        under_test.wait_until(worker, lambda: offsets(under_test)[1] >= sent)
        assert offsets(under_test)[0] == 8

    first = under_test.start(*options)
    under_test.wait_until(first, lambda: offsets(under_test)[0] >= 8)
    well_goes_on(first)
    under_test.kill(first)

    second = under_test.start(*options)
    well_goes_on(second)
    port = free_port()
    other = under_test.start(*options, "--worker-id", "other", "--web-port", str(port))
    well_goes_on(other)  # whichever has which partition now
    under_test.kill(second)
    well_goes_on(other)
    waiting = {f"{under_test.prefix}readings[0]": {"gate": "outage"}}
    # Each partition is opened for itself: this one may come after the other.
    under_test.wait_until(other, lambda: get(port, "/live")[1]["paused"] == waiting)
    other.send_signal(signal.SIGTERM)
    summary = under_test.finish(other)
    assert summary["gates"]["outage"]["open"] == 1
    assert summary["paused"] == waiting
    assert passed(under_test, BROKEN) == list(range(8))

    totals = under_test.finish(under_test.start("--until-end", "--resume"))["totals"]
    assert passed(under_test, BROKEN) == list(range(len(TRIPS)))
    assert passed(under_test, WELL) == list(range(sent))
    assert totals["in"] == totals["passed"] == len(TRIPS) + sent


def say(under_test: WorkerUnderTest, command: str, *more: str) -> list[str]:
    where = ["--broker", under_test.bootstrap, "--app-id", under_test.app]
    arguments = [command, under_test.module, *more, *where, "--topic-prefix", under_test.prefix]
    return CliRunner().invoke(main, arguments).output.splitlines()


def test_what_an_operator_pauses_stands_over_a_kill_until_it_is_told_to_go_on(
    under_test: WorkerUnderTest,
) -> None:
    topic = f"{under_test.prefix}readings"
    options = ("--commit-interval", "0.05")
    assert say(under_test, "pause", "--partition", "2") == [
        f"error: {topic} has the partitions 0 to 1, and no 2"
    ]
    # Before the first worker there is.
    assert say(under_test, "pause", "--partition", "0", "--why", "x") == [f"paused {topic}[0]"]
    first = under_test.start(*options)
    send(under_test, *[reading(s, n) for n in range(10) for s in (BROKEN, WELL)])
    under_test.wait_until(first, lambda: offsets(under_test) == [0, 10])
    under_test.kill(first)
    second = under_test.start(*options)
    send(under_test, *[reading(WELL, n) for n in range(10, 20)])
    under_test.wait_until(second, lambda: offsets(under_test) == [0, 20])
    assert say(under_test, "resume") == [f"resumed {topic}[{p}]" for p in range(PARTITIONS)]
    under_test.wait_until(second, lambda: offsets(under_test) == [10, 20])
    second.send_signal(signal.SIGTERM)
    under_test.finish(second)
    assert passed(under_test, BROKEN) == list(range(10))
    assert passed(under_test, WELL) == list(range(20))
    # What retention deletes while a partition stands is not passed over when it goes on.
    say(under_test, "pause", "--partition", "0")
    third = under_test.start(*options)
    send(under_test, reading(WELL, 20))
    under_test.wait_until(third, lambda: offsets(under_test) == [10, 21])
    send(under_test, *[reading(BROKEN, n) for n in range(10, 20)])
    asyncio.run(forget(under_test, TopicPartition(topic, 0), 15))
    say(under_test, "resume")
    _, err = third.communicate(timeout=60)
    assert third.returncode == 2
    assert b"the next record is 10, but the topic starts at 15" in err
    assert passed(under_test, BROKEN) == list(range(10))


async def forget(under_test: WorkerUnderTest, tp: TopicPartition, before: int) -> None:
    """Delete the records below an offset, as retention does."""
    async with KafkaAdmin({"bootstrap_servers": under_test.bootstrap}) as admin:
        await admin.trim(tp, before)


def test_a_run_that_ends_does_not_wait_for_somebody(under_test: WorkerUnderTest) -> None:
    send(under_test, *[reading(BROKEN, n, value) for n, value in enumerate(TRIPS)])
    worker = under_test.start("--until-end")
    _, err = worker.communicate(timeout=120)
    assert worker.returncode == 2
    assert b"readings[0]@7: the gate 'outage' has paused the partition" in err
    assert b"start the worker with --resume" in err
    assert offsets(under_test)[0] == 8


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_polls_go_on_while_every_partition_is_paused_and_the_clock_ends_it(
    under_test: WorkerUnderTest,
) -> None:
    send(
        under_test,
        *[reading(s, n, v) for s in (BROKEN, WELL) for n, v in enumerate(TRIPS)],
    )

    async def go() -> None:
        settings = Settings.load(
            broker=under_test.bootstrap,
            app_id=under_test.app,
            topic_prefix=under_test.prefix,
            lake=under_test.lake,
            state_dir=under_test.folder / "state",
            session_timeout=6,
            commit_interval=0.05,
        )
        app = topology_app(made(timedelta(seconds=3)), settings)
        starting = asyncio.create_task(app.start())
        try:
            await starting
            host = app.host

            def stopped() -> int:
                tasks = [lane.task for lane in host.tasks.values()]
                return sum(bool(task and task.idle and task.stopped_by) for task in tasks)

            await until(lambda: stopped() == PARTITIONS)
            consumer: Any = app.consumer
            subscription = consumer._thread._consumer._subscription
            assert len(subscription.subscription.assignment.tps) >= PARTITIONS
            for _ in range(2):
                before = subscription._last_fetch_ended
                await until(lambda before=before: subscription._last_fetch_ended > before)
            assert stopped() == PARTITIONS

            def done() -> bool:
                tasks = [lane.task for lane in host.tasks.values()]
                return all(t and t.idle and t.state.position == len(TRIPS) for t in tasks)

            await until(done)
            assert host.failure is None
        finally:
            with suppress(asyncio.CancelledError):
                await app.stop()

    asyncio.run(go())
    for sensor in (BROKEN, WELL):
        assert passed(under_test, sensor) == list(range(len(TRIPS)))
