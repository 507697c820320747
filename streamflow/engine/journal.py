"""Writing down what this process does in a run: at its start, again and again, and at its end.

Nobody waits for it. Where it cannot be written the work goes on, and the journal says less.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from streamflow.batch import TopicPartition
from streamflow.clock import Clock
from streamflow.core.journal import TELL_SECONDS, Execution, Progress, State
from streamflow.engine.cancelled import cancelled
from streamflow.engine.periodic import again_and_again
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.task_lane import TaskLane
from streamflow.ports import Announcer

log = logging.getLogger(__name__)

#: The last word waits so long for the broker.
LAST_SECONDS = 3.0

#: Of sources, and of topics that are archived.
Lanes = Mapping[TopicPartition, TaskLane | SinkLane]


class Journal:
    """Keeps one execution written down.

    Caller: the app; `begin` when the topic is there, `end` when it is all over.
    """

    def __init__(
        self,
        announcer: Announcer,
        execution: Execution,
        tasks: Callable[[], Lanes],
        clock: Clock,
    ) -> None:
        self.execution = execution
        self._announcer = announcer
        self._tasks = tasks
        self._clock = clock
        self._telling: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Write down that it runs, now and again and again."""
        words = "the run journal cannot be written now"
        turns = again_and_again(self.turn, TELL_SECONDS, log, words)
        self._telling = asyncio.create_task(turns, name="journal")

    async def turn(self) -> None:
        """Write down how far it is."""
        await self._tell("running", self._tasks())

    async def end(self, state: State, error: str, tasks: Lanes) -> None:
        """Write down how it ended, and why; these tasks are released by now. Never raises."""
        if self._telling is None:
            return
        await cancelled(self._telling)
        try:
            await asyncio.wait_for(self._tell(state, tasks, error), LAST_SECONDS)
        except Exception as failed:
            log.warning("the run journal does not say that it is %s: %r", state, failed)
        await self._announcer.close()

    async def _tell(self, state: State, tasks: Lanes, error: str = "") -> None:
        now = self._clock.now()
        found = {tp: _progress(lane, now) for tp, lane in tasks.items()}
        made = {tp: progress for tp, progress in found.items() if progress is not None}
        self.execution = self.execution.moved(state, now, made, error)
        await self._announcer.publish([self.execution.record()])


def _progress(lane: TaskLane | SinkLane, now: datetime) -> Progress | None:
    """How far it is for good; None before it is open. An archive counts no records."""
    if isinstance(lane, SinkLane):
        return None if lane.sink is None else Progress(now, lane.rolled, lane.done)
    task = lane.task
    return task and Progress(now, task.state.position, lane.done, dict(task.totals))
