"""A lane: the coroutine that runs one task, and takes it up again when it was lost.

Batches come from Faust's agent through an inbox; the lane computes, commits when that is due
and opens the task again after any error, as after a crash. Batches of the old fetch may still
arrive after that: what starts beyond the position is left out, since the seek brings it again.

Where the circuit breaker of a stage is open, the batch is put off and the partition paused: nothing
has changed by it, so all before it is committed, and the task is as it was when it is tried again.
Where memory does not suffice for a batch nothing has changed either, and it is done in `Portions`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from streamflow.batch import TopicPartition
from streamflow.counted import counted
from streamflow.engine.cancelled import cancelled
from streamflow.engine.directives import Directive
from streamflow.engine.failures import as_failure, is_disk_full, is_hopeless, is_short_of_memory
from streamflow.engine.idle_watch import IdleWatch
from streamflow.engine.inbox import COMMIT_PATIENCE_SECONDS, PATIENCE_SECONDS, Arrival, Inbox
from streamflow.engine.overtaken import overtaken
from streamflow.engine.pauses import Pauses
from streamflow.engine.portions import Portions
from streamflow.engine.retries import FOR_EVER, OPENING, Retries
from streamflow.engine.task import Task
from streamflow.engine.watchdog import Standing
from streamflow.errors import (
    Fenced,
    LookupUnavailable,
    Refused,
    StateRefused,
    StreamflowError,
    TaskLost,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PutOff:
    """A batch that is tried again at a time of the event loop."""

    arrival: Arrival
    at: float


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
        #: When the task is taken up again after it was lost.
        self.retry = FOR_EVER
        #: What an operator has said last.
        self.directive: Callable[[], Directive | None] = lambda: None
        #: Told when another worker has the task; it is not taken up here until it is assigned.
        self.on_fenced: Callable[[], Awaitable[None]] | None = None
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
        self._rng = Random()
        self._put_off: PutOff | None = None
        self._portions = Portions()
        self._rest: Arrival | None = None
        # While the task waits for answers: ends that, so that all before it can be committed.
        self._patience: asyncio.Timeout | None = None

    @property
    def is_open(self) -> bool:
        """Is the task at work, and not waiting to be taken up again?"""
        begun = self.task is not None and self._runner is not None
        return begun and not self._lost and not self._draining.is_set()

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

    @property
    def standing(self) -> Standing | None:
        """How far it is; what is received counts for nothing until it is committed."""
        task = self.task
        return task and Standing(task.state.commit, task.state.position, task.idle)

    async def open(self) -> int:
        """Open the task; returns the position to seek to. Then call `start`, or `open` again."""
        if self.task is not None:
            await self.task.close()
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
        """Let the partition wait, or run again, as operators say and its gates do."""
        task = self.task
        assert task is not None
        said = self.directive()
        await self._obey(said)
        if said is not None and not said.paused and task.stopped_by:
            task.resume_as_told(said.at)
        await self._hold_by_gates(task)

    async def _obey(self, said: Directive | None) -> None:
        held = "operator" in self._pauses.reasons(self.tp)
        if said is not None and said.paused:
            if self._bounded:
                raise StateRefused(
                    f"{self.tp}: paused {said.words}; a run that ends does not wait for somebody: "
                    "say `streamflow resume`, and start it again"
                )
            if not held:
                log.warning("%s: paused %s", self.tp, said.words)
                await self._pauses.add(self.tp, "operator", said.words)
        elif held:
            log.warning("%s: goes on, as told", self.tp)
            await self._pauses.remove(self.tp, "operator")

    async def _hold_by_gates(self, task: Task) -> None:
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
            await self._pauses.add(self.tp, "gate", gates)

    def start(self) -> None:
        """Begin to work on what arrives."""
        self._runner = asyncio.create_task(self._run(), name=f"lane {self.tp}")

    async def put(self, arrival: Arrival) -> None:
        """Hand a batch over; see `Inbox.put`. A closed lane forgets it."""
        await self._inbox.put(arrival)

    async def close(self, within: float) -> None:
        """Commit what is in hand within these seconds, or forget it; then give everything up.

        Answers are waited for half of that time: the rest is for the commit.
        """
        self._draining.set()
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + within / 2)
        if self._runner is not None:
            # One that is lost has nothing to commit.
            _, waiting = await asyncio.wait({self._runner}, timeout=0 if self._lost else within)
            if waiting and not self._lost:
                log.warning(
                    "%s: not committed within %.1f s; it will be done again", self.tp, within
                )
            await cancelled(self._runner)
        await self._inbox.close()
        if self.task is not None:
            await self.task.close()

    async def _run(self) -> None:
        retries, reached = self._retries(), -1
        while not self._draining.is_set():
            try:
                if self._lost:
                    await self._reopen()
                await self._work()
                return
            except StateRefused as error:
                self._on_refused(error)
                return
            except Fenced as error:
                if self.on_fenced is not None and not self._lost:
                    await self._give_up(error)
                    return
                failure = error
            except BaseException as error:  # whatever it was: it is taken up as after a crash
                failure = as_failure(error)
            self._lost, self._put_off, self._rest = True, None, None
            self._inbox.forget()
            commit = self.task.state.commit if self.task is not None else reached
            # What it was has passed, and this is something else; or the next life knows more.
            if commit > reached or isinstance(failure, Refused):
                retries, reached = self._retries(), commit
            if is_hopeless(failure) and retries.attempts >= (OPENING.max_attempts or 0):
                self._on_refused(self._given_up(failure, retries.attempts))
                return
            log.warning("%s: task lost, taking it up again: %s", self.tp, failure)
            if is_disk_full(failure):
                await self._pauses.add(self.tp, "disk", str(failure))
            wait = retries.wait(asyncio.get_running_loop().time())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), wait)

    def _retries(self) -> Retries:
        return Retries(self.retry, self._rng, asyncio.get_running_loop().time())

    def _given_up(self, error: Exception, attempts: int) -> StreamflowError:
        made = StreamflowError(
            f"{self.tp}: failed {counted(attempts, 'time')} without a commit in between, and"
            " does not pass by "
            f"itself: {error!r}. Nothing is lost; mend it and start the worker again"
        )
        made.__cause__ = error
        log.error("%s: the last failure", self.tp, exc_info=error)
        return made

    async def _give_up(self, error: Fenced) -> None:
        """Taken up again here, the task would be taken from its owner in turn."""
        log.warning("%s: given up, joining the group again: %s", self.tp, error)
        self._lost = True
        self._inbox.forget()
        assert self.on_fenced is not None
        await self.on_fenced()

    async def _reopen(self) -> None:
        if self.watch is not None:
            self.watch.record()
        position = await self.open()
        self._inbox.expect()
        await self._seek(self.tp, position)
        for reason in ("breaker", "disk"):
            if reason in self._pauses.reasons(self.tp):
                await self._pauses.remove(self.tp, reason)
        await self._inbox.relieve()
        self._lost = False

    async def _work(self) -> None:
        task = self.task
        assert task is not None
        while True:
            self._finish_input(task)
            self._give_idle(task)
            last = self._draining.is_set() or task.state.ended is not None
            if task.due or ((last or self._portions.small) and not task.idle):
                await self._commit(task)
            if self._draining.is_set() and task.idle:
                return
            await self.hold()
            arrival = await self._next()
            if arrival is not None:
                await self._take(task, arrival)

    async def _commit(self, task: Task) -> None:
        """A broker that is slow holds no other partition up."""
        self._inbox.held_up, self._inbox.patience = True, COMMIT_PATIENCE_SECONDS
        try:
            await task.commit()
        except Exception as error:
            if is_short_of_memory(error):
                self._portions.halve(self.tp, task.pending)
            raise
        finally:
            self._inbox.held_up, self._inbox.patience = False, PATIENCE_SECONDS

    async def _next(self) -> Arrival | None:
        """The next batch, or None when it is time to look at the clock."""
        if self._draining.is_set():
            return None
        put_off, stands = self._put_off, "operator" in self._pauses.reasons(self.tp)
        self._inbox.held_up = stands or put_off is not None
        if put_off is None and not stands:
            rest, self._rest = self._rest, None
            if rest is not None:
                return rest
            return await self._inbox.get(self._interval)
        left = put_off.at - asyncio.get_running_loop().time() if put_off is not None else 0
        wait = self._interval if stands else min(max(left, 0), self._interval)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), wait)
        return put_off.arrival if put_off is not None and left <= wait and not stands else None

    async def _take(self, task: Task, arrival: Arrival) -> None:
        batch = arrival.batch
        if task.stopped_by:
            arrival.ack()  # it comes again when the partition goes on; offsets are the task's own
            await self._go_on()
            return
        if self._end is not None and batch.stop > self._end:
            batch = batch.cut(batch.start, self._end)
        if batch.start > task.state.position or batch.start >= batch.stop:
            return  # of a fetch from before the last seek, or beyond the end of a bounded run
        if await overtaken(batch, task.state.position, self._bounds) is not None:
            await self._commit(task)  # what was read before; to open it again says what is gone
            raise TaskLost(f"{self.tp}: records were deleted before they were read")
        if self.watch is not None and len(batch):
            self.watch.record()  # before answers are waited for: the partition is not silent
        await self._receive(task, Arrival(batch, arrival.ack))

    async def _receive(self, task: Task, arrival: Arrival) -> None:
        """Work on a batch, or on a part of it; what is left comes next."""
        batch = arrival.batch
        self._inbox.held_up = True
        part = self._portions.first_of(batch)
        try:
            async with asyncio.timeout(None) as self._patience:
                await task.receive(part, arrival.ack if part is batch else _later)
        except LookupUnavailable as away:
            await self._wait_for(arrival, away)
        except MemoryError as error:
            self._portions.too_much(part, error)
            self._rest = arrival
            await self._go_on()
        except TimeoutError:
            if not self._draining.is_set():
                raise
            log.warning("%s: not waiting for answers any more; they are asked for again", self.tp)
        else:
            self._portions.done(part)
            if part is not batch:
                self._rest = Arrival(batch.cut(part.stop, batch.stop), arrival.ack)
            await self._go_on()
        finally:
            self._patience = None

    async def _wait_for(self, arrival: Arrival, away: LookupUnavailable) -> None:
        """Put a batch off, and let the partition wait."""
        at = asyncio.get_running_loop().time() + away.seconds
        self._put_off = PutOff(arrival, at)
        if "breaker" not in self._pauses.reasons(self.tp):
            log.warning("%s: paused: %s", self.tp, away)
            await self._pauses.add(self.tp, "breaker", str(away))

    async def _go_on(self) -> None:
        """Answers have come, or are not needed any more."""
        if self._put_off is not None:
            self._put_off = None
            await self._pauses.remove(self.tp, "breaker")

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


def _later() -> None:
    """What is called for a part of a batch: the batch is acknowledged with its last part."""
