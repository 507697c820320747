"""Lanes when something goes wrong: a task that cannot be taken up, a cancellation that is lost."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.step import Breaker
from streamflow.engine.inbox import Arrival
from streamflow.engine.pauses import Pauses
from streamflow.engine.seating import Seating
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.task_lane import TaskLane
from streamflow.errors import StateRefused, StreamflowError, TaskLost
from streamflow.stages import Watch
from streamflow.thresholds import Threshold

from .sink_log import spec

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
        self.commit = 0
        self.ended: int | None = None


class FlakyTask:
    """A task whose first commits fail, and which then cannot be opened for some time."""

    def __init__(self, log: list[str], failures: dict[str, int]) -> None:
        self.state = State(0)
        self.idle = True
        self.stopped_by: dict[Any, Any] = {}
        self._log = log
        self._failures = failures

    @property
    def due(self) -> bool:
        return not self.idle

    async def open(self, first: int) -> int:
        self._step("open")
        return first

    async def receive(self, batch: MicroBatch, ack: Any) -> None:
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

    def go_on(self) -> bool:
        return not self.stopped_by

    @property
    def waits_for_somebody(self) -> bool:
        return bool(self.stopped_by)

    def refuse_to_wait(self) -> None:
        raise StateRefused("paused")

    def _step(self, name: str) -> None:
        if self._failures.get(name, 0):
            self._failures[name] -= 1
            self._log.append(f"{name} failed")
            raise TaskLost(name)
        self._log.append(name)


class Consumer:
    """What a consumer is told."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.seating = Seating()

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self.log += [f"seek {tp} {position}" for tp, position in positions.items()]

    async def pause(self, tps: Iterable[TopicPartition]) -> None:
        self.log += [f"pause {tp}" for tp in sorted(tps)]

    async def resume(self, tps: Iterable[TopicPartition]) -> None:
        self.log += [f"resume {tp}" for tp in sorted(tps)]

    async def rejoin(self) -> None:
        self.log.append("rejoin")

    def fetched(self, tp: TopicPartition) -> None:
        del tp


PAUSE = Watch("outage", None, Threshold(max_count=0, last=1, action="pause"))


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110
        await asyncio.sleep(0)


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

        pauses = Pauses(Consumer([]))
        lane = TaskLane(TP, lambda: task, bounds, seek, pauses, never, interval=0.01, bounded=True)
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

        pauses = Pauses(Consumer([]))
        lane = TaskLane(TP, make, bounds, seek, pauses, never, interval=0.01, bounded=True)
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
    wanted = position = 0
    spec = spec()

    def open(self, first: int, stop: int) -> int:
        del stop
        return first

    def receive(self, batch: MicroBatch) -> int:
        return batch.stop

    def tick(self) -> None:
        return None

    def close(self) -> None:
        self.done = True


@pytest.mark.parametrize(("begins", "goes_on"), [(3, True), (4, False), (7, False)])
def test_a_task_is_refused_whose_next_records_were_deleted_while_it_ran(
    begins: int, *, goes_on: bool
) -> None:
    """The client goes on where the topic begins, and says nothing of what lay between."""

    class Kept(FlakyTask):
        async def open(self, first: int) -> int:
            if first > self.state.position:
                raise StateRefused(f"deleted before {first}")
            return self.state.position

    async def go() -> None:
        log: list[str] = []
        task: Any = Kept(log, {})
        refused: list[StreamflowError] = []
        first = [0]

        async def bounds() -> tuple[int, int]:
            return first[0], 9

        async def seek(tp: TopicPartition, position: int) -> None:
            del tp, position

        pauses = Pauses(Consumer([]))
        lane = TaskLane(
            TP, lambda: task, bounds, seek, pauses, refused.append, interval=0.01, bounded=False
        )
        await lane.open()
        lane.start()
        await lane.put(Arrival(batch(0, 3), lambda: None))
        async with asyncio.timeout(5):
            await until(lambda: task.state.position == 3)
            first[0] = begins
            # Offsets 3 to 6 are missing: deleted, or ends of transactions.
            await lane.put(Arrival(replace(batch(7, 9), start=3), lambda: None))
            await until(lambda: task.state.position == 9 or bool(refused))
        assert [str(error) for error in refused] == (
            [] if goes_on else [f"deleted before {begins}"]
        )
        assert task.state.position == (9 if goes_on else 3)
        assert "commit" in log  # what was read before, also where nothing follows
        await lane.close(1)

    asyncio.run(go())


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

        lane = SinkLane(TP, make, bounds, trim, Pauses(Consumer([])), never)
        await lane.open()
        lane.start()
        await lane.put(Arrival(batch(0, 1), lambda: None))
        async with asyncio.timeout(5):
            await trimming.wait()
            await lane.close()
        assert sink.done

    asyncio.run(go())


def test_a_lane_pauses_what_its_gates_have_stopped_and_seeks_back_when_it_goes_on() -> None:
    async def go() -> None:
        log: list[str] = []
        consumer = Consumer(log)
        pauses = Pauses(consumer)
        task: Any = FlakyTask([], {})
        acknowledged: list[int] = []

        async def bounds() -> tuple[int, int]:
            return 0, 0

        async def seek(tp: TopicPartition, position: int) -> None:
            await consumer.seek({tp: position})

        lane = TaskLane(TP, lambda: task, bounds, seek, pauses, never, interval=0.01, bounded=False)
        await lane.open()
        await lane.hold()
        assert log == []
        lane.start()
        task.stopped_by = {PAUSE: Breaker("")}
        async with asyncio.timeout(5):
            await until(lambda: bool(log))
            await lane.put(Arrival(batch(0, 3), lambda: acknowledged.append(3)))
            await until(lambda: bool(acknowledged))
            assert task.state.position == 0
            assert pauses.reasons(TP) == {"gate"}
            task.stopped_by = {}
            await until(lambda: len(log) == 3)
        assert log == ["pause orders[0]", "seek orders[0] 0", "resume orders[0]"]
        assert pauses.reasons(TP) == frozenset()
        await lane.close(1)

    asyncio.run(go())


def test_a_run_that_ends_is_refused_when_its_partition_waits_for_somebody() -> None:
    async def go() -> None:
        task: Any = FlakyTask([], {})
        task.stopped_by = {PAUSE: Breaker("")}
        refused: list[StreamflowError] = []

        async def bounds() -> tuple[int, int]:
            return 0, 3

        async def seek(tp: TopicPartition, position: int) -> None:
            raise AssertionError(tp, position)

        pauses = Pauses(Consumer([]))
        lane = TaskLane(
            TP, lambda: task, bounds, seek, pauses, refused.append, interval=0.01, bounded=True
        )
        await lane.open()
        with pytest.raises(StateRefused):
            await lane.hold()
        lane.start()
        async with asyncio.timeout(5):
            await until(lambda: bool(refused))
        await lane.close(1)

    asyncio.run(go())
