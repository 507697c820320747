"""The local states of a worker, in RocksDB, their changelogs on Kafka, and their backups."""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from streamflow.batch import TopicPartition
from streamflow.clock import Clock, millis
from streamflow.edges.kafka_tail import KafkaTail
from streamflow.edges.local_state import standing_of
from streamflow.edges.rocksdb import RocksStore, StateFolder, StateMemory, identity_of
from streamflow.edges.state_backup import back_up, backups, put_back, remove_hidden
from streamflow.engine.disk_watch import percent_used
from streamflow.engine.restore import STALE_AFTER
from streamflow.engine.settings import Settings
from streamflow.engine.standby import StandbyPorts
from streamflow.errors import StateDamaged

log = logging.getLogger(__name__)

T = TypeVar("T")

#: In a worker's folder, for what is being copied from it.
SCRATCH = ".backup"


class WorkerStates:
    """The folder of one worker, which is claimed until `close`; a `LocalStates`.

    Args:
        settings: Those of the worker.
        app: The app, or run, whose states these are.
        changelogs: The changelog topic of each source topic, and the partitions of both.
        cluster: The Kafka cluster's id: a state of another one is made anew.
        clock: The time.
        connection: What a Kafka client is given.
    """

    def __init__(
        self,
        settings: Settings,
        app: str,
        changelogs: Mapping[str, tuple[str, int]],
        cluster: str,
        clock: Clock,
        connection: Mapping[str, Any],
    ) -> None:
        # Those of all workers; there are none where all that it does is to archive topics.
        databases = sum(partitions for _, partitions in changelogs.values()) or 1
        self._folder = StateFolder(
            Path(settings.state_dir) / app / settings.worker_id,
            StateMemory(settings.state_memory, databases),
        )
        remove_hidden(self._folder.path, math.inf)  # nobody else copies into it
        shutil.rmtree(self._folder.path / SCRATCH, ignore_errors=True)
        self._backups = None if settings.backup_dir is None else settings.backup_dir / app
        self._full_percent = settings.disk_pause_percent
        self._changelogs = changelogs
        self._cluster = cluster
        self._clock = clock
        self._connection = connection
        self._stores: dict[TopicPartition, RocksStore] = {}

    def store(self, tp: TopicPartition) -> RocksStore:
        """Open the state of the task on this source partition."""
        self._stores[tp] = self._folder.store(name_of(tp), self._of(tp))
        return self._stores[tp]

    async def found(self) -> Mapping[TopicPartition, tuple[int, int]]:
        """See `LocalStates.found`."""
        return await asyncio.to_thread(self._found)

    def _found(self) -> dict[TopicPartition, tuple[int, int]]:
        every = [
            TopicPartition(topic, partition)
            for topic, (_, partitions) in self._changelogs.items()
            for partition in range(partitions)
        ]
        there = [tp for tp in every if self._path(tp).exists()]
        return {tp: self._standing(tp) for tp in there}

    def _standing(self, tp: TopicPartition) -> tuple[int, int]:
        """What is of something else, or not whole, is of no use to anybody: it is very old."""
        found = standing_of(self._path(tp))
        if found is None or found.of != identity_of(self._of(tp)):
            return 0, 0
        return found.applied, found.at

    def changelog(self, tp: TopicPartition) -> TopicPartition:
        """See `LocalStates.changelog`."""
        return TopicPartition(self._changelogs[tp.topic][0], tp.partition)

    def open(self, tp: TopicPartition) -> StandbyPorts:
        """See `LocalStates.open`."""
        return StandbyPorts(KafkaTail(self._connection, self.changelog(tp)), self.store(tp))

    def remove(self, tp: TopicPartition) -> None:
        """See `LocalStates.remove`."""
        self._folder.remove(name_of(tp))

    async def bring(self, tp: TopicPartition) -> None:
        """See `LocalStates.bring`."""
        if self._backups is None or self._path(tp).exists():
            return
        try:
            await _in_thread(lambda stop: self._bring(tp, stop))
        except Exception as error:
            log.warning("%s: its backup cannot be used, all is read: %r", tp, error)

    def _bring(self, tp: TopicPartition, stop: threading.Event) -> None:
        assert self._backups is not None
        oldest = millis(self._clock.now() - STALE_AFTER)
        for backup in backups(self._backups / name_of(tp)):
            if backup.manifest.of != identity_of(self._of(tp)) or backup.manifest.at < oldest:
                continue
            try:
                put_back(backup, self._path(tp), stop)
            except StateDamaged as error:
                log.warning("%s: %s", tp, error)
                continue
            log.info("%s: its state begins from the backup %s", tp, backup.path)
            return

    def last_backup(self, tp: TopicPartition) -> int | None:
        """See `LocalStates.last_backup`."""
        assert self._backups is not None
        found = backups(self._backups / name_of(tp))
        return max((one.manifest.made for one in found), default=None)

    async def back_up(self, tp: TopicPartition) -> None:
        """See `LocalStates.back_up`."""
        assert self._backups is not None
        folder, scratch = self._backups / name_of(tp), self._folder.path / SCRATCH
        database, made = self._stores[tp].database, millis(self._clock.now())
        if database is None:
            return
        found = await _in_thread(lambda stop: back_up(database, scratch, folder, made, stop))
        if found is not None:
            log.info("%s: backup %s, %d bytes", tp, found.path, found.manifest.bytes)

    def full(self) -> str | None:
        """See `LocalStates.full`."""
        percent = percent_used(self._folder.path)
        if percent < self._full_percent:
            return None
        return f"the disk of {self._folder.path} is {percent:.0f} % full"

    def close(self) -> None:
        """Let another process have the folder."""
        self._folder.close()

    def _path(self, tp: TopicPartition) -> Path:
        return self._folder.path / name_of(tp)

    def _of(self, tp: TopicPartition) -> str:
        return f"{self._cluster} {self.changelog(tp)}"


def name_of(tp: TopicPartition) -> str:
    """The folder of a task's state, and of its backups."""
    return f"{tp.topic}-{tp.partition}"


async def _in_thread(work: Callable[[threading.Event], T]) -> T:
    """Copy beside the event loop; cancelled, it is given up within a moment, and leaves nothing."""
    stop = threading.Event()
    working = asyncio.create_task(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        stop.set()
        with suppress(Exception):
            await asyncio.shield(working)
        raise
