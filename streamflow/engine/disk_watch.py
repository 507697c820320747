"""Watches how full the disks of states and tables are: warns, then pauses, before writes fail.

A write that fails is not lost either: its task, or its sink, tries again until there is room. But a
disk that is full hurts whoever else is on it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from streamflow.batch import TopicPartition
from streamflow.engine.pauses import Pauses
from streamflow.engine.periodic import again_and_again

log = logging.getLogger(__name__)

PERIOD_SECONDS = 5.0
#: Partitions go on when the disk is so many percent below the bound.
RELIEF_PERCENT = 2.0


class DiskWatch:
    """Watches folders, from assignment to revocation.

    Args:
        folders: For each the partitions whose work is written there.
        warn, pause: Percent of the disk in use from which it warns, and partitions wait.
        used: How many percent of a folder's disk are in use.

    Affects: the pauses of the partitions, with the reason `space`.
    """

    def __init__(
        self,
        folders: Mapping[Path, Callable[[], Iterable[TopicPartition]]],
        pauses: Pauses,
        *,
        warn: float,
        pause: float,
        used: Callable[[Path], float],
    ) -> None:
        self._folders = folders
        self._pauses = pauses
        self._warn = warn
        self._pause = pause
        self._used = used
        self._warned: set[Path] = set()
        self._full: set[Path] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        failed = "how full the disks are is not known now"
        await again_and_again(self.turn, PERIOD_SECONDS, log, failed)

    async def turn(self) -> None:
        """Look once."""
        for folder, partitions in self._folders.items():
            percent = await asyncio.to_thread(self._used, folder)
            self._tell(folder, percent)
            bound = self._pause - (RELIEF_PERCENT if folder in self._full else 0)
            if percent >= bound:
                self._full.add(folder)
                await self._hold(partitions(), f"the disk of {folder} is {percent:.0f} % full")
            else:
                self._full.discard(folder)
                await self._let_go(partitions())

    def _tell(self, folder: Path, percent: float) -> None:
        if percent < self._warn:
            self._warned.discard(folder)
        elif folder not in self._warned:
            self._warned.add(folder)
            log.warning(
                "the disk of %s is %.0f %% full; at %.0f %% its partitions are paused, make room",
                folder,
                percent,
                self._pause,
            )

    async def _hold(self, tps: Iterable[TopicPartition], words: str) -> None:
        for tp in list(tps):
            if "space" not in self._pauses.reasons(tp):
                log.warning("%s: paused: %s", tp, words)
                await self._pauses.add(tp, "space", words)

    async def _let_go(self, tps: Iterable[TopicPartition]) -> None:
        for tp in list(tps):
            if "space" in self._pauses.reasons(tp):
                log.warning("%s: goes on, there is room", tp)
                await self._pauses.remove(tp, "space")


def percent_used(folder: Path) -> float:
    """Percent of what there is for this user on the disk of a folder, or of the one it would be
    made in.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    found = os.statvfs(place)
    used = found.f_blocks - found.f_bfree
    return 100.0 * used / max(used + found.f_bavail, 1)
