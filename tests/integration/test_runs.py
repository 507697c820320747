"""A part of a topic is run again beside the live worker, killed on its way, and goes on."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from streamflow.batch import Record, TopicPartition
from streamflow.broker import Broker
from streamflow.demo.flights import flight_records
from streamflow.engine.faults import VARIABLE
from streamflow.local import LocalRun
from tests.integration.test_crashes import comparable
from tests.integration.worker import WorkerUnderTest
from topologies.flights import topology

FIRST, FLIGHTS, BEGIN, END = 9_000, 3_000, 1_000, 2_500
TOPICS = ("flights.hourly", "flights.dlq", "flights.late")
TABLES = ("flights", "hourly")
#: Where the record lay: its offset is another one in a run that has only this part.
PLACE = {"__connect.errors.offset"}


@cache
def some_flights() -> Sequence[Record]:
    return list(islice(flight_records(), FIRST, FIRST + FLIGHTS))


@pytest.fixture
def under_test(kafka: Broker, fresh: str, tmp_path: Path) -> Iterator[WorkerUnderTest]:
    made = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path)
    made.create("flights", 1)
    yield made
    made.close()


def local(folder: Path, records: Sequence[Record]) -> dict[str, list[tuple[Any, ...]]]:
    """What a run over these records alone leaves behind."""
    result = LocalRun(topology, folder, partitions=1).run({"flights": records})
    found: dict[str, list[tuple[Any, ...]]] = {}
    for topic in TOPICS:
        lines = [orjson.loads(line) for line in result.topics[topic].read_bytes().splitlines()]
        found[topic] = sorted(_seen(r["key"], r["value"], r["headers"]) for r in lines)
    return found | {table: rows_of(folder / table, 0) for table in TABLES}


def left_behind(
    under_test: WorkerUnderTest, run: str = "", begin: int = 0
) -> dict[str, list[tuple[Any, ...]]]:
    found = {
        topic: sorted(_seen(r.key, r.value, r.headers) for r in under_test.read(topic + run))
        for topic in TOPICS
    }
    return found | {table: rows_of(under_test.lake / (table + run), begin) for table in TABLES}


def _seen(key: Any, value: Any, headers: Any) -> tuple[Any, ...]:
    return comparable(key, value, [header for header in headers if header[0] not in PLACE])


def rows_of(folder: Path, shift: int) -> list[tuple[Any, ...]]:
    """All rows of a table, their offsets that much lower."""
    with duckdb.connect() as connection:
        relation = connection.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
        names = sorted(name for name in relation.columns if name != "_topic")
        offsets = [f"{name} - {shift}" if "offset" in name else name for name in names]
        found = relation.select(", ".join(offsets)).fetchall()
    assert any("offset" in name for name in names)
    return sorted(found, key=repr)


def runs_of(under_test: WorkerUnderTest) -> list[dict[str, Any]]:
    """What `streamflow runs` says."""
    command = [sys.executable, "-m", "streamflow", "runs", "topologies.flights", "--json"]
    command += ["--broker", under_test.bootstrap, "--app-id", under_test.app]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    return orjson.loads(done.stdout)


def test_a_run_over_a_part_leaves_what_that_part_alone_would_and_the_live_app_as_it_was(
    under_test: WorkerUnderTest, tmp_path: Path
) -> None:
    under_test.produce("flights", some_flights()[:END], 1)
    live = under_test.start("--commit-interval", "0.2")
    under_test.wait_until(live, lambda: under_test.committed("flights", 1) == END)
    under_test.produce("flights", some_flights()[END:], 1)

    source = TopicPartition(f"{under_test.prefix}flights", 0)
    part = ("--run-id", "r1", "--from", f"{source}@{BEGIN}", "--to", f"{source}@{END}")
    small = {"STREAMFLOW_COMMIT_RECORDS": "100", "STREAMFLOW_WORKER_ID": "replay"}
    killed = under_test.start(*part, **small, **{VARIABLE: "cut:1"})
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    summary = under_test.finish(under_test.start("--run-id", "r1", **small))
    assert summary["records"] == END - BEGIN
    assert summary["run"]["offsets"] == [[*source, BEGIN, END]]
    expected = local(tmp_path / "part", some_flights()[BEGIN:END])
    assert left_behind(under_test, ".r1", BEGIN) == expected

    under_test.wait_until(live, lambda: under_test.committed("flights", 1) == FLIGHTS)
    live.terminate()
    under_test.finish(live)
    under_test.finish(under_test.start("--until-end"))
    assert left_behind(under_test) == local(tmp_path / "all", some_flights())

    flights, run = runs_of(under_test)
    assert [one["state"] for one in (flights, run)] == ["success", "success"]
    assert [one["state"] for one in run["executions"]] == ["running", "success"]  # killed, then not
    assert [one["state"] for one in flights["executions"]] == ["cancelled", "success"]
    assert [one["totals"]["in"] for one in (flights, run)] == [FLIGHTS, END - BEGIN]
    assert run["positions"] == {str(source): END}

    again = under_test.finish(under_test.start("--run-id", "r1", **small))
    assert again["records"] == END - BEGIN
    assert left_behind(under_test, ".r1", BEGIN) == expected
