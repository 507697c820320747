"""Copies the states of a worker's tasks at intervals, beside the work.

Whose state was copied last, and when, stands in the copies themselves, so a task that moves to
another worker is copied when it is due, and no sooner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta

from streamflow.batch import TopicPartition
from streamflow.clock import Clock, millis
from streamflow.engine.standbys import LocalStates
from streamflow.engine.task_lane import TaskLane

log = logging.getLogger(__name__)

#: How often it is looked what is due.
PERIOD_SECONDS = 10.0


class Backups:
    """Runs from assignment to revocation, where there is a place for backups."""

    def __init__(
        self,
        states: LocalStates,
        interval: timedelta,
        tasks: Mapping[TopicPartition, TaskLane],
        clock: Clock,
    ) -> None:
        self._states = states
        self._interval_ms = int(interval.total_seconds() * 1000)
        self._tasks = tasks
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(min(PERIOD_SECONDS, self._interval_ms / 1000))

    async def turn(self) -> None:
        """Copy what is due, one state after the other; what fails is tried again soon."""
        for tp in [tp for tp, lane in self._tasks.items() if lane.is_open]:
            try:
                last = await asyncio.to_thread(self._states.last_backup, tp)
                if last is None or millis(self._clock.now()) - last >= self._interval_ms:
                    await self._states.back_up(tp)
            except Exception as error:
                log.warning("%s: no backup could be made of its state: %r", tp, error)
