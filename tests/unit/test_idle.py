"""Examples of idleness: when a partition is idle, what watermark it gets, what ends a silence."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Rule, Threshold, Topology, Tumbling, source, topic
from streamflow.batch import TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.idle import Mark, Silence, idle_watermark
from streamflow.core.seal import from_micros
from streamflow.core.step import INFINITY, Decision
from streamflow.edges.memory import MemoryAnnouncer, MemoryBroker, MemoryChangelog
from streamflow.edges.partitioner import default_partition
from streamflow.engine.cancelled import cancelled
from streamflow.engine.idle_watch import OUTAGE_SECONDS, Board, Fetch, IdleWatch
from streamflow.engine.sharing import HOLDS_SECONDS, MarkPorts, Sharing
from streamflow.engine.sync import run_sync
from streamflow.errors import StateRefused, TopologyError
from streamflow.testing import TopologyDriver
from streamflow.testing.sending import record_of

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
IDLE = 5 * MINUTE
#: Keys of the partitions 0, 1 and 2 of three.
FIRST, SECOND_ONE, THIRD = (
    next(key for key in "abcdefghijklmnop" if default_partition(key.encode(), 3) == partition)
    for partition in range(3)
)


class Order(BaseModel):
    country: str
    at: AwareDatetime


class PerMinute(BaseModel):
    country: str
    window_start: AwareDatetime
    orders: int


def topology(idle_after: timedelta | None = IDLE) -> Topology:
    orders = source(
        topic("orders"),
        Order,
        key="country",
        event_time="at",
        out_of_orderness=30 * SECOND,
        idle_after=idle_after,
    )
    revenue = orders.window(Tumbling(MINUTE), by="country").aggregate(PerMinute, orders=Count())
    return Topology(
        "orders",
        revenue.to(topic("revenue")),
        revenue.late.to(topic("late")),
        orders.rejected.to(topic("dlq")),
    )


def order(country: str, at: datetime = NOON) -> dict[str, Any]:
    return {"country": country, "at": at}


@pytest.fixture
def driver() -> TopologyDriver:
    return TopologyDriver(topology(), NOON, partitions=3)


def final(driver: TopologyDriver) -> list[tuple[str, datetime]]:
    return sorted((row["country"], row["window_start"]) for row in driver.read("revenue"))


def marks(driver: TopologyDriver, partition: int) -> list[datetime]:
    decisions = driver.decisions[TopicPartition("orders", partition)]
    return [from_micros(decision.watermark) for decision in decisions]


def test_a_silent_partition_closes_its_windows_after_idle_after(driver: TopologyDriver) -> None:
    driver.send("orders", order(FIRST))
    driver.advance(IDLE - SECOND)
    assert final(driver) == []
    driver.advance(SECOND)
    assert final(driver) == [(FIRST, NOON)]
    assert marks(driver, 0) == [NOON - 30 * SECOND + IDLE]


def test_it_goes_on_with_the_slowest_of_those_that_are_not_idle(driver: TopologyDriver) -> None:
    driver.send("orders", order(FIRST), order(SECOND_ONE), order(THIRD))
    driver.advance(IDLE - SECOND)
    driver.send("orders", order(SECOND_ONE, NOON + HOUR), order(THIRD, NOON + 2 * MINUTE))
    assert final(driver) == sorted([(SECOND_ONE, NOON), (THIRD, NOON)])
    driver.advance(SECOND)
    assert marks(driver, 0) == [NOON + 90 * SECOND]
    # And on, as they do, at once: it is still idle.
    driver.send("orders", order(THIRD, NOON + 3 * HOUR))
    assert marks(driver, 0) == [NOON + HOUR - 30 * SECOND]
    assert (FIRST, NOON) in final(driver)


def test_one_that_never_had_a_record_and_is_not_idle_holds_the_others() -> None:
    board = Board(3, {0: Mark(None, True), 1: Mark(5, False), 2: Mark(None, False)})
    assert idle_watermark(Silence(0, 9, 3), board.others(0)) is None
    board.marks[2] = Mark(None, True)
    assert idle_watermark(Silence(0, 9, 3), board.others(0)) == 5


@pytest.mark.parametrize(
    ("own", "others", "value"),
    [
        (3, [Mark(50, False), Mark(40, False), Mark(10, True)], 40),
        (3, [Mark(50, False), None], None),
        (3, [Mark(50, True), None], None),
        (3, [Mark(50, True), Mark(None, True)], 12),
        (3, [], 12),
        (None, [Mark(50, True), Mark(40, True), Mark(None, True)], 40),
        (None, [Mark(None, True)], None),
        (None, [], None),
        (3, [Mark(INFINITY, False)], None),
        (3, [Mark(INFINITY, False), Mark(40, False)], 40),
    ],
)
def test_what_the_watermark_of_an_idle_partition_is(
    own: int | None, others: list[Mark | None], value: int | None
) -> None:
    assert idle_watermark(Silence(100, 109, own), others) == value


def test_a_row_that_comes_later_is_judged_by_what_was_decided(driver: TopologyDriver) -> None:
    driver.send("orders", order(FIRST))
    driver.advance(IDLE)
    driver.send("orders", order(FIRST, NOON + MINUTE), order(FIRST, NOON + 4 * MINUTE))
    assert [row["lateness"] for row in driver.read("late")] == [IDLE - 90 * SECOND]
    driver.end_of_input()
    assert final(driver) == [(FIRST, NOON), (FIRST, NOON + 4 * MINUTE)]


def test_a_record_ends_the_silence_also_one_that_is_rejected(driver: TopologyDriver) -> None:
    driver.send("orders", order(FIRST))
    driver.advance(IDLE - SECOND)
    driver.send("orders", driver.records("orders")[0]._replace(value=b"{"))
    driver.advance(SECOND)
    assert final(driver) == []
    driver.advance(IDLE)
    assert final(driver) == [(FIRST, NOON)]


@pytest.mark.parametrize("keep_disk", [True, False])
def test_what_was_decided_outlives_a_restart_and_the_silence_begins_anew(keep_disk: bool) -> None:
    driver = TopologyDriver(topology(), NOON, partitions=3, keep_disk=keep_disk)
    driver.send("orders", order(FIRST))
    driver.advance(IDLE)
    before = driver.decisions
    driver.restart()
    assert driver.decisions == before
    driver.send("orders", order(FIRST, NOON + MINUTE))
    assert len(driver.read("late")) == 1
    driver.send("orders", order(FIRST, NOON + HOUR))
    driver.advance(IDLE - SECOND)
    driver.restart()
    driver.advance(IDLE - SECOND)
    assert final(driver) == [(FIRST, NOON)]
    driver.advance(SECOND)
    assert final(driver) == [(FIRST, NOON), (FIRST, NOON + HOUR)]


def test_without_idle_after_silence_closes_nothing() -> None:
    driver = TopologyDriver(topology(None), NOON, partitions=3)
    driver.send("orders", order(FIRST))
    driver.advance(30 * 24 * HOUR)
    assert final(driver) == []
    assert not any(driver.decisions.values())


def test_a_decision_is_recorded_with_its_offset_and_its_time(driver: TopologyDriver) -> None:
    driver.send("orders", order(FIRST), order(FIRST))
    driver.advance(IDLE)
    driver.end_of_input()
    at = [round(time.timestamp() * 1_000_000) for time in (NOON + IDLE, NOON + IDLE - 30 * SECOND)]
    assert driver.decisions[TopicPartition("orders", 0)] == [
        Decision("idle", 2, at[1], at[0]),
        Decision("end_of_input", 2),
    ]


def test_an_idle_app_commits_only_what_closes_windows_or_is_far_on(driver: TopologyDriver) -> None:
    changelog = "orders-orders-changelog"
    driver.send("orders", order(FIRST))
    driver.advance(IDLE)
    driver.advance(MINUTE)
    before = len(driver.records(changelog))
    for _ in range(60):
        driver.advance(SECOND)
    assert len(driver.records(changelog)) == before
    for _ in range(60):
        driver.advance(MINUTE)
    assert len(driver.records(changelog)) <= before + 3 * 2 * (60 * MINUTE // IDLE)


def test_partitions_that_never_had_a_record_do_not_hold_each_other(driver: TopologyDriver) -> None:
    driver.send("orders", order(FIRST))
    for _ in range(20):
        driver.advance(IDLE)
    assert min(marks(driver, 1)[-1], marks(driver, 2)[-1]) >= NOON + 18 * IDLE


def test_a_watermark_never_falls(driver: TopologyDriver) -> None:
    driver.send("orders", order(FIRST))
    task = driver._tasks[TopicPartition("orders", 0)]
    high = round((NOON + HOUR).timestamp() * 1_000_000)
    for mark in (high, high - 1):
        task.decide(Decision("idle", 1, mark))
        assert task.watermark == high
    assert not task.take_idle(high - 1)


def test_a_partition_that_a_gate_has_halted_is_not_idle() -> None:
    orders = source(topic("orders"), Order, key="country", event_time="at", idle_after=IDLE)
    halting = Threshold(max_count=0, last=5, action="halt")
    gated = orders.gate(Rule("no", "country = 'x'", severity="warning"), threshold=halting)
    revenue = gated.window(Tumbling(MINUTE), by="country").aggregate(PerMinute, orders=Count())
    sides = [revenue.late.drop(), gated.rejected.drop()]
    driver = TopologyDriver(Topology("orders", revenue.to(topic("revenue")), *sides), NOON)
    with pytest.raises(StateRefused, match="halted"):
        driver.send("orders", order(FIRST))
    driver.advance(SECOND)
    driver.advance(IDLE)
    assert final(driver) == []


class Worker:
    """One of two workers of a source: what it knows, and what it shares by one topic."""

    def __init__(self, broker: MemoryBroker, clock: SimulatedClock, own: int) -> None:
        tp = TopicPartition("watermarks", 0)
        ports = MarkPorts(MemoryAnnouncer(broker, tp), MemoryChangelog(broker, tp))
        self.board = Board(2)
        self.sharing = Sharing(self.board, {own}, ports, clock)

    def turn(self) -> dict[int, Mark]:
        run_sync(self.sharing.turn())
        return self.board.marks


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOON)


@pytest.fixture
def workers(clock: SimulatedClock) -> tuple[Worker, Worker]:
    broker = MemoryBroker()
    broker.create("watermarks", 1)
    return Worker(broker, clock, 0), Worker(broker, clock, 1)


def test_a_worker_hears_of_the_partitions_of_others(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    other.board.marks[1] = Mark(5, False)
    assert one.turn() == {}
    other.turn()
    assert one.turn() == {1: Mark(5, False)}
    one.board.marks[0] = Mark(None, True)
    one.turn()
    assert other.turn() == {0: Mark(None, True), 1: Mark(5, False)}


def test_what_was_there_before_says_nothing_of_idleness(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    other.board.marks[1] = Mark(5, True)
    other.turn()
    assert one.turn() == {1: Mark(5, False)}
    other.turn()
    assert one.turn() == {1: Mark(5, True)}


def test_that_others_are_idle_holds_while_they_say_so(
    workers: tuple[Worker, Worker], clock: SimulatedClock
) -> None:
    one, other = workers
    one.turn()
    other.board.marks[1] = Mark(5, True)
    other.turn()
    assert one.turn() == {1: Mark(5, True)}
    clock.advance(timedelta(seconds=HOLDS_SECONDS))
    assert one.turn() == {1: Mark(5, True)}
    clock.advance(SECOND)
    assert one.turn() == {1: Mark(5, False)}
    other.turn()
    assert one.turn() == {1: Mark(5, True)}


def test_of_its_own_partitions_a_worker_hears_nothing(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    one.board.marks[0] = Mark(7, False)
    other.board.marks[0] = Mark(1, True)  # as one that has lost it and does not know it yet
    other.sharing._own = {0, 1}
    other.turn()
    assert one.turn() == {0: Mark(7, False)}


@pytest.mark.slow
def test_while_nothing_can_be_shared_nothing_is_known(clock: SimulatedClock) -> None:
    async def go() -> list[dict[int, Mark]]:
        broker = MemoryBroker()
        broker.create("watermarks", 1)
        one, other = Worker(broker, clock, 0), Worker(broker, clock, 1)
        other.board.marks[1] = Mark(5, False)
        await other.sharing.turn()
        await one.sharing.turn()
        known = [dict(one.board.marks)]
        kept = broker.topics.pop("watermarks")
        running = asyncio.create_task(one.sharing.run())
        async with asyncio.timeout(10):
            while one.board.marks:  # noqa: ASYNC110
                await asyncio.sleep(0)
            known.append(dict(one.board.marks))
            broker.topics["watermarks"] = kept
            while one.board.marks != {1: Mark(5, False)}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await cancelled(running)
        return [*known, dict(one.board.marks)]

    assert asyncio.run(go()) == [{1: Mark(5, False)}, {}, {1: Mark(5, False)}]


@pytest.mark.parametrize("idle_after", [timedelta(0), -SECOND])
def test_an_idle_after_that_is_no_time_is_refused(idle_after: timedelta) -> None:
    with pytest.raises(TopologyError, match=r"source\('orders'\): idle_after=.* is not above zero"):
        topology(idle_after)


def test_an_idle_after_of_more_than_a_century_is_refused() -> None:
    with pytest.raises(TopologyError, match="idle_after of 'orders' is longer than"):
        topology(timedelta(days=40_000))


class Watched:
    """A watch over a task at its end, whose last fetch is what a test says."""

    def __init__(self) -> None:
        self.driver = TopologyDriver(topology(None), NOON)
        self.driver.send("orders", order(FIRST))
        self.tp = TopicPartition("orders", 0)
        self.task = self.driver._tasks[self.tp]
        self.clock = SimulatedClock(NOON)
        self.fetch: Fetch | None = Fetch(1, 0)
        self.board = Board(1)
        self.watch = IdleWatch(self.tp, self.board, MINUTE, lambda tp: self.fetch, self.clock)
        self.watch.look(self.task)

    def after(self, by: timedelta, *, fetched: bool = True, end: int = 1) -> bool:
        """Is it idle when so much time has passed?"""
        self.clock.advance(by)
        if self.fetch is not None:
            self.fetch = Fetch(end, self.fetch.stamp + fetched)
        self.watch.look(self.task)
        assert self.board.marks[0].idle == self.watch.idle
        return self.watch.idle


def test_fetches_that_show_the_end_for_long_enough_make_a_partition_idle() -> None:
    watched = Watched()
    assert not watched.after(MINUTE - SECOND)
    assert watched.after(SECOND)
    row = round((NOON - 30 * SECOND).timestamp() * 1_000_000)
    assert watched.watch.watermark == row + 60_000_000


def test_without_a_fetch_that_succeeds_no_time_passes() -> None:
    watched = Watched()
    assert not watched.after(MINUTE - SECOND)
    assert not watched.after(4 * SECOND, fetched=False), "the last fetch is of before"
    assert watched.after(SECOND)
    # A partition that is idle is no longer when there is an outage: nobody knows what it has.
    assert watched.after(timedelta(seconds=OUTAGE_SECONDS), fetched=False)
    assert not watched.after(SECOND, fetched=False)
    assert watched.watch.watermark is None
    assert not watched.after(MINUTE - SECOND)
    assert not watched.after(MINUTE - SECOND), "a silence begins with the first fetch after it"
    assert watched.after(SECOND)


def test_lag_ends_a_silence() -> None:
    watched = Watched()
    assert watched.after(MINUTE)
    assert not watched.after(SECOND, end=2)
    assert not watched.after(HOUR, end=2)
    assert not watched.after(SECOND)
    assert watched.after(MINUTE)


def test_a_pause_ends_a_silence() -> None:
    watched = Watched()
    assert watched.after(MINUTE)
    watched.fetch = None
    assert not watched.after(SECOND)
    watched.fetch = Fetch(1, 100)
    assert not watched.after(MINUTE)
    assert watched.after(MINUTE)


def test_what_is_not_committed_is_told_to_nobody() -> None:
    watched = Watched()
    log = watched.driver.broker
    log.append(watched.tp, log.records("orders")[0])
    before = watched.task.committed_watermark
    record = order(FIRST, NOON + HOUR)
    watched.driver._commit_records = 1_000
    log.append(watched.tp, record_of(record, watched.task.plan.source, ()))
    run_sync(watched.task.receive(log.fetch(watched.tp, 1)))
    watched.watch.record()
    assert not watched.after(SECOND, end=3)
    assert watched.board.marks[0] == Mark(before, False)
    assert watched.task.watermark != before
