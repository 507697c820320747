"""Thresholds of gates: what is refused, what they do, and how a halted task goes on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Rule, Threshold, Topology, TopologyError, source, topic
from streamflow.batch import Record, TopicPartition
from streamflow.core.json_values import to_json
from streamflow.core.keys import META
from streamflow.errors import StateRefused
from streamflow.local import LocalRun
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Reading(BaseModel, frozen=True):
    n: int
    value: int | None
    at: AwareDatetime


readings = source(topic("readings"), Reading, key="n", event_time="at")
KNOWN = Rule("known", "value IS NOT NULL", severity="warning")


def reading(value: int | None, minute: int = 0) -> dict[str, Any]:
    return {"n": 1, "value": value, "at": NOW + minute * MINUTE}


def driver_of(stream: Stream, **how: Any) -> TopologyDriver:
    return TopologyDriver(topology(stream), NOW, **how)


def topology(stream: Stream) -> Topology:
    return Topology("readings", stream.to(topic("passed")), stream.rejected.to(topic("dlq")))


def phase(driver: TopologyDriver) -> str:
    return driver.phase("gate", TopicPartition("readings", 0))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"last": 5}, "of max_count and max_fraction it has neither; say one"),
        ({"max_count": 1, "max_fraction": 0.1, "last": 5}, "it has both; leave one"),
        ({"max_count": 1}, "of last and within it has neither"),
        ({"max_count": 1, "last": 5, "within": MINUTE}, "of last and within it has both"),
        ({"max_count": -1, "last": 5}, "max_count -1 is below zero"),
        ({"max_count": 5, "last": 5}, "the last 5 rows never hold more than 5"),
        ({"max_fraction": 1.0, "last": 5}, "max_fraction 1.0 is not from 0 to below 1"),
        ({"max_fraction": -0.1, "last": 5}, "max_fraction -0.1 is not from 0"),
        ({"max_fraction": float("nan"), "last": 5}, "max_fraction is nan, which is no number"),
        ({"max_count": 0, "last": 0}, "last 0 is not from 1 to 100,000 rows"),
        ({"max_count": 0, "last": 100_001}, "last 100001 is not from 1 to 100,000 rows"),
        ({"max_count": 0, "within": timedelta(0)}, "within 0:00:00 is no time above zero"),
        ({"max_fraction": 0.1, "within": MINUTE}, "a window of time needs at_least"),
        ({"max_count": 1, "last": 5, "at_least": 2}, "at_least goes with max_fraction"),
        ({"max_fraction": 0.1, "last": 5, "at_least": 6}, "at_least 6 is not from 1 to the rows"),
        ({"max_fraction": 0.1, "within": MINUTE, "at_least": 0}, "at_least 0 is not from 1"),
        ({"max_count": 1, "last": 5, "action": "stop"}, "action 'stop' is none of warn, route"),
        ({"max_count": 1, "last": 5, "probe": 0}, "probe 0 is no number of rows above zero"),
        ({"max_count": 2**64, "within": MINUTE}, "max_count is beyond 64 bits"),
        ({"max_count": 1, "last": 5, "resume_after": True}, "resume_after is True, which is no"),
        ({"max_count": 1, "last": 5, "resume_after": 0}, "resume_after 0 is no number of rows"),
        (
            {"max_count": 1, "last": 5, "resume_after": -MINUTE},
            "resume_after -0:01:00 is no time above zero",
        ),
        (
            {"max_count": 1, "last": 5, "action": "pause", "resume_after": 5},
            "no rows pass while a partition is paused; give resume_after a time",
        ),
        (
            {"max_count": 1, "last": 5, "action": "halt", "resume_after": 5},
            "a halted task goes on when it is started with --resume",
        ),
    ],
)
def test_a_threshold_that_cannot_be_held_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        Threshold(**given)


ANY = Threshold(max_count=0, last=1)


@pytest.mark.parametrize(
    ("rules", "threshold", "words"),
    [
        ((), ANY, "a threshold needs a rule to be held against"),
        ((Rule("gate", "n > 0"),), ANY, "its threshold is named 'gate', as something else is"),
        (
            (KNOWN,),
            Threshold(max_count=0, within=timedelta(days=40_000)),
            "within of the threshold 'gate' of 'readings' is longer than 36525 days",
        ),
    ],
)
def test_a_gate_that_it_does_not_fit_is_refused(
    rules: tuple[Rule, ...], threshold: Threshold, words: str
) -> None:
    with pytest.raises(TopologyError, match=words):
        topology(readings.gate(*rules, threshold=threshold))


def test_a_second_threshold_of_a_name_and_a_rule_that_names_its_own_are_refused() -> None:
    gated = readings.gate(KNOWN, threshold=ANY)
    with pytest.raises(TopologyError, match="its threshold is named 'gate', as something else"):
        gated.gate(Rule("other", "n > 0"), threshold=ANY)
    with pytest.raises(TopologyError, match="its threshold has the rule's name"):
        Rule("r", "n > 0", threshold=Threshold(max_count=0, last=1, name="mine"))


def test_what_comes_while_it_is_open_is_a_dead_letter_that_says_since_when() -> None:
    threshold = Threshold(
        max_count=1, last=3, action="route", resume_after=5 * MINUTE, probe=2, name="outage"
    )
    driver = driver_of(readings.gate(KNOWN, threshold=threshold))
    values = [(1, 0), (None, 1), (None, 2), (3, 3), (4, 6), (5, 7), (6, 8), (7, 9)]
    driver.send("readings", *[reading(value, minute) for value, minute in values])
    assert [row["value"] for row in driver.read("passed")] == [1, None, None, 5, 6, 7]
    letters = driver.read("dlq")
    assert [(r["value"], r["reason"], r["rule"]) for r in letters] == [
        (3, "gate-tripped", "outage"),
        (4, "gate-tripped", "outage"),
    ]
    words = dict(driver.records("dlq")[0].headers)["__connect.errors.exception.message"]
    assert words == (
        b"the gate is open since offset 2, where its rules were broken by more than 1 of "
        b"the last 3 rows"
    )
    (task,) = driver._tasks.values()
    assert task.state.rules == {
        "known": 2,
        "outage:tripped": 1,
        "outage:routed": 2,
        "outage:resumed": 1,
    }


def test_what_is_routed_away_is_not_counted_by_rules_and_moves_no_watermark() -> None:
    rules = [
        Rule("small", "value < 9"),
        Rule("even", "value <> 5", action="drop"),
        Rule("positive", "value >= 0", default=("value", 0)),
    ]
    threshold = Threshold(max_count=0, last=1, action="route", resume_after=3)
    driver = driver_of(readings.gate(*rules, KNOWN, threshold=threshold))
    driver.send("readings", *[reading(v, m) for v, m in [(None, 0), (9, 50), (5, 50), (-1, 50)]])
    (task,) = driver._tasks.values()
    assert task.state.rules == {"known": 1, "gate:tripped": 1, "gate:routed": 3}
    assert task.state.watermark(0) == NOW.timestamp() * 1_000_000
    assert [letter["reason"] for letter in driver.read("dlq")] == ["gate-tripped"] * 3


def test_a_warning_changes_nothing_but_its_count() -> None:
    driver = driver_of(readings.gate(KNOWN, threshold=ANY))
    driver.send("readings", reading(None), *[reading(1)] * 3)
    assert [row["value"] for row in driver.read("passed")] == [None, 1, 1, 1]
    assert phase(driver) == "half_open"
    (task,) = driver._tasks.values()
    assert task.state.rules == {"known": 1, "gate:tripped": 1}


def test_another_threshold_of_the_same_name_begins_anew() -> None:
    driver = driver_of(readings.gate(KNOWN, threshold=Threshold(max_count=1, last=5)))
    driver.send("readings", reading(None), reading(None))
    assert phase(driver) == "open"
    other = Threshold(max_count=1, last=6)
    driver.deploy(topology(readings.gate(KNOWN, threshold=other)))
    driver.send("readings", reading(None))
    assert phase(driver) == "closed"


def test_a_halt_is_over_when_its_threshold_is_another_one() -> None:
    driver = driver_of(halting)
    with pytest.raises(StateRefused):
        driver.send("readings", reading(None), reading(None), reading(1))
    other = Threshold(max_count=2, last=3, action="halt")
    driver.deploy(topology(readings.gate(KNOWN, threshold=other)))
    driver.process()
    assert passed(driver) == [None, None, 1]


HALT = Threshold(max_count=1, last=3, action="halt", probe=2)
halting = readings.gate(KNOWN, threshold=HALT)


def passed(driver: TopologyDriver) -> list[int | None]:
    return [row["value"] for row in driver.read("passed")]


@pytest.mark.parametrize("batches", [[1], [2], [3, 1], [100]])
def test_a_halt_commits_all_up_to_the_row_that_trips_it_and_nothing_after(
    batches: list[int],
) -> None:
    driver = driver_of(halting, batches=batches, commit_records=100)
    values = [1, None, 2, None, 3, None, 4]
    with pytest.raises(StateRefused, match=r"readings\[0\]@3: the gate 'gate' has halted the task"):
        driver.send("readings", *[reading(value) for value in values])
    assert passed(driver) == [1, None, 2, None]
    with pytest.raises(StateRefused, match="start the worker with --resume"):
        driver.restart()
    with pytest.raises(StateRefused, match=r"readings\[0\]@5"):  # by its probe
        driver.resume()
    assert passed(driver) == values[:6]
    driver.resume()
    assert passed(driver) == values
    driver.send("readings", reading(5))
    assert phase(driver) == "closed"
    meta = driver._stores[TopicPartition("readings", 0)].get([META])[0]
    decided = {"decision": "resume", "gate": "gate", "offset": 6}
    assert orjson.loads(meta or b"")["decisions"] == [
        {**decided, "at_ms": int(NOW.timestamp() * 1000)}
    ]


def pausing(resume_after: timedelta | None) -> Stream:
    pause = Threshold(max_count=1, last=3, action="pause", resume_after=resume_after, probe=2)
    return readings.gate(KNOWN, threshold=pause)


@pytest.mark.parametrize("keep_disk", [True, False])
@pytest.mark.parametrize("batches", [[1], [2], [3, 1], [100]])
def test_a_pause_loses_nothing_survives_a_crash_and_ends_by_the_clock(
    batches: list[int], keep_disk: bool
) -> None:
    driver = driver_of(pausing(MINUTE), batches=batches, commit_records=100, keep_disk=keep_disk)
    values = [1, None, 2, None, 3, None, 4, 5, 6]
    driver.send("readings", *[reading(value) for value in values])
    for _ in range(2):
        assert passed(driver) == values[:4]
        assert phase(driver) == "open"
        driver.restart()
        driver.process()
    driver.advance(MINUTE - timedelta(milliseconds=1))
    assert passed(driver) == values[:4]
    driver.advance(timedelta(milliseconds=1))
    assert passed(driver) == values[:6]  # the second of the probe was broken
    driver.advance(MINUTE)
    assert passed(driver) == values
    assert phase(driver) == "closed"
    assert driver.totals["in"] == len(values)


def test_a_pause_without_a_time_waits_until_it_is_told_to_go_on() -> None:
    driver = driver_of(pausing(None))
    driver.send("readings", *[reading(value) for value in (None, None, 1, 2)])
    driver.advance(timedelta(days=100))
    driver.restart()
    driver.process()
    assert passed(driver) == [None, None]
    driver.resume()
    assert passed(driver) == [None, None, 1, 2]


def test_what_tripped_after_a_worker_was_told_to_go_on_is_not_meant() -> None:
    driver = driver_of(pausing(None))
    driver._resume_before = NOW - MINUTE
    driver.send("readings", *[reading(value) for value in (None, None, 1)])
    driver.restart()
    driver.process()
    assert passed(driver) == [None, None]


@pytest.mark.parametrize("resume_after", [None, MINUTE])
def test_a_run_over_files_does_not_wait(tmp_path: Path, resume_after: timedelta | None) -> None:
    records = [Record(b"1", to_json(reading(value))) for value in (None, None, 1)]
    run = LocalRun(topology(pausing(resume_after)), tmp_path / "run")
    with pytest.raises(StateRefused, match="the gate 'gate' has paused the partition"):
        run.run({"readings": records})


def test_what_is_routed_away_can_have_an_exit_of_its_own() -> None:
    threshold = Threshold(max_count=0, last=1, action="route", resume_after=2)
    gated = readings.gate(KNOWN, Rule("small", "value < 9"), threshold=threshold)
    edges = [gated.to(topic("passed")), gated.rejected.to(topic("dlq"))]
    rows = [reading(9), reading(1, 1), reading(2, 2), reading(3, 3)]

    driver = TopologyDriver(Topology("t", *edges, gated.routed.to(topic("aside"))), NOW)
    driver.send("readings", *rows)
    assert [row["value"] for row in driver.read("aside")] == [1, 2]
    assert {row["reason"] for row in driver.read("aside")} == {"gate-tripped"}
    assert [row["reason"] for row in driver.read("dlq")] == ["rule"]
    assert (driver.totals["rejected"], driver.rules["gate:routed"]) == (3, 2)

    driver = TopologyDriver(Topology("t", *edges, gated.routed.drop()), NOW)
    driver.send("readings", *rows)
    assert [row["reason"] for row in driver.read("dlq")] == ["rule"]
    assert (driver.totals["rejected"], driver.rules["gate:routed"]) == (3, 2)


def test_only_a_threshold_that_routes_has_such_an_exit() -> None:
    with pytest.raises(TopologyError, match="has no threshold with action"):
        _ = readings.gate(KNOWN, threshold=ANY).routed
    threshold = Threshold(max_count=0, last=1, action="route", resume_after=2)
    gated = readings.gate(KNOWN, threshold=threshold)
    edges = [gated.drop(), gated.rejected.drop(), gated.routed.to(topic("a"))]
    with pytest.raises(TopologyError, match="the routed side of 'readings' goes two ways"):
        Topology("t", *edges, gated.routed.to(topic("b")))
    with pytest.raises(TopologyError, match="which are different kinds of records"):
        Topology("t", *edges, gated.quality.to(topic("a")))


@pytest.mark.parametrize(("broken", "limit"), [(29, 0.29), (57, 0.57), (58, 0.58), (7, 0.07)])
def test_a_share_that_is_exactly_the_limit_is_good(broken: int, limit: float) -> None:
    threshold = Threshold(max_fraction=limit, last=100, action="route", probe=100)
    driver = driver_of(readings.gate(KNOWN, threshold=threshold), batches=[7, 1])
    driver.send("readings", *(reading(None if n < broken else 1) for n in range(100)))
    assert phase(driver) == "closed"
    driver.send("readings", *(reading(None) for _ in range(broken + 1)))
    assert phase(driver) == "open", "one more, as all of these 100 are broken or are not"
