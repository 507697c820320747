"""A task's part of a topology: what it does, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from streamflow.batch import TopicPartition
from streamflow.core.inherited import taken_up
from streamflow.core.keys import encode_meta, tables_in
from streamflow.core.masking import Exits, Masks, exits_of
from streamflow.core.names import Names
from streamflow.core.plan import TaskPlan
from streamflow.core.step import Step, TaskState

#: Changelog and rows records stay below this; Kafka's default limit is 1 MiB.
RECORD_BYTES = 900_000


@dataclass(frozen=True)
class Part:
    """One source's plan on one partition, of the `partitions` that its topic has; `version` is the
    topology's. `masks` are for what is sensitive of what leaves.
    """

    plan: TaskPlan
    names: Names
    tp: TopicPartition
    version: str
    partitions: int
    masks: Masks | None = None

    @cached_property
    def exits(self) -> Exits | None:
        """What masks all that leaves; None where nothing of it is sensitive. Raises `SettingsError`
        where there is no key for that.
        """
        return exits_of(self.plan, self.masks)

    def leaving(self, step: Step) -> Step:
        """A step as it may leave: what is sensitive of it is masked."""
        return step if self.exits is None else self.exits.leaving(step)

    def words(self, message: str) -> str:
        """What may be said aloud of an error of a user's function."""
        return message if self.exits is None else self.exits.words(message)

    @property
    def changelog(self) -> TopicPartition:
        """The changelog partition."""
        return TopicPartition(self.names.changelog(self.plan.source.topic), self.tp.partition)

    def taken_up(self, state: TaskState, meta: bytes) -> TaskState:
        """The state of a meta record as the plan goes on with it: also with tables that join after
        its commit.
        """
        state = taken_up(self.plan, state)
        before = tables_in(meta)
        if before is None:
            return state
        joined = {
            sink.name: state.joined.get(sink.name, 0) if sink.name in before else state.commit
            for sink in self.plan.all_sinks
        }
        return replace(state, joined={name: commit for name, commit in joined.items() if commit})

    def first(self, position: int) -> TaskState:
        """The state before the first commit."""
        return taken_up(self.plan, TaskState(position=position))

    def meta(self, state: TaskState, left: Mapping[str, str] | None = None) -> bytes:
        """The meta record of a commit that leads to this state; `left` are tables besides the
        plan's that the state is of.
        """
        tables = {s.name: self.names.table(s.table.location) for s in self.plan.all_sinks}
        return encode_meta(
            state if state.lag is not None else taken_up(self.plan, state),
            state_id=self.plan.state_id,
            version=self.version,
            partitions=self.partitions,
            tables=dict(left or {}) | tables,
        )
