"""A worker in which nothing is done, though there is something to do, says so."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.batch import TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.engine import watchdog as module
from streamflow.engine.watchdog import Heart, Progress, Standing, Watchdog, stacks, unexplained
from streamflow.errors import StreamflowError, WorkerStalled
from tests.examples import examples

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, OTHER = (TopicPartition("orders", partition) for partition in range(2))


def at(mark: int, position: int, *, idle: bool = True) -> Standing:
    return Standing(mark, position, idle)


def test_what_has_something_to_do_and_gets_nothing_done_is_stalled() -> None:
    progress = Progress(60)
    assert progress.stalled({ONE: at(1, 5)}, {ONE: 9}, 0) == []
    assert progress.stalled({ONE: at(1, 5)}, {ONE: 9}, 60) == []
    assert progress.stalled({ONE: at(1, 5)}, {ONE: 12}, 61) == [ONE]
    assert progress.stalled({ONE: at(2, 6)}, {ONE: 12}, 62) == []
    assert progress.stalled({ONE: at(2, 6)}, {ONE: 12}, 123) == [ONE]


def test_what_is_read_and_never_committed_is_no_progress() -> None:
    """A task that is lost at each commit goes back, and reads the same again."""
    progress, found = Progress(60), list[bool]()
    for turn in range(40):
        position = 5 + 2 * (turn % 3)
        standing = at(7, position, idle=position == 5)
        found.append(bool(progress.stalled({ONE: standing}, {ONE: 9}, turn * 2.0)))
    assert found == [turn * 2.0 > 60 for turn in range(40)]


def test_what_was_read_to_the_end_and_is_not_committed_is_something_to_do() -> None:
    progress = Progress(60)
    assert progress.stalled({ONE: at(1, 9, idle=False)}, {ONE: 9}, 0) == []
    assert progress.stalled({ONE: at(1, 9, idle=False)}, {ONE: 9}, 61) == [ONE]


def test_what_has_nothing_to_do_or_is_not_known_has_all_the_time() -> None:
    progress = Progress(60)
    for ends in ({ONE: 9}, {ONE: 9}, {}, {ONE: 10}):
        assert progress.stalled({ONE: at(1, 9)}, ends, 61 * len(ends)) == []
    assert progress.stalled({ONE: at(1, 9)}, {}, 500) == []  # an outage
    assert progress.stalled({ONE: at(1, 9)}, {ONE: 10}, 501) == []
    assert progress.stalled({}, {}, 560) == []  # paused, or of another worker now
    assert progress.stalled({ONE: at(1, 9)}, {ONE: 10}, 562) == []


@examples(200)
@given(
    moves=st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 5), st.booleans(), st.integers(0, 40), st.booleans()
        ),
        max_size=40,
    )
)
def test_it_is_stalled_exactly_when_it_is_seen_behind_with_one_mark_for_longer(
    moves: list[tuple[int, int, bool, int, bool]],
) -> None:
    progress, now, end = Progress(60), 0.0, 0
    mark, position = 0, 0
    seen: list[tuple[float, int | None]] = []  # when, and the mark while it was behind
    for done, came, idle, later, known in moves:
        now += later
        end += came
        mark, position = mark + done, min(position + done, end)
        behind = known and (not idle or position < end)
        seen.append((now, mark if behind else None))
        one = [
            when
            for number, (when, _) in enumerate(seen)
            if all(m == mark and m is not None for _, m in seen[number:])
        ]
        wanted = behind and bool(one) and now - one[0] > 60
        found = progress.stalled(
            {ONE: at(mark, position, idle=idle)}, {ONE: end} if known else {}, now
        )
        assert found == [ONE] * wanted


class Watched:
    """A worker of which nothing but its standing is known."""

    def __init__(self, *, exits: bool = False) -> None:
        self.clock = SimulatedClock(NOW)
        self.standing = {ONE: at(1, 5), OTHER: at(3, 9)}
        self.end: int | None = 9
        self.told: list[StreamflowError] = []
        self.dog = Watchdog(
            self.clock, 60, lambda: self.standing, self.bounds, self.told.append if exits else None
        )

    async def bounds(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        if self.end is None:
            raise ConnectionError("away")
        return dict.fromkeys(tps, (0, self.end))

    async def later(self, seconds: float) -> list[TopicPartition]:
        self.clock.advance(timedelta(seconds=seconds))
        await self.dog.turn()
        return self.dog.stalled


def test_it_is_said_once_with_stacks_and_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        watched = Watched()
        assert await watched.later(0) == []
        assert await watched.later(61) == [ONE]
        assert await watched.later(1) == [ONE]
        (said,) = [r.message for r in caplog.records if r.levelno == logging.ERROR]
        words = "nothing has been done for 60 s, and no pause says why: orders[0]@5 of 9"
        assert said.startswith(words)
        assert "test_watchdog.py" in said
        watched.standing[ONE] = at(2, 9)
        assert await watched.later(1) == []
        watched.end = 12
        assert await watched.later(1) == []
        assert await watched.later(61) == [ONE, OTHER]
        assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 2
        assert watched.told == []

    asyncio.run(go())


def test_by_setting_the_worker_ends_with_a_code_of_its_own() -> None:
    async def go() -> list[StreamflowError]:
        watched = Watched(exits=True)
        await watched.later(0)
        await watched.later(61)
        await watched.later(61)
        return watched.told

    (error,) = asyncio.run(go())
    assert isinstance(error, WorkerStalled)
    assert error.streamflow_exit_code == 3
    assert "Nothing is lost" in str(error)


def test_an_outage_is_no_stall() -> None:
    async def go() -> None:
        watched = Watched()
        await watched.later(0)
        watched.end = None
        assert await watched.later(61) == []
        watched.end = 9
        assert await watched.later(61) == []  # it has all its time again
        assert await watched.later(61) == [ONE]

    asyncio.run(go())


def test_a_broker_that_does_not_answer_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.01)

    async def go() -> None:
        watched = Watched()

        async def never(tps: Sequence[TopicPartition]) -> Any:
            await asyncio.Event().wait()

        watched.dog = Watchdog(watched.clock, 60, lambda: watched.standing, never, None)
        assert await watched.later(61) == []

    asyncio.run(go())


def test_it_looks_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_SECONDS", 0.001)

    async def go() -> None:
        watched = Watched()
        running = asyncio.create_task(watched.dog.run())
        async with asyncio.timeout(5):
            while not watched.dog.stalled:
                watched.clock.advance(timedelta(seconds=10))
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()

    asyncio.run(go())


def test_an_event_loop_that_stands_is_seen_once_each_time() -> None:
    clock = SimulatedClock(NOW)
    heart = Heart(clock, 60, exits=False)
    found: list[bool] = []

    def look(seconds: float, beat: Callable[[], None] = lambda: None) -> None:
        clock.advance(timedelta(seconds=seconds))
        beat()
        found.append(heart.stands())

    look(70)
    look(1)
    look(100)
    look(1, heart.beat)
    look(71)
    assert found == [False, True, False, False, True]


def test_stacks_name_what_each_coroutine_waits_for() -> None:
    async def waiting_for_nothing() -> None:
        await asyncio.Event().wait()

    async def go() -> str:
        running = asyncio.create_task(waiting_for_nothing(), name="lane orders[0]")
        await asyncio.sleep(0)
        text = stacks()
        running.cancel()
        return text

    text = asyncio.run(go())
    assert "lane orders[0]:" in text
    assert "waiting_for_nothing" in text


def test_what_waits_for_a_reason_is_left_out_and_what_is_not_open_too() -> None:
    lanes: Any = {tp: SimpleNamespace(standing=at(1, 5)) for tp in (ONE, OTHER)}
    assert set(unexplained(lanes, {})) == {ONE, OTHER}
    assert set(unexplained(lanes, {ONE: {"gate": "outage"}})) == {OTHER}
    assert set(unexplained(lanes, {ONE: {"inbox": ""}, OTHER: {"opening": ""}})) == {ONE}
    lanes[ONE].standing = None
    assert set(unexplained(lanes, {})) == {OTHER}
