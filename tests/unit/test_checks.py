"""Checks over extents, by example; what cannot be checked is refused when the topology is built."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    AggregateFunction,
    Calendar,
    Collect,
    Count,
    Freshness,
    Hopping,
    Last,
    Max,
    Mean,
    Measure,
    Min,
    NullRate,
    Quantile,
    RowCount,
    Share,
    Topology,
    TopologyError,
    Tumbling,
    Unique,
    Volume,
    day,
    parquet,
    source,
    topic,
)
from streamflow.batch import Record, TopicPartition
from streamflow.core.checks import MOST_EMPTY
from streamflow.errors import StateRefused
from streamflow.testing import TopologyDriver

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
TIMED = Tumbling(MINUTE)


class Sale(BaseModel, frozen=True):
    shop: str
    cents: int
    weight: float
    note: str | None
    at: AwareDatetime


sales = source(topic("sales"), Sale, key="shop", event_time="at", idle_after=5 * MINUTE)


def sale(seconds: int, **changes: Any) -> dict[str, Any]:
    at = NOON + timedelta(seconds=seconds)
    return {"shop": "a", "cents": 5, "weight": 1.5, "note": "x", "at": at, **changes}


def started(*checks: Any, partitions: int = 1, over: Any = TIMED) -> TopologyDriver:
    made = sales.check(*checks, over=over)
    edges = [made.to(topic("checks")), made.to(parquet("checks")), sales.rejected.drop()]
    return TopologyDriver(Topology("sales", *edges), NOON, partitions=partitions)


def verdicts(driver: TopologyDriver) -> list[tuple[str, Any]]:
    return [(one["verdict"], one["value"]) for one in driver.read("checks")]


def test_a_result_says_what_was_found_and_where() -> None:
    driver = started(NullRate("note", at_most=0.4))
    driver.send("sales", sale(1), sale(2, note=None), sale(59, note=None), sale(60))
    (one,) = driver.read("checks")
    assert one == {
        "checks": "sales.checks",
        "check": "null rate of note",
        "severity": "error",
        "verdict": "fail",
        "value": pytest.approx(2 / 3),
        "at_least": None,
        "at_most": 0.4,
        "rows": 3,
        "window_start": NOON,
        "window_end": NOON + MINUTE,
        "row_first": None,
        "row_next": None,
        "examples": [1, 2],
        "topic": "sales",
        "partition": 0,
        "offset_first": 0,
        "offset_next": 3,
    }
    (record,) = driver.records("checks")
    assert orjson.loads(record.key or b"") == [
        "sales.checks",
        "null rate of note",
        "sales",
        0,
        "2024-05-01T12:00:00Z",
    ]
    assert dict(record.headers)["streamflow.lineage"]
    assert driver.rules["sales.checks: null rate of note: fail"] == 1


def test_a_table_has_the_same_rows() -> None:
    made = sales.check(RowCount(at_least=1), over=Tumbling(MINUTE))
    table = parquet("checks", partition_by=("verdict", day("window_start")))
    driver = TopologyDriver(Topology("sales", made.to(table), sales.rejected.drop()), NOON)
    driver.send("sales", sale(0), sale(130))
    driver.end_of_input()
    (table,) = [t for t in driver.tables("checks") if t["rows"].to_pylist() == [0]]
    (row,) = table.to_pylist()
    assert (row["check"], row["value"]) == ("row count", 0.0)
    assert row["window_start"] == NOON + MINUTE
    assert (row["_topic"], row["_partition"]) == ("sales", 0)
    assert (row["_offset_first"], row["_offset_next"]) == (1, 1)


def test_windows_without_rows_have_none() -> None:
    checks = (
        RowCount(at_least=1),
        NullRate("note"),
        Unique("cents"),
        Measure(Min("cents"), at_most=9),
    )
    driver = started(*checks)
    driver.send("sales", sale(0), sale(150))
    assert [one["check"] for one in driver.read("checks")] == [c.label for c in checks] * 2
    second = [("fail", 0.0), ("unknown", None), ("pass", 0.0), ("unknown", None)]
    assert verdicts(driver)[4:] == second


def test_a_partition_that_falls_silent_is_told_by_its_windows() -> None:
    driver = started(RowCount(at_least=1))
    driver.send("sales", sale(0), sale(61))
    for _ in range(10):
        driver.advance(MINUTE)
    starts = [one["window_start"] for one in driver.read("checks")]
    assert len(starts) >= 5
    assert starts == [NOON + i * MINUTE for i in range(len(starts))]
    assert verdicts(driver)[:3] == [("pass", 1.0), ("pass", 1.0), ("fail", 0.0)]


def test_of_a_long_silence_only_the_first_windows_are_told() -> None:
    driver = started(RowCount(at_least=1))
    gap = (MOST_EMPTY + 500) * 60
    driver.send("sales", sale(0), sale(gap), sale(gap + 60))
    results = driver.read("checks")
    assert len(results) == MOST_EMPTY + 2
    assert results[-2]["window_start"] == NOON + MOST_EMPTY * MINUTE
    assert results[-1]["window_start"] == NOON + timedelta(seconds=gap)


def test_the_end_of_the_input_ends_windows_but_fills_no_extent_of_rows() -> None:
    driver = started(NullRate("note"), over=3)
    driver.send("sales", *map(sale, range(8)))
    driver.end_of_input()
    bounds = [(one["row_first"], one["row_next"]) for one in driver.read("checks")]
    assert bounds == [(0, 3), (3, 6)]


def test_volumes_are_held_against_those_before() -> None:
    driver = started(Volume(against=2, within=0.5))
    counts = [4, 2, 4, 1, 3]
    for minute, count in enumerate([*counts, 1]):
        driver.send("sales", *(sale(60 * minute + i) for i in range(count)))
    found = [(o["verdict"], o["at_least"], o["at_most"]) for o in driver.read("checks")]
    assert found == [
        ("unknown", None, None),
        ("unknown", None, None),
        ("pass", 1.5, 4.5),
        ("fail", 1.5, 4.5),
        ("pass", 1.25, 3.75),
    ]


def test_duplicates_are_those_of_the_extent() -> None:
    driver = started(Unique("cents", "note", at_most=1))
    same = [sale(i, cents=7, note=None) for i in range(3)]
    driver.send("sales", sale(0, cents=7), *same, sale(60, cents=7, note=None), sale(120))
    results = [(one["verdict"], one["value"], one["examples"]) for one in driver.read("checks")]
    assert results == [("fail", 2.0, [1]), ("pass", 0.0, [])]


def test_a_share_names_those_that_are_missing_or_too_many() -> None:
    driver = started(
        Share("cents > 9", at_least=0.5, name="large"),
        Share("cents > 9", at_most=0.1, name="not large"),
        Share(lambda rows: pc.equal(rows["note"], "x"), at_least=1, name="noted"),
    )
    driver.send("sales", sale(0), sale(1, cents=10, note=None), sale(2, note="y"), sale(60))
    found = {one["check"]: (one["value"], one["examples"]) for one in driver.read("checks")}
    third = pytest.approx(1 / 3)
    assert found == {"large": (third, [0, 2]), "not large": (third, [1]), "noted": (third, [1, 2])}


def test_a_condition_that_cannot_be_computed_is_not_true() -> None:
    driver = started(Share("cents + 9223372036854775807 > 0", at_least=1, name="sum"))
    driver.send("sales", sale(0, cents=0), sale(1, cents=1), sale(60))
    (one,) = driver.read("checks")
    assert (one["value"], one["examples"]) == (0.5, [1])


def test_freshness_is_told_by_kafkas_timestamps() -> None:
    driver = started(Freshness(at_most=10 * SECOND))

    def written(seconds: int, after: int) -> Record:
        stamp = int((NOON + timedelta(seconds=seconds + after)).timestamp() * 1000)
        row = sale(seconds)
        return Record(b"a", orjson.dumps(row), stamp)

    driver.send("sales", written(0, 18), written(9, 2), written(60, 11), written(120, 0))
    assert verdicts(driver) == [("pass", 9.0), ("fail", 11.0)]


class Spread(AggregateFunction):
    """Between the smallest and the largest."""

    fields = ("cents",)
    state = pa.struct([("low", pa.int64()), ("high", pa.int64())])
    type = pa.int64()

    def init(self) -> Any:
        return {"low": 10**9, "high": -(10**9)}

    def accumulate(self, state: Any, rows: Any) -> Any:
        here = pc.min_max(rows["cents"]).as_py()
        low, high = here["min"], here["max"]
        return state if low is None else self.merge(state, {"low": low, "high": high})

    def merge(self, state: Any, other: Any) -> Any:
        low, high = min(state["low"], other["low"]), max(state["high"], other["high"])
        return {"low": low, "high": high}

    def result(self, state: Any) -> Any:
        return state["high"] - state["low"] if state["low"] <= state["high"] else None


class Hollow(Spread):
    """No number at all."""

    type = pa.float64()

    def result(self, state: Any) -> Any:
        return math.nan


def test_what_is_not_a_number_is_in_no_bounds() -> None:
    driver = started(Measure(Hollow(), at_least=0), Measure(Max("weight"), at_most=1, name="max"))
    driver.send("sales", sale(0, weight=0.5), sale(60))
    assert verdicts(driver) == [("fail", "NaN"), ("pass", 0.5)]


def test_any_aggregate_of_numbers_can_be_measured() -> None:
    driver = started(
        Measure(Spread(), at_most=3, name="spread"),
        Measure(Quantile("cents", 0.5), at_most=9),
        Measure(Max("weight"), at_least=0),
        Measure(Count(), at_least=2),
    )
    driver.send("sales", sale(0, cents=5), sale(1, cents=9), sale(60))
    found = {one["check"]: (one["verdict"], one["value"]) for one in driver.read("checks")}
    assert found["spread"] == ("fail", 4.0)
    assert found["quantile 0.5 of cents"] == ("pass", pytest.approx(5, rel=0.01))
    assert found["max of weight"] == ("pass", 1.5)
    assert found["count"] == ("pass", 2.0)


def test_the_severity_says_what_a_failure_is() -> None:
    driver = started(
        RowCount(at_least=2, severity="info", name="i"),
        RowCount(at_least=2, severity="critical", name="c"),
    )
    driver.send("sales", sale(0), sale(60))
    assert [one for one, _ in verdicts(driver)] == ["warn", "fail"]


def test_partitions_are_checked_by_themselves() -> None:
    driver = started(Unique("cents"), partitions=2)
    placed = {driver.broker.place("sales", s.encode()).partition: s for s in "abcdef"}
    driver.send("sales", *(sale(at, shop=placed[p]) for at in (0, 1, 60) for p in (0, 1)))
    assert [(o["partition"], o["value"]) for o in driver.read("checks")] == [(0, 1.0), (1, 1.0)]


def test_days_of_a_zone_are_extents() -> None:
    driver = started(RowCount(at_least=1), over=Calendar("day", "Europe/Berlin"))
    driver.send("sales", sale(0), sale(3 * 86_400))
    starts = [one["window_start"] for one in driver.read("checks")]
    first = datetime(2024, 4, 30, 22, tzinfo=UTC)
    assert starts == [first + i * 24 * HOUR for i in range(3)]


def test_other_bounds_keep_what_is_counted_and_other_checks_begin_anew() -> None:
    def deployed(*checks: Any) -> Topology:
        made = sales.check(*checks, over=Tumbling(MINUTE))
        return Topology("sales", made.to(topic("checks")), sales.rejected.drop())

    driver = TopologyDriver(deployed(NullRate("note"), Unique("cents")), NOON)
    driver.send("sales", sale(0), sale(1, note=None))
    driver.deploy(deployed(NullRate("note", at_most=0.5, severity="info"), Unique("cents")))
    driver.send("sales", sale(60), sale(61))
    found = [(one["check"], one["verdict"], one["rows"]) for one in driver.read("checks")]
    assert found == [("null rate of note", "pass", 2), ("duplicates of cents", "fail", 2)]
    driver.deploy(deployed(NullRate("cents"), Unique("cents")))
    driver.send("sales", sale(62), sale(120))
    assert [one["rows"] for one in driver.read("checks")[2:]] == [1, 1]
    (task,) = driver._tasks.values()
    assert len(task.state.extents) == 1
    store = driver._stores[TopicPartition("sales", 0)]
    (key,) = task.state.extents
    entries = [entry for entry, _ in store.scan(b"w", b"x")]
    assert entries
    assert all(entry.startswith(b"w" + key.encode()) for entry in entries)


def test_several_can_share_a_topic_under_their_names() -> None:
    hourly = sales.check(RowCount(at_least=1), over=Tumbling(HOUR), name="hourly")
    every = sales.check(NullRate("note"), over=2, name="every")
    edges = [hourly.to(topic("checks")), every.to(topic("checks")), sales.rejected.drop()]
    driver = TopologyDriver(Topology("sales", *edges), NOON)
    driver.send("sales", sale(0), sale(1), sale(3600))
    assert {one["checks"] for one in driver.read("checks")} == {"sales.hourly", "sales.every"}
    twins = sales.check(RowCount(at_least=1), over=Tumbling(HOUR), name="every")
    with pytest.raises(TopologyError, match=r"two results are named 'sales.every'"):
        Topology("sales", every.to(topic("x")), twins.to(topic("y")), sales.rejected.drop())


REFUSED: list[tuple[Any, str]] = [
    (lambda: sales.check(over=Tumbling(HOUR)), "give it a check"),
    (lambda: sales.check("cents > 0", over=Tumbling(HOUR)), "is no check"),  # type: ignore[arg-type]
    (lambda: sales.check(NullRate("not"), over=3), "Sale has no field 'not'"),
    (lambda: sales.check(Unique("cents", "size"), over=3), "Sale has no field 'size'"),
    (lambda: sales.check(NullRate("note"), NullRate("note", at_most=0.1), over=3), "are named"),
    (lambda: sales.check(NullRate("note"), over=3, name="a b"), "letters, digits"),
    (lambda: sales.check(NullRate("note"), over=Hopping(HOUR, MINUTE)), "is no extent"),  # type: ignore[arg-type]
    (lambda: sales.check(NullRate("note"), over=True), "is no extent"),
    (lambda: sales.check(NullRate("note"), over=0), "no number of rows above zero"),
    (lambda: sales.check(NullRate("note"), over=3, grace=HOUR), "no grace"),
    (lambda: sales.check(NullRate("note"), over=Tumbling(HOUR), grace=-HOUR), "below zero"),
    (lambda: sales.check(RowCount(at_most=3), over=3), "always has 3"),
    (lambda: sales.check(Volume(against=3, within=0.5), over=3), "always has 3"),
    (RowCount, "say at_least or at_most"),
    (lambda: RowCount(at_least=2, at_most=1), "at_least 2 is above at_most 1"),
    (lambda: RowCount(at_least=1.5), "no whole number"),  # type: ignore[arg-type]
    (lambda: NullRate("note", at_most=1.5), "at_most 1.5 is a share"),
    (lambda: NullRate("note", severity="bad"), "is none of info"),  # type: ignore[arg-type]
    (lambda: NullRate("note", name=""), "name is '', which is no text of one line"),
    (lambda: Share("cents > 0"), "say at_least or at_most"),
    (lambda: Share("cents > 0", at_least=-0.1), "is a share"),
    (Unique, "name the fields"),
    (lambda: Measure("cents", at_least=0), "is no aggregate"),  # type: ignore[arg-type]
    (lambda: Measure(Mean("cents")), "say at_least or at_most"),
    (lambda: Freshness(at_most=5), "no timedelta"),  # type: ignore[arg-type]
    (Freshness, "say at_least or at_most"),
    (lambda: Volume(against=0, within=0.5), "against is not from 1"),
    (lambda: Volume(against=2, within=-1), "is below zero"),
]


@pytest.mark.parametrize(("build", "words"), REFUSED)
def test_what_cannot_be_checked_is_refused(build: Any, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        build()


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (Share("size > 3", at_least=1), "size"),
        (Share("cents + 1", at_least=1), "not true or false"),
        (Measure(Collect("cents"), at_least=1), "bounds are for numbers"),
        (Measure(Last("note"), at_least=1), "bounds are for numbers"),
    ],
)
def test_what_does_not_fit_the_stream_is_refused(check: Any, words: str) -> None:
    made = sales.check(check, over=3)
    with pytest.raises(TopologyError, match=words):
        Topology("sales", made.to(topic("checks")), sales.rejected.drop())


def test_their_tables_and_topics_hold_nothing_else() -> None:
    made = sales.check(NullRate("note"), over=3)
    with pytest.raises(TopologyError, match="are partitioned by severity, verdict"):
        made.to(parquet("checks", partition_by="check"))
    with pytest.raises(TopologyError, match="here are none"):
        made.to(parquet("checks", revisions="final"))
    with pytest.raises(TopologyError, match=r"would hold .* and the results of 'sales.checks'"):
        Topology("s", sales.to(topic("x")), made.to(topic("x")), sales.rejected.drop())
    long = sales.check(NullRate("note"), over=Tumbling(timedelta(days=50_000)))
    with pytest.raises(TopologyError, match=r"size in 'sales.checks' of 'sales' is longer than"):
        Topology("s", long.to(topic("x")), sales.rejected.drop())


TP = TopicPartition("sales", 0)
ROWS = "sales.checks: row count"


def test_a_check_pauses_its_partition_for_a_time_of_the_clock() -> None:
    driver = started(RowCount(at_most=2, action="pause", resume_after=HOUR))
    driver.send("sales", *map(sale, (0, 1, 2, 60, 61, 120, 180)))
    assert [one["rows"] for one in driver.read("checks")] == [3]
    assert driver.phase(ROWS, TP) == "open"
    assert driver.rules[f"{ROWS}:tripped"] == 1
    driver.advance(HOUR - SECOND)
    assert len(driver.read("checks")) == 1
    driver.advance(SECOND)
    assert [one["rows"] for one in driver.read("checks")][:3] == [3, 2, 1]
    assert driver.phase(ROWS, TP) == "closed"
    assert driver.rules[f"{ROWS}:resumed"] == 1


def test_a_check_halts_the_worker_until_it_is_resumed() -> None:
    driver = started(RowCount(at_most=2, action="halt"))
    words = "sales.0.@3: the check 'sales.checks: row count' has halted the task"
    with pytest.raises(StateRefused, match=words):
        driver.send("sales", *map(sale, (0, 1, 2, 60, 61, 62, 120)))
    with pytest.raises(StateRefused, match=words):
        driver.restart()
    with pytest.raises(StateRefused, match="@6: the check"):
        driver.resume()
    assert driver.rules[f"{ROWS}: fail"] == 2


def test_a_clock_can_end_the_extent_that_stops_a_partition() -> None:
    driver = started(RowCount(at_least=1, action="pause"))
    driver.send("sales", sale(0), sale(61))
    for _ in range(10):
        driver.advance(MINUTE)
    assert verdicts(driver)[-1] == ("fail", 0.0)
    assert driver.phase(ROWS, TP) == "open"
    driver.send("sales", sale(3600))
    assert driver.totals["in"] == 2
    driver.resume()
    assert driver.totals["in"] == 3


def test_other_bounds_let_a_stopped_partition_go_on() -> None:
    driver = started(RowCount(at_most=0, action="pause"))
    driver.send("sales", sale(0), sale(60), sale(61))
    assert driver.totals["in"] == 2
    made = sales.check(RowCount(at_most=9, action="pause"), over=TIMED)
    tables = made.to(topic("checks")), made.to(parquet("checks")), sales.rejected.drop()
    driver.deploy(Topology("sales", *tables))
    driver.process()
    assert driver.totals["in"] == 3


def test_a_row_that_fails_after_a_stop_is_not_come_to() -> None:
    def no_nines(rows: pa.RecordBatch) -> pa.Array:
        if 9 in rows["cents"].to_pylist():
            raise ValueError("a nine")
        return pc.greater(rows["cents"], 0)

    counted = sales.check(NullRate("note", action="pause"), over=2)
    kept = sales.filter(no_nines, on_error="halt")
    edges = [counted.to(topic("checks")), kept.to(topic("kept")), sales.rejected.drop()]
    driver = TopologyDriver(Topology("sales", *edges), NOON)
    rows = [sale(0), sale(1, note=None), sale(2), sale(3, cents=9)]
    driver.send("sales", *rows)
    assert driver.phase("sales.checks: null rate of note", TP) == "open"
    assert len(driver.read("kept")) == 2
    with pytest.raises(StateRefused, match="a nine"):
        driver.resume()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"action": "route"}, "can route none of them"),
        ({"action": "halt", "resume_after": HOUR}, "resume_after is for a pause"),
        ({"action": "pause", "resume_after": 5}, "no timedelta"),
        ({"action": "pause", "resume_after": -HOUR}, "no time above zero"),
    ],
)
def test_what_a_check_cannot_do_is_refused(options: Any, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        RowCount(at_least=1, **options)


def test_bounds_are_exact_and_told_as_floats() -> None:
    driver = started(Volume(against=1, within=0.7), RowCount(at_most=2**53 + 1))
    driver.send(
        "sales", *(sale(n) for n in range(10)), *(sale(60 + n) for n in range(3)), sale(120)
    )
    found = [(one["check"], one["verdict"], one["at_least"]) for one in driver.read("checks")]
    assert found[2:] == [("volume against 1", "pass", 3.0), ("row count", "pass", None)]
    assert driver.read("checks")[1]["at_most"] == float(2**53)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Volume(against=1, within=0.1), Volume(against=1, within=9)),
        (RowCount(at_least=1_000_001), RowCount(at_least=1_000_000)),
        (Measure(Max("cents"), at_most=1, name="m"), Measure(Min("cents"), at_most=1, name="m")),
    ],
    ids=repr,
)
def test_a_stop_is_that_of_a_check_with_these_bounds(before: Any, after: Any) -> None:
    def version(check: Any) -> Topology:
        made = sales.check(replace(check, action="pause"), over=TIMED).to(topic("checks"))
        return Topology("sales", sales.to(topic("x")), made, sales.rejected.drop())

    driver = TopologyDriver(version(before), NOON)
    driver.send("sales", *(sale(n) for n in range(4)), sale(60), sale(120), sale(121))
    stopped = driver.totals["in"]
    assert stopped < 7
    driver.deploy(version(after))
    driver.process()
    assert driver.totals["in"] > stopped


def test_keys_that_cannot_be_compared_are_refused() -> None:
    class Tagged(Sale, frozen=True):
        tags: list[str]

    stream = source(topic("sales"), Tagged, key="shop", event_time="at")
    made = stream.check(Unique("tags"), over=5)
    with pytest.raises(
        TopologyError, match="duplicates of tags: cannot compare 'tags', which is l"
    ):
        Topology("sales", made.to(topic("checks")), stream.rejected.drop())


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: RowCount(at_least=1, name="\ud800"), "no text of one line"),
        (lambda: RowCount(at_least=10**400), "at_least is beyond 64 bits"),
        (lambda: Measure(Max("cents"), at_most=10**400), "at_most is beyond what a float can be"),
        (lambda: Measure(Max("cents"), at_most=math.nan), "at_most is nan, which is no number"),
        (lambda: Volume(against=1, within=math.nan), "within is nan, which is no number"),
        (lambda: Volume(against=1, within=math.inf), "within inf would take every volume"),
        (lambda: started(NullRate("note"), over=10**20), "is more than 1,000,000,000,000 rows"),
    ],
)
def test_numbers_that_nothing_can_be_held_against_are_refused(made: Any, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        made()


def test_an_extent_of_the_most_rows_there_can_be_takes_every_event_time() -> None:
    driver = started(NullRate("note"), over=10**12)
    driver.send("sales", {**sale(0), "at": datetime(2, 1, 1, tzinfo=UTC)})
    assert driver.totals["rejected"] == 0
