"""Silence on a real Kafka: it closes windows, also over a restart, and a backlog is none."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from streamflow.batch import Record
from streamflow.broker import Broker
from streamflow.edges.partitioner import default_partition
from tests.integration.worker import WorkerUnderTest

APP = "tests.integration.apps.idle"
PARTITIONS = 2
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SENSORS = [f"sensor-{number}" for number in range(20)]
#: One sensor in each of the two partitions.
SILENT, BUSY = (
    next(name for name in SENSORS if default_partition(name.encode(), PARTITIONS) == partition)
    for partition in range(PARTITIONS)
)


@pytest.fixture
def under_test(kafka: Broker, fresh: str, tmp_path: Path) -> Iterator[WorkerUnderTest]:
    made = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path, module=APP)
    made.environment = {"STREAMFLOW_LAKE": str(made.lake)}
    made.create("readings", PARTITIONS)
    yield made
    made.close()


def reading(sensor: str, at: datetime, padding: str = "") -> Record:
    value = orjson.dumps({"sensor": sensor, "at": at, "padding": padding})
    return Record(sensor.encode(), value)


def minutes(under_test: WorkerUnderTest, sensor: str) -> list[tuple[str, int]]:
    """The minutes of a sensor that are final, and how often it spoke in each."""
    rows = [orjson.loads(record.value or b"") for record in under_test.read("minutes")]
    return sorted((r["window_start"], r["readings"]) for r in rows if r["sensor"] == sensor)


def test_a_silent_partition_goes_on_with_the_others_and_over_a_restart(
    under_test: WorkerUnderTest,
) -> None:
    worker = under_test.start("--commit-interval", "0.2")
    under_test.produce("readings", [reading(SILENT, NOON), reading(SILENT, NOON)], PARTITIONS)
    under_test.wait_until(worker, lambda: under_test.committed("readings", PARTITIONS) == 2)
    spoken = 0
    deadline = time.monotonic() + 60
    while not minutes(under_test, SILENT):
        assert time.monotonic() < deadline, "the silent partition's window stays open"
        # The other one is an hour on, within one minute, and never silent for long.
        under_test.produce("readings", [reading(BUSY, NOON + HOUR)], PARTITIONS)
        spoken += 1
    assert minutes(under_test, SILENT) == [("2024-05-01T12:00:00Z", 2)]
    assert minutes(under_test, BUSY) == []

    under_test.kill(worker)
    worker = under_test.start("--commit-interval", "0.2")
    # Both come after the restart: what it is late for was decided before it.
    late, on_time = reading(SILENT, NOON + MINUTE), reading(SILENT, NOON + HOUR)
    under_test.produce("readings", [late, on_time], PARTITIONS)
    under_test.wait_until(
        worker, lambda: under_test.committed("readings", PARTITIONS) == spoken + 4
    )
    assert [record.value for record in under_test.read("late")] == [late.value]
    assert minutes(under_test, SILENT) == [("2024-05-01T12:00:00Z", 2)]


def test_where_all_are_silent_time_goes_on_by_the_clock(under_test: WorkerUnderTest) -> None:
    almost = NOON + MINUTE - timedelta(seconds=3)
    under_test.produce("readings", [reading(SILENT, almost)], PARTITIONS)
    worker = under_test.start("--commit-interval", "0.2")
    under_test.wait_until(worker, lambda: under_test.committed("readings", PARTITIONS) == 1)
    seen = time.monotonic()
    under_test.wait_until(worker, lambda: bool(minutes(under_test, SILENT)))
    # Three seconds are missing to the window's end; looking takes a moment.
    assert time.monotonic() - seen > 1
    assert minutes(under_test, SILENT) == [("2024-05-01T12:00:00Z", 1)]
    assert minutes(under_test, BUSY) == []


def test_a_backlog_is_not_silence(under_test: WorkerUnderTest) -> None:
    """One partition is at its end and far ahead; the other takes longer than `idle_after` for each
    micro-batch, and has some of them before it.
    """
    padding, count = "." * 1_000, 10_000
    backlog = [reading(SILENT, NOON + number * MINUTE / 100, padding) for number in range(count)]
    ahead = reading(BUSY, NOON + 1_000 * HOUR)
    under_test.produce("readings", [*backlog, ahead], PARTITIONS)
    (under_test.folder / "SLOW").touch()
    worker = under_test.start("--commit-interval", "0.2")
    under_test.wait_until(worker, lambda: under_test.committed("readings", PARTITIONS) == count + 1)
    assert under_test.read("late") == []
    under_test.wait_until(worker, lambda: len(minutes(under_test, SILENT)) == count // 100)
    assert {number for _, number in minutes(under_test, SILENT)} == {100}


def test_a_silent_partition_goes_on_with_one_of_another_worker(under_test: WorkerUnderTest) -> None:
    workers = [
        under_test.start("--commit-interval", "0.2", STREAMFLOW_WORKER_ID=name) for name in "ab"
    ]
    under_test.wait_until(workers[0], lambda: shared(under_test) == {b"0", b"1"})
    under_test.produce("readings", [reading(SILENT, NOON)], PARTITIONS)
    deadline = time.monotonic() + 60
    while not minutes(under_test, SILENT):
        assert time.monotonic() < deadline, "the silent partition's window stays open"
        under_test.produce("readings", [reading(BUSY, NOON + HOUR)], PARTITIONS)
    assert minutes(under_test, SILENT) == [("2024-05-01T12:00:00Z", 1)]
    assert minutes(under_test, BUSY) == []
    assert all(worker.poll() is None for worker in workers)


def shared(under_test: WorkerUnderTest) -> set[bytes | None]:
    """The partitions that workers have told each other of: they do when none has all of them."""
    try:
        records = asyncio.run(under_test._read(f"{under_test.app}-readings-watermarks"))
    except KeyError:
        return set()
    return {record.key for record in records}
