"""Checks find what plain Python finds, wherever batches and commits are cut and it crashes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Freshness,
    Mean,
    Measure,
    NullRate,
    RowCount,
    Rule,
    Share,
    Topology,
    Tumbling,
    Unique,
    Volume,
    parquet,
    source,
    topic,
)
from streamflow.batch import Record
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

from .checks_reference import Bounds, Row, Walk, over_rows, over_time

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SIZE, GRACE, LAG, MANY = 60 * SECOND, 15 * SECOND, 20 * SECOND, 4
ALLOWED = Bounds()


class Reading(BaseModel, frozen=True):
    n: int | None
    kind: str
    at: AwareDatetime


readings = source(topic("readings"), Reading, event_time="at", out_of_orderness=LAG).gate(
    Rule("known", "kind <> 'z'")
)
of_any = (
    NullRate("n", at_most=ALLOWED.nulls, severity="warning", name="nulls"),
    Share("kind = 'a'", at_least=ALLOWED.share[0], name="share"),
    Unique("n", "kind", at_most=ALLOWED.duplicates, name="unique"),
    Measure(Mean("n"), at_least=ALLOWED.mean[0], at_most=ALLOWED.mean[1], name="mean"),
    Freshness(at_most=ALLOWED.fresh * SECOND, name="fresh"),
)
timed = readings.check(
    *of_any,
    RowCount(at_least=ALLOWED.rows[0], at_most=ALLOWED.rows[1], name="rows"),
    Volume(against=ALLOWED.against, within=ALLOWED.within, name="volume"),
    over=Tumbling(SIZE),
    grace=GRACE,
)
counted = readings.check(*of_any, over=MANY, name="counted")
topology = Topology(
    "readings",
    readings.rejected.to(topic("dlq")),
    timed.to(topic("timed")),
    timed.to(parquet("timed")),
    counted.to(topic("counted")),
    counted.to(parquet("counted")),
)

strict = readings.check(
    NullRate("n", at_most=ALLOWED.nulls, severity="warning", name="nulls"),
    RowCount(at_least=ALLOWED.rows[0], at_most=ALLOWED.rows[1], name="rows", action="pause"),
    over=Tumbling(SIZE),
    grace=GRACE,
)
stricter = readings.check(
    NullRate("n", at_most=ALLOWED.nulls, severity="warning", name="nulls", action="pause"),
    over=MANY,
    name="counted",
)
stopping = Topology(
    "readings",
    readings.to(topic("passed")),
    readings.rejected.to(topic("dlq")),
    strict.to(topic("timed")),
    stricter.to(topic("counted")),
)

moves = st.lists(
    st.tuples(
        st.sampled_from([-40, -7, 0, 3, 5, 15, 31, 200]),
        st.one_of(st.none(), st.integers(0, 3)),
        st.sampled_from("aabz"),
        st.integers(0, 90),
    ),
    max_size=40,
)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def rows_of(stream: Sequence[tuple[int, int | None, str, int]]) -> list[Row]:
    """Rows whose times wander forward, sometimes back; exact bounds of windows are likely."""
    at, made = NOON, list[Row]()
    for offset, (move, n, kind, delay) in enumerate(stream):
        at += move * SECOND
        made.append(Row(offset, at, at + delay * SECOND, n, kind))
    return made


def record(row: Row) -> Record:
    value = {"n": row.n, "kind": row.kind, "at": row.at}
    return Record(None, orjson.dumps(value), int(row.written.timestamp() * 1000))


def run(
    rows: Sequence[Row],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
    keep_disk: bool = True,
) -> TopologyDriver:
    driver = TopologyDriver(
        topology, NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    half = len(rows) // 2
    driver.send("readings", *map(record, rows[:half]))
    with driver.crash(at=crash_at or "never"):
        driver.send("readings", *map(record, rows[half:]))
    driver.process()
    driver.end_of_input()
    return driver


def said(results: Sequence[dict[str, Any]], extent: str, walk: Walk) -> list[dict[str, Any]]:
    """Results in the form of the reference."""
    names = ("check", "verdict", "value", "at_least", "at_most", "rows", "examples")
    start, stop = ("row_first", "row_next") if walk.counted else ("window_start", "window_end")
    made: list[dict[str, Any]] = []
    for one in results:
        assert one["checks"] == f"readings.{extent}"
        lineage = {"offsets": (one["offset_first"], one["offset_next"])}
        bounds = {"extent": (one[start], one[stop])}
        made.append({name: one[name] for name in names} | bounds | lineage)
    return made


def told_by(walk: Walk, *checks: str) -> list[dict[str, Any]]:
    """What it says of these checks, or of all."""
    chosen = [one for one in walk.said if not checks or one["check"] in checks]
    return [{name: one[name] for name in one if name != "ended by"} for one in chosen]


@law()
@given(
    moves,
    cuts,
    st.integers(1, 12),
    st.sampled_from([None, *CRASH_POINTS]),
    st.booleans(),
)
@example([(0, 1, "a", 0), (31, 1, "a", 0), (200, None, "b", 0)], [1], 1, None, True)
def test_checks_find_what_plain_python_finds(
    stream: list[tuple[int, int | None, str, int]],
    batches: list[int],
    commit_records: int,
    point: str | None,
    keep_disk: bool,
) -> None:
    rows = rows_of(stream)
    driver = run(rows, batches, commit_records, point, keep_disk)
    kept = [row for row in rows if row.kind != "z"]
    by_time, late = over_time(kept, SIZE, GRACE, LAG, NOON)
    by_count = over_rows(kept, MANY)
    assert said(driver.read("timed"), "checks", by_time) == told_by(by_time)
    assert said(driver.read("counted"), "counted", by_count) == told_by(by_count)
    assert driver.rules["readings.checks: late"] == late
    for name in ("timed", "counted"):
        told = [
            {k: v for k, v in one.items() if k in ("check", "verdict", "value", "rows", "examples")}
            for one in driver.read(name)
        ]
        table = [{k: one[k] for k in told[0]} for one in driver.files(name)] if told else []
        assert sorted(table, key=str) == sorted(told, key=str)
    verdicts = {
        name: count
        for name, count in driver.rules.items()
        if name.startswith("readings.checks") and not name.endswith("late")
    }
    assert sum(verdicts.values()) == len(by_time.said)


@law()
@given(moves, cuts, st.integers(1, 12), st.sampled_from([None, *CRASH_POINTS]), st.booleans())
@example(  # the third row brings the watermark exactly to where a window without rows ends
    [(0, 1, "a", 0), (0, 1, "a", 0), (155, 1, "a", 0), (3, 1, "a", 0)], [1], 1, None, True
)
def test_a_partition_stops_after_the_record_that_ended_a_bad_extent(
    stream: list[tuple[int, int | None, str, int]],
    batches: list[int],
    commit_records: int,
    point: str | None,
    keep_disk: bool,
) -> None:
    rows = rows_of(stream)
    kept = [row for row in rows if row.kind != "z"]
    by_time, _ = over_time(kept, SIZE, GRACE, LAG, NOON)
    by_count = over_rows(kept, MANY)
    bad = [o for o in by_time.said if o["check"] == "rows" and o["verdict"] == "fail"]
    bad += [o for o in by_count.said if o["check"] == "nulls" and o["verdict"] == "warn"]
    stops = sorted({one["ended by"] + 1 for one in bad if one["ended by"] is not None})
    driver = TopologyDriver(
        stopping, NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    with driver.crash(at=point or "never"):
        driver.send("readings", *map(record, rows))
    driver.process()
    for stop in stops:
        driver.restart()
        driver.process()
        (task,) = driver._tasks.values()
        assert task.stopped_by
        assert task.state.position == stop
        assert len(driver.read("passed")) == sum(row.offset < stop for row in kept)
        driver.resume()
    (task,) = driver._tasks.values()
    assert task.state.position == len(rows)
    assert not task.stopped_by
    driver.end_of_input()
    assert said(driver.read("counted"), "counted", by_count) == told_by(by_count, "nulls")
    assert said(driver.read("timed"), "checks", by_time) == told_by(by_time, "nulls", "rows")
    assert len(driver.read("passed")) == len(kept)
