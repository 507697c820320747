"""Finds out that nothing moves though there is something to do, and no pause says why.

Nobody else would: a client that fetches nothing any more, an agent that has ended, a commit that is
never answered raise nothing. So what is compared is outside of them: the ends of the partitions are
asked of the broker by a connection of its own, and progress is what has been committed, since a
task that is lost again and again reads on and goes back each time. That the event loop itself
stands is seen by a thread.
"""

from __future__ import annotations

import asyncio
import faulthandler
import io
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamflow.batch import TopicPartition
from streamflow.clock import Clock
from streamflow.errors import StreamflowError, WorkerStalled

log = logging.getLogger(__name__)

PERIOD_SECONDS = 2.0
#: The broker is asked for ends no longer than this.
ANSWER_SECONDS = 10.0
#: Reasons for which a partition waits that explain nothing: what it waits for is what is looked at.
UNEXPLAINED = frozenset({"inbox"})

Bounds = Callable[[Sequence[TopicPartition]], Awaitable[dict[TopicPartition, tuple[int, int]]]]


@dataclass(frozen=True)
class Standing:
    """How far a partition's work is: `mark` moves with what is done for good, `position` is the
    next offset to read, and `idle` whether all before that is done.
    """

    mark: int
    position: int
    idle: bool


class Lane(Protocol):
    """Whoever works on a partition."""

    @property
    def standing(self) -> Standing | None:
        """How far it is; None while that is not known."""
        ...


def unexplained(
    lanes: Mapping[TopicPartition, Lane], waits: Mapping[TopicPartition, Mapping[str, str]]
) -> dict[TopicPartition, Standing]:
    """How far those are that no pause holds."""
    found: dict[TopicPartition, Standing] = {}
    for tp, lane in lanes.items():
        standing = lane.standing
        if standing is not None and not waits.get(tp, {}).keys() - UNEXPLAINED:
            found[tp] = standing
    return found


class Progress:
    """Finds the partitions that stand still, from one look to the next."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Of each partition that has something to do its mark, and since when it has had that.
        self._since: dict[TopicPartition, tuple[int, float]] = {}

    def stalled(
        self,
        standing: Mapping[TopicPartition, Standing],
        ends: Mapping[TopicPartition, int],
        now: float,
    ) -> list[TopicPartition]:
        """Partitions that have had something to do for too long without any of it getting done.

        A partition whose end is not known is left out, and so is its time.
        """
        since: dict[TopicPartition, tuple[int, float]] = {}
        for tp, one in standing.items():
            if tp in ends and (not one.idle or one.position < ends[tp]):
                mark, at = self._since.get(tp, (one.mark, now))
                since[tp] = (one.mark, at if mark == one.mark else now)
        self._since = since
        return sorted(tp for tp, (_, at) in since.items() if now - at > self._seconds)


class Watchdog:
    """Looks every two seconds for as long as the worker is there.

    Args:
        seconds: For how long nothing may move.
        standing: Partitions that no pause holds, and how far they are.
        bounds: Asks the broker for the ends of partitions.
        on_stalled: Told once when partitions stall; None to go on, and say so.
    """

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        standing: Callable[[], Mapping[TopicPartition, Standing]],
        bounds: Bounds,
        on_stalled: Callable[[StreamflowError], None] | None,
    ) -> None:
        #: Partitions that stall, as of the last look.
        self.stalled: list[TopicPartition] = []
        self._clock = clock
        self._seconds = seconds
        self._standing = standing
        self._bounds = bounds
        self._on_stalled = on_stalled
        self._progress = Progress(seconds)

    async def run(self) -> None:
        """Look until cancelled."""
        heart = Heart(self._clock, self._seconds, exits=self._on_stalled is not None)
        heart.start()
        try:
            while True:
                heart.beat()
                await self.turn()
                await asyncio.sleep(PERIOD_SECONDS)
        finally:
            heart.stop()

    async def turn(self) -> None:
        """Look once."""
        standing, before = self._standing(), self.stalled
        try:
            bounds = await asyncio.wait_for(self._bounds(list(standing)), ANSWER_SECONDS)
        except Exception as error:  # nothing is known: an outage, which others report
            log.warning("how far partitions are behind is not known now: %r", error)
            bounds = {}
        ends = {tp: stop for tp, (_, stop) in bounds.items()}
        self.stalled = self._progress.stalled(standing, ends, self._clock.monotonic())
        if not before and self.stalled:
            self._tell(standing, ends)

    def _tell(
        self, standing: Mapping[TopicPartition, Standing], ends: Mapping[TopicPartition, int]
    ) -> None:
        where = ", ".join(f"{tp}@{standing[tp].position} of {ends[tp]}" for tp in self.stalled)
        words = f"nothing has been done for {self._seconds:.0f} s, and no pause says why: {where}"
        log.error("%s\n%s", words, stacks())
        if self._on_stalled is not None:
            self._on_stalled(WorkerStalled(f"{words}; the log has the stacks. Nothing is lost"))


class Heart:
    """Sees from a thread that the event loop stands: nobody in it could say so.

    Args:
        exits: Whether the process then ends, with the code of `WorkerStalled`.
    """

    def __init__(self, clock: Clock, seconds: float, *, exits: bool) -> None:
        self._clock = clock
        self._seconds = seconds
        self._exits = exits
        self._beaten = clock.monotonic()
        self._told = False
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def beat(self) -> None:
        """The event loop has got here."""
        self._beaten, self._told = self._clock.monotonic(), False

    def stands(self) -> bool:
        """Has the event loop just been found to stand? Said once for each time it does."""
        if self._told or self._clock.monotonic() - self._beaten <= self._seconds + ANSWER_SECONDS:
            return False
        self._told = True
        return True

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            if self.stands():
                log.error("the event loop has stood for %.0f s; its stack follows", self._seconds)
                faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
                if self._exits:
                    os._exit(WorkerStalled.streamflow_exit_code)


def stacks() -> str:
    """Where every coroutine of this event loop waits."""
    text = io.StringIO()
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        text.write(f"{task.get_name()}:\n")
        task.print_stack(file=text)
    return text.getvalue()
