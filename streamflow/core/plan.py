"""What a topology compiles to: per source, everything that a task needs to know.

Compiling finds what is wrong with a topology as a whole: an exit that leads nowhere, two things of
one name, edges that start from different places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamflow.aggregates import Aggregate, Part
from streamflow.destinations import Drop, Parquet, PartitionBy, Topic
from streamflow.errors import TopologyError
from streamflow.rules import Condition, Rule
from streamflow.schema import AGGREGATE_LINEAGE, TIMESTAMP, WARNINGS, schema_id
from streamflow.windows import micros

if TYPE_CHECKING:
    from streamflow.topology import Edge, Results, Source, Stream


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
        """The batch with its partition values, in the order of `schema`."""
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
    """One windowed aggregation of a task; durations are microseconds."""

    name: str
    size: int
    offset: int
    grace: int
    by: tuple[str, ...]
    aggregates: tuple[tuple[str, Aggregate], ...]
    parts: tuple[PartColumn, ...]
    schema: pa.Schema
    topics: tuple[str, ...]
    sinks: tuple[SinkPlan, ...]
    late_topic: str | None

    def closed_by(self, watermark: int) -> int:
        """Windows that start at or before this are final at this watermark."""
        return watermark - self.grace - self.size


@dataclass(frozen=True, eq=False)
class TaskPlan:
    """One source's part of a topology; a task runs it on one partition."""

    topology: str
    source: Source
    rules: tuple[tuple[Rule, Condition], ...]
    windows: tuple[WindowPlan, ...]
    sinks: tuple[SinkPlan, ...]
    topics: tuple[str, ...]
    rejected_topic: str | None

    @property
    def out_of_orderness(self) -> int:
        """How far event time may run back, in microseconds."""
        return micros(self.source.out_of_orderness)

    @property
    def all_sinks(self) -> list[SinkPlan]:
        """Every table that this task writes rows for."""
        return [*self.sinks, *(sink for window in self.windows for sink in window.sinks)]

    @property
    def output_topics(self) -> list[str]:
        """Every topic that this task writes for others to read."""
        late = [window.late_topic for window in self.windows]
        results = [topic for window in self.windows for topic in window.topics]
        return [t for t in (*self.topics, self.rejected_topic, *late, *results) if t is not None]

    @cached_property
    def folder_columns(self) -> tuple[str, ...]:
        """Fields of text that name folders of some table: not every text can."""
        fields = self.source.contract.schema
        parts = [part for sink in self.all_sinks for part in sink.table.partition_by]
        named = [p.column for p in parts if p.unit is None and p.column in fields.names]
        return tuple(sorted({n for n in named if pa.types.is_string(fields.field(n).type)}))

    @cached_property
    def state_id(self) -> str:
        """A hash of what the state depends on; state of another id cannot be read."""
        return _digest([self.source.topic, *(_describe_window(w) for w in self.windows)])


def compile_tasks(name: str, edges: Sequence[Edge]) -> tuple[TaskPlan, ...]:
    """Compile a topology's edges; one plan per source, in the order of their first edge.

    Raises:
        TopologyError: naming the topology, what is wrong and what to do.
    """
    if not edges:
        raise TopologyError(f"topology {name!r} has no edges; add at least one .to(...)")
    sources: dict[int, Source] = {}
    for edge in edges:
        found = _stream_of(edge).source
        sources.setdefault(id(found), found)
    topics = [source.topic for source in sources.values()]
    _no_twins(name, "source topics", topics)
    plans = tuple(_compile_task(name, source, edges) for source in sources.values())
    sinks = [sink.name for plan in plans for sink in plan.all_sinks]
    _no_twins(name, "tables", sinks)
    for plan in plans:
        for topic in plan.output_topics:
            if topic in topics:
                raise TopologyError(f"topology {name!r} writes to {topic!r}, which it also reads")
    return plans


def version_of(tasks: Sequence[TaskPlan]) -> str:
    """A short hash of everything that decides what comes out of these tasks."""
    return _digest([_describe_task(plan) for plan in tasks])[:12]


def _compile_task(name: str, source: Source, edges: Sequence[Edge]) -> TaskPlan:
    mine = [edge for edge in edges if _stream_of(edge).source is source]
    stream = _one_stream(name, mine)
    sinks, topics = _destinations(stream, mine, stream.schema, warnings=_flags(stream))
    rules = tuple((rule, rule.compiled(stream.schema)) for rule in stream.rules)
    windows: dict[int, Results] = {}
    for edge in mine:
        results = _results_of(edge)
        if results is not None:
            windows.setdefault(id(results), results)
    _no_twins(name, "results", [results.name for results in windows.values()])
    return TaskPlan(
        name,
        source,
        rules,
        tuple(_compile_window(name, results, mine) for results in windows.values()),
        sinks,
        topics,
        _exit_topic(name, stream, "rejected", mine),
    )


def _compile_window(name: str, results: Results, edges: Sequence[Edge]) -> WindowPlan:
    windowed = results.windowed
    fields = windowed.stream.schema
    parts: list[PartColumn] = []
    for output, aggregate in results.aggregates.items():
        kind = fields.field(aggregate.field).type if aggregate.field is not None else None
        made = aggregate.parts(kind)
        _check_result(results, output, aggregate, made)
        parts += [PartColumn(output, part, aggregate.field) for part in made]
    extra = [
        pa.field("window_end", TIMESTAMP, nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("final", pa.bool_(), nullable=False),
    ]
    schema = pa.schema([*results.schema, *extra, *AGGREGATE_LINEAGE])
    sinks, topics = _destinations(results, edges, schema, warnings=False)
    _check_folders(results, sinks)
    return WindowPlan(
        results.name,
        micros(windowed.window.size),
        micros(windowed.window.offset),
        micros(windowed.grace),
        windowed.by,
        tuple(results.aggregates.items()),
        tuple(parts),
        schema,
        topics,
        sinks,
        _exit_topic(name, results, "late", edges),
    )


def _check_result(
    results: Results, output: str, aggregate: Aggregate, parts: Sequence[Part]
) -> None:
    """What the aggregate gives, tried on no rows, must fit the model's field."""
    gives = aggregate.result({part.name: pa.array([], part.type) for part in parts}).type
    declared = results.schema.field(output).type
    whole = pa.types.is_integer(gives) or pa.types.is_decimal(gives)
    numbers = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_floating)
    fits = gives == declared or (whole and any(test(declared) for test in numbers))
    if not fits:
        name = f"{results.model.__name__}.{output}"
        made = f"{type(aggregate).__name__}() gives {gives}"
        raise TopologyError(f"{name} is {declared}, but {made}; change the model")


def _check_folders(results: Results, sinks: Sequence[SinkPlan]) -> None:
    """Text that names folders has to come from the records, where it is looked at one by one."""
    by = results.windowed.by
    for sink in sinks:
        for part in sink.table.partition_by:
            made = part.column in results.schema.names and part.column not in by
            if made and pa.types.is_string(results.schema.field(part.column).type):
                raise TopologyError(
                    f"parquet({sink.table.path!r}): {part.column!r} is text that an aggregate "
                    f"makes, and not every text names a folder; partition by {list(by)} or by "
                    "day('window_start')"
                )


def _destinations(
    origin: Stream | Results, edges: Sequence[Edge], schema: pa.Schema, *, warnings: bool
) -> tuple[tuple[SinkPlan, ...], tuple[str, ...]]:
    mine = [edge.destination for edge in edges if edge.origin is origin]
    columns = pa.schema([*schema, WARNINGS]) if warnings else schema
    tables = [table for table in mine if isinstance(table, Parquet)]
    sinks = tuple(SinkPlan(table.name, table, _sink_schema(table, columns)) for table in tables)
    return sinks, tuple(topic.name for topic in mine if isinstance(topic, Topic))


def _sink_schema(table: Parquet, schema: pa.Schema) -> pa.Schema:
    made: list[Any] = []
    for part in table.partition_by:
        _check_partition(table, part, schema)
        if part.name != part.column:
            made.append(pa.field(part.name, pa.string()))
    return pa.schema([*schema, *made])


def _check_partition(table: Parquet, part: PartitionBy, schema: pa.Schema) -> None:
    where = f"parquet({table.path!r})"
    if part.column not in schema.names:
        raise TopologyError(f"{where}: no column {part.column!r}; it has {sorted(schema.names)}")
    if part.name != part.column and part.name in schema.names:
        raise TopologyError(
            f"{where}: the partition {part.name!r} would hide a column of that name; "
            f"partition by the column {part.name!r} itself or rename it"
        )
    if part.unit is not None and not pa.types.is_timestamp(schema.field(part.column).type):
        raise TopologyError(f"{where}: {part.column!r} is no timestamp to take a {part.name} of")


def _one_stream(name: str, edges: Sequence[Edge]) -> Stream:
    streams = {id(stream): stream for stream in map(_stream_of, edges)}
    if len(streams) > 1:
        topic = next(iter(streams.values())).source.topic
        raise TopologyError(
            f"topology {name!r}: edges of {topic!r} start before and after a gate; "
            "start them all from the stream that the last gate gives"
        )
    return next(iter(streams.values()))


def _exit_topic(name: str, of: Stream | Results, kind: str, edges: Sequence[Edge]) -> str | None:
    from streamflow.topology import Exit

    mine = [
        e
        for e in edges
        if isinstance(e.origin, Exit) and e.origin.of is of and e.origin.kind == kind
    ]
    if len(mine) != 1:
        many = (
            "goes nowhere; add .to(topic(...)) or .drop() for it" if not mine else "goes two ways"
        )
        raise TopologyError(f"topology {name!r}: the {kind} side of {of} {many}")
    destination = mine[0].destination
    return None if isinstance(destination, Drop) else destination.name


def _stream_of(edge: Edge) -> Stream:
    from streamflow.topology import Exit, Stream

    origin = edge.origin.of if isinstance(edge.origin, Exit) else edge.origin
    return origin if isinstance(origin, Stream) else origin.windowed.stream


def _results_of(edge: Edge) -> Results | None:
    from streamflow.topology import Exit, Results

    origin = edge.origin.of if isinstance(edge.origin, Exit) else edge.origin
    return origin if isinstance(origin, Results) else None


def _flags(stream: Stream) -> bool:
    return any(not rule.rejects for rule in stream.rules)


def _no_twins(name: str, what: str, names: Sequence[str]) -> None:
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise TopologyError(f"topology {name!r}: two {what} are named {twice[0]!r}")


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
    bounds = f"{window.size}+{window.offset} grace {window.grace}"
    return f"{window.name} by {window.by} {bounds}: {', '.join(aggregates)}"


def _describe_task(plan: TaskPlan) -> str:
    rules = [f"{r.name}:{r.severity}:{_describe_function(r.condition)}" for r, _ in plan.rules]
    tables = [f"{sink.table!r}:{sink.schema}" for sink in plan.all_sinks]
    event_time = _describe_function(plan.source.event_time)
    return "\n".join(
        [
            f"{plan.source.topic} key {plan.source.key} at {event_time}",
            f"{plan.source.contract.schema} out of order {plan.source.out_of_orderness}",
            *rules,
            *(_describe_window(window) for window in plan.windows),
            *tables,
            *plan.output_topics,
        ]
    )
