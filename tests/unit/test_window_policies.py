"""Sliding windows, early and late policies by example: what is refused, and what stays in state."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Collect,
    Count,
    Session,
    Sliding,
    Sum,
    Topology,
    TopologyError,
    Tumbling,
    every,
    parquet,
    source,
    topic,
    update,
)
from streamflow.batch import TopicPartition
from streamflow.core.keys import META
from streamflow.core.seal import FOLD_AFTER
from streamflow.testing import TopologyDriver
from streamflow.triggers import Early, LatePolicy
from streamflow.windows import Window

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class Sale(BaseModel):
    shop: str
    till: str | None = None
    cents: int = 1
    at: AwareDatetime


class Takings(BaseModel):
    shop: str
    till: str | None
    window_start: AwareDatetime
    sales: int
    cents: int
    each: list[int]


sales = source(
    topic("sales"), Sale, key="shop", event_time="at", out_of_orderness=timedelta(seconds=5)
)


def takings(window: Window, **policies: Any) -> Any:
    windowed = sales.window(window, by=("shop", "till"), **policies)
    return windowed.aggregate(
        Takings, sales=Count(), cents=Sum("cents"), each=Collect("cents", limit=100)
    )


def driver(results: Any, **settings: Any) -> TopologyDriver:
    edges = [sales.rejected.to(topic("dlq")), results.to(topic("takings"))]
    if results.windowed.late != "dead_letter":
        edges.append(results.late.to(topic("late")))
    return TopologyDriver(Topology("sales", *edges), NOW, **settings)


def sale(seconds: float, cents: int = 1, till: str | None = None, shop: str = "a") -> Any:
    at = NOON + seconds * SECOND
    return {"shop": shop, "till": till, "cents": cents, "at": at}


def stored(made: TopologyDriver) -> list[bytes]:
    store = made._stores[TopicPartition("sales", 0)]
    return [key for key, _ in store.scan(b"", b"\xff") if not key.startswith(b"~")]


def test_a_sliding_window_looks_back_from_each_row() -> None:
    run = driver(takings(Sliding(10 * SECOND)), batches=[2])
    run.send("sales", sale(0, 1), sale(4, 2), sale(10, 4), sale(10, 8), sale(14, 16), sale(15, 32))
    run.end_of_input()
    rows = [(r["window_end"] - NOON, r["sales"], r["cents"]) for r in run.read("takings")]
    # The row at 10 does not see the one at 0, which is a whole size away; both at 10 share one.
    assert rows == [
        (0 * SECOND, 1, 1),
        (4 * SECOND, 2, 3),
        (10 * SECOND, 3, 14),
        (14 * SECOND, 3, 28),
        (15 * SECOND, 4, 60),
    ]
    assert all(r["window_end"] - r["window_start"] == 10 * SECOND for r in run.read("takings"))


def test_the_groups_of_a_sliding_window_do_not_see_each_other_also_the_one_of_null() -> None:
    run = driver(takings(Sliding(MINUTE)))
    tills = [None, "1", None, "2", "1", None]
    run.send("sales", *(sale(i, 10**i, till) for i, till in enumerate(tills)))
    run.send("sales", sale(6, 7, None, shop="b"))
    run.end_of_input()
    rows = [(r["shop"], r["till"], r["each"]) for r in run.read("takings")]
    assert rows == [
        ("a", None, [1]),
        ("a", "1", [10]),
        ("a", None, [1, 100]),
        ("a", "2", [1000]),
        ("a", "1", [10, 10000]),
        ("a", None, [1, 100, 100000]),
        ("b", None, [7]),
    ]


def test_a_sliding_window_forgets_what_no_row_to_come_looks_back_on() -> None:
    run = driver(takings(Sliding(10 * SECOND)))
    kept: list[int] = []
    for second in range(0, 200, 2):
        run.send("sales", sale(second))
        kept.append(len(stored(run)) - 1)
    # Two sizes at most: what is looked back on, and the rest of the oldest entry's place.
    assert max(kept) <= 2 * 10 // 2 + 5 // 2 + 1
    assert kept[-1] == kept[-11]
    run.end_of_input()
    assert stored(run) == [META]
    assert [row["sales"] for row in run.read("takings")] == [1, 2, 3, 4, *[5] * 96]


def test_the_rows_of_a_sliding_window_lie_together_in_the_state() -> None:
    run = driver(takings(Sliding(10 * SECOND)))
    run.send("sales", *(sale(second / 10) for second in range(100)))
    assert len(stored(run)) - 1 <= 2


@pytest.mark.parametrize("first", [NOON, NOON - timedelta(microseconds=1)])
def test_a_sliding_window_reaches_back_to_the_last_microsecond(first: datetime) -> None:
    tick, size = timedelta(microseconds=1), 10 * SECOND
    run = driver(takings(Sliding(size)))
    for at in (first, first + size - tick, first + 2 * size - tick):
        # The watermark is brought to just before that time, and what lies out of reach forgotten.
        run.send("sales", sale(0, shop="b") | {"at": at - tick + 5 * SECOND})
        run.send("sales", sale(0) | {"at": at})
    run.end_of_input()
    assert [row["sales"] for row in run.read("takings") if row["shop"] == "a"] == [1, 2, 1]


def test_many_commits_within_one_sliding_window_are_folded() -> None:
    run = driver(takings(Sliding(MINUTE)))
    for _ in range(FOLD_AFTER + 5):
        run.send("sales", sale(0))
    assert len(stored(run)) < FOLD_AFTER
    run.end_of_input()
    assert [row["sales"] for row in run.read("takings")] == [FOLD_AFTER + 5]


def test_a_row_behind_the_watermark_is_late_for_its_sliding_window() -> None:
    run = driver(takings(Sliding(MINUTE), grace=2 * SECOND, late="dead_letter"), batches=[1])
    run.send("sales", sale(0), sale(20), sale(13.001), sale(13))
    (letter,) = run.read("dlq")
    assert (letter["reason"], letter["offset"], letter["lateness"]) == ("late", 3, 2 * SECOND)
    headers = dict(run.records("dlq")[0].headers)
    assert headers["__connect.errors.exception.message"] == b"late for sales.takings by 0:00:02"
    assert headers["streamflow.severity"] == b"warning"


def test_a_window_that_is_kept_for_updates_leaves_the_state_in_the_end() -> None:
    run = driver(takings(Tumbling(MINUTE), late=update(keep=MINUTE)))
    run.send("sales", sale(0), sale(70), sale(1))
    assert len(stored(run)) == 3  # two windows and the meta record
    assert [(r["sales"], r["revision"]) for r in run.read("takings")] == [(1, 0), (2, 1)]
    run.send("sales", sale(124.9), sale(2))
    assert [r["revision"] for r in run.read("takings")] == [0, 1, 2]
    run.send("sales", sale(125), sale(3))
    assert [r["lateness"] for r in run.read("late")] == [117 * SECOND]
    run.end_of_input()
    assert stored(run) == [META]


def test_a_row_that_is_late_for_a_window_without_rows_makes_its_first_result() -> None:
    run = driver(takings(Tumbling(MINUTE), late=update(keep=MINUTE)))
    run.send("sales", sale(70), sale(1))
    (row,) = run.read("takings")
    assert (row["sales"], row["revision"], row["final"]) == (1, 1, True)


def test_corrections_of_many_commits_are_counted_when_they_are_folded() -> None:
    run = driver(takings(Tumbling(MINUTE), late=update(keep=MINUTE)))
    run.send("sales", sale(0), sale(70))
    for _ in range(FOLD_AFTER + 5):
        run.send("sales", sale(1))
    assert [r["revision"] for r in run.read("takings")] == list(range(FOLD_AFTER + 6))
    assert run.read("takings")[-1]["sales"] == FOLD_AFTER + 6
    assert len(stored(run)) < FOLD_AFTER


def test_early_results_come_at_the_end_and_at_intervals() -> None:
    at_end = driver(takings(Tumbling(MINUTE), grace=MINUTE, early="at_end"), batches=[1])
    at_end.send("sales", sale(0), sale(64.9), sale(65), sale(10), sale(124), sale(125))
    made = [(r["sales"], r["final"]) for r in at_end.read("takings")]
    assert made == [(1, False), (2, True), (2, False)]

    often = driver(takings(Tumbling(MINUTE), early=every(20 * SECOND)), batches=[1])
    often.send("sales", sale(0), sale(24), sale(25), sale(26), sale(46), sale(65))
    made = [(r["sales"], r["final"]) for r in often.read("takings")]
    # The watermark passes 0, 20, 40, then 60, where the window closes and the next one is new.
    assert made == [(2, False), (3, False), (5, False), (5, True), (1, False)]


REFUSED: list[tuple[Window, Early | None, Any, timedelta, str]] = [
    (Session(MINUTE), "at_end", "side_output", MINUTE, "Session has no early results"),
    (Sliding(MINUTE), every(MINUTE), "side_output", MINUTE, "Sliding has no early results"),
    (Tumbling(MINUTE), "at_end", "side_output", 0 * SECOND, "together with the final result"),
    (Tumbling(MINUTE), every(0 * SECOND), "side_output", MINUTE, "must be above zero"),
    (Tumbling(MINUTE), "end", "side_output", MINUTE, "early='end'; it is \"at_end\" or every"),  # type: ignore[list-item]
    (Session(MINUTE), None, update(keep=MINUTE), MINUTE, "cannot update Session"),
    (Sliding(MINUTE), None, update(keep=MINUTE), MINUTE, "cannot update Sliding"),
    (Tumbling(MINUTE), None, update(keep=-MINUTE), MINUTE, "must be above zero"),
    (Tumbling(MINUTE), None, "drop", MINUTE, "end their side with .late.drop()"),
]


@pytest.mark.parametrize(("window", "early", "late", "grace", "words"), REFUSED)
def test_policies_that_cannot_be_kept_are_refused(
    window: Window, early: Early | None, late: LatePolicy, grace: timedelta, words: str
) -> None:
    with pytest.raises(TopologyError, match="window on 'sales': ") as refused:
        sales.window(window, by=("shop", "till"), grace=grace, early=early, late=late)
    assert words in str(refused.value)


def test_a_sliding_window_of_no_size_is_refused() -> None:
    with pytest.raises(TopologyError, match="the size must be above zero"):
        Sliding(timedelta(0))


@pytest.mark.parametrize("policy", [{"early": every(MINUTE)}, {"late": update(keep=MINUTE)}])
def test_a_table_of_several_results_of_a_window_says_which_it_takes(policy: Any) -> None:
    made = takings(Tumbling(MINUTE), **policy)
    edges = [sales.rejected.drop(), made.late.drop()]
    with pytest.raises(TopologyError, match=r'say revisions="final".* or revisions="append"'):
        Topology("sales", *edges, made.to(parquet("takings")))
    Topology("sales", *edges, made.to(parquet("takings", revisions="final")))
    with pytest.raises(TopologyError, match='revisions=\'all\'; it is "final" or "append"'):
        parquet("takings", revisions="all")  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="records have none"):
        sales.to(parquet("sales", revisions="append"))


def test_late_records_that_are_dead_letters_have_no_side_of_their_own() -> None:
    made = takings(Tumbling(MINUTE), late="dead_letter")
    edges = [sales.rejected.drop(), made.to(topic("takings"))]
    with pytest.raises(TopologyError, match=r"late records of .* are dead letters"):
        Topology("sales", *edges, made.late.drop())


def test_a_longer_keep_is_another_state_and_an_early_result_is_not() -> None:
    def state_id(**policy: Any) -> str:
        made = takings(Tumbling(MINUTE), **policy)
        edges = [sales.rejected.drop(), made.late.drop(), made.to(topic("takings"))]
        return Topology("sales", *edges).tasks[0].state_id

    plain = state_id()
    assert state_id(early=every(MINUTE)) == plain
    assert len({plain, state_id(late=update(keep=MINUTE)), state_id(late=update(keep=SECOND))}) == 3
