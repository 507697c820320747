"""What a topology compiles to: per source, everything that a task needs to know."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates import Aggregate, Part
from streamflow.destinations import Parquet
from streamflow.epochs import Epoch
from streamflow.event_time import A_MONTH, Header, KafkaTimestamp, Years, durations_of, years_around
from streamflow.rules import Rule
from streamflow.schema import schema_id
from streamflow.stages import Dedup, Filter, Gate, Map, Stage, Watch
from streamflow.triggers import Early
from streamflow.windows import Window, micros

if TYPE_CHECKING:
    from streamflow.stream import Source


@dataclass(frozen=True, eq=False)
class SinkPlan:
    """A table and the rows that go there; `schema` has the partition values as columns."""

    name: str
    table: Parquet
    schema: pa.Schema

    @cached_property
    def schema_id(self) -> str:
        """The id of the schema of its rows."""
        return schema_id(self.schema)

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The columns of its rows that name folders."""
        return tuple(part.name for part in self.table.partition_by)

    def rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with its partition values, in the order of `schema`; of results, those that the
        table takes.
        """
        if self.table.revisions == "final":
            batch = batch.filter(pc.and_(batch["final"], pc.equal(batch["revision"], 0)))
        made = {p.name: p.of(batch) for p in self.table.partition_by if p.name != p.column}
        columns = [made[f.name] if f.name in made else batch.column(f.name) for f in self.schema]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


@dataclass(frozen=True, eq=False)
class PartColumn:
    """One column of the window's partial: which output it serves and what it is made from."""

    output: str
    part: Part
    field: str | None

    @property
    def column(self) -> str:
        """Its name in the partial."""
        return f"{self.output}.{self.part.name}"


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """One windowed aggregation of a task; `grace` and `keep` are in microseconds.

    After its final result a window is kept for `keep`, and late rows correct it.
    """

    name: str
    window: Window
    grace: int
    by: tuple[str, ...]
    aggregates: tuple[tuple[str, Aggregate], ...]
    parts: tuple[PartColumn, ...]
    schema: pa.Schema
    topics: tuple[str, ...]
    sinks: tuple[SinkPlan, ...]
    late_topic: str | None
    early: Early | None
    keep: int
    late_is_dead_letter: bool


@dataclass(frozen=True, eq=False)
class TaskPlan:
    """One source's part of a topology; a task runs it on one partition.

    `schema` is that of the rows that come out of the stages.
    """

    topology: str
    source: Source
    stages: tuple[Stage, ...]
    schema: pa.Schema
    windows: tuple[WindowPlan, ...]
    sinks: tuple[SinkPlan, ...]
    topics: tuple[str, ...]
    rejected_topic: str | None

    @property
    def remade(self) -> bool:
        """Do topics get rows that were made here, and not the records as they came?"""
        return any(isinstance(stage, Map) for stage in self.stages)

    @property
    def out_of_orderness(self) -> int:
        """How far event time may run back, in microseconds."""
        return micros(self.source.out_of_orderness)

    @cached_property
    def years(self) -> Years:
        """The years whose event times are taken: all that its windows can be computed with."""
        spans = [sum(map(abs, durations_of(w.window).values()), A_MONTH) for w in self.windows]
        graces = [timedelta(microseconds=w.grace + w.keep) for w in self.windows]
        reach = [span + grace for span, grace in zip(spans, graces, strict=True)]
        return years_around(self.source.out_of_orderness + max(reach, default=timedelta(0)))

    @property
    def max_future(self) -> int | None:
        """How far event time may be ahead of the fetch, in microseconds; None for any."""
        ahead = self.source.max_future
        return None if ahead is None else micros(ahead)

    @property
    def idle_after(self) -> int | None:
        """After how long a silent partition is idle, in microseconds; None for never."""
        after = self.source.idle_after
        return None if after is None else micros(after)

    @property
    def all_sinks(self) -> list[SinkPlan]:
        """Every table that this task writes rows for."""
        return [*self.sinks, *(sink for window in self.windows for sink in window.sinks)]

    @property
    def watches(self) -> list[Watch]:
        """The thresholds of all gates."""
        gates = [stage for stage in self.stages if isinstance(stage, Gate)]
        return [watch for gate in gates for watch in gate.watches]

    @property
    def output_topics(self) -> list[str]:
        """Every topic that this task writes for others to read."""
        late = [window.late_topic for window in self.windows]
        results = [topic for window in self.windows for topic in window.topics]
        return [t for t in (*self.topics, self.rejected_topic, *late, *results) if t is not None]

    @cached_property
    def folder_columns(self) -> tuple[str, ...]:
        """Fields of text that name folders of some table: not every text can. `_topic` can."""
        fields = self.schema
        parts = [part for sink in self.all_sinks for part in sink.table.partition_by]
        named = [p.column for p in parts if p.unit is None and p.column in fields.names]
        return tuple(
            sorted({n for n in named if pa.types.is_string(fields.field(n).type)} - {"_topic"})
        )

    @cached_property
    def state_id(self) -> str:
        """A hash of what the state depends on; state of another id cannot be read."""
        return _digest([self.source.topic, *(_describe_window(w) for w in self.windows)])


def version_of(tasks: Sequence[TaskPlan]) -> str:
    """A short hash of everything that decides what comes out of these tasks."""
    return _digest([_describe_task(plan) for plan in tasks])[:12]


def _digest(parts: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _describe_function(function: str | Callable[..., Any]) -> str:
    if isinstance(function, str):
        return function
    code = getattr(function, "__code__", None)
    body = f"{code.co_code.hex()}{code.co_consts}" if code is not None else repr(function)
    return f"{getattr(function, '__qualname__', function)}:{body}"


def _describe_window(window: WindowPlan) -> str:
    aggregates = [f"{name}={aggregate!r}" for name, aggregate in window.aggregates]
    bounds = f"{window.window!r} grace {window.grace}"
    bounds += f" kept {window.keep}" if window.keep else ""
    return f"{window.name} by {window.by} {bounds}: {', '.join(aggregates)}"


def _describe_rule(rule: Rule) -> tuple[str, ...]:
    fix = () if rule.fix is None else (rule.fix[0], _describe_function(rule.fix[1]))
    default = () if rule.default is None else (repr(rule.default),)
    condition = _describe_function(rule.condition)
    return (rule.name, rule.severity, condition, rule.outcome, *fix, *default)


def _describe_stage(stage: Stage) -> str:
    match stage:
        case Gate():
            watches = [f"{one.name}: {one.threshold.signature}" for one in stage.watches]
            return f"gate {[_describe_rule(rule) for rule, _ in stage.rules]} {watches}"
        case Filter():
            return f"filter {_describe_function(stage.condition)}"
        case Dedup():
            return f"{stage.name} within {stage.within}"
        case Map():
            made = [f"{name}={_describe_function(e)}" for name, e in stage.columns.items()]
            return f"map {stage.schema} {made}"


def _describe_task(plan: TaskPlan) -> str:
    stages = [_describe_stage(stage) for stage in plan.stages]
    tables = [f"{sink.table!r}:{sink.schema}" for sink in plan.all_sinks]
    named = plan.source.event_time
    kept = isinstance(named, KafkaTimestamp | Header | Epoch)
    event_time = repr(named) if kept else _describe_function(named)
    return "\n".join(
        [
            f"{plan.source.topic} key {plan.source.key} at {event_time}",
            f"{plan.source.contract.schema} out of order {plan.source.out_of_orderness}",
            f"at most {plan.source.max_future} ahead, else {plan.source.missing_event_time}",
            f"idle after {plan.source.idle_after}",
            *stages,
            *(_describe_window(window) for window in plan.windows),
            *(f"{w.name} {w.early} {w.late_is_dead_letter}" for w in plan.windows),
            *tables,
            *plan.output_topics,
        ]
    )
