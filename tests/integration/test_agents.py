"""A topology beside a user's own agents, in one Faust app, started by Faust's own command line."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from streamflow.batch import Record
from streamflow.broker import Broker
from streamflow.demo.flights import flight_records
from tests.integration.faust_worker import faust_worker
from tests.integration.worker import ROOT, WorkerUnderTest

PARTITIONS = 2
FLIGHTS = 400
MIXED = "tests.integration.apps.mixed"


@pytest.fixture
def under_test(kafka: Broker, fresh: str, tmp_path: Path) -> Iterator[WorkerUnderTest]:
    made = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path)
    made.create("flights", PARTITIONS)
    yield made
    made.close()


def stop(worker: "subprocess.Popen[bytes]") -> str:
    """SIGTERM: it ends well, and soon. Returns what it printed."""
    told = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    out = worker.communicate(timeout=30)[0].decode()
    assert worker.returncode == 0, out[-4000:]
    assert time.monotonic() - told < 15
    assert "Traceback" not in out, out[-6000:]
    return out


def numbered(start: int, end: int) -> list[Record]:
    return [Record(b"%d" % i, b"%d" % i) for i in range(start, end)]


def seen(under_test: WorkerUnderTest) -> list[str]:
    path = under_test.folder / "SEEN"
    return [line.split()[2] for line in path.read_text().splitlines()] if path.exists() else []


def test_faust_runs_a_topology_and_stops_when_told(under_test: WorkerUnderTest) -> None:
    under_test.produce("flights", islice(flight_records(), FLIGHTS), PARTITIONS)
    worker = faust_worker(under_test, "topologies.flights", "--without-web")
    under_test.wait_until(worker, lambda: under_test.committed("flights", PARTITIONS) == FLIGHTS)
    stop(worker)
    assert under_test.read("flights.dlq")
    assert under_test.read("flights.hourly")
    summary = under_test.finish(under_test.start("--until-end"))
    assert summary["totals"]["in"] == FLIGHTS
    assert list((under_test.lake / "flights").rglob("*.parquet"))


def test_faust_s_worker_ends_with_its_input_and_with_words_where_a_person_has_to_look(
    under_test: WorkerUnderTest,
) -> None:
    under_test.produce("flights", islice(flight_records(), FLIGHTS), PARTITIONS)
    until_end = {"STREAMFLOW_UNTIL_END": "true"}
    done = faust_worker(under_test, "topologies.flights", "--without-web", **until_end)
    out = done.communicate(timeout=60)[0].decode()
    assert done.returncode == 0, out[-4000:]
    assert "Traceback" not in out, out[-6000:]
    assert under_test.committed("flights", PARTITIONS) == FLIGHTS
    assert list((under_test.lake / "flights").rglob("*.parquet"))

    under_test.produce("flights", islice(flight_records(), 10), PARTITIONS)
    refused = faust_worker(under_test, "topologies.flights", "--without-web")
    out = refused.communicate(timeout=60)[0].decode()
    assert refused.returncode == 1, out[-4000:]
    assert "the end of its input was declared at offset" in out
    assert under_test.committed("flights", PARTITIONS) == FLIGHTS


def test_agents_of_records_and_of_batches_run_beside_a_topology(
    under_test: WorkerUnderTest,
) -> None:
    for topic in ("greetings", "answers", "numbers"):
        under_test.create(topic, PARTITIONS)
    under_test.produce("flights", islice(flight_records(), FLIGHTS), PARTITIONS)
    under_test.produce("greetings", [Record(b"%d" % i, b"hello %d" % i) for i in range(50)], 2)
    under_test.produce("numbers", numbered(0, 300), PARTITIONS)

    worker = faust_worker(under_test, MIXED, "--without-web")
    under_test.wait_until(worker, lambda: under_test.committed("flights", PARTITIONS) == FLIGHTS)
    under_test.wait_until(worker, lambda: under_test.committed("numbers", PARTITIONS) == 300)
    under_test.wait_until(worker, lambda: under_test.committed("greetings", PARTITIONS) == 50)
    stop(worker)

    assert sorted(map(int, seen(under_test))) == list(range(300))
    answers = sorted(record.value or b"" for record in under_test.read("answers"))
    assert answers == sorted(b"HELLO %d" % i for i in range(50))
    assert under_test.read("flights.dlq")


def test_a_crash_in_the_middle_of_a_batch_loses_nothing_of_an_agent(
    under_test: WorkerUnderTest,
) -> None:
    for topic in ("greetings", "answers", "numbers"):
        under_test.create(topic, PARTITIONS)
    (under_test.folder / "DIE").touch()
    under_test.produce("numbers", numbered(0, 100), PARTITIONS)
    worker = faust_worker(under_test, MIXED, "--without-web")
    under_test.wait_until(worker, lambda: under_test.committed("numbers", PARTITIONS) == 100)
    dying = [*numbered(100, 150), Record(b"1", b"die"), *numbered(150, 200)]
    under_test.produce("numbers", dying, PARTITIONS)
    worker.communicate(timeout=30)
    assert worker.returncode == -9
    assert under_test.committed("numbers", PARTITIONS) < 201

    (under_test.folder / "DIE").unlink()
    again = faust_worker(under_test, MIXED, "--without-web")
    under_test.wait_until(again, lambda: under_test.committed("numbers", PARTITIONS) == 201)
    stop(again)
    numbers = [int(value) for value in seen(under_test) if value != "die"]
    assert set(numbers) == set(range(200))
    # What was committed is not seen again; of the rest, what the crash interrupted may be.
    assert sorted(n for n in numbers if n < 100) == list(range(100))


def test_importing_a_topology_opens_nothing() -> None:
    program = """
import pathlib, threading
import topologies.flights
assert topologies.flights.app.conf.id == "flights"
links = [p.resolve() for p in pathlib.Path("/proc/self/fd").iterdir() if p.exists()]
print([t.name for t in threading.enumerate()])
print([str(link) for link in links if "socket" in str(link)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['MainThread']", "[]"]
