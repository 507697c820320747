"""Watermarks over several workers: each tells of its partitions, and hears of those of the others.

Once a second a worker writes what is known of its partitions to a compacted topic, and reads what
others wrote. All waits for proof: of a partition nobody has told of nothing is known; that it is
idle counts only while its worker goes on saying so; and what was there before this worker came says
no more than how far the watermark had got.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

import orjson

from streamflow.batch import Record
from streamflow.clock import Clock
from streamflow.core.idle import Mark
from streamflow.engine.idle_watch import Board
from streamflow.ports import Announcer, Changelog

log = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0
#: That a partition of another worker is idle holds for this long without being said again.
HOLDS_SECONDS = 5.0


@dataclass(frozen=True)
class MarkPorts:
    """One source's topic of watermarks, to write to and to read from."""

    announcer: Announcer
    log: Changelog


class Sharing:
    """Shares the board of one source, some of whose partitions belong to other workers.

    Caller: the host, from assignment to revocation.
    Affects: the marks of other workers' partitions on the board.
    """

    def __init__(self, board: Board, own: Collection[int], ports: MarkPorts, clock: Clock) -> None:
        self._board = board
        self._own = own
        self._ports = ports
        self._clock = clock
        self._read_to: int | None = None
        self._heard: dict[int, float] = {}

    async def run(self) -> None:
        """Take turns until cancelled."""
        try:
            while True:
                try:
                    await self.turn()
                except Exception as error:  # what others have is not known then, so nobody goes on
                    log.warning("watermarks of other workers cannot be shared now: %r", error)
                    self._forget()
                    await self._close()
                await asyncio.sleep(PERIOD_SECONDS)
        finally:
            await self._close()

    async def turn(self) -> None:
        """Tell, hear, and stop believing what was not said again."""
        marks = [(p, self._board.marks[p]) for p in self._own if p in self._board.marks]
        await self._ports.announcer.publish([_record(partition, mark) for partition, mark in marks])
        first, stop = await self._ports.log.bounds()
        old = self._read_to is None
        start = first if self._read_to is None else max(first, self._read_to)
        entries = await self._ports.log.read(start, stop)
        self._read_to = stop
        now = self._clock.monotonic()
        for key, value in entries:
            partition = int(key)
            if partition not in self._own and value is not None:
                mark = Mark(**orjson.loads(value))
                self._board.marks[partition] = replace(mark, idle=mark.idle and not old)
                self._heard[partition] = now
        for partition, at in self._heard.items():
            if now - at > HOLDS_SECONDS:
                self._board.marks[partition] = replace(self._board.marks[partition], idle=False)

    def _forget(self) -> None:
        for partition in self._heard:
            self._board.marks.pop(partition, None)
        self._heard.clear()
        self._read_to = None

    async def _close(self) -> None:
        await self._ports.announcer.close()
        await self._ports.log.close()


def _record(partition: int, mark: Mark) -> Record:
    value = orjson.dumps({"watermark": mark.watermark, "idle": mark.idle})
    return Record(str(partition).encode(), value)
