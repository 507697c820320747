"""Compares what a run of the flights left behind with the oracle, value by value."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from streamflow.batch import Record
from tests.oracle.flights import IDENTITY, year


def check_tables(lake: Path) -> None:
    """Both Parquet tables: every clean flight once, every window with its values."""
    flights = f"read_parquet('{lake}/flights/**/*.parquet', hive_partitioning = true)"
    counts = query(
        f"SELECT count(*), count(DISTINCT (_topic, _partition, _offset, _index)) FROM {flights}"
    )[0]
    assert counts == (year().passed, year().passed)
    columns = "origin, epoch_us(window_start), flights, mean_delay, max_delay, destinations"
    hourly = f"read_parquet('{lake}/hourly/**/*.parquet')"
    check_windows(query(f"SELECT {columns} FROM {hourly}"))


def query(sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def check_windows(rows: Iterable[tuple[Any, ...]]) -> None:
    """Every window exactly once, its counts and maximum equal, its mean to 1e-12."""
    found = list(rows)
    made = {(row[0], row[1]): row[2:] for row in found}
    assert len(made) == len(found)
    expected = year().hourly
    assert made.keys() == expected.keys()
    for key, (flights, mean, largest, destinations) in made.items():
        assert (flights, largest, destinations) == (expected[key][0], *expected[key][2:]), key
        assert mean == pytest.approx(expected[key][1], rel=1e-12), key


def check_results(records: Iterable[Record]) -> None:
    """The results topic: every window exactly once."""
    rows = [orjson.loads(record.value or b"") for record in records]
    assert all(row["final"] and row["revision"] == 0 for row in rows)
    check_windows(
        (
            row["origin"],
            _micros(row["window_start"]),
            row["flights"],
            row["mean_delay"],
            row["max_delay"],
            row["destinations"],
        )
        for row in rows
    )


def check_dead_letters(records: Iterable[Record]) -> None:
    """The dead letters are the cancelled flights, each once, bytes intact."""
    found = list(records)
    rules = {dict(record.headers)["streamflow.rule"] for record in found}
    assert rules == {b"departed"}
    assert sorted(_identity(record) for record in found) == year().rejected


def check_late(records: Iterable[Record]) -> None:
    """The late flights are the oracle's, each once, with the same lateness."""
    made = [
        (*_identity(r), int(dict(r.headers)["streamflow.late.lateness_us"] or b"")) for r in records
    ]
    assert sorted(made) == year().late


def _identity(record: Record) -> tuple[Any, ...]:
    row = orjson.loads(record.value or b"")
    return tuple(row[name] for name in IDENTITY)


def _micros(text: str) -> int:

    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000
