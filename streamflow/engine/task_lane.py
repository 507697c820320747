"""A lane: the coroutine that runs one task, and takes it up again when it was lost.

Batches come from Faust's agent through an inbox; the lane computes, commits when that is due
and opens the task again after any error, as after a crash. Batches of the old fetch may still
arrive after that: what starts beyond the position is left out, since the seek brings it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from streamflow.batch import TopicPartition
from streamflow.engine.idle_watch import IdleWatch
from streamflow.engine.inbox import Arrival, Inbox
from streamflow.engine.pauses import Pauses
from streamflow.engine.task import Task
from streamflow.errors import StateRefused, StreamflowError

log = logging.getLogger(__name__)

#: A task that was lost is taken up again after this many seconds, twice as many each time.
BACKOFF_SECONDS = (0.1, 10.0)


async def cancelled(runner: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end.

    Once is not always enough: in Python 3.11 `wait_for` forgets a cancellation that comes together
    with what it waited for, and the Kafka client waits so.
    """
    while not runner.done():
        runner.cancel()
        await asyncio.wait({runner}, timeout=0.1)


class TaskLane:
    """Runs one task until it is closed.

    Args:
        make: Makes the task, with new ports, each time it is taken up.
        bounds: The source partition's first offset and last stable offset.
        seek: Moves the consumer to a position.
        pauses: Lets the partition wait while a gate has stopped it.
        bounded: Stop at the end offset there is when the lane first opens.
    """

    def __init__(
        self,
        tp: TopicPartition,
        make: Callable[[], Task],
        bounds: Callable[[], Awaitable[tuple[int, int]]],
        seek: Callable[[TopicPartition, int], Awaitable[None]],
        pauses: Pauses,
        on_refused: Callable[[StreamflowError], None],
        *,
        interval: float,
        bounded: bool,
    ) -> None:
        self.tp = tp
        self.task: Task | None = None
        #: Finds out when the partition is idle; None where it never is.
        self.watch: IdleWatch | None = None
        self._make = make
        self._bounds = bounds
        self._seek = seek
        self._pauses = pauses
        self._on_refused = on_refused
        self._interval = interval
        self._bounded = bounded
        self._end: int | None = None
        self._inbox = Inbox(tp, pauses)
        self._runner: asyncio.Task[None] | None = None
        self._draining = asyncio.Event()
        self._lost = False

    @property
    def is_open(self) -> bool:
        """Is the task at work, and not waiting to be taken up again?"""
        return self.task is not None and not self._lost and not self._draining.is_set()

    @property
    def idle(self) -> bool:
        """Has the partition been silent for so long that its watermark goes on without it?"""
        return self.is_open and self.watch is not None and self.watch.idle

    @property
    def done(self) -> bool:
        """Has a bounded input been taken to its end and committed?"""
        task = self.task
        if task is None or self._lost or task.state.ended is None or not task.idle:
            return False
        # An end that was declared by an earlier run says nothing of what came after it.
        return self._end is None or task.state.position >= self._end

    async def open(self) -> int:
        """Open the task; returns the position to seek to. Then call `start`."""
        first, stop = await self._bounds()
        if self._bounded and self._end is None:
            self._end = stop
        task = self._make()
        try:
            position = await task.open(first)
        except BaseException:
            await task.close()
            raise
        self.task = task
        return position

    async def hold(self) -> None:
        """Let the partition wait, or run again from the task's position, as its gates say."""
        task = self.task
        assert task is not None
        held = "gate" in self._pauses.reasons(self.tp)
        if task.go_on():
            if held:
                log.warning("%s: goes on at %d, on trial", self.tp, task.state.position)
                await self._seek(self.tp, task.state.position)
                await self._pauses.remove(self.tp, "gate")
            return
        if self._bounded and task.waits_for_somebody:
            task.refuse_to_wait()
        if not held:
            gates = ", ".join(watch.name for watch in task.stopped_by)
            log.warning("%s: paused at %d by gate %s", self.tp, task.state.position, gates)
            await self._pauses.add(self.tp, "gate")

    def start(self) -> None:
        """Begin to work on what arrives."""
        self._runner = asyncio.create_task(self._run(), name=f"lane {self.tp}")

    async def put(self, arrival: Arrival) -> None:
        """Hand a batch over; see `Inbox.put`. A closed lane forgets it."""
        await self._inbox.put(arrival)

    async def close(self, within: float) -> None:
        """Commit what is in hand within these seconds, or forget it; then give everything up."""
        self._draining.set()
        if self._runner is not None:
            _, waiting = await asyncio.wait({self._runner}, timeout=within)
            if waiting:
                log.warning(
                    "%s: not committed within %.1f s; it will be done again", self.tp, within
                )
                await cancelled(self._runner)
        await self._inbox.close()
        if self.task is not None:
            await self.task.close()

    async def _run(self) -> None:
        wait, reached = BACKOFF_SECONDS[0], -1
        while not self._draining.is_set():
            try:
                if self._lost:
                    await self._reopen()
                await self._work()
                return
            except StateRefused as error:
                self._on_refused(error)
                return
            except Exception as error:  # whatever it was: the task is taken up as after a crash
                log.warning("%s: task lost, taking it up again: %s", self.tp, error)
            self._lost = True
            self._inbox.forget()
            commit = self.task.state.commit if self.task is not None else reached
            if commit > reached:  # what it was has passed; this is something else
                wait, reached = BACKOFF_SECONDS[0], commit
            await asyncio.sleep(wait)
            wait = min(wait * 2, BACKOFF_SECONDS[1])

    async def _reopen(self) -> None:
        if self.task is not None:
            await self.task.close()
        if self.watch is not None:
            self.watch.record()
        position = await self.open()
        self._inbox.expect()
        await self._seek(self.tp, position)
        await self._inbox.relieve()
        self._lost = False

    async def _work(self) -> None:
        task = self.task
        assert task is not None
        while True:
            self._finish_input(task)
            self._give_idle(task)
            last = self._draining.is_set() or task.state.ended is not None
            if task.due or (last and not task.idle):
                await task.commit()
            if self._draining.is_set() and task.idle:
                return
            await self.hold()
            arrival = await self._next()
            if arrival is not None:
                await self._take(task, arrival)

    async def _next(self) -> Arrival | None:
        """The next batch, or None when it is time to look at the clock."""
        if self._draining.is_set():
            return None
        return await self._inbox.get(self._interval)

    async def _take(self, task: Task, arrival: Arrival) -> None:
        batch = arrival.batch
        if task.stopped_by:
            arrival.ack()  # it comes again when the partition goes on; offsets are the task's own
            return
        if self._end is not None and batch.stop > self._end:
            batch = batch.cut(batch.start, self._end)
        if batch.start > task.state.position or batch.start >= batch.stop:
            return  # of a fetch from before the last seek, or beyond the end of a bounded run
        if self.watch is not None and len(batch):
            self.watch.record()  # before answers are waited for: the partition is not silent
        with self._inbox.held_up():
            await task.receive(batch, arrival.ack)

    def _give_idle(self, task: Task) -> None:
        """Give an idle partition a watermark; what it makes final is in the same commit."""
        if self.watch is None or self._draining.is_set():
            return
        self.watch.look(task)
        watermark = self.watch.watermark
        if watermark is not None:
            task.take_idle(watermark)

    def _finish_input(self, task: Task) -> None:
        if self._end is not None and task.state.position >= self._end:
            task.end_of_input()
