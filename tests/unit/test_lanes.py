"""Lanes when something goes wrong: a task that cannot be taken up, a cancellation that is lost."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.clock import SystemClock
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.task_lane import Arrival, TaskLane
from streamflow.errors import StreamflowError, TaskLost

TP = TopicPartition("orders", 0)


def batch(start: int, stop: int) -> MicroBatch:
    offsets = list(range(start, stop))
    return MicroBatch(
        TP,
        start,
        stop,
        offsets,
        [b"k"] * len(offsets),
        [b"v"] * len(offsets),
        [0] * len(offsets),
        [()] * len(offsets),
    )


class State:
    def __init__(self, position: int) -> None:
        self.position = position
        self.ended: int | None = None


class FlakyTask:
    """A task whose first commits fail, and which then cannot be opened for some time."""

    def __init__(self, log: list[str], failures: dict[str, int]) -> None:
        self.state = State(0)
        self.idle = True
        self._log = log
        self._failures = failures

    @property
    def due(self) -> bool:
        return not self.idle

    async def open(self, first: int) -> int:
        self._step("open")
        return first

    def receive(self, batch: MicroBatch, ack: Any) -> None:
        del ack
        self.state.position = batch.stop
        self.idle = False

    def end_of_input(self) -> None:
        if self.state.ended is None:
            self.state.ended = self.state.position
            self.idle = False

    async def commit(self) -> None:
        self._step("commit")
        self.idle = True

    async def close(self) -> None:
        self.idle = True

    def _step(self, name: str) -> None:
        if self._failures.get(name, 0):
            self._failures[name] -= 1
            self._log.append(f"{name} failed")
            raise TaskLost(name)
        self._log.append(name)


def never(error: StreamflowError) -> None:
    raise error


@pytest.mark.parametrize(("stop", "done"), [(3, True), (5, False)])
def test_an_end_of_an_earlier_run_is_none_of_what_came_after_it(stop: int, done: bool) -> None:
    async def go() -> None:
        task: Any = FlakyTask([], {})
        task.state.position = task.state.ended = 3

        async def bounds() -> tuple[int, int]:
            return 0, stop

        async def seek(tp: TopicPartition, position: int) -> None:
            raise AssertionError(tp, position)

        lane = TaskLane(
            TP, lambda: task, bounds, seek, never, SystemClock(), interval=0.01, bounded=True
        )
        await lane.open()
        assert lane.done == done
        await lane.close(1)

    asyncio.run(go())


@pytest.mark.slow
def test_a_lost_task_is_not_done_until_it_was_taken_up_and_has_committed() -> None:
    """Also when it cannot be taken up at first: what it had not committed must not count."""

    async def go() -> None:
        log: list[str] = []
        failures = {"commit": 1, "open": 0}
        lane: TaskLane

        async def bounds() -> tuple[int, int]:
            return 0, 3

        async def seek(tp: TopicPartition, position: int) -> None:
            assert (tp, position) == (TP, 0)
            log.append("seek")
            await lane.put(Arrival(batch(0, 3), lambda: None))

        def make() -> Any:
            return FlakyTask(log, failures)

        lane = TaskLane(TP, make, bounds, seek, never, SystemClock(), interval=0.01, bounded=True)
        await lane.open()
        failures["open"] = 2
        lane.start()
        assert lane.is_open
        await lane.put(Arrival(batch(0, 3), lambda: None))
        async with asyncio.timeout(5):
            while "open failed" not in log:
                assert not lane.done
                await asyncio.sleep(0)
            assert not lane.is_open
            while not lane.done:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert lane.is_open
        await lane.close(1)
        wanted = ["open", "commit failed", "open failed", "open failed", "open", "seek", "commit"]
        assert log == wanted

    asyncio.run(go())


class Sink:
    done = False

    def open(self, first: int, stop: int) -> int:
        del stop
        return first

    def receive(self, batch: MicroBatch) -> int:
        return batch.stop

    def tick(self) -> None:
        return None

    def close(self) -> None:
        self.done = True


def test_a_sink_lane_closes_also_when_a_cancellation_gets_lost() -> None:
    async def go() -> None:
        trimming, sink = asyncio.Event(), Sink()

        async def bounds() -> tuple[int, int]:
            return 0, 0

        async def trim(tp: TopicPartition, before: int) -> None:
            """Like a client that waits with `wait_for`: the cancellation goes no further."""
            del tp, before
            trimming.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

        def make() -> Any:
            return sink

        lane = SinkLane(TP, make, bounds, trim, never)
        await lane.open()
        lane.start()
        await lane.put(Arrival(batch(0, 1), lambda: None))
        async with asyncio.timeout(5):
            await trimming.wait()
            await lane.close()
        assert sink.done

    asyncio.run(go())
