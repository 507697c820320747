"""Watches for idleness: what fetches tell of a partition, and when it gets a watermark.

Everything here waits for proof. Where fetches stop succeeding, because of a pause, an outage or a
rebalance, or show records beyond the position, a silence ends, and the next one begins from zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import NamedTuple

from streamflow.batch import TopicPartition
from streamflow.clock import Clock
from streamflow.core.idle import Mark, Silence, idle_watermark
from streamflow.engine.task import Task
from streamflow.windows import micros

#: Fetches at a partition's end succeed about ten times a second. Without one for this long there is
#: a pause or an outage.
OUTAGE_SECONDS = 5.0


class Fetch(NamedTuple):
    """The last fetch of a partition that succeeded: the end it has shown, and what tells it from
    the ones before.
    """

    end: int
    stamp: int


Fetches = Callable[[TopicPartition], Fetch | None]


@dataclass
class Board:
    """What this worker knows of the watermarks of a source's partitions."""

    partitions: int
    marks: dict[int, Mark] = field(default_factory=dict[int, Mark])

    def others(self, partition: int) -> list[Mark | None]:
        """All but one."""
        return [self.marks.get(p) for p in range(self.partitions) if p != partition]


class IdleWatch:
    """Watches one partition.

    Caller: the partition's lane; `record` for what arrives, `look` several times a second.
    Affects: the board.
    """

    def __init__(
        self,
        tp: TopicPartition,
        board: Board,
        idle_after: timedelta,
        fetches: Fetches,
        clock: Clock,
    ) -> None:
        self._tp = tp
        self._board = board
        self._idle_after = micros(idle_after)
        self._fetches = fetches
        self._clock = clock
        self._silence = Silence()
        self._last: tuple[int, float] | None = None

    @property
    def idle(self) -> bool:
        """Is the partition idle?"""
        return self._silence.lasted >= self._idle_after

    def record(self) -> None:
        """A record has come, or the partition was assigned anew."""
        self._silence = Silence()
        marks, mine = self._board.marks, self._tp.partition
        if mine in marks:
            marks[mine] = replace(marks[mine], idle=False)

    def look(self, task: Task) -> None:
        """Take in what the last fetch has shown, and tell the board."""
        self._silence = self._heard(task)
        self._board.marks[self._tp.partition] = Mark(task.committed_watermark, self.idle)

    @property
    def watermark(self) -> int | None:
        """The watermark that the partition gets, None while it is not idle or none can be told."""
        if not self.idle:
            return None
        return idle_watermark(self._silence, self._board.others(self._tp.partition))

    def _heard(self, task: Task) -> Silence:
        now, fetch = self._clock.monotonic(), self._fetches(self._tp)
        if fetch is None or fetch.end > task.state.position or task.stopped_by:
            return Silence()
        stamp, at = self._last or (None, now)
        if stamp == fetch.stamp:
            return Silence() if now - at > OUTAGE_SECONDS else self._silence
        self._last = (fetch.stamp, now)
        return self._silence.at_end(round(now * 1_000_000), task.watermark)
