"""All standbys of a worker: which tasks it follows, when, and what becomes of their folders.

Who follows which task is said by the leader of the group (`placement.py`), which gives the task to
one of its standbys when its owner is gone. Every two seconds the ends of all changelogs are looked
up in one request, and whoever is behind has a turn, one after the other. A state that is far behind
has a turn beside these, one at a time: it may take minutes, and holds nobody up.

When a task becomes this worker's own, its standby lets the database go before the task opens it.
When it goes elsewhere, its folder stays for as long as it could be of use (`STALE_AFTER`), and is
removed then; so a disk holds no more than all states of the app, and after a while what is owned
and followed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from streamflow.batch import TopicPartition
from streamflow.clock import Clock, millis
from streamflow.engine.cancelled import cancelled
from streamflow.engine.periodic import again_and_again
from streamflow.engine.placement import WARM
from streamflow.engine.restore import STALE_AFTER
from streamflow.engine.seating import Seating
from streamflow.engine.standby import Lag, Standby, StandbyPorts
from streamflow.errors import StateRefused

log = logging.getLogger(__name__)

PERIOD_SECONDS = 2.0
#: Asking for another rebalance, since a state is warm: no more often than this.
REJOIN_SECONDS = 60.0
#: So many turns on end a state is refused before it is given up. Where this worker has just let a
#: task go, the changelog's stable end is that before its last commit for some time.
REFUSALS = 5
STALE_MS = int(STALE_AFTER.total_seconds() * 1000)

Bounds = Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, tuple[int, int]]]]


class LocalStates(Protocol):
    """The local states on this worker's disk, and the changelogs that they are of."""

    async def found(self) -> Mapping[TopicPartition, tuple[int, int]]:
        """Of each state that is there: up to where it has applied, and when (ms)."""
        ...

    def changelog(self, tp: TopicPartition) -> TopicPartition:
        """The changelog partition of the task on this source partition."""
        ...

    def open(self, tp: TopicPartition) -> StandbyPorts:
        """Open a state to follow it; whoever opens it closes it."""
        ...

    def remove(self, tp: TopicPartition) -> None:
        """Delete a state that nobody has open."""
        ...

    async def bring(self, tp: TopicPartition) -> None:
        """Where a task has no local state and there is a backup that it may begin with, put that in
        place. Nobody has the state open. Never raises; without it, all is read.
        """
        ...

    def last_backup(self, tp: TopicPartition) -> int | None:
        """When the last backup of a state was made (ms); None for none."""
        ...

    async def back_up(self, tp: TopicPartition) -> None:
        """Make a backup of a state that is open. Broken off, it leaves nothing.

        Raises:
            OSError: there is no room for it, or no such disk.
        """
        ...

    def full(self) -> str | None:
        """Why nothing more should be written to this disk now; None where it may."""
        ...


class Standbys:
    """Caller: the host. Affects: the local states of tasks that are not this worker's, and what
    is said of all of them (`Seating`).
    """

    def __init__(self, bounds: Bounds, rejoin: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._bounds = bounds
        self._rejoin = rejoin
        self._clock = clock
        self._of: dict[TopicPartition, Standby] = {}
        self._turns: dict[TopicPartition, asyncio.Task[None]] = {}
        self._far: asyncio.Task[None] | None = None
        self._own: frozenset[TopicPartition] = frozenset()
        self._warming: frozenset[TopicPartition] = frozenset()
        self._at: dict[TopicPartition, int] = {}
        self._warm: set[TopicPartition] = set()
        self._asked: float | None = None
        self._runner: asyncio.Task[None] | None = None

    @property
    def lags(self) -> dict[TopicPartition, Lag]:
        """Of each task that is followed how far its state is behind."""
        return {tp: standby.lag for tp, standby in sorted(self._of.items())}

    async def begin(self, states: LocalStates, seating: Seating) -> None:
        """First, before the group is joined: see what is there, so that it can be said."""
        self._states, self._seating = states, seating
        found = await states.found()
        self._at = {tp: at for tp, (_, at) in found.items()}
        self._seating.has = {tp: applied for tp, (applied, _) in found.items()}

    async def follow(self, own: Collection[TopicPartition]) -> None:
        """Follow what the group says now. When it returns, no database of the tasks that are this
        worker's `own` is open here any more.
        """
        self._own, self._warming = frozenset(own), self._seating.warming
        wanted = self._seating.standbys - self._own
        await asyncio.gather(*(self._let_go(tp) for tp in self._of.keys() - wanted))
        for tp in wanted - self._of.keys():
            name = str(self._states.changelog(tp))
            self._of[tp] = Standby(name, lambda tp=tp: self._states.open(tp), self._clock)
        for standby in self._of.values():
            standby.given_up, standby.refused = False, 0
        self._seating.follows = frozenset(self._of)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="standbys")

    def closed(self, applied: Mapping[TopicPartition, int]) -> None:
        """Tasks of this worker have been closed; their states are up to there."""
        applied = {tp: offset for tp, offset in applied.items() if offset}
        if applied:
            self._at |= dict.fromkeys(applied, self._now_ms())
            self._seating.has = {**self._seating.has, **applied}

    async def close(self) -> None:
        """Let everything go."""
        for running in (self._runner, self._far):
            if running is not None:
                await cancelled(running)
        await asyncio.gather(*(self._let_go(tp) for tp in list(self._of)))

    async def _run(self) -> None:
        failed = "standbys cannot be followed now"
        await again_and_again(self.turn, PERIOD_SECONDS, log, failed)

    async def turn(self) -> None:
        """Let each one that is near catch up, and begin with those that are far behind."""
        self._remove_old()
        waiting = [tp for tp in sorted(self._of.keys() - self._turns.keys()) if self._can(tp)]
        if not waiting:
            return
        full = self._states.full()
        if full is not None:
            for tp in waiting:
                self._of[tp].problem = full
            return
        bounds = await self._bounds([self._states.changelog(tp) for tp in waiting])
        stops = {tp: bounds[self._states.changelog(tp)] for tp in waiting}
        near = {tp: stop for tp, stop in stops.items() if self._is_near(tp, stop)}
        if self._far is None or self._far.done():
            far = {tp: stop for tp, stop in stops.items() if tp not in near}
            self._far = asyncio.create_task(self._one_by_one(far), name="standbys far behind")
        await self._one_by_one(near)
        await self._ask_for_own()

    def _is_near(self, tp: TopicPartition, bounds: tuple[int, int]) -> bool:
        applied = self._of[tp].applied if tp in self._of else None
        return applied is not None and bounds[1] - applied <= WARM

    def _can(self, tp: TopicPartition) -> bool:
        return not self._of[tp].given_up

    async def _one_by_one(self, bounds: Mapping[TopicPartition, tuple[int, int]]) -> None:
        """A turn is a task of its own, so that it can be broken off when its standby goes."""
        for tp, there in bounds.items():
            if tp in self._of and tp not in self._turns:  # it was not taken away meanwhile
                turn = asyncio.create_task(self._turn(tp, self._of[tp], there))
                self._turns[tp] = turn
                turn.add_done_callback(lambda _, tp=tp: self._turns.pop(tp, None))
                await asyncio.wait({turn})

    async def _turn(self, tp: TopicPartition, standby: Standby, bounds: tuple[int, int]) -> None:
        """What fails for one state says nothing of the others."""
        try:
            if standby.applied is None:
                await self._states.bring(tp)
            await standby.turn(bounds)
        except Exception as error:
            standby.refused = standby.refused + 1 if isinstance(error, StateRefused) else 0
            standby.given_up = standby.refused >= REFUSALS
            words = str(error) or repr(error)
            if words != standby.problem:
                log.warning("%s: its state cannot be followed: %s", tp, words)
            standby.problem, standby.applied = words, None
            self._warm.discard(tp)
            self._forget(tp)
            await standby.close()
        else:
            standby.refused = 0
            self._note(tp, standby)

    def _note(self, tp: TopicPartition, standby: Standby) -> None:
        if standby.applied is not None:
            if tp not in self._warm:
                self._warm.add(tp)
                log.info("%s: standing by, up to %d of its changelog", tp, standby.applied)
            self._at[tp] = self._now_ms()
            if self._seating.has.get(tp) != standby.applied:
                self._seating.has = {**self._seating.has, tp: standby.applied}

    def _forget(self, tp: TopicPartition) -> None:
        self._seating.has = {one: n for one, n in self._seating.has.items() if one != tp}

    async def _let_go(self, tp: TopicPartition) -> None:
        standby = self._of.pop(tp)
        self._warm.discard(tp)
        turn = self._turns.get(tp)
        if turn is not None:
            await cancelled(turn)
        await standby.close()

    def _remove_old(self) -> None:
        """A state that would be made anew is of no use to anybody."""
        before = self._now_ms() - STALE_MS
        for tp in [tp for tp, at in self._at.items() if at < before]:
            if tp not in self._own and tp not in self._of:
                log.info("%s: its local state is too old to be of use, and removed", tp)
                self._states.remove(tp)
                self._forget(tp)
                del self._at[tp]

    async def _ask_for_own(self) -> None:
        """Ask for the tasks that were to be this worker's once their states are warm."""
        lags = [self._of[tp].lag for tp in self._warming if tp in self._of and self._can(tp)]
        near = all(lag.records is not None and lag.records <= WARM // 2 for lag in lags)
        now = self._clock.monotonic()
        if not lags or not near or (self._asked is not None and now - self._asked < REJOIN_SECONDS):
            return
        self._asked, self._warming = now, frozenset()
        log.info("states are warm: joining the group again, to have their tasks")
        await self._rejoin()

    def _now_ms(self) -> int:
        return millis(self._clock.now())
