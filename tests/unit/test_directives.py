"""What operators say of partitions: the last word counts, for every worker."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamflow.batch import Record, TopicPartition
from streamflow.core.step import Breaker
from streamflow.edges.memory import MemoryAnnouncer, MemoryBroker, MemoryChangelog
from streamflow.engine import directives as module
from streamflow.engine.directives import Directive, Directives, record_of
from streamflow.engine.inbox import Arrival
from streamflow.engine.pauses import Pauses
from streamflow.engine.sync import run_sync
from streamflow.engine.task_lane import TaskLane
from streamflow.errors import StreamflowError
from tests.unit.test_lanes import PAUSE, TP, Consumer, FlakyTask, batch, until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OTHER = TopicPartition("orders", 1)
CONTROL = TopicPartition("orders-control", 0)
STAND = Directive(True, NOW, "ann@desk", "the registry moves")
GO_ON = Directive(False, NOW + timedelta(hours=1), "bob@desk")


class Said:
    """A control topic, and workers that read it."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(0)
        self.broker.create(CONTROL.topic, 1)

    def say(self, tp: TopicPartition, said: Directive) -> None:
        run_sync(MemoryAnnouncer(self.broker, CONTROL).publish([record_of(tp, said)]))

    def log(self) -> MemoryChangelog:
        return MemoryChangelog(self.broker, CONTROL)

    def heard(self, by: Directives) -> list[Directive | None]:
        run_sync(by.turn(self.log()))
        return [by.on(tp) for tp in (TP, OTHER)]


def test_the_last_word_on_each_partition_counts_also_for_who_comes_later() -> None:
    said = Said()
    first = Directives(said.log)
    assert not first.known.is_set()
    assert said.heard(first) == [None, None]
    assert first.known.is_set()
    said.say(TP, STAND)
    said.say(OTHER, STAND)
    assert said.heard(first) == [STAND, STAND]
    said.say(TP, GO_ON)
    assert said.heard(first) == said.heard(Directives(said.log)) == [GO_ON, STAND]
    said.broker.partition(CONTROL).trim(1)  # as when the topic is compacted
    assert said.heard(Directives(said.log)) == said.heard(first) == [GO_ON, STAND]


def test_a_record_that_says_nothing_is_passed_over() -> None:
    said = Said()
    for value in (b"{", b"null", b'{"paused": true}', None):
        said.broker.append(CONTROL, Record(b"orders[0]", value))
    said.say(OTHER, STAND)
    assert said.heard(Directives(said.log)) == [None, STAND]


def test_what_was_said_holds_while_the_broker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_SECONDS", 0.001)

    async def go() -> None:
        said = Said()
        said.say(TP, STAND)
        listening = Directives(said.log)
        running = asyncio.create_task(listening.run())
        async with asyncio.timeout(5):
            await listening.known.wait()
            kept = said.broker.topics.pop(CONTROL.topic)
            await until(lambda: listening.on(TP) == STAND)
            for _ in range(5):
                await asyncio.sleep(0.002)
            assert (listening.on(TP), running.done()) == (STAND, False)
            said.broker.topics[CONTROL.topic] = kept
            said.say(TP, GO_ON)
            await until(lambda: listening.on(TP) == GO_ON)
        running.cancel()

    asyncio.run(go())


class Standing:
    """A lane that is told something, over a consumer that says what it was told."""

    def __init__(self, *, bounded: bool = False) -> None:
        self.log: list[str] = []
        self.said: Directive | None = None
        self.refused: list[StreamflowError] = []
        self.pauses = Pauses(Consumer(self.log))
        self.task: Any = FlakyTask([], {})
        self.lane = TaskLane(
            TP,
            lambda: self.task,
            self.bounds,
            self.seek,
            self.pauses,
            self.refused.append,
            interval=0.01,
            bounded=bounded,
        )
        self.lane.directive = lambda: self.said

    async def bounds(self) -> tuple[int, int]:
        return 0, 9

    async def seek(self, tp: TopicPartition, position: int) -> None:
        self.log.append(f"seek {tp} {position}")

    async def start(self) -> None:
        await self.lane.open()
        await self.lane.hold()
        self.lane.start()


def go(test: Callable[[], Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await test()

    asyncio.run(bounded())


def test_a_partition_stands_and_goes_on_as_told_with_all_that_was_on_its_way() -> None:
    async def test() -> None:
        one = Standing()
        await one.start()
        await one.lane.put(Arrival(batch(0, 3), lambda: None))
        await until(lambda: one.task.state.position == 3 and one.task.idle)
        one.said = STAND
        await until(lambda: one.log == ["pause orders[0]"])
        words = "by ann@desk at 2026-01-01 00:00:00: the registry moves"
        assert one.pauses.words() == {TP: {"operator": words}}
        for start in range(3, 9):  # more than there is room for: nobody is held up
            await one.lane.put(Arrival(batch(start, start + 1), lambda: None))
        assert one.task.state.position == 3
        one.said = GO_ON
        await until(lambda: one.task.state.position == 9)
        await until(lambda: one.pauses.words() == {})
        assert one.log.count("resume orders[0]") == 1
        assert not [line for line in one.log if line.startswith("seek")]
        await one.lane.close(1)

    go(test)


def test_a_partition_that_stands_when_it_is_assigned_processes_nothing() -> None:
    async def test() -> None:
        one = Standing()
        one.said = STAND
        await one.lane.open()
        await one.lane.hold()
        assert one.pauses.reasons(TP) == {"operator"}
        one.lane.start()
        await one.lane.put(Arrival(batch(0, 3), lambda: None))
        await one.lane.close(1)  # it leaves as any other
        assert one.task.state.position == 0

    go(test)


def test_a_run_that_ends_does_not_wait_for_an_operator() -> None:
    async def test() -> None:
        one = Standing(bounded=True)
        await one.start()
        one.said = STAND
        await until(lambda: bool(one.refused))
        assert "orders[0]: paused by ann@desk at" in str(one.refused[0])
        assert "streamflow resume" in str(one.refused[0])
        await one.lane.close(1)

    go(test)


def test_an_operator_lets_go_on_what_a_gate_has_stopped_before() -> None:
    async def test() -> None:
        one = Standing()
        told: list[datetime] = []

        def resume_as_told(at: datetime) -> None:
            told.append(at)
            one.task.stopped_by = {}

        one.task.resume_as_told = resume_as_told
        await one.start()
        one.task.stopped_by = {PAUSE: Breaker("")}
        await until(lambda: one.pauses.words() == {TP: {"gate": "outage"}})
        one.said = GO_ON
        await until(lambda: one.pauses.words() == {})
        assert told == [GO_ON.at]
        assert one.log == ["pause orders[0]", "seek orders[0] 0", "resume orders[0]"]
        await one.lane.close(1)

    go(test)
