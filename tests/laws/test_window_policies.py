"""Early and corrected results and late dead letters are what plain Python computes."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Calendar,
    Count,
    First,
    Hopping,
    Sum,
    Topology,
    Tumbling,
    every,
    parquet,
    source,
    topic,
    update,
)
from streamflow.testing import CRASH_POINTS, TopologyDriver
from streamflow.triggers import Every
from streamflow.windows import Window
from tests.examples import law

from .windows_reference import EPOCH, Event, windows

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
LAG, GRACE, KEEP = 10 * SECOND, 20 * SECOND, 90 * SECOND
EVERY = 30 * SECOND
START = datetime(2024, 3, 30, 22, 58, tzinfo=UTC)  # near the start of a short day in Berlin

WINDOWS: dict[str, Window] = {
    "tumbling": Tumbling(MINUTE),
    "hopping": Hopping(MINUTE, 25 * SECOND, offset=5 * SECOND),
    "day": Calendar("day", "Europe/Berlin"),
}


class Reading(BaseModel, frozen=True):
    sensor: str
    value: int
    at: AwareDatetime


class Summary(BaseModel, frozen=True):
    sensor: str
    window_start: AwareDatetime
    rows: int
    total: int
    first: int | None


class Made(NamedTuple):
    """A result, as the topic has it."""

    group: str
    start: datetime
    end: datetime
    rows: int
    total: int
    first: int
    revision: int
    final: bool


Group = tuple[str, datetime, datetime]


def readings() -> Any:
    topic_ = topic("readings")
    return source(topic_, Reading, key="sensor", event_time="at", out_of_orderness=LAG)


@cache
def updating(kind: str) -> Topology:
    stream = readings()
    windowed = stream.window(WINDOWS[kind], by="sensor", grace=GRACE, late=update(keep=KEEP))
    summary = windowed.aggregate(Summary, rows=Count(), total=Sum("value"), first=First("value"))
    return Topology(
        "updating",
        stream.rejected.drop(),
        summary.to(topic("summaries")),
        summary.to(parquet("first", revisions="final")),
        summary.to(parquet("every", revisions="append")),
        summary.late.to(topic("late")),
    )


@cache
def early(kind: str, policy: str) -> Topology:
    stream = readings()
    when = "at_end" if policy == "at_end" else every(EVERY)
    windowed = stream.window(WINDOWS[kind], by="sensor", grace=GRACE, early=when)
    summary = windowed.aggregate(Summary, rows=Count(), total=Sum("value"), first=First("value"))
    return Topology(
        "early", stream.rejected.drop(), summary.to(topic("summaries")), summary.late.drop()
    )


@cache
def dead_letters(kind: str) -> Topology:
    stream = readings()
    windowed = stream.window(WINDOWS[kind], by="sensor", grace=GRACE, late="dead_letter")
    summary = windowed.aggregate(Summary, rows=Count(), total=Sum("value"), first=First("value"))
    return Topology("dead", stream.rejected.to(topic("dlq")), summary.to(topic("summaries")))


moves = st.lists(
    st.tuples(st.integers(-12, 14), st.sampled_from("AB"), st.integers(0, 99)), max_size=40
)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def events(steps: Sequence[tuple[int, str, int]]) -> list[Event]:
    at, made = START, list[Event]()
    for offset, (move, sensor, value) in enumerate(steps):
        at += move * 10 * SECOND
        made.append(Event(offset, sensor, value, at))
    return made


def sent(rows: Sequence[Event]) -> list[dict[str, Any]]:
    return [{"sensor": row.group, "value": row.value, "at": row.at} for row in rows]


def results(driver: TopologyDriver) -> list[Made]:
    names = ("sensor", "window_start", "window_end", "rows", "total", "first", "revision", "final")
    return [Made(*(row[name] for name in names)) for row in driver.read("summaries")]


def made_of(group: Group, rows: Sequence[Event], revision: int, *, final: bool = True) -> Made:
    first = min(rows, key=lambda row: (row.at, row.offset)).value
    return Made(*group, len(rows), sum(row.value for row in rows), first, revision, final)


class Reference:
    """Takes one row after another, and holds every window for ever."""

    def __init__(self, window: Window, keep: timedelta) -> None:
        self.window, self.keep = window, keep
        self.watermark: datetime | None = None
        self.on_time: dict[Group, list[Event]] = defaultdict(list)
        self.amending: dict[Group, list[Event]] = defaultdict(list)
        self.late: list[int] = []

    def take(self, row: Event) -> None:
        bounds = [(start, end, end + GRACE) for start, end in windows(self.window, row.at)]
        missed = [final for _, _, final in bounds if self.passed(final + self.keep)]
        if missed:
            self.late.append(row.offset)
        for start, end, final in bounds:
            if not self.passed(final):
                self.on_time[row.group, start, end].append(row)
            elif not self.passed(final + self.keep):
                self.amending[row.group, start, end].append(row)
        self.watermark = max(row.at - LAG, self.watermark or row.at - LAG)

    def passed(self, time: datetime) -> bool:
        return self.watermark is not None and self.watermark >= time

    def first_final(self) -> set[Made]:
        return {made_of(group, rows, 0) for group, rows in self.on_time.items()}

    def last(self) -> dict[Group, Made]:
        groups = {**self.on_time, **self.amending}
        every_row = {g: [*self.on_time.get(g, []), *self.amending.get(g, [])] for g in groups}
        return {group: made_of(group, rows, 0) for group, rows in every_row.items()}


def last_of(made: Sequence[Made]) -> dict[Group, Made]:
    """The last result of each window and group, without its revision number."""
    return {(row.group, row.start, row.end): row._replace(revision=0) for row in made}


@pytest.mark.parametrize("kind", WINDOWS)
@law(cases=len(WINDOWS))
@given(steps=moves, batches=cuts, commit_records=st.integers(1, 20))
def test_late_rows_correct_results_for_a_time(
    kind: str, steps: list[tuple[int, str, int]], batches: list[int], commit_records: int
) -> None:
    rows, reference = events(steps), Reference(WINDOWS[kind], KEEP)
    driver = TopologyDriver(updating(kind), NOW, batches=batches, commit_records=commit_records)
    driver.send("readings", *sent(rows))
    driver.end_of_input()
    for row in rows:
        reference.take(row)
    made = results(driver)
    assert {row for row in made if row.revision == 0} == reference.first_final()
    assert last_of(made) == reference.last()
    assert [origin(record.headers)[0] for record in driver.records("late")] == reference.late
    check_revisions(driver, made)
    totals = driver.totals
    assert totals["assigned"] == totals["accumulated"] + totals["late"]
    amended = sum(map(len, reference.amending.values()))
    assert totals["accumulated"] == sum(map(len, reference.on_time.values())) + amended
    assert totals["results"] == len(made)
    assert totals["revised"] == sum(row.revision > 0 for row in made)
    assert len(driver.files("every")) == len(made)
    finals = {(row["sensor"], row["window_start"], row["total"]) for row in driver.files("first")}
    assert finals == {(row.group, row.start, row.total) for row in made if row.revision == 0}
    assert len(driver.files("first")) == len(finals)


def check_revisions(driver: TopologyDriver, made: Sequence[Made]) -> None:
    """One for each window, group and commit, and counted from 1."""
    seen: dict[Group, int] = {}
    commits = set[tuple[Group, int]]()
    for row, record in zip(made, driver.records("summaries"), strict=True):
        group = (row.group, row.start, row.end)
        assert row.final
        assert row.revision == seen.get(group, 0) + 1 if row.revision else group not in seen
        seen[group] = row.revision
        if row.revision:
            commit = origin(record.headers)[1]
            assert (group, commit) not in commits
            commits.add((group, commit))


def origin(headers: Any) -> tuple[int, int]:
    """First offset and commit of a lineage header."""
    lineage = dict(headers)["streamflow.lineage"]
    return int.from_bytes(lineage[13:21], "big"), int.from_bytes(lineage[29:37], "big")


@pytest.mark.parametrize("kind", WINDOWS)
@law(cases=len(WINDOWS))
@given(moves, cuts, st.integers(1, 20), st.sampled_from(CRASH_POINTS), st.booleans())
def test_crashes_change_no_last_revision(
    kind: str,
    steps: list[tuple[int, str, int]],
    batches: list[int],
    commit_records: int,
    point: str,
    keep_disk: bool,
) -> None:
    rows, reference = events(steps), Reference(WINDOWS[kind], KEEP)
    driver = TopologyDriver(
        updating(kind), NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    driver.send("readings", *sent(rows[: len(rows) // 2]))
    with driver.crash(at=point):
        driver.send("readings", *sent(rows[len(rows) // 2 :]))
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    for row in rows:
        reference.take(row)
    made = results(driver)
    assert {row for row in made if row.revision == 0} == reference.first_final()
    assert last_of(made) == reference.last()
    check_revisions(driver, made)


@pytest.mark.parametrize("policy", ["at_end", "every"])
@pytest.mark.parametrize("kind", WINDOWS)
@law(cases=len(WINDOWS) * 2)
@given(steps=moves, commit_records=st.integers(1, 20))
def test_early_results_come_row_by_row(
    kind: str, policy: str, steps: list[tuple[int, str, int]], commit_records: int
) -> None:
    rows, reference = events(steps), Reference(WINDOWS[kind], timedelta(0))
    driver = TopologyDriver(early(kind, policy), NOW, batches=[1], commit_records=commit_records)
    driver.send("readings", *sent(rows))
    driver.end_of_input()
    expected = list[Made]()
    for row in rows:
        before = reference.watermark
        reference.take(row)
        expected += early_of(reference, before, policy)
    made = results(driver)
    assert sorted(row for row in made if not row.final) == sorted(expected)
    assert {row for row in made if row.final} == reference.first_final()
    assert driver.totals["early"] == len(expected)
    assert driver.totals["results"] == len(reference.first_final())


def early_of(reference: Reference, before: datetime | None, policy: str) -> list[Made]:
    """The early results that the reference owes as its watermark came from `before`."""
    now = reference.watermark
    assert now is not None
    due = {g: rows for g, rows in reference.on_time.items() if not reference.passed(g[2] + GRACE)}
    if policy == "at_end":
        due = {g: r for g, r in due.items() if now >= g[2] and (before is None or before < g[2])}
    elif before is None or (before - EPOCH) // EVERY == (now - EPOCH) // EVERY:
        due = {}
    return [made_of(group, rows, 0, final=False) for group, rows in due.items()]


@pytest.mark.parametrize("policy", ["at_end", "every"])
@law(cases=2)
@given(moves, cuts, st.integers(1, 20))
def test_early_results_change_no_final_one_and_run_ahead_of_none(
    policy: str, steps: list[tuple[int, str, int]], batches: list[int], commit_records: int
) -> None:
    rows, reference = events(steps), Reference(WINDOWS["hopping"], timedelta(0))
    topology_ = early("hopping", policy)
    driver = TopologyDriver(topology_, NOW, batches=batches, commit_records=commit_records)
    driver.send("readings", *sent(rows))
    driver.end_of_input()
    for row in rows:
        reference.take(row)
    made = results(driver)
    assert {row for row in made if row.final} == reference.first_final()
    closed = set[Group]()
    for row in made:
        group = (row.group, row.start, row.end)
        assert group not in closed
        closed |= {group} if row.final else set()


@pytest.mark.parametrize("kind", WINDOWS)
@law(cases=len(WINDOWS))
@given(moves, cuts, st.integers(1, 20), st.sets(st.integers(0, 50), max_size=5))
def test_late_rows_are_dead_letters_in_the_order_they_came(
    kind: str,
    steps: list[tuple[int, str, int]],
    batches: list[int],
    commit_records: int,
    broken: set[int],
) -> None:
    rows, reference = events(steps), Reference(WINDOWS[kind], timedelta(0))
    driver = TopologyDriver(dead_letters(kind), NOW, batches=batches, commit_records=commit_records)
    expected = list[tuple[int, str]]()
    sends: list[Any] = sent(rows)
    for row in rows:
        if row.offset in broken:
            sends[row.offset] = b"{"
            expected.append((row.offset, "not-json"))
            continue
        reference.take(row)
        if row.offset in reference.late:
            expected.append((row.offset, "late"))
    driver.send("readings", *sends)
    driver.end_of_input()
    letters = driver.read("dlq")
    assert [(letter["offset"], letter["reason"]) for letter in letters] == expected
    for letter in letters:
        assert letter["reason"] != "late" or letter["lateness"] >= GRACE
    late = [r for r in driver.records("dlq") if dict(r.headers)["streamflow.reason"] == b"late"]
    values = [orjson.loads(record.value or b"")["value"] for record in late]
    assert values == [rows[offset].value for offset in reference.late]
    assert driver.totals["in"] == driver.totals["passed"] + driver.totals["rejected"]


def test_every_is_what_its_function_gives() -> None:
    assert every(MINUTE) == Every(MINUTE)
