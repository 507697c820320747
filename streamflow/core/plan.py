"""What a topology compiles to: per source, everything that a task needs to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from streamflow.aggregates import Aggregate, Part
from streamflow.changes import CHANGE
from streamflow.checks import Brake, Check
from streamflow.core.closing import Closing
from streamflow.core.describe import describe_aggregate, describe_source, describe_stage, digest
from streamflow.core.merging import Merging
from streamflow.destinations import Parquet
from streamflow.event_time import A_MONTH, Years, durations_of, years_around
from streamflow.rules import Condition
from streamflow.schema import schema_id
from streamflow.sensitive import ways_of
from streamflow.stages import Branch, Gate, Stage, Watch
from streamflow.triggers import Early
from streamflow.windows import Window, micros
from streamflow.writer_settings import FileLayout

if TYPE_CHECKING:
    from streamflow.sources import Source


@dataclass(frozen=True, eq=False)
class SinkPlan:
    """A table and the rows that go there; `schema` has the partition values as columns. `renamed`
    has the field of each column whose field has another name by now, `merging` says which rows take
    the place of earlier ones, `folders` which columns may name folders, where that is left to the
    rows. `replaces` has, of results that would take the place of early ones, if another version has
    given such, the window and the columns of their key. `source` is the topic whose records are its
    rows as they are; None where tasks make them.
    """

    name: str
    table: Parquet
    schema: pa.Schema
    closing: Closing | None = None
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    merging: Merging | None = None
    replaces: tuple[str, tuple[str, ...]] | None = None
    folders: tuple[str, ...] | None = None
    source: str | None = None

    @cached_property
    def schema_id(self) -> str:
        """The id of the schema of its rows."""
        return schema_id(self.schema)

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The columns of its rows that name folders."""
        return self.columns(part.name for part in self.table.partition_by)

    @property
    def layout(self) -> FileLayout:
        """What the table declares of its files, by columns."""
        layout = self.table.layout
        sort_by, bloom_by = self.columns(layout.sort_by), self.columns(layout.bloom_by)
        return replace(layout, sort_by=sort_by, bloom_by=bloom_by)

    def columns(self, fields: Iterable[str]) -> tuple[str, ...]:
        """The columns of these fields."""
        column_of = {field: column for column, field in self.renamed.items()}
        return tuple(column_of.get(name, name) for name in fields)

    def rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with its partition values, in the order of `schema`; of results, those that the
        table takes.
        """
        if self.table.revisions == "final":
            batch = batch.filter(pc.and_(batch["final"], pc.equal(batch["revision"], 0)))
        made = {p.name: p.of(batch) for p in self.table.partition_by if p.name != p.column}
        columns = [
            made[name] if name in made else batch.column(self.renamed.get(name, name))
            for name in self.schema.names
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


@dataclass(frozen=True, eq=False)
class PartColumn:
    """One column of the window's partial: which output it serves and what it is made from. Of
    values that are kept as hashes, `hashed` is the type.
    """

    output: str
    part: Part
    field: str | None
    hashed: pa.DataType | None = None

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
class ChecksPlan:
    """Checks of a task over extents.

    What is kept of an extent are partials of windows, of all its rows (`whole`) and by key for each
    check of duplicates (`by_key`, by the number of the check). Extents of rows are windows over the
    numbers of rows, which are taken for microseconds.

    Attributes:
        key: What the state is kept under; it changes with what is kept.
        described: What tells each check from another one.
        counted: Are extents of rows?
        marked: By the number of a check of a share, the condition that tells which rows are in it.
    """

    name: str
    key: str
    checks: tuple[Check, ...]
    described: Sequence[str]
    counted: bool
    whole: WindowPlan
    by_key: Mapping[int, WindowPlan]
    marked: Mapping[int, Condition]
    topics: tuple[str, ...]
    sinks: tuple[SinkPlan, ...]

    @property
    def windows(self) -> list[WindowPlan]:
        """Everything whose partials are kept."""
        return [self.whole, *self.by_key.values()]

    @cached_property
    def brakes(self) -> list[Brake]:
        """Those that stop their partition."""
        stops = [(check.label, check.stop) for check in self.checks]
        return [Brake(f"{self.name}: {label}", stop) for label, stop in stops if stop]


@dataclass(frozen=True, eq=False)
class RollingPlan:
    """Quality of a task's records over extents, which are windows as those of a `ChecksPlan`."""

    name: str
    key: str
    counted: bool
    window: Window
    topics: tuple[str, ...]
    sinks: tuple[SinkPlan, ...]


@dataclass(frozen=True)
class RoutedPlan:
    """The exit of records that thresholds route away; None is dropped."""

    topic: str | None


@dataclass(frozen=True, eq=False)
class Outlet:
    """Where rows leave the tree of stages: a stream with edges, and what these are.

    `schema` is that of its rows. `remade` says that topics get rows that were made here, and not
    the records as they came.
    """

    number: int
    model: type[BaseModel]
    schema: pa.Schema
    remade: bool
    windows: tuple[WindowPlan, ...]
    checks: tuple[ChecksPlan, ...]
    sinks: tuple[SinkPlan, ...]
    topics: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Do its rows say what became of their keys?"""
        return CHANGE.name in self.schema.names

    @property
    def all_sinks(self) -> list[SinkPlan]:
        """Every table that its rows, or results of its windows or checks, go to."""
        made = (*self.windows, *self.checks)
        return [*self.sinks, *(sink for one in made for sink in one.sinks)]

    @cached_property
    def folder_columns(self) -> Mapping[str, str]:
        """Fields of text that name folders of some table: not every text can, `_topic` can. To each
        the longest name that its column has, which leaves the least room. What leaves instead of a
        sensitive one always can.
        """
        sinks = [*self.sinks, *(sink for window in self.windows for sink in window.sinks)]
        texts = {field.name for field in self.schema if pa.types.is_string(field.type)}
        texts -= ways_of(self.schema).keys()
        found: dict[str, str] = {}
        for sink in sinks:
            for part, column in zip(sink.table.partition_by, sink.partition_by, strict=True):
                if part.unit is None and part.column in texts - {"_topic"}:
                    found[part.column] = max(found.get(part.column, ""), column, key=len)
        return dict(sorted(found.items()))


@dataclass(frozen=True, eq=False)
class Node:
    """A stage of the tree, where rows leave right after it, and the stages that follow.

    The root has no stage. Rows go every way there is; only those of a `Branch` part, each into one
    of the `Arm`s that follow it.
    """

    stage: Stage | Branch | None
    outlet: Outlet | None
    nodes: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        """It and all below it, each before what follows it."""
        yield self
        for node in self.nodes:
            yield from node


@dataclass(frozen=True, eq=False)
class TaskPlan:
    """One source's part of a topology; a task runs it on one partition.

    `routed` is where records go that thresholds route away, None for where the rejected ones go.
    `sides` has the side and the topic of what a stage drops, by the stage's name, for those stages
    whose side leads somewhere.
    """

    topology: str
    source: Source
    tree: Node
    rejected_topic: str | None
    quality_topic: str | None
    sides: Mapping[str, tuple[str, str]]
    rolling: tuple[RollingPlan, ...] = ()
    routed: RoutedPlan | None = None

    @cached_property
    def stages(self) -> tuple[Stage | Branch, ...]:
        """All stages, each once and before what follows it."""
        return tuple(node.stage for node in self.tree if node.stage is not None)

    @cached_property
    def outlets(self) -> tuple[Outlet, ...]:
        """Where rows leave the tree, by number."""
        found = [node.outlet for node in self.tree if node.outlet is not None]
        return tuple(sorted(found, key=lambda outlet: outlet.number))

    @cached_property
    def windows(self) -> tuple[WindowPlan, ...]:
        """The windowed aggregations of all outlets."""
        return tuple(window for outlet in self.outlets for window in outlet.windows)

    @cached_property
    def checks(self) -> tuple[ChecksPlan, ...]:
        """The checks of all outlets."""
        return tuple(checks for outlet in self.outlets for checks in outlet.checks)

    @cached_property
    def kept_windows(self) -> tuple[WindowPlan, ...]:
        """Everything whose partials are in the state: windows, and extents of checks."""
        return (*self.windows, *(window for checks in self.checks for window in checks.windows))

    @property
    def out_of_orderness(self) -> int:
        """How far event time may run back, in microseconds."""
        return micros(self.source.out_of_orderness)

    @cached_property
    def years(self) -> Years:
        """The years whose event times are taken: all that its windows can be computed with."""
        windows = [*self.windows, *(w for c in self.checks if not c.counted for w in c.windows)]
        kept = [(w.window, timedelta(microseconds=w.grace + w.keep)) for w in windows]
        kept += [(one.window, timedelta(0)) for one in self.rolling if not one.counted]
        reach = [sum(map(abs, durations_of(w).values()), A_MONTH) + more for w, more in kept]
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
        sinks = [sink for outlet in self.outlets for sink in outlet.all_sinks]
        return [*sinks, *(sink for rolling in self.rolling for sink in rolling.sinks)]

    @cached_property
    def watches(self) -> list[Watch | Brake]:
        """The thresholds of all gates, and what checks do."""
        gates = [stage for stage in self.stages if isinstance(stage, Gate)]
        watches = [watch for gate in gates for watch in gate.watches]
        return [*watches, *(brake for checks in self.checks for brake in checks.brakes)]

    @property
    def output_topics(self) -> list[str]:
        """Every topic that this task writes for others to read, each once."""
        late = [window.late_topic for window in self.windows]
        made = (*self.windows, *self.checks, *self.rolling)
        results = [topic for one in made for topic in one.topics]
        topics = [topic for outlet in self.outlets for topic in outlet.topics]
        dropped = dict.fromkeys(topic for _, topic in self.sides.values())
        routed = None if self.routed is None else self.routed.topic
        sides = (self.rejected_topic, routed, self.quality_topic, *dropped)
        return [t for t in dict.fromkeys((*topics, *sides, *late, *results)) if t is not None]

    @cached_property
    def state_id(self) -> str:
        """A hash of what the state depends on; state of another id cannot be read."""
        return digest([self.source.topic, *sorted(map(_describe_partial, self.windows))])


def version_of(tasks: Sequence[TaskPlan], archives: Sequence[SinkPlan] = ()) -> str:
    """A short hash of everything that decides what comes out of these tasks and archives."""
    said = [f"archive {sink.source} {sink.table!r}:{sink.schema}" for sink in archives]
    return digest([*(_describe_task(plan) for plan in tasks), *said])[:12]


def _describe_window(window: WindowPlan) -> str:
    aggregates = [f"{name}={aggregate!r}" for name, aggregate in window.aggregates]
    bounds = f"{window.window!r} grace {window.grace}"
    bounds += f" kept {window.keep}" if window.keep else ""
    return f"{window.name} by {window.by} {bounds}: {', '.join(aggregates)}"


def _describe_partial(window: WindowPlan) -> str:
    """What its partials are, with the types of their columns."""
    groups = [window.schema.field(name).type for name in window.by]
    return f"{_describe_window(window)} of {groups} {described_parts(window.parts)}"


def described_parts(parts: Iterable[PartColumn]) -> list[str]:
    """The columns of partials, with their types; and those of values that are kept as hashes."""
    return [f"{part.column} {part.part.type} {part.hashed or ''}".rstrip() for part in parts]


def _describe_node(node: Node) -> str:
    """A stage, what leaves after it, and, in brackets, all that follows."""
    lines = ["source" if node.stage is None else describe_stage(node.stage)]
    if node.outlet is not None:
        lines += [_describe_window(window) for window in node.outlet.windows]
        lines += [describe_aggregate(a) for w in node.outlet.windows for _, a in w.aggregates]
        lines += [f"{w.name} {w.early} {w.late_is_dead_letter}" for w in node.outlet.windows]
        lines += [f"{one.key}: {one.described}" for one in node.outlet.checks]
        lines += [f"{sink.table!r}:{sink.schema}" for sink in node.outlet.all_sinks]
        lines += [f"to {topic}" for topic in node.outlet.topics]
    return "\n".join([*lines, *(f"({_describe_node(child)})" for child in node.nodes)])


def _describe_task(plan: TaskPlan) -> str:
    said = [
        describe_source(plan.source),
        _describe_node(plan.tree),
        *(one.key for one in plan.rolling),
        *([] if plan.routed is None else [f"routed to {plan.routed.topic}"]),
        *plan.output_topics,
    ]
    return "\n".join(said)
