"""Quality records meet, and add up to what plain Python counts, wherever commits fall."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Rule, Threshold, Topology, TopologyError, parquet, source, topic
from streamflow.batch import Record
from streamflow.rules import score
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Item(BaseModel, frozen=True):
    n: int
    at: AwareDatetime


gated = (
    source(topic("items"), Item, event_time="at")
    .gate(
        Rule("small", "n < 5", severity="error"),
        Rule("whole", "n <> 3", action="drop"),
        Rule("positive", "n >= 0", default=("n", 0)),
        threshold=Threshold(max_count=2, last=3, action="route", resume_after=2, probe=1),
    )
    .filter("n <> 1")
    .gate(Rule("even", "n <> 2 AND n <> 5", severity="info"))
)
topology = Topology(
    "items",
    gated.to(topic("passed")),
    gated.rejected.to(topic("dlq")),
    gated.quality.to(topic("quality")),
)
values = st.lists(st.one_of(st.integers(-2, 6), st.just(None), st.just(6)), max_size=40)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def records(stream: Sequence[int | None]) -> list[Record]:
    """Where there is no number, what is no JSON."""
    return [
        Record(None, b"{" if n is None else orjson.dumps({"n": n, "at": NOW.isoformat()}))
        for n in stream
    ]


def run(
    stream: Sequence[int | None],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
) -> TopologyDriver:
    driver = TopologyDriver(topology, NOW, batches=batches, commit_records=commit_records)
    with driver.crash(at=crash_at or "never"):
        driver.send("items", *records(stream))
    driver.process()
    driver.end_of_input()
    return driver


def summed(driver: TopologyDriver) -> dict[str, Any]:
    """What all records of the one partition say together."""
    counts: Counter[str] = Counter()
    position = commit = 0
    for one in driver.read("quality"):
        assert (one["topology"], one["topic"], one["partition"]) == ("items", "items", 0)
        assert one["offset_first"] == position
        assert one["commit"] > commit
        position, commit = one["offset_next"], one["commit"]
        came = one["in"] + one["forked"] + one["expanded"]
        assert came == one["passed"] + one["rejected"] + one["dropped"]
        assert one["score"] == score(one["issues"], one["in"])
        counts.update({name: one[name] for name in ("in", "passed", "rejected", "dropped")})
        counts.update({"issues": one["issues"]} | one["refused"])
        for rule in one["rules"]:
            counts.update({rule["rule"]: rule["broken"], f"{rule['rule']}:fixed": rule["fixed"]})
            assert len(rule["examples"]) <= 3
        for threshold in one["thresholds"]:
            turns = {turn: threshold[turn] for turn in ("tripped", "resumed", "routed")}
            counts.update({f"{threshold['threshold']}:{turn}": n for turn, n in turns.items()})
    return dict(+counts)


@law()
@given(values, cuts, st.integers(1, 12), st.sampled_from([None, *CRASH_POINTS]))
def test_records_add_up_to_the_totals_wherever_commits_fall(
    stream: list[int | None], batches: list[int], commit_records: int, point: str | None
) -> None:
    driver = run(stream, batches, commit_records, point)
    found = summed(driver)
    assert found == summed(run(stream))
    exits = {name: driver.totals[name] for name in ("in", "passed", "rejected", "dropped")}
    (task,) = driver._tasks.values()
    rules = {n: c for n, c in task.state.rules.items() if not n.startswith("filter")}
    refused = sum(n is None for n in stream)
    broken = sum(rules.get(name, 0) for name in ("small", "whole", "positive", "even"))
    issues = {"issues": broken + refused, "not-json": refused}
    assert found == {n: c for n, c in (exits | rules | issues).items() if c}


def test_a_record_says_what_a_commit_took_in() -> None:
    (record,) = run([0, None, 6, 7, 3, 6, 4, 8, 9]).read("quality")
    assert record.pop("at_ms") == NOW.timestamp() * 1000
    rule = {"broken": 0, "fixed": 0, "examples": []}
    assert record == {
        "topology": "items",
        "topic": "items",
        "partition": 0,
        "commit": 1,
        "offset_first": 0,
        "offset_next": 9,
        "in": 9,
        "forked": 0,
        "expanded": 0,
        "passed": 1,
        "rejected": 7,
        "dropped": 1,
        "issues": 5,
        "score": pytest.approx(100 - 500 / 9),
        "refused": {"not-json": 1},
        "rules": [
            {**rule, "rule": "small", "severity": "error", "broken": 3, "examples": [2, 3, 7]},
            {**rule, "rule": "whole", "severity": "critical", "broken": 1},
            {**rule, "rule": "positive", "severity": "critical"},
            {**rule, "rule": "even", "severity": "info"},
        ],
        "thresholds": [
            {"threshold": "gate", "phase": "open", "tripped": 2, "resumed": 0, "routed": 3}
        ],
    }


def test_they_go_to_one_topic_of_their_own() -> None:
    passed, rejected = gated.to(topic("passed")), gated.rejected.to(topic("dlq"))
    quality = gated.quality.to(topic("quality"))
    with pytest.raises(TopologyError, match="the quality side of 'items' goes two ways"):
        Topology("items", passed, rejected, quality, gated.quality.to(topic("more")))
    with pytest.raises(TopologyError, match=r"would hold .* and the quality records of 'items'"):
        Topology("items", passed, rejected, gated.quality.to(topic("passed")))
    with pytest.raises(TopologyError, match=r"give it a topic\(...\)"):
        gated.quality.to(parquet("quality"))  # type: ignore[arg-type]


def test_ways_of_a_fork_are_counted_as_they_are_in_the_totals() -> None:
    stream = source(topic("items"), Item, event_time="at")
    small = stream.gate(Rule("small", "n < 5"))
    edges = [stream.to(topic("all")), small.to(topic("small")), small.rejected.drop()]
    driver = TopologyDriver(Topology("items", *edges, stream.quality.to(topic("quality"))), NOW)
    driver.send("items", *records([1, 6, 2]))
    (record,) = driver.read("quality")
    exits = {name: record[name] for name in ("in", "forked", "passed", "rejected")}
    assert exits == {"in": 3, "forked": 3, "passed": 5, "rejected": 1}


def test_rows_that_an_expansion_made_are_in_the_balance() -> None:
    def thrice(rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
        parents = pa.array([row for row in range(rows.num_rows) for _ in range(3)], pa.int64())
        return parents, rows.select(["n"]).take(parents)

    stream = source(topic("items"), Item, event_time="at").expand(Item, thrice)
    edges = stream.gate(Rule("small", "n < 5")).to(topic("small")), stream.rejected.drop()
    driver = TopologyDriver(Topology("items", *edges, stream.quality.to(topic("quality"))), NOW)
    driver.send("items", *records([1, 6, 2]))
    (record,) = driver.read("quality")
    exits = {name: record[name] for name in ("in", "expanded", "passed", "rejected")}
    assert exits == {"in": 3, "expanded": 6, "passed": 6, "rejected": 3}


def test_nothing_is_said_of_a_commit_that_took_nothing_in() -> None:
    driver = run([1])
    driver.advance(timedelta(hours=1))
    assert len(driver.read("quality")) == 1
