"""The main job on a real Kafka, killed half way and started again; checked value by value."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from streamflow.broker import Broker
from streamflow.demo.flights import FLIGHTS, flight_records
from tests.integration.worker import WorkerUnderTest
from tests.oracle import compare


@pytest.fixture(scope="module")
def finished(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    """A year of flights, its worker killed (-9) when half of them were committed."""
    folder: Path = tmp_path_factory.mktemp("flights")
    under_test = WorkerUnderTest(kafka.bootstrap, f"flights-{folder.name}", folder)
    try:
        run_with_a_kill(under_test)
        yield under_test
    finally:
        under_test.close()


def run_with_a_kill(under_test: WorkerUnderTest) -> None:
    under_test.create("flights", 4)
    under_test.produce("flights", flight_records(), 4)

    worker = under_test.start("--until-end", "--commit-interval", "0.2")
    under_test.wait_until(worker, lambda: under_test.committed("flights", 4) > FLIGHTS // 2)
    under_test.kill(worker)
    assert under_test.committed("flights", 4) < FLIGHTS, "killed too late to prove anything"

    summary = under_test.finish(under_test.start("--until-end"))
    totals = summary["totals"]
    assert totals["in"] == FLIGHTS == totals["passed"] + totals["rejected"]
    assert totals["assigned"] == totals["accumulated"] + totals["late"]


def test_the_tables_are_what_sql_computes(finished: WorkerUnderTest) -> None:
    compare.check_tables(finished.lake)


def test_the_results_topic_is_what_sql_computes(finished: WorkerUnderTest) -> None:
    compare.check_results(finished.read("flights.hourly"))


def test_the_late_and_the_dead_are_what_sql_computes(finished: WorkerUnderTest) -> None:
    compare.check_late(finished.read("flights.late"))
    compare.check_dead_letters(finished.read("flights.dlq"))


def test_starting_again_finds_nothing_to_do(finished: WorkerUnderTest) -> None:
    before = sorted(finished.lake.rglob("*.parquet"))
    summary = finished.finish(finished.start("--until-end"))
    assert summary["totals"]["in"] == FLIGHTS
    assert sorted(finished.lake.rglob("*.parquet")) == before


def test_a_machine_without_local_state_restores_it_from_the_changelog(
    finished: WorkerUnderTest, tmp_path: Path
) -> None:
    elsewhere = finished.start("--until-end", "--state-dir", str(tmp_path / "empty"))
    assert finished.finish(elsewhere)["totals"]["in"] == FLIGHTS
    compare.check_results(finished.read("flights.hourly"))


def test_records_that_come_after_the_declared_end_are_refused_and_not_skipped(
    finished: WorkerUnderTest,
) -> None:
    """Last in this file, since it adds to the topic."""
    finished.produce("flights", islice(flight_records(), 5), 4)
    worker = finished.start("--until-end")
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 2
    assert b"the end of its input was declared at offset" in err
    assert b"Use a new app id" in err
    done = finished.do_as_told("state reset", err, "--yes")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"the state is forgotten") == 4
    assert finished.finish(finished.start("--until-end"))["totals"]["in"] == 5
