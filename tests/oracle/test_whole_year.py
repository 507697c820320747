"""The whole year through the embedded mode, checked value by value against SQL."""

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamflow.batch import Record
from streamflow.demo.flights import flight_records
from streamflow.local import LocalResult, LocalRun
from tests.oracle import compare
from topologies.flights import topology


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> LocalResult:
    folder: Path = tmp_path_factory.mktemp("local") / "lake"
    return LocalRun(topology, folder).run({"flights": flight_records()})


def read(result: LocalResult, topic: str) -> list[Record]:
    def data(text: Any) -> bytes | None:
        if isinstance(text, dict):
            return base64.b64decode(text["base64"])
        return None if text is None else text.encode()

    rows = [orjson.loads(line) for line in result.topics[topic].read_bytes().splitlines()]
    return [
        Record(
            data(row["key"]),
            data(row["value"]),
            row["timestamp"],
            tuple((name, data(value)) for name, value in row["headers"]),
        )
        for row in rows
    ]


def test_every_record_is_accounted_for(result: LocalResult) -> None:
    totals = result.totals
    assert totals["in"] == 336_776 == totals["passed"] + totals["rejected"]
    assert (totals["passed"], totals["rejected"]) == (328_521, 8_255)
    assert totals["assigned"] == 328_521 == totals["accumulated"] + totals["late"]
    assert (totals["accumulated"], totals["late"]) == (328_464, 57)


def test_the_tables_are_what_sql_computes(result: LocalResult) -> None:
    compare.check_tables(result.folder)


def test_the_results_topic_is_what_sql_computes(result: LocalResult) -> None:
    compare.check_results(read(result, "flights.hourly"))


def test_the_late_and_the_dead_are_what_sql_computes(result: LocalResult) -> None:
    compare.check_late(read(result, "flights.late"))
    compare.check_dead_letters(read(result, "flights.dlq"))


def test_a_second_run_into_the_same_folder_is_refused(result: LocalResult) -> None:
    with pytest.raises(Exception, match="exists already"):
        LocalRun(topology, result.folder)
