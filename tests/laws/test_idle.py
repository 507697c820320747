"""Idleness keeps the laws: what a clock decided is recorded, obeys its definition, and a replay
that applies it again gives the same, whatever the cuts, commits and crashes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Distinct, Session, Sum, Topology, Tumbling, parquet, source, topic
from streamflow.batch import TopicPartition
from streamflow.core.seal import from_micros
from streamflow.core.step import Decision
from streamflow.testing import CRASH_POINTS, TopologyDriver
from streamflow.windows import Window
from tests.examples import law

from .windows_reference import Event, Result, reference

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LAG, GRACE, IDLE = 7 * SECOND, 11 * SECOND, 30 * SECOND
PARTITIONS = 3
WINDOWS: dict[str, Window] = {"tumbling": Tumbling(20 * SECOND), "session": Session(9 * SECOND)}
Decisions = Mapping[TopicPartition, Sequence[Decision]]


class Reading(BaseModel, frozen=True):
    sensor: str
    value: int
    at: AwareDatetime


class Summary(BaseModel, frozen=True):
    sensor: str
    window_start: AwareDatetime
    rows: int
    total: int
    values: int


def topology(window: Window) -> Topology:
    readings = source(
        topic("readings"),
        Reading,
        key="sensor",
        event_time="at",
        out_of_orderness=LAG,
        idle_after=IDLE,
    )
    summary = readings.window(window, by="sensor", grace=GRACE).aggregate(
        Summary, rows=Count(), total=Sum("value"), values=Distinct("value")
    )
    return Topology(
        "idle",
        readings.rejected.to(topic("dlq")),
        summary.to(topic("summaries")),
        summary.to(parquet("summaries")),
        summary.late.to(topic("late")),
    )


TOPOLOGIES = {kind: topology(window) for kind, window in WINDOWS.items()}

#: A row of a sensor, so many seconds from the last row's time; or so many seconds that pass.
Move = tuple[str, int]
sends = st.tuples(st.sampled_from("ABCDEFGH"), st.integers(-20, 40))
waits = st.tuples(st.just("wait"), st.integers(1, 45))
moves = st.lists(st.one_of(sends, waits), max_size=30)
cuts = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def play(driver: TopologyDriver, script: Sequence[Move]) -> list[tuple[datetime, int]]:
    """Rows and waits as a script has them; when, and to which partition, each row went."""
    sent: list[tuple[datetime, int]] = []
    at = datetime(2024, 5, 1, tzinfo=UTC)
    for number, (what, seconds) in enumerate(script):
        if what == "wait":
            driver.advance(seconds * SECOND)
            continue
        at += seconds * SECOND
        sent.append((driver.clock.now(), driver.broker.place("readings", what.encode()).partition))
        driver.send("readings", {"sensor": what, "value": number % 4, "at": at})
    return sent


def rows_of(driver: TopologyDriver, partition: int) -> list[Event]:
    log = driver.broker.partition(TopicPartition("readings", partition)).records
    rows = [Reading.model_validate_json(record.value or b"") for _, record in log]
    return [Event(i, row.sensor, row.value, row.at) for i, row in enumerate(rows)]


def results(driver: TopologyDriver) -> list[Result]:
    names = ("sensor", "window_start", "window_end", "rows", "total", "values")
    return sorted(Result(*(row[name] for name in names)) for row in driver.read("summaries"))


def late(driver: TopologyDriver) -> list[tuple[str, dict[str, Any]]]:
    """Late rows with what their headers say, but not which commit sent them."""
    found: list[tuple[str, dict[str, Any]]] = []
    for record in driver.records("late"):
        headers = {n: v for n, v in record.headers if n.startswith("streamflow.late")}
        found.append(((record.key or b"").decode(), headers | orjson.loads(record.value or b"")))
    return found


def check_balance(driver: TopologyDriver) -> None:
    totals = driver.totals
    assert totals["assigned"] == totals["accumulated"] + totals["late"]
    assert totals["accumulated"] == sum(result.rows for result in results(driver))


@pytest.mark.parametrize("kind", WINDOWS)
@law()
@given(script=moves, batches=cuts, commit_records=st.integers(1, 9))
def test_rows_are_judged_by_what_was_decided_before_them_as_in_plain_python(
    kind: str, script: list[Move], batches: list[int], commit_records: int
) -> None:
    driver = TopologyDriver(
        TOPOLOGIES[kind], NOW, partitions=PARTITIONS, batches=batches, commit_records=commit_records
    )
    play(driver, script)
    driver.advance(timedelta(hours=1))  # so long a silence closes every window
    expected: list[Result] = []
    missed = 0
    for tp, decisions in driver.decisions.items():
        marks = {decision.offset: from_micros(decision.watermark) for decision in decisions}
        found = reference(WINDOWS[kind], rows_of(driver, tp.partition), LAG, GRACE, marks)
        expected += found.results
        missed += sum(number for _, number in found.late)
    assert results(driver) == sorted(expected)
    assert driver.totals["late"] == missed
    check_balance(driver)


@pytest.mark.parametrize("kind", WINDOWS)
@law()
@given(
    script=moves,
    point=st.sampled_from(CRASH_POINTS),
    keep_disk=st.booleans(),
    batches=cuts,
    commit_records=st.integers(1, 9),
)
def test_a_replay_of_what_was_recorded_gives_the_same(
    kind: str,
    script: list[Move],
    point: str,
    keep_disk: bool,
    batches: list[int],
    commit_records: int,
) -> None:
    live = TopologyDriver(TOPOLOGIES[kind], NOW, partitions=PARTITIONS, keep_disk=keep_disk)
    half = len(script) // 2
    play(live, script[:half])
    with live.crash(at=point):
        play(live, script[half:])
    live.process()
    live.advance(2 * IDLE)
    live.end_of_input()
    check_balance(live)
    assert len(live.files("summaries")) == len(results(live))

    again = replayed(kind, live, live.decisions, batches, commit_records)
    with again.crash(at=point):
        again.process()
    again.process()
    assert results(again) == results(live)
    assert sorted(late(again), key=repr) == sorted(late(live), key=repr)
    assert again.totals == live.totals
    assert last_of_each_offset(again.decisions) == last_of_each_offset(live.decisions)


def replayed(
    kind: str,
    live: TopologyDriver,
    decisions: Decisions,
    batches: Sequence[int],
    commit_records: int,
) -> TopologyDriver:
    """A driver with the same records in its topics, all there from the start."""
    driver = TopologyDriver(
        TOPOLOGIES[kind],
        NOW,
        partitions=PARTITIONS,
        batches=batches,
        commit_records=commit_records,
        decisions=decisions,
    )
    for partition in range(PARTITIONS):
        tp = TopicPartition("readings", partition)
        for _, record in live.broker.partition(tp).records:
            driver.broker.append(tp, record)
    return driver


def last_of_each_offset(decisions: Decisions) -> dict[tuple[int, int, str], int]:
    return {
        (tp.partition, d.offset, d.kind): d.watermark for tp in decisions for d in decisions[tp]
    }


@law()
@given(script=moves, batches=cuts)
def test_without_decisions_all_is_judged_by_event_time_alone(
    script: list[Move], batches: list[int]
) -> None:
    live = TopologyDriver(TOPOLOGIES["tumbling"], NOW, partitions=PARTITIONS)
    play(live, script)
    alone = replayed("tumbling", live, {}, batches, 3)
    alone.process()
    alone.advance(timedelta(hours=1))
    assert not any(alone.decisions.values())
    alone.end_of_input()
    found = [
        reference(WINDOWS["tumbling"], rows_of(alone, partition), LAG, GRACE)
        for partition in range(PARTITIONS)
    ]
    assert results(alone) == sorted(result for one in found for result in one.results)
    assert alone.totals["late"] == sum(number for one in found for _, number in one.late)


@law()
@given(script=moves)
def test_each_value_is_the_one_its_definition_gives(script: list[Move]) -> None:
    """Looked at after each move, while the partitions' watermarks are known from the rows."""
    driver = TopologyDriver(TOPOLOGIES["tumbling"], NOW, partitions=PARTITIONS)
    last = dict.fromkeys(range(PARTITIONS), NOW)
    before: dict[int, datetime | None] = dict.fromkeys(range(PARTITIONS))
    silent_at: dict[int, datetime | None] = dict.fromkeys(range(PARTITIONS))
    gifts: dict[int, tuple[datetime, datetime]] = {}
    at = datetime(2024, 5, 1, tzinfo=UTC)
    for what, seconds in script:
        if what == "wait":
            driver.advance(seconds * SECOND)
        else:
            at += seconds * SECOND
            driver.send("readings", {"sensor": what, "value": 0, "at": at})
            partition = driver.broker.place("readings", what.encode()).partition
            last[partition] = driver.clock.now()
            silent_at[partition] = watermark_of(driver, partition)
        now = driver.clock.now()
        idle = {p for p in range(PARTITIONS) if now - last[p] >= IDLE}
        after = {p: watermark_of(driver, p) for p in range(PARTITIONS)}
        for p in range(PARTITIONS):
            own = before[p]
            if p not in idle:
                assert after[p] == own or last[p] == now, "only rows move what is not idle"
                continue
            busy = [after[other] for other in range(PARTITIONS) if other not in idle]
            if after[p] == own:
                continue
            taken = after[p]
            assert taken is not None
            assert own is None or taken > own
            if own is None:
                gifts[p] = (taken, now)
            if busy:
                assert None not in busy
                assert taken == min(mark for mark in busy if mark is not None)
            elif (silent := silent_at[p]) is not None:
                assert taken == silent + (now - last[p])
            elif own is not None:  # the first one that it was given became its own
                given_, then = gifts[p]
                assert taken == given_ + (now - then)
            else:
                others = [after[q] for q in range(PARTITIONS) if q != p and after[q] is not None]
                assert any(mark is not None and taken <= mark for mark in others)
        before = after


def watermark_of(driver: TopologyDriver, partition: int) -> datetime | None:
    """From what came out: the rows and the recorded decisions, without the engine's own number."""
    rows = [event.at - LAG for event in rows_of(driver, partition)]
    decisions = driver.decisions[TopicPartition("readings", partition)]
    given_ = [from_micros(decision.watermark) for decision in decisions]
    return max([*rows, *given_], default=None)


def test_partitions_that_never_had_a_row_hold_nothing_open() -> None:
    found: dict[str, list[int]] = defaultdict(list)
    driver = TopologyDriver(TOPOLOGIES["tumbling"], NOW, partitions=PARTITIONS)
    driver.send("readings", {"sensor": "A", "value": 1, "at": NOW})
    driver.advance(IDLE)
    driver.advance(LAG + GRACE)
    for result in results(driver):
        found[result.group].append(result.rows)
    assert found == {"A": [1]}
    assert all(driver.decisions.values()), "each has a watermark that later rows are judged by"
