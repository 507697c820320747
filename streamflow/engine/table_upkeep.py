"""What workers do for Delta tables beside writing them, by the table's `Upkeep`.

It is done by the worker that has the first partition of the rows topic, off the event loop and off
the threads of rolls. When it was done last stands in the table itself, so a table whose partitions
move is seen to when it is due and no sooner, and two workers that both take themselves for the one
do no harm: all of it is by commits that may come at any time.

What fails is told of, in the log and the status, and tried again. A roll waits for it only where
memory is short: what joins a file takes its share like a roll (`roll_memory.py`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from streamflow.clock import Clock, millis
from streamflow.destinations import Upkeep
from streamflow.engine.optimize import optimize
from streamflow.engine.periodic import again_and_again
from streamflow.engine.rewrite import Rewriter
from streamflow.errors import Overtaken
from streamflow.ports import LoggedTable

log = logging.getLogger(__name__)

#: How often it is looked what is due; and what failed is tried again after so long.
PERIOD_SECONDS = 5.0
AGAIN = timedelta(minutes=5)
#: In the log of a table, when it was done last: in milliseconds since 1970.
OPTIMIZED, VACUUMED = "streamflow/optimized", "streamflow/vacuumed"
_WORDS = {OPTIMIZED: "its small files wait to be joined", VACUUMED: "it waits to be vacuumed"}


@dataclass
class Kept:
    """A table that is seen to."""

    path: str
    table: LoggedTable
    upkeep: Upkeep
    target_bytes: int
    rewriter: Rewriter
    #: What could not be done, and why.
    problems: dict[str, str] = field(default_factory=dict[str, str])
    #: When each is due, as far as is known, in milliseconds.
    _due: dict[str, int] = field(default_factory=dict[str, int])

    def turn(self, now: int, going: Callable[[], bool]) -> None:
        """Do what is due now. What fails is told of, and tried again later."""
        for mark, every, act in (
            (OPTIMIZED, self.upkeep.optimize_every, self._optimize),
            (VACUUMED, self.upkeep.vacuum_every, self._vacuum),
        ):
            if every is None or now < self._due.get(mark, 0) or not going():
                continue
            self._due[mark] = now + min(_millis(every), _millis(AGAIN))
            try:
                self._due[mark] = self._seen_to(mark, now, _millis(every), act, going)
            except Exception as error:
                self.problems[mark] = str(error)
                log.warning("%s: %s again: %s", self.path, _WORDS[mark], error)

    def _seen_to(
        self,
        mark: str,
        now: int,
        every: int,
        act: Callable[[Callable[[], bool]], None],
        going: Callable[[], bool],
    ) -> int:
        """Do it where it is due; returns when it is due next."""
        loaded = self.table.log.load()
        last = None if loaded is None else loaded.mark(mark)
        if last is not None and now < last + every:
            return last + every
        act(going)
        if going():
            self._done(mark, now)
            self.problems.pop(mark, None)
        return now + every

    def _optimize(self, going: Callable[[], bool]) -> None:
        done = optimize(self.table, self.rewriter, self.target_bytes, going)
        log.info("%s: %d files for %d that were small", self.path, done.after, done.before)

    def _vacuum(self, going: Callable[[], bool]) -> None:
        del going
        self.table.log.vacuum(self.upkeep.retention)
        log.info("%s: vacuumed", self.path)

    def _done(self, mark: str, now: int) -> None:
        loaded = self.table.log.load()
        try:
            if loaded is not None:
                loaded.commit([], {mark: now})
        except Overtaken:
            log.info("%s: another worker has seen to it too", self.path)


class TableUpkeep:
    """Sees to the tables of a worker, from assignment to revocation."""

    def __init__(self, tables: Iterable[Kept], clock: Clock) -> None:
        self._tables = list(tables)
        self._clock = clock
        self._stopped = threading.Event()

    async def run(self) -> None:
        """Look until cancelled; a thread that is at it then ends before its next commit."""
        try:
            await again_and_again(self.turn, PERIOD_SECONDS, log, "no table is seen to now")
        finally:
            self._stopped.set()

    async def turn(self) -> None:
        """Look once at each table."""
        for kept in self._tables:
            now = millis(self._clock.now())
            await asyncio.to_thread(kept.turn, now, lambda: not self._stopped.is_set())


def _millis(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
