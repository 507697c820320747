"""What the host needs from whoever chose the edges: ports for tasks, files for tables, topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from streamflow.batch import TopicPartition
from streamflow.engine.chain import Table
from streamflow.engine.delivery import Delivery
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.sharing import MarkPorts
from streamflow.engine.standbys import LocalStates
from streamflow.engine.task_ports import TaskPorts
from streamflow.ports import Changelog
from streamflow.ranges import Ranges


class World(Protocol):
    """The edges of one worker."""

    @property
    def delivery(self) -> Delivery:
        """How its tasks deliver; known after `prepare`."""
        ...

    async def prepare(self) -> Mapping[str, int]:
        """Make the topics that are missing; returns the partition count of every source topic.

        It is called again where it fails because no broker answers.
        """
        ...

    async def ranges(self) -> Ranges | None:
        """What a bounded run reads, after `prepare`; None for a live worker."""
        ...

    async def partitions(self) -> Mapping[str, int]:
        """The partition count that every source topic has by now."""
        ...

    async def bounds(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """`(first, stop)` of each partition; stop is the last stable offset."""
        ...

    async def group_offset(self, tp: TopicPartition) -> int | None:
        """The offset that the consumer group has committed, None for none."""
        ...

    async def group_partitions(self) -> Sequence[TopicPartition]:
        """The partitions of which the group has committed an offset, also of topics that the
        topology does not read any more.
        """
        ...

    async def exists(self, topic: str) -> bool:
        """Is there a topic of this name?"""
        ...

    async def trim(self, tp: TopicPartition, before: int) -> None:
        """Delete the records of an internal topic below an offset."""
        ...

    def task_ports(self, tp: TopicPartition) -> TaskPorts:
        """Ports for the task on this source partition; called again for each new life of it."""
        ...

    @property
    def lookups(self) -> Mapping[str, LookupCounts]:
        """What `enrich` stages have asked services for so far, by stage."""
        ...

    def states(self) -> LocalStates:
        """The local states of this worker, after `prepare`."""
        ...

    def marks(self, topic: str) -> MarkPorts:
        """Where workers share the watermarks of this source topic's partitions."""
        ...

    def log(self, tp: TopicPartition) -> Changelog:
        """Reads a partition of the app's own, such as what operators have said."""
        ...

    def files(self, table: str) -> Table:
        """The files of one table, with its log where it has one."""
        ...

    async def close(self) -> None:
        """Give everything up."""
        ...
