"""Thresholds keep the laws: they open and close at the rows that plain Python says, and neither
micro-batches nor commits nor crashes can be seen.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Rule, Threshold, Topology, parquet, source, topic
from streamflow.batch import TopicPartition
from streamflow.core import breaker as breakers
from streamflow.core.breaker import Came, judge
from streamflow.core.keys import decode_meta, encode_meta
from streamflow.core.step import Breaker, TaskState
from streamflow.errors import StateRefused
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law
from tests.laws.thresholds_reference import Reference

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
Row = tuple[bool, int]

rows = st.lists(
    st.tuples(
        st.sampled_from([False, False, True]),
        st.one_of(st.integers(-3, 4), st.sampled_from([0, 1, 1, 1, 20, -20])),
    ),
    max_size=60,
)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


@st.composite
def thresholds(draw: Any, action: str = "route") -> Threshold:
    """Any that can be declared, of small numbers."""
    given: dict[str, Any] = {"action": action, "probe": draw(st.integers(1, 6))}
    by_count, by_rows = draw(st.booleans()), draw(st.booleans())
    if by_rows:
        given["last"] = last = draw(st.integers(1, 12))
    else:
        given["within"], last = draw(st.integers(1, 15)) * SECOND, 8
    if by_count:
        given["max_count"] = draw(st.integers(0, last - 1))
    else:
        given["max_fraction"] = draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7]))
        if not by_rows or draw(st.booleans()):
            given["at_least"] = draw(st.integers(1, last))
    if action == "pause":
        given["resume_after"] = draw(st.sampled_from([None, MINUTE]))
    elif action != "halt":
        spans = st.integers(1, 20).map(lambda n: n * SECOND)
        given["resume_after"] = draw(st.one_of(st.none(), st.integers(1, 9), spans))
    return Threshold(**given)


def times_of(stream: Sequence[Row]) -> list[int]:
    at, found = -5_000_000, list[int]()
    for _, move in stream:
        at += move * 1_000_000
        found.append(at)
    return found


def walked(
    threshold: Threshold, stream: Sequence[Row], batches: Sequence[int]
) -> tuple[list[int | None], int, int, Breaker]:
    """What `judge` says of rows cut into these sizes, the state going through the meta record:
    since when it was open at each row, and how often it opened and closed.
    """
    times, start, turn = times_of(stream), 0, 0
    since: list[int | None] = []
    tripped = resumed = 0
    state = TaskState()
    while start < len(stream):
        stop = start + batches[turn % len(batches)]
        part = stream[start:stop]
        came = Came(
            pa.array(times[start:stop], pa.int64()),
            pa.array(range(start, start + len(part)), pa.int64()),
            0,
        )
        bad = pa.array([bad for bad, _ in part], pa.bool_())
        judged = judge(threshold, state.breakers.get("t"), bad, came)
        since += judged.open_since(len(part)).to_pylist()
        tripped, resumed = tripped + judged.tripped, resumed + judged.resumed
        meta = encode_meta(
            TaskState(breakers={"t": judged.breaker}), state_id="s", version="v", partitions=1
        )
        state, _, _ = decode_meta(meta)
        assert state.breakers["t"] == judged.breaker
        start, turn = stop, turn + 1
    return since, tripped, resumed, state.breakers.get("t", Breaker(threshold.signature))


@law(400)
@given(thresholds(), rows, cuts, st.integers(1, 8))
def test_it_opens_and_closes_at_the_rows_that_plain_python_says(
    threshold: Threshold, stream: list[Row], batches: list[int], first_part: int
) -> None:
    reference = Reference(threshold)
    for (bad, _), time in zip(stream, times_of(stream), strict=True):
        reference.row(bad, time)
    whole, breakers.FIRST_PART = breakers.FIRST_PART, first_part
    try:
        since, tripped, resumed, breaker = walked(threshold, stream, batches)
    finally:
        breakers.FIRST_PART = whole
    assert [row for row, one in enumerate(since) if one is not None] == reference.open
    assert (tripped, resumed) == (len(reference.tripped), len(reference.resumed))
    for row, one in enumerate(since):
        assert one is None or one == max(at for at in reference.tripped if at < row)
    if stream:
        assert breaker.clock == reference.clock
    alone = walked(threshold, stream, [1_000])
    assert (since, tripped, resumed, breaker) == alone


@law()
@given(st.lists(st.booleans(), min_size=1, max_size=80), st.integers(0, 20))
def test_bits_come_back_from_any_slice(bits: list[bool], start: int) -> None:
    column = pa.array([int(bit) for bit in bits], pa.int64()).slice(start)
    packed = breakers._packed(column)
    assert len(packed) == (len(column) + 7) // 8
    assert breakers._bits(packed, len(column)).equals(column)


class Reading(BaseModel, frozen=True):
    n: int
    value: int | None
    at: AwareDatetime


readings = source(topic("readings"), Reading, event_time="at", out_of_orderness=5 * SECOND)
VALUES = (None, 0, 1, 5, 7, -2)


def _zero(rows: pa.RecordBatch) -> pa.Array:
    return pa.repeat(pa.scalar(0, pa.int64()), rows.num_rows)


def topology_of(one: Threshold, other: Threshold, whole: Threshold, apart: bool) -> Topology:
    """With what is routed away in a topic of its own, where anything can be."""
    gated = readings.gate(
        Rule("known", "value IS NOT NULL", severity="warning", threshold=one),
        Rule("small", "value < 7", threshold=other),
        Rule("positive", "value >= 0", fix=("value", _zero)),
        Rule("whole", "value <> 5", action="drop"),
        threshold=whole,
    )
    routes = apart and "route" in [threshold.action for threshold in (one, other, whole)]
    return Topology(
        "readings",
        gated.to(topic("passed")),
        gated.to(parquet("readings")),
        gated.rejected.to(topic("dlq")),
        *([gated.routed.to(topic("routed"))] if routes else []),
    )


def sent(stream: Sequence[tuple[int | None, int]]) -> list[dict[str, Any]]:
    at, found = START, list[dict[str, Any]]()
    for n, (value, move) in enumerate(stream):
        at += move * SECOND
        found.append({"n": n, "value": value, "at": at})
    return found


def expected(
    stream: Sequence[tuple[int | None, int]], one: Threshold, other: Threshold, whole: Threshold
) -> dict[str, Any]:
    """One row at a time."""
    names = {"known": Reference(one), "small": Reference(other), "gate": Reference(whole)}
    found: dict[str, Any] = {"passed": [], "rejected": [], "dropped": 0, "routed": 0}
    for row in sent(stream):
        value, at = row["value"], (row["at"] - START) // timedelta(microseconds=1)
        known, small = value is not None, value is None or value < 7
        positive, five = value is None or value >= 0, value == 5
        bad = {"known": not known, "small": not small}
        bad["gate"] = not (known and small and positive) or five
        met = {name: names[name].row(bad[name], at) for name in names}
        routing = [
            name
            for name, reference in names.items()
            if met[name] == "open" and reference.threshold.action == "route"
        ]
        if routing:
            found["rejected"].append((row["n"], "gate-tripped", routing[0]))
        elif not small:
            found["rejected"].append((row["n"], "rule", "small"))
        elif five:
            found["dropped"] += 1
        else:
            tags = ["known"] * (not known) + ["positive:fixed"] * (not positive)
            found["passed"].append((row["n"], value if positive else 0, tags or None))
    found["tripped"] = {name: len(one.tripped) for name, one in names.items() if one.tripped}
    found["resumed"] = {name: len(one.resumed) for name, one in names.items() if one.resumed}
    found["phase"] = {name: one.phase for name, one in names.items()}
    return {name: value for name, value in found.items() if name != "routed"}


def left_to(driver: TopologyDriver, name: str) -> list[tuple[int, str, str]]:
    """What left to a topic, which is in the order of offsets."""
    if name not in driver.broker.topics:
        return []
    found = [(r["offset"], r["reason"], r["rule"]) for r in driver.read(name)]
    assert found == sorted(found)
    return found


def outcome(driver: TopologyDriver) -> dict[str, Any]:
    tables = [row for table in driver.tables("readings") for row in table.to_pylist()]
    (task,) = driver._tasks.values()
    rules = task.state.rules
    ends = {
        what: {n.removesuffix(f":{what}"): c for n, c in rules.items() if n.endswith(f":{what}")}
        for what in ("tripped", "resumed")
    }
    return {
        "passed": sorted((r["n"], r["value"], r["_warnings"]) for r in tables),
        "rejected": sorted(left_to(driver, "dlq") + left_to(driver, "routed")),
        "dropped": driver.totals["dropped"],
        **ends,
        "phase": {
            name: driver.phase(name, TopicPartition("readings", 0))
            for name in ("known", "small", "gate")
        },
    }


values = st.lists(
    st.tuples(st.sampled_from(VALUES), st.one_of(st.integers(-3, 4), st.sampled_from([1, 20]))),
    max_size=40,
)
either = st.sampled_from(["warn", "route"]).flatmap(thresholds)


@law()
@given(
    stream=values,
    declared=st.tuples(either, either, either),
    batches=cuts,
    commit_records=st.integers(1, 20),
    point=st.sampled_from([None, *CRASH_POINTS]),
    keep_disk=st.booleans(),
    apart=st.booleans(),
)
@example(
    stream=[(7, 1)] * 3 + [(1, 1)] * 9,
    declared=(
        Threshold(max_count=0, last=1),
        Threshold(max_count=1, last=4, action="route", resume_after=2, probe=2),
        Threshold(max_count=0, last=1),
    ),
    batches=[3],
    commit_records=2,
    point="apply",
    keep_disk=False,
    apart=True,
)
def test_what_thresholds_do_to_a_stream_is_what_plain_python_says_whatever_crashes(
    stream: list[tuple[int | None, int]],
    declared: tuple[Threshold, Threshold, Threshold],
    batches: list[int],
    commit_records: int,
    point: str | None,
    keep_disk: bool,
    apart: bool,
) -> None:
    driver = TopologyDriver(
        topology_of(*declared, apart),
        NOW,
        batches=batches,
        commit_records=commit_records,
        keep_disk=keep_disk,
    )
    records = sent(stream)
    driver.send("readings", *records[: len(records) // 2])
    with driver.crash(at=point or "never"):
        driver.send("readings", *records[len(records) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    assert outcome(driver) == expected(stream, *declared)
    if "routed" in driver.broker.topics:
        assert {reason for _, reason, _ in left_to(driver, "routed")} <= {"gate-tripped"}
        assert "gate-tripped" not in {reason for _, reason, _ in left_to(driver, "dlq")}
    totals = driver.totals
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"] == len(stream)


def stopping(one: Threshold, other: Threshold, whole: Threshold) -> Topology:
    gated = (
        readings.gate(Rule("known", "value IS NOT NULL", severity="warning", threshold=one))
        .filter("value IS NULL OR value <> 5")
        .gate(Rule("small", "value < 7", threshold=other), threshold=whole)
    )
    return Topology(
        "readings",
        gated.to(topic("passed")),
        gated.to(parquet("readings")),
        gated.rejected.to(topic("dlq")),
    )


def _stops(driver: TopologyDriver, act: Callable[[], None]) -> bool:
    """Does a gate stop the partition, by halting the task or by a pause?"""
    try:
        act()
    except StateRefused:
        return True
    (task,) = driver._tasks.values()
    return bool(task.stopped_by)


def _go_on(driver: TopologyDriver) -> None:
    """Let a pause end by the clock, where it does; else as somebody does who starts the worker."""
    (task,) = driver._tasks.values()
    if any(watch.threshold.pause is None for watch in task.stopped_by):
        driver.resume()
    else:
        driver.advance(MINUTE)


def _position(driver: TopologyDriver) -> int:
    return driver._tasks[TopicPartition("readings", 0)].state.position


any_action = st.sampled_from(["warn", "route", "halt", "pause"]).flatmap(thresholds)


@law()
@given(
    stream=values,
    declared=st.tuples(any_action, any_action, any_action),
    batches=cuts,
    commit_records=st.integers(1, 20),
    keep_disk=st.booleans(),
    restart=st.booleans(),
)
@example(
    stream=[(7, 1)] * 4,
    declared=(
        Threshold(max_count=0, last=1),
        Threshold(max_count=0, last=1, action="halt"),
        Threshold(max_count=1, last=5, action="halt"),
    ),
    batches=[10],
    commit_records=10,
    keep_disk=True,
    restart=False,
)
def test_a_partition_is_stopped_after_the_rows_that_plain_python_says(
    stream: list[tuple[int | None, int]],
    declared: tuple[Threshold, Threshold, Threshold],
    batches: list[int],
    commit_records: int,
    keep_disk: bool,
    restart: bool,
) -> None:
    one, other, whole = map(Reference, declared)
    stops: list[int] = []
    routed: list[int] = []
    for row in sent(stream):
        at, value = (row["at"] - START) // timedelta(microseconds=1), row["value"]
        before = [len(r.tripped) for r in (one, other, whole) if r.threshold.blocks]
        met = [one.row(value is None, at)]
        if not (met[0] == "open" and one.threshold.action == "route") and value != 5:
            large = value is not None and value >= 7
            met += [other.row(large, at), whole.row(large, at)]
        acts = [r.threshold.action for r in (one, other, whole)]
        if any(m == "open" and a == "route" for m, a in zip(met, acts, strict=False)):
            routed.append(row["n"])
        if before != [len(r.tripped) for r in (one, other, whole) if r.threshold.blocks]:
            stops.append(row["n"])

    how: dict[str, Any] = {"batches": batches, "commit_records": commit_records}
    driver = TopologyDriver(stopping(*declared), NOW, keep_disk=keep_disk, **how)
    found: list[int] = []
    if _stops(driver, lambda: driver.send("readings", *sent(stream))):
        found.append(_position(driver) - 1)
        while _stops(driver, driver.resume if restart else lambda: _go_on(driver)):
            found.append(_position(driver) - 1)
    assert found == stops
    letters = driver.read("dlq")
    assert [r["offset"] for r in letters if r["reason"] == "gate-tripped"] == routed
    totals = driver.totals
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"] == len(stream)
