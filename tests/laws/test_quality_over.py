"""Quality over extents is what plain Python counts, wherever batches and commits are cut."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Rule, Topology, Tumbling, parquet, source, topic
from streamflow.batch import Record
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SIZE, MANY = 60 * SECOND, 4
RULES = {"small": "error", "whole": "critical", "positive": "critical", "even": "info"}


class Item(BaseModel, frozen=True):
    n: int
    at: AwareDatetime


gated = (
    source(topic("items"), Item, event_time="at", out_of_orderness=10 * SECOND)
    .gate(
        Rule("small", "n < 5", severity="error"),
        Rule("whole", "n <> 3", action="drop"),
        Rule("positive", "n >= 0", default=("n", 0)),
    )
    .filter("n <> 1")
    .gate(Rule("even", "n <> 2", severity="info"))
)
timed = gated.quality_over(Tumbling(SIZE), name="timed")
counted = gated.quality_over(MANY, name="counted")
topology = Topology(
    "items",
    gated.to(topic("passed")),
    gated.rejected.to(topic("dlq")),
    timed.to(topic("timed")),
    timed.to(parquet("timed")),
    counted.to(topic("counted")),
)


@dataclass
class Extent:
    """What is counted of one."""

    start: Any
    records: int = 0
    rejected: int = 0
    offsets: list[int] = field(default_factory=list[int])
    counts: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def take(self, offset: int, n: int | None) -> None:
        self.records += 1
        self.offsets.append(offset)
        self.rejected += n is None or n >= 5
        for name in broken(n):
            self.counts[name] += 1
            self.examples.setdefault(name, []).append(offset)

    def said(self, stop: Any) -> dict[str, Any]:
        issues = sum(count for name, count in self.counts.items() if name != "positive:fixed")
        refused = self.counts["not-json"]
        named = {name: offsets[:3] for name, offsets in self.examples.items()}
        return {
            "extent": (self.start, stop),
            "records": self.records,
            "rejected": self.rejected,
            "issues": issues,
            "score": max(0.0, 100 - issues / self.records * 100),
            "refused": [{"reason": "not-json", "records": refused, "examples": named["not-json"]}]
            if refused
            else [],
            "rules": [
                {
                    "rule": name,
                    "severity": severity,
                    "broken": self.counts[name],
                    "fixed": self.counts[f"{name}:fixed"],
                    "examples": named.get(name, []),
                }
                for name, severity in RULES.items()
            ],
            "offsets": (self.offsets[0], self.offsets[-1] + 1),
        }


def broken(n: int | None) -> list[str]:
    if n is None:
        return ["not-json"]
    if n < 0:
        return ["positive", "positive:fixed"]
    return [name for name, bad in (("small", n >= 5), ("whole", n == 3), ("even", n == 2)) if bad]


def by_number(stream: Sequence[tuple[int, int | None]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for start in range(0, len(stream) - MANY + 1, MANY):
        extent = Extent(start)
        for offset in range(start, start + MANY):
            extent.take(offset, stream[offset][1])
        made.append(extent.said(start + MANY))
    return made


def by_clock(stream: Sequence[tuple[int, int | None]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    extent, at, clock = Extent(None), NOON, None
    for offset, (move, n) in enumerate(stream):
        at += move * SECOND
        if n is not None:
            clock = at if clock is None else max(clock, at)
        start = None if clock is None else NOON + (clock - NOON) // SIZE * SIZE
        if extent.start is None:
            extent.start = start
        elif start != extent.start:
            made.append(extent.said(extent.start + SIZE))
            extent = Extent(start)
        extent.take(offset, n)
    if extent.records:
        made.append(extent.said(None if extent.start is None else extent.start + SIZE))
    return made


def said(driver: TopologyDriver, name: str) -> list[dict[str, Any]]:
    start, stop = ("window_start", "window_end") if name == "timed" else ("row_first", "row_next")
    made: list[dict[str, Any]] = []
    for one in driver.read(name):
        assert (one["topology"], one["quality"]) == ("items", f"items.{name}")
        names = ("records", "rejected", "issues", "score", "refused", "rules")
        where = {"offsets": (one["offset_first"], one["offset_next"])}
        made.append({"extent": (one[start], one[stop])} | {n: one[n] for n in names} | where)
    return made


@law()
@given(
    st.lists(
        st.tuples(
            st.sampled_from([-40, -7, 0, 3, 15, 31, 200]),
            st.one_of(st.none(), st.integers(-2, 6), st.just(4)),
        ),
        max_size=40,
    ),
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.integers(1, 12),
    st.sampled_from([None, *CRASH_POINTS]),
    st.booleans(),
)
def test_it_is_what_plain_python_counts(
    stream: list[tuple[int, int | None]],
    batches: list[int],
    commit_records: int,
    point: str | None,
    keep_disk: bool,
) -> None:
    driver = TopologyDriver(
        topology, NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    at, records = NOON, list[Record]()
    for move, n in stream:
        at += move * SECOND
        value = b"{" if n is None else orjson.dumps({"n": n, "at": at})
        records.append(Record(None, value, int(NOON.timestamp() * 1000)))
    half = len(records) // 2
    driver.send("items", *records[:half])
    with driver.crash(at=point or "never"):
        driver.send("items", *records[half:])
    driver.process()
    driver.end_of_input()
    assert said(driver, "counted") == by_number(stream)
    assert said(driver, "timed") == by_clock(stream)
    told = [(one["window_start"], one["score"], one["rules"]) for one in driver.read("timed")]
    rows = [(one["window_start"], one["score"], one["rules"]) for one in driver.files("timed")]
    assert sorted(rows, key=str) == sorted(told, key=str)
