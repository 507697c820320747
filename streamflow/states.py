"""The local states of a worker, in RocksDB, and the changelogs on Kafka that they are of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamflow.batch import TopicPartition
from streamflow.edges.kafka_tail import KafkaTail
from streamflow.edges.local_state import applied_of
from streamflow.edges.rocksdb import RocksStore, StateFolder, StateMemory
from streamflow.engine.disk_watch import percent_used
from streamflow.engine.standby import StandbyPorts


class WorkerStates:
    """The folder of one worker, which is claimed until `close`; a `LocalStates`.

    Args:
        path: The folder.
        memory: Of all its databases together.
        changelogs: The changelog topic of each source topic, and the partitions of both.
        cluster: The Kafka cluster's id: a state of another one is made anew.
        full_percent: Nothing more is written for standbys to a disk that is so full.
    """

    def __init__(
        self,
        path: Path,
        memory: StateMemory,
        connection: Mapping[str, Any],
        changelogs: Mapping[str, tuple[str, int]],
        cluster: str,
        full_percent: float,
    ) -> None:
        self._folder = StateFolder(path, memory)
        self._connection = connection
        self._changelogs = changelogs
        self._cluster = cluster
        self._full_percent = full_percent

    def store(self, tp: TopicPartition) -> RocksStore:
        """Open the state of the task on this source partition."""
        return self._folder.store(_name(tp), self._of(tp))

    async def found(self) -> Mapping[TopicPartition, tuple[int, int]]:
        """See `LocalStates.found`."""
        return await asyncio.to_thread(self._found)

    def _found(self) -> dict[TopicPartition, tuple[int, int]]:
        every = [
            TopicPartition(topic, partition)
            for topic, (_, partitions) in self._changelogs.items()
            for partition in range(partitions)
        ]
        there = {tp: self._folder.path / _name(tp) for tp in every}
        return {tp: applied_of(path, self._of(tp)) for tp, path in there.items() if path.exists()}

    def changelog(self, tp: TopicPartition) -> TopicPartition:
        """See `LocalStates.changelog`."""
        return TopicPartition(self._changelogs[tp.topic][0], tp.partition)

    def open(self, tp: TopicPartition) -> StandbyPorts:
        """See `LocalStates.open`."""
        return StandbyPorts(KafkaTail(self._connection, self.changelog(tp)), self.store(tp))

    def remove(self, tp: TopicPartition) -> None:
        """See `LocalStates.remove`."""
        self._folder.remove(_name(tp))

    def full(self) -> str | None:
        """See `LocalStates.full`."""
        percent = percent_used(self._folder.path)
        if percent < self._full_percent:
            return None
        return f"the disk of {self._folder.path} is {percent:.0f} % full"

    def close(self) -> None:
        """Let another process have the folder."""
        self._folder.close()

    def _of(self, tp: TopicPartition) -> str:
        return f"{self._cluster} {self.changelog(tp)}"


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic}-{tp.partition}"
