"""A table that is slow, full or away: memory stays bounded, nobody is held up, nothing is lost."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.batch import TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.holdings import Holdings
from streamflow.engine.inbox import QUEUE_BATCHES, Arrival
from streamflow.engine.pauses import Pauses
from streamflow.engine.sink import SinkPartition
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.sink_pressure import SinkPressure
from streamflow.errors import StreamflowError
from streamflow.retry import RetryPolicy
from tests.examples import examples
from tests.unit.sink_log import TP, Log, ids, spec
from tests.unit.test_lanes import Consumer, until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = TopicPartition("flights", 3)
AT_ONCE = RetryPolicy(None, timedelta(milliseconds=1), timedelta(milliseconds=1))


def sink_of(
    files: MemoryFiles, holdings: Holdings | None = None, target_bytes: int = 1
) -> SinkPartition:
    made, clock = spec(target_bytes=target_bytes), SimulatedClock(NOW)
    return SinkPartition(made, TP, files, clock=clock, owner="app", holdings=holdings)


class Stage:
    """A lane of the sink stage on a topic in memory, and a source that fills it."""

    def __init__(self, limit: int = 2_000) -> None:
        self.topic, self.files = Log(), MemoryFiles()
        self.log: list[str] = []
        self.pauses = Pauses(Consumer(self.log))
        self.acknowledged: list[int] = []
        self.lane = SinkLane(
            TP, lambda: sink_of(self.files), self.bounds, self.trim, self.pauses, refuse, AT_ONCE
        )
        self.pressure = SinkPressure(limit, {TP: self.lane}, {TP: [SOURCE]}, self.pauses, self.ends)
        self.sent = 0

    async def bounds(self) -> tuple[int, int]:
        return self.topic.first, self.topic.end

    async def ends(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        return dict.fromkeys(tps, (self.topic.first, self.topic.end))

    async def trim(self, tp: TopicPartition, before: int) -> None:
        assert tp == TP
        self.topic.trim(before)

    async def start(self) -> None:
        await self.lane.open()
        self.lane.start()

    async def send(self, count: int = 4) -> None:
        self.topic.commit(count)
        start, self.sent = self.sent, self.topic.end
        batch = self.topic.fetch(start, self.sent)
        await self.lane.put(Arrival(batch, lambda: self.acknowledged.append(batch.stop)))


def refuse(error: StreamflowError) -> None:
    raise error


def go(test: Callable[[], Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test()

    asyncio.run(bounded())


def test_a_table_that_takes_no_writes_holds_nobody_up_and_goes_on_by_itself() -> None:
    async def test() -> None:
        stage = Stage()
        await stage.start()
        await stage.send()
        await until(lambda: len(ids(stage.files)) == 4)
        stage.files.full = True
        for _ in range(QUEUE_BATCHES + 3):
            await stage.send()
        await until(lambda: {"disk", "inbox"} <= set(stage.pauses.reasons(TP)))
        assert "pause app-flights-rows[3]" in stage.log
        assert "no space left" in stage.pauses.words()[TP]["disk"]
        assert stage.acknowledged == [stage.acknowledged[0]]
        stage.files.full = False
        await until(lambda: len(ids(stage.files)) == 4 * (QUEUE_BATCHES + 4))
        await until(lambda: stage.pauses.words() == {})
        assert ids(stage.files) == list(range(stage.topic.rows))
        await stage.lane.close()

    go(test)


def test_sources_wait_while_too_many_of_their_rows_wait_for_a_table() -> None:
    async def test() -> None:
        stage = Stage()
        await stage.start()
        await stage.pressure.turn()
        await stage.send()
        await until(lambda: len(ids(stage.files)) == 4)
        await stage.pressure.turn()
        assert stage.pauses.reasons(SOURCE) == frozenset()
        stage.files.full = True
        await stage.send()
        for _ in range(40):
            stage.topic.commit(4)  # in Kafka, and not yet here
        await until(lambda: "disk" in stage.pauses.reasons(TP))
        await stage.pressure.turn()
        assert stage.pauses.reasons(SOURCE) == {"pressure"}
        assert (
            "app-flights-rows[3] wait for their table" in stage.pauses.words()[SOURCE]["pressure"]
        )
        await stage.pressure.turn()
        assert stage.log.count("pause flights[3]") == 1
        stage.files.full = False
        batch = stage.topic.fetch(stage.sent, stage.topic.end)
        await stage.lane.put(Arrival(batch, lambda: None))
        await until(lambda: len(ids(stage.files)) == 42 * 4)
        await until(lambda: stage.lane.sink is not None and stage.lane.sink.lag_bytes == 0)
        await stage.pressure.turn()
        assert stage.pauses.reasons(SOURCE) == frozenset()
        assert stage.log.count("resume flights[3]") == 1
        await stage.lane.close()

    go(test)


def test_a_lag_that_is_not_known_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamflow.engine.sink_pressure.PERIOD_SECONDS", 0.001)

    async def test() -> None:
        stage = Stage(limit=1)
        asked: list[int] = []

        async def away(tps: Sequence[TopicPartition]) -> Any:
            asked.append(len(tps))
            raise ConnectionError("away")

        pressure = SinkPressure(1, {TP: stage.lane}, {TP: [SOURCE]}, stage.pauses, away)
        running = asyncio.create_task(pressure.run())
        await until(lambda: len(asked) > 2)
        assert (stage.log, running.done()) == ([], False)
        running.cancel()

    go(test)


@examples(60)
@given(
    limit=st.integers(0, 16_000),
    commits=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), min_size=1, max_size=12),
)
def test_sinks_hold_no_more_than_the_bound_and_lose_nothing(
    limit: int, commits: list[tuple[int, int]]
) -> None:
    """What waits for a file of 128 MB rolls early where the worker has no room for it."""
    holdings = Holdings(limit)
    logs, files = [Log(), Log()], [MemoryFiles(), MemoryFiles()]
    sinks = [sink_of(one, holdings, target_bytes=10**9) for one in files]
    for number, sink in enumerate(sinks):
        sink.tp = TopicPartition(TP.topic, number)
        sink.open(0, 0)
    for number, count in commits:
        log, sink = logs[number], sinks[number]
        start = log.end
        log.commit(count)
        batch = log.fetch(start, log.end)
        sink.receive(replace(batch, tp=sink.tp))
        for other in sinks:
            other.tick()
        lag = sum(one.lag_bytes for one in sinks)
        assert lag <= holdings.total <= lag + 3 * 1024 * len(commits)
        assert holdings.total <= limit
    for log, one, sink in zip(logs, files, sinks, strict=True):
        found = ids(one)
        assert found == list(range(len(found)))
        assert sink.position <= log.end
        sink.receive(replace(log.fetch(sink.wanted, log.end), tp=sink.tp))
        holdings.hold("others", limit + 1)  # no room for anything
        holdings.hold(sink.tp, limit + 1)
        sink.tick()
        assert ids(one) == list(range(log.rows))
        holdings.forget("others")
        sink.close()
    assert holdings.total == 0


def test_who_holds_most_gives_room() -> None:
    holdings = Holdings(10)
    holdings.hold("a", 6)
    assert not holdings.too_much("a")
    holdings.hold("b", 5)
    assert (holdings.too_much("a"), holdings.too_much("b")) == (True, False)
    holdings.forget("a")
    assert not holdings.too_much("b")
    unbounded = Holdings()
    unbounded.hold("a", 10**12)
    assert not unbounded.too_much("a")
