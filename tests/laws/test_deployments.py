"""Versions with other lags: the watermark is that of all records so far, each by its own version.

watermark = max(watermark, event time - out_of_orderness of the version that is at work)
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Topology, Tumbling, source, topic
from streamflow.testing import TopologyDriver
from tests.examples import law

NOW, NOON = datetime(2030, 1, 1, tzinfo=UTC), datetime(2024, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SIZE, WITHIN = 10, 15

#: Of each version its lag, and of its records the key and the minute.
versions = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 120)), max_size=12),
    ),
    min_size=1,
    max_size=5,
)


class Row(BaseModel):
    key: str
    at: AwareDatetime


class PerKey(BaseModel):
    key: str
    window_start: AwareDatetime
    rows: int


def version(lag: int) -> Topology:
    rows = source(topic("rows"), Row, key="key", event_time="at", out_of_orderness=lag * MINUTE)
    first = rows.dedup("key", within=WITHIN * MINUTE)
    counted = rows.window(Tumbling(SIZE * MINUTE), by="key").aggregate(PerKey, rows=Count())
    edges = first.to(topic("first")), counted.to(topic("counted"))
    return Topology("t", *edges, counted.late.to(topic("late")), rows.rejected.drop())


def expected(given: list[tuple[int, list[tuple[str, int]]]]) -> tuple[Any, list[Any], int]:
    """Rows of each window, rows that are the first of their key, and late ones: one by one."""
    watermark: int | None = None
    windows, first, late = Counter[tuple[str, int]](), list[tuple[str, int]](), 0
    known: dict[str, int] = {}
    for lag, rows in given:
        for key, minute in rows:
            start = minute // SIZE * SIZE
            if watermark is not None and watermark >= start + SIZE:
                late += 1
            else:
                windows[key, start] += 1
            until = known.get(key)
            forgotten = until is None or minute >= until
            if forgotten or (watermark is not None and until is not None and watermark >= until):
                first.append((key, minute))
                known[key] = minute + WITHIN
            moved = minute - lag
            watermark = moved if watermark is None else max(watermark, moved)
    return windows, first, late


@law()
@given(versions, st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_a_watermark_is_that_of_all_records_each_by_the_version_that_took_it(
    given: list[tuple[int, list[tuple[str, int]]]], batch: int, commit: int, keep_disk: bool
) -> None:
    driver = TopologyDriver(
        version(given[0][0]), NOW, batches=[batch], commit_records=commit, keep_disk=keep_disk
    )
    for lag, rows in given:
        driver.deploy(version(lag))
        driver.send("rows", *({"key": key, "at": NOON + minute * MINUTE} for key, minute in rows))
    driver.end_of_input()
    windows, first, late = expected(given)
    found = [
        (r["key"], (r["window_start"] - NOON) // MINUTE, r["rows"]) for r in driver.read("counted")
    ]
    assert sorted(found) == sorted((*window, count) for window, count in windows.items())
    assert [(r["key"], (r["at"] - NOON) // MINUTE) for r in driver.read("first")] == first
    assert len(driver.read("late")) == late
