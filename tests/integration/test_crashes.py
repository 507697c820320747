"""A worker is killed (-9) at every named step of a commit and of a roll, and told to stop at one.

Whatever the step: a second worker finishes, and what all of them left behind is what one run over
the same records in memory leaves, nothing missing and nothing twice. The workers of all steps are
started two at a time, since each has to be waited for.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import orjson
import polars
import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable

from streamflow.batch import Record
from streamflow.broker import Broker
from streamflow.cli import main
from streamflow.demo.flights import flight_records
from streamflow.engine.faults import COMMIT_POINTS, CRASH_POINTS, VARIABLE
from streamflow.engine.table_upkeep import OPTIMIZED
from streamflow.local import LocalRun
from tests.integration.worker import WorkerUnderTest
from topologies.flights import topology

PARTITIONS = 4
#: Three days with dead letters, and with flights late enough to miss their window.
FIRST, FLIGHTS, CHUNK = 9_000, 3_000, 250
#: Where the file system's own steps are, below those of the roll.
FILE_POINTS = ("temp", "linked")
#: The step is reached this often before it kills: there are commits and files before it.
POINTS: tuple[str, ...] = (*CRASH_POINTS, *FILE_POINTS)
BEFORE = {point: 5 if point in COMMIT_POINTS else 3 for point in POINTS}
#: Where the same flights go to Delta tables: before the commit of a table, and after it.
IN_DELTA = {"before the table's commit": "files-written", "after it": "files-linked"}
TOPICS = ("flights.hourly", "flights.dlq", "flights.late")
TABLES = ("flights", "hourly")
#: Where a record lies is compared, not what its topic is called, and not which commit sent it.
NOT_COMPARED = {"traceparent", "streamflow.lineage", "__connect.errors.topic"}


@cache
def some_flights() -> Sequence[Record]:
    return list(islice(flight_records(), FIRST, FIRST + FLIGHTS))


def comparable(key: Any, value: Any, headers: Any) -> tuple[Any, ...]:
    kept = tuple((name, _text(item)) for name, item in headers if name not in NOT_COMPARED)
    return (_text(key), _text(value), kept)


def _text(data: Any) -> Any:
    return data.decode() if isinstance(data, bytes) else data


def rows(folder: Path) -> list[tuple[Any, ...]]:
    """All rows of a table with all columns but the name of their topic."""
    with duckdb.connect() as connection:
        relation = connection.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
        names = sorted(name for name in relation.columns if name != "_topic")
        return sorted(relation.select(*names).fetchall(), key=repr)


def delta_rows(folder: Path) -> list[tuple[Any, ...]]:
    """The same of a Delta table."""
    with duckdb.connect() as connection:
        connection.register("rows", DeltaTable(str(folder)).to_pyarrow_dataset())
        relation = connection.sql("select * from rows")
        names = sorted(name for name in relation.columns if name != "_topic")
        return sorted(relation.select(*names).fetchall(), key=repr)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """What one uninterrupted run without Kafka leaves behind."""
    run = LocalRun(topology, tmp_path_factory.mktemp("local") / "lake", partitions=PARTITIONS)
    result = run.run({"flights": some_flights()})
    found: dict[str, list[tuple[Any, ...]]] = {}
    for topic in TOPICS:
        lines = [orjson.loads(line) for line in result.topics[topic].read_bytes().splitlines()]
        found[topic] = sorted(comparable(r["key"], r["value"], r["headers"]) for r in lines)
        assert found[topic], f"nothing in {topic}: too few flights to prove anything"
    return found | {table: rows(result.folder / table) for table in TABLES}


def left_behind(
    under_test: WorkerUnderTest, rows: Callable[[Path], list[tuple[Any, ...]]] = rows
) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for topic in TOPICS:
        records = under_test.read(topic)
        found[topic] = sorted(comparable(r.key, r.value, r.headers) for r in records)
    return found | {table: rows(under_test.lake / table) for table in TABLES}


def crash(point: str, under_test: WorkerUnderTest) -> int | None:
    """Run a worker that kills itself at the step; returns how it ended."""
    under_test.create("flights", PARTITIONS)
    point = IN_DELTA.get(point, point)
    at = {VARIABLE: f"{point}:{BEFORE[point]}"}
    if point in COMMIT_POINTS:
        return crash_while_flights_arrive(under_test, at)
    under_test.produce("flights", some_flights(), PARTITIONS)
    worker = under_test.start("--until-end", "--commit-interval", "0.2", **at)
    worker.communicate(timeout=60)
    return worker.returncode


def crash_while_flights_arrive(under_test: WorkerUnderTest, at: dict[str, str]) -> int | None:
    """Some flights at a time, each after the ones before it are committed: so there are commits."""
    worker = under_test.start("--commit-interval", "0.2", **at)
    deadline = time.monotonic() + 60
    for start in range(0, FLIGHTS, CHUNK):
        under_test.produce("flights", some_flights()[start : start + CHUNK], PARTITIONS)
        while worker.poll() is None and under_test.committed("flights", PARTITIONS) <= start:
            assert time.monotonic() < deadline, "no commit within a minute"
    worker.communicate(timeout=60)
    return worker.returncode


@pytest.fixture(scope="module")
def crashed(
    kafka: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, WorkerUnderTest]]:
    """One app per step: killed there once, then finished by a second worker."""
    apps: dict[str, WorkerUnderTest] = {}
    for point in POINTS:
        folder = tmp_path_factory.mktemp(point)
        apps[point] = WorkerUnderTest(kafka.bootstrap, f"crash-{folder.name}", folder)
    for i, step in enumerate(IN_DELTA):
        folder = tmp_path_factory.mktemp(f"delta{i}")
        module = "tests.integration.apps.in_delta"
        apps[step] = WorkerUnderTest(kafka.bootstrap, f"crash-{folder.name}", folder, module)
    try:
        with ThreadPoolExecutor(2) as two:
            codes = list(two.map(crash, apps, apps.values()))
            assert dict(zip(apps, codes, strict=True)) == dict.fromkeys(apps, -9)
            summaries = two.map(lambda app: app.finish(app.start("--until-end")), apps.values())
            assert [summary["totals"]["in"] for summary in summaries] == [FLIGHTS] * len(apps)
        yield apps
    finally:
        for app in apps.values():
            app.close()


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_step_changes_nothing(
    point: str,
    crashed: dict[str, WorkerUnderTest],
    expected: dict[str, list[tuple[Any, ...]]],
) -> None:
    found = left_behind(crashed[point])
    for name, wanted in expected.items():
        assert len(found[name]) == len(wanted), name
        assert found[name] == wanted, name


@pytest.mark.parametrize("step", IN_DELTA)
def test_a_crash_beside_the_commit_of_a_delta_table_changes_nothing(
    step: str,
    crashed: dict[str, WorkerUnderTest],
    expected: dict[str, list[tuple[Any, ...]]],
) -> None:
    assert left_behind(crashed[step], delta_rows) == expected
    for name in TABLES:
        table = DeltaTable(str(crashed[step].lake / name))
        assert table.transaction_version(OPTIMIZED) is not None
        assert polars.scan_delta(table).select(polars.len()).collect().item() == len(expected[name])


def compact(under_test: WorkerUnderTest) -> Result:
    words = ["flights", "--lake", str(under_test.lake), "--broker", under_test.bootstrap]
    return CliRunner().invoke(main, ["compact", *words])


def test_a_worker_that_is_told_to_stop_commits_what_it_has_and_leaves_no_gap(
    kafka: Broker, tmp_path: Path, expected: dict[str, list[tuple[Any, ...]]], fresh: str
) -> None:
    under_test = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path)
    half = FLIGHTS // 2
    try:
        under_test.create("flights", PARTITIONS)
        under_test.produce("flights", some_flights()[:half], PARTITIONS)
        worker = under_test.start("--commit-interval", "0.2")
        under_test.wait_until(worker, lambda: under_test.committed("flights", PARTITIONS) == half)
        refused = compact(under_test)
        assert (refused.exit_code, "seem to be running" in refused.output) == (2, True), (
            refused.output
        )
        under_test.produce("flights", some_flights()[half:], PARTITIONS)
        told = time.monotonic()
        worker.terminate()
        stopped = under_test.finish(worker, timeout=25)
        assert time.monotonic() - told < 20, "longer than the shutdown time-out"
        assert stopped["totals"]["in"] >= half
        under_test.wait_until_committed("flights", PARTITIONS, stopped["totals"]["in"])

        finished = under_test.finish(under_test.start("--until-end"))
        assert finished["totals"]["in"] == FLIGHTS
        assert left_behind(under_test) == expected
        assert compact(under_test).exit_code == 0
        assert left_behind(under_test) == expected
    finally:
        under_test.close()
