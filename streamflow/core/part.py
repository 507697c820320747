"""A task's part of a topology: what it does, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamflow.batch import TopicPartition
from streamflow.core.keys import encode_meta
from streamflow.core.names import Names
from streamflow.core.plan import TaskPlan
from streamflow.core.step import TaskState

#: Changelog and rows records stay below this; Kafka's default limit is 1 MiB.
RECORD_BYTES = 900_000


@dataclass(frozen=True)
class Part:
    """One source's plan on one partition, of the `partitions` that its topic has; `version` is the
    topology's.
    """

    plan: TaskPlan
    names: Names
    tp: TopicPartition
    version: str
    partitions: int

    @property
    def changelog(self) -> TopicPartition:
        """The changelog partition."""
        return TopicPartition(self.names.changelog(self.plan.source.topic), self.tp.partition)

    def meta(self, state: TaskState, left: Mapping[str, str] | None = None) -> bytes:
        """The meta record of a commit that leads to this state; `left` are tables besides the
        plan's that the state is of.
        """
        tables = {s.name: self.names.table(s.table.path) for s in self.plan.all_sinks}
        return encode_meta(
            state,
            state_id=self.plan.state_id,
            version=self.version,
            partitions=self.partitions,
            tables=dict(left or {}) | tables,
        )
