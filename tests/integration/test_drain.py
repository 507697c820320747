"""Rows that only a rows topic has, when their table leaves the topology."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import duckdb
import orjson

from streamflow.broker import Broker
from streamflow.demo.flights import flight_records
from tests.integration.worker import ROOT, WorkerUnderTest

FLIGHTS = 2_000


#: Of the app, once its source has left with all tables.
MOVED = "tests.integration.apps.moved"


def drain(under_test: WorkerUnderTest, *more: str) -> "subprocess.CompletedProcess[bytes]":
    command = [
        *(sys.executable, "-m", "streamflow", "sink", "drain", under_test.module, "hourly"),
        *("--broker", under_test.bootstrap, "--app-id", under_test.app),
        *("--topic-prefix", under_test.prefix, "--lake", str(under_test.lake), *more),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)


def rows(folder: Path) -> int:
    with duckdb.connect() as connection:
        return len(connection.read_parquet(f"{folder}/**/*.parquet").fetchall())


def test_a_table_that_leaves_a_topology_is_drained_first(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    under_test = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path)
    try:
        under_test.create("flights", 1)
        under_test.produce("flights", islice(flight_records(), FLIGHTS), 1)
        worker = under_test.start("--commit-interval", "0.2")
        under_test.wait_until(worker, lambda: under_test.committed("flights", 1) == FLIGHTS)
        worker.terminate()
        under_test.finish(worker)
        results = len(under_test.read("flights.hourly"))
        assert results
        assert not list((under_test.lake / "hourly").rglob("*.parquet"))

        under_test.module = "tests.integration.apps.smaller"
        refused = under_test.start("--until-end")
        _, err = refused.communicate(timeout=60)
        assert refused.returncode == 2
        done = under_test.do_as_told("sink drain", err, "--json")
        assert done.returncode == 0, done.stderr.decode()
        assert orjson.loads(done.stdout) == {"files": 1, "rows": results}
        assert rows(under_test.lake / "hourly") == results
        assert orjson.loads(drain(under_test, "--json").stdout) == {"files": 0, "rows": 0}
        assert drain(under_test, "--table", "../hourly").returncode == 2

        finished = under_test.finish(under_test.start("--until-end"))
        assert finished["totals"]["in"] == FLIGHTS
        assert rows(under_test.lake / "hourly") == results
        assert rows(under_test.lake / "flights") == finished["totals"]["passed"]
    finally:
        under_test.close()


def test_a_source_that_leaves_with_its_tables_leaves_no_rows_behind(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    under_test = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path)
    try:
        for topic in ("flights", "letters"):
            under_test.create(topic, 2)
        under_test.produce("flights", islice(flight_records(), FLIGHTS), 2)
        worker = under_test.start("--commit-interval", "0.2")
        under_test.wait_until(worker, lambda: under_test.committed("flights", 2) == FLIGHTS)
        worker.terminate()
        under_test.finish(worker)

        under_test.module = MOVED
        for sink in ("flights", "hourly"):
            refused = under_test.start("--until-end")
            _, err = refused.communicate(timeout=60)
            assert refused.returncode == 2
            assert f"the topology writes the table '{sink}' no more" in err.decode()
            assert under_test.do_as_told("sink drain", err).returncode == 0
            assert rows(under_test.lake / sink)
        under_test.finish(under_test.start("--until-end"))
    finally:
        under_test.close()
