"""Quality over extents, by example."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Hopping,
    NullRate,
    Rule,
    Threshold,
    Topology,
    TopologyError,
    Tumbling,
    day,
    parquet,
    source,
    topic,
)
from streamflow.batch import Record
from streamflow.testing import TopologyDriver

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class Sale(BaseModel, frozen=True):
    shop: str
    cents: int
    at: AwareDatetime


raw = source(topic("sales"), Sale, key="shop", event_time="at", idle_after=5 * MINUTE)
sales = raw.gate(Rule("paid", "cents > 0"), Rule("small", "cents < 100", severity="warning"))


def sale(seconds: int, cents: int = 5) -> dict[str, Any]:
    return {"shop": "a", "cents": cents, "at": NOON + timedelta(seconds=seconds)}


def driver_of(*edges: Any) -> TopologyDriver:
    return TopologyDriver(Topology("sales", sales.drop(), sales.rejected.drop(), *edges), NOON)


def test_a_record_says_what_was_found_and_where() -> None:
    driver = driver_of(sales.quality_over(4).to(topic("quality")))
    rows = [sale(0, 0), b"{", sale(1, 500), sale(2, 500)]
    driver.send("sales", *rows, sale(3))
    (one,) = driver.read("quality")
    assert one == {
        "topology": "sales",
        "quality": "sales.quality",
        "window_start": None,
        "window_end": None,
        "row_first": 0,
        "row_next": 4,
        "records": 4,
        "rejected": 2,
        "issues": 4,
        "score": 0.0,
        "refused": [{"reason": "not-json", "records": 1, "examples": [1]}],
        "rules": [
            {"rule": "paid", "severity": "critical", "broken": 1, "fixed": 0, "examples": [0]},
            {"rule": "small", "severity": "warning", "broken": 2, "fixed": 0, "examples": [2, 3]},
        ],
        "topic": "sales",
        "partition": 0,
        "offset_first": 0,
        "offset_next": 4,
    }
    (record,) = driver.records("quality")
    assert orjson.loads(record.key or b"") == ["sales.quality", "sales", 0, 0]


def test_a_table_has_its_history() -> None:
    table = parquet("quality", partition_by=day("window_start"))
    driver = driver_of(sales.quality_over(Tumbling(MINUTE)).to(table))
    driver.send("sales", sale(0), sale(1, 0), sale(60), sale(61, 500), sale(130, 0))
    driver.end_of_input()
    scores = {one["window_start"]: one["score"] for one in driver.files("quality")}
    assert scores == {NOON: 50.0, NOON + MINUTE: 50.0, NOON + 2 * MINUTE: 0.0}
    assert [t.column("_partition")[0].as_py() for t in driver.tables("quality")] == [0]


def test_a_partition_that_falls_silent_ends_its_window_by_the_watermark() -> None:
    driver = driver_of(sales.quality_over(Tumbling(MINUTE)).to(topic("quality")))
    driver.send("sales", sale(0), sale(1))
    assert driver.read("quality") == []
    driver.advance(10 * MINUTE)
    assert [one["records"] for one in driver.read("quality")] == [2]
    driver.send("sales", sale(30), sale(7200))
    late = driver.read("quality")[1]
    assert (late["records"], late["window_start"] > NOON) == (1, True)


def test_rows_that_an_open_gate_has_routed_away_break_no_rule() -> None:
    threshold = Threshold(max_count=0, last=1, action="route", resume_after=2, probe=1)
    gated = raw.gate(Rule("paid", "cents > 0"), threshold=threshold)
    quality = gated.quality_over(3)
    edges = [gated.drop(), gated.rejected.drop(), quality.to(topic("quality"))]
    driver = TopologyDriver(Topology("sales", *edges), NOON)
    driver.send("sales", *(sale(at, 0) for at in range(3)))
    (one,) = driver.read("quality")
    assert (one["rejected"], one["rules"][0]["broken"], one["issues"]) == (3, 1, 1)


def test_other_extents_begin_anew() -> None:
    driver = driver_of(sales.quality_over(3).to(topic("quality")))
    driver.send("sales", sale(0), sale(1))
    edges = [sales.drop(), sales.rejected.drop(), sales.quality_over(2).to(topic("quality"))]
    driver.deploy(Topology("sales", *edges))
    driver.send("sales", sale(2), sale(3))
    (one,) = driver.read("quality")
    assert (one["row_first"], one["offset_first"], one["offset_next"]) == (0, 2, 4)
    (task,) = driver._tasks.values()
    assert len(task.state.tallies) == 1


def test_several_share_a_topic_under_their_names_but_not_with_checks() -> None:
    hourly, every = sales.quality_over(Tumbling(HOUR), name="hourly"), sales.quality_over(2)
    driver = driver_of(hourly.to(topic("quality")), every.to(topic("quality")))
    driver.send("sales", sale(0), sale(1), sale(7200))
    assert {one["quality"] for one in driver.read("quality")} == {"sales.hourly", "sales.quality"}
    checks = sales.check(NullRate("cents"), over=2)
    edges = every.to(topic("quality")), checks.to(topic("quality"))
    with pytest.raises(TopologyError, match=r"and the results of 'sales\.checks'"):
        Topology("sales", *edges, sales.rejected.drop())
    with pytest.raises(TopologyError, match=r"two results are named 'sales\.quality'"):
        driver_of(every.to(topic("a")), sales.quality_over(3).to(topic("b")))


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(TopologyError, match="is no extent"):
        sales.quality_over(Hopping(HOUR, MINUTE))  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="no number of rows above zero"):
        sales.quality_over(0)
    with pytest.raises(TopologyError, match="letters, digits"):
        sales.quality_over(3, name="no name")
    with pytest.raises(TopologyError, match="are partitioned by _topic, _partition"):
        sales.quality_over(3).to(parquet("quality", partition_by="topology"))
    elsewhere = raw.gate(Rule("other", "cents > 0")).quality_over(3)
    with pytest.raises(TopologyError, match="the quality of 'sales' is that of a stream which"):
        driver_of(elsewhere.to(topic("quality")))
    long = sales.quality_over(Tumbling(timedelta(days=50_000)))
    with pytest.raises(TopologyError, match="is longer than"):
        driver_of(long.to(topic("quality")))


def test_a_timestamp_that_no_column_holds_stops_nothing() -> None:
    driver = driver_of(sales.quality_over(2).to(topic("quality")))
    far = [Record(b"a", orjson.dumps(sale(0)), stamp) for stamp in (10**16, 2**62)]
    driver.send("sales", *far, sale(1), sale(2))
    assert [row["rejected"] for row in driver.read("quality")] == [2, 0]


def test_a_rule_in_two_arms_is_told_once() -> None:
    paid = Rule("paid", "cents > 0")
    arms = [arm.gate(paid) for arm in raw.branch("cents > 5")]
    over, each = arms[0].quality_over(2).to(topic("over")), arms[0].quality.to(topic("each"))
    edges = [arm.drop() for arm in arms]
    driver = TopologyDriver(
        Topology("sales", *edges, over, each, raw.rejected.drop()), NOON, commit_records=2
    )
    driver.send("sales", sale(0, 0), sale(1))
    for name in ("over", "each"):
        [row] = driver.read(name)
        assert (row["issues"], row["score"], len(row["rules"])) == (1, 50.0, 1)


def test_a_record_of_quality_that_its_topic_does_not_take_is_a_dead_letter() -> None:
    edges = sales.to(topic("x")), sales.quality.to(topic("quality"))
    made = Topology("sales", *edges, sales.rejected.to(topic("dlq")))
    driver = TopologyDriver(made, NOON)
    driver.broker.limits["quality"] = 300
    driver.send("sales", sale(0))
    assert driver.read("quality") == []
    assert driver.totals["undelivered"] == len(driver.read("dlq")) == 1
    assert len(driver.read("x")) == 1


def test_windows_of_a_century_take_only_times_that_they_can_be_computed_with() -> None:
    driver = driver_of(sales.quality_over(Tumbling(timedelta(days=36_500))).to(topic("quality")))
    driver.send("sales", {**sale(0), "at": "0002-01-01T00:00:00Z"}, sale(1))
    driver.end_of_input()
    assert [row["rejected"] for row in driver.read("quality")] == [1]
