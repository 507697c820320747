"""Topologies are values: building one opens, registers and starts nothing.

`source(...)` gives a `Stream`; `gate` gives a `Stream` again; `window` gives a `Windowed`, whose
only method is `aggregate`. `to(...)` gives an `Edge`. A `Topology` is a name and its edges, which
are the complete list of where a record can go; an exit that leads nowhere is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import BaseModel

from streamflow.aggregates import Aggregate
from streamflow.destinations import Destination, Drop, Parquet, Topic
from streamflow.errors import TopologyError
from streamflow.event_time import EventTime, MissingEventTime, check_event_time
from streamflow.rules import Rule
from streamflow.schema import TIMESTAMP, Contract, arrow_schema
from streamflow.stages import (
    Dedup,
    Expression,
    Gate,
    Map,
    Stage,
    filter_stage,
    map_stage,
    with_lineage,
)
from streamflow.windows import Window, micros

if TYPE_CHECKING:
    import faust

    from streamflow.core.plan import TaskPlan

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False)
class Source:
    """A topic of records that keep to one contract; see `source`."""

    topic: str
    contract: Contract
    key: str | None
    event_time: EventTime
    missing_event_time: MissingEventTime
    out_of_orderness: timedelta
    max_future: timedelta | None


@dataclass(frozen=True, eq=False)
class Edge:
    """One way out: what leaves, and where to."""

    origin: Stream | Results | Exit
    destination: Destination


@dataclass(frozen=True, eq=False)
class Exit:
    """A side on which records leave: the rejected of a stream, or the late of a window."""

    of: Stream | Results
    kind: str

    def to(self, destination: Topic) -> Edge:
        """Send them to a topic, with their original bytes and the reason."""
        return _edge(self, destination, Topic)

    def drop(self) -> Edge:
        """Lose them on purpose; they are counted."""
        return Edge(self, Drop())

    def __str__(self) -> str:
        return f"the {self.kind} side of {self.of}"


@dataclass(frozen=True, eq=False)
class Stream:
    """Records of a source that came through all stages so far."""

    source: Source
    stages: tuple[Stage, ...] = ()

    def __str__(self) -> str:
        return repr(self.source.topic)

    @property
    def schema(self) -> pa.Schema:
        """Columns that stages, windows and sinks can use."""
        return with_lineage(self._fields)

    @property
    def model(self) -> type[BaseModel]:
        """The model of its rows."""
        maps = [stage for stage in self.stages if isinstance(stage, Map)]
        return maps[-1].model if maps else self.source.contract.model

    @property
    def key(self) -> str | None:
        """The field that holds the record's key; a map has to take it over under its name."""
        key = self.source.key
        for stage in self.stages:
            if isinstance(stage, Map) and key is not None:
                taken = key in stage.schema.names and key not in stage.columns
                key = key if taken else None
        return key

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of all gates."""
        gates = [stage for stage in self.stages if isinstance(stage, Gate)]
        return tuple(rule for gate in gates for rule, _ in gate.rules)

    @property
    def rejected(self) -> Exit:
        """What is not a record of the contract, or breaks a rule that rejects."""
        return Exit(self, "rejected")

    def nullable(self, name: str) -> bool:
        """Can this column be null? The key cannot: it is compared with the record's key."""
        return name != self.key and self.schema.field(name).nullable

    def gate(self, *rules: Rule) -> Stream:
        """Check rules on each record; see `Rule` for what breaking one means."""
        names = [rule.name for rule in (*self.rules, *rules)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise TopologyError(f"gate on {self}: two rules are named {twice[0]!r}")
        for rule in rules:
            if self.key is not None and rule.field == self.key:
                raise TopologyError(
                    f"gate on {self}: rule {rule.name!r} would mend {self.key!r}, which the topic "
                    "is keyed by, and move rows to groups of other partitions; reject them instead"
                )
        made = tuple((rule, rule.compiled(self.schema)) for rule in rules)
        before = self.stages[:-1] if self.stages else ()
        last = self.stages[-1] if self.stages else None
        if isinstance(last, Gate):
            return Stream(self.source, (*before, Gate((*last.rules, *made))))
        return Stream(self.source, (*self.stages, Gate(made)))

    def filter(self, condition: Expression) -> Stream:
        """Keep the records on which a condition is true, and drop the others: as SQL's WHERE, also
        those on which it is NULL. Dropped records are counted, and do move the watermark.

        Args:
            condition: SQL, as in a `Rule`, or a function from a `pa.RecordBatch` to truth values.
        """
        stage = filter_stage(condition, self.schema, f"filter on {self}")
        return Stream(self.source, (*self.stages, stage))

    def map(self, model: type[BaseModel], **columns: Expression) -> Stream:
        """Make rows of another model: select, rename, compute, fill and cast in one step.

        Each field of `model` is computed by the expression of its name, SQL or a function from a
        `pa.RecordBatch` to a column; without one, the stream's field of that name is taken over.
        Values are cast to the field's type without loss. A row on which that fails, or which has a
        null where the model allows none, leaves on the rejected side. An expression must look at
        each row alone.

        Args:
            model: What the rows are from here on; a table has its fields, a topic gets its JSON.
            columns: Expressions by field.
        """
        stage = map_stage(model, columns, self.schema, f"map on {self}")
        return Stream(self.source, (*self.stages, stage))

    def dedup(self, *keys: str, within: timedelta) -> Stream:
        """Pass the first record of each key, and drop the others that come within a time.

        A record is a duplicate when its event time is before that of the record that passed
        `+ within`, or older than it; a key is forgotten when the watermark, as this stage sees it,
        is there too. Put it after the gates: a record that passes here and is rejected later still
        makes the next of its key a duplicate. Keys that are remembered are in the state, about 60
        bytes each; dropped records are counted, and do move the watermark.
        """
        if not keys or within <= timedelta(0):
            raise TopologyError(f"dedup on {self}: name its keys, and a time above zero")
        for name in keys:
            self._need("dedup", name)
            kind = self.schema.field(name).type
            if pa.types.is_nested(kind):
                raise TopologyError(f"dedup on {self}: cannot compare {name!r}, which is {kind}")
        stage = Dedup(keys, micros(within))
        if stage.name in [one.name for one in self.stages if isinstance(one, Dedup)]:
            raise TopologyError(f"dedup on {self}: it is there already by {list(keys)}")
        return Stream(self.source, (*self.stages, stage))

    def window(
        self, window: Window, *, by: str | tuple[str, ...], grace: timedelta = timedelta(0)
    ) -> Windowed:
        """Group records by fields and event-time windows; late is later than `grace`."""
        groups = (by,) if isinstance(by, str) else by
        for name in groups:
            self._need("window", name)
            kind = self.schema.field(name).type
            if pa.types.is_nested(kind):
                raise TopologyError(f"window on {self}: cannot group by {name!r}, which is {kind}")
        key = self.key
        if key is None or key not in groups:
            raise TopologyError(
                f"window on {self}: grouping by {list(groups)} does not contain the topic's key "
                f"{self.source.key!r}, so results would be partial per partition; group by it too"
            )
        if grace < timedelta(0):
            raise TopologyError(f"window on {self}: grace {grace} is below zero")
        return Windowed(self, window, groups, grace)

    def to(self, destination: Topic | Parquet) -> Edge:
        """Send the records on: to a topic with their original bytes, or to a table as rows."""
        if isinstance(destination, Parquet):
            for part in destination.partition_by:
                self._need(f"parquet({destination.path!r})", part.column)
        return _edge(self, destination, Topic, Parquet)

    def drop(self) -> Edge:
        """Lose them on purpose, where only the rejected matter; they are counted."""
        return Edge(self, Drop())

    def _need(self, step: str, name: str) -> None:
        if name not in self.schema.names:
            has = sorted(self._fields.names)
            raise TopologyError(
                f"{step}: {self.model.__name__} has no field {name!r}; it has {has}"
            )

    @property
    def _fields(self) -> pa.Schema:
        maps = [stage for stage in self.stages if isinstance(stage, Map)]
        return maps[-1].schema if maps else self.source.contract.schema


@dataclass(frozen=True, eq=False)
class Windowed:
    """A stream in windows; only `aggregate` can follow."""

    stream: Stream
    window: Window
    by: tuple[str, ...]
    grace: timedelta

    def aggregate(self, model: type[BaseModel], **aggregates: Aggregate) -> Results:
        """One final row per window and group, as `model` declares it.

        `model` has the grouping fields, `window_start`, and one field per aggregate.
        """
        return Results(self, model, MappingProxyType(dict(aggregates)))


@dataclass(frozen=True, eq=False)
class Results:
    """Results of windows. `late` is the side of records that came after their window's end."""

    windowed: Windowed
    model: type[BaseModel]
    aggregates: Mapping[str, Aggregate]
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        made = {*self.windowed.by, "window_start", *self.aggregates}
        schema = arrow_schema(self.model)
        if set(schema.names) != made:
            has = f"{self.model.__name__} has {sorted(schema.names)}"
            raise TopologyError(f"aggregate() makes {sorted(made)}, but {has}")
        for name, aggregate in self.aggregates.items():
            if aggregate.field is not None:
                self.windowed.stream._need(
                    f"{type(aggregate).__name__}() as {name}", aggregate.field
                )
        if schema.field("window_start").type != TIMESTAMP:
            raise TopologyError(f"{self.model.__name__}.window_start must be an AwareDatetime")
        object.__setattr__(self, "schema", schema)

    def __str__(self) -> str:
        return repr(self.name)

    @property
    def name(self) -> str:
        """The operator's name, from source and model: state survives an inserted stage."""
        return f"{self.windowed.stream.source.topic}.{self.model.__name__.lower()}"

    @property
    def late(self) -> Exit:
        """Records that came after their window was closed."""
        return Exit(self, "late")

    def to(self, destination: Topic | Parquet) -> Edge:
        """Send results on, to a topic keyed by group and window start, or to a table."""
        return _edge(self, destination, Topic, Parquet)


@dataclass(frozen=True, eq=False, init=False)
class Topology:
    """A name and the complete list of ways out.

    Attributes:
        tasks: One compiled plan per source; a task runs it on one partition.
        version: A hash of everything that decides what comes out.
    """

    name: str
    edges: tuple[Edge, ...]
    tasks: tuple[TaskPlan, ...]
    version: str

    def __init__(self, name: str, *edges: Edge) -> None:
        from streamflow.core.compile import compile_tasks  # values below, plans above
        from streamflow.core.plan import version_of

        if not _NAME.fullmatch(name):
            raise TopologyError(f"Topology({name!r}): a name has letters, digits and . _ - only")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "tasks", compile_tasks(name, edges))
        object.__setattr__(self, "version", version_of(self.tasks))

    def faust_app(self, **settings: Any) -> faust.App:
        """The Faust app that hosts this topology; opens nothing until a worker starts it."""
        from streamflow.engine.settings import Settings
        from streamflow.service import topology_app

        return topology_app(self, Settings.load(**settings))


def source(
    topic: Topic,
    model: type[BaseModel],
    *,
    key: str | None = None,
    event_time: EventTime | None = None,
    missing_event_time: MissingEventTime = "dead_letter",
    out_of_orderness: timedelta = timedelta(0),
    max_future: timedelta | None = None,
) -> Stream:
    """A topic whose values are JSON documents of `model`.

    Args:
        topic: The topic to read.
        model: The contract of its values.
        key: The field that the topic is keyed by, as UTF-8 text. Every record's key is compared
            with it; one that differs leaves on the rejected side.
        event_time: When it happened: an AwareDatetime field, or a function from a `pa.RecordBatch`
            of the fields to a column of timestamps with a zone; tried on zero rows; or
            `kafka_timestamp()` or `header(name)`. Never left out.
        missing_event_time: What a record without one gets, wherever it should come from:
            `"dead_letter"`, or `"ingest_time"`, the time at which the record was fetched. One that
            cannot be read or computed is a dead letter in any case.
        out_of_orderness: How far event time may run back: the watermark is the largest event time
            so far less this.
        max_future: How far event time may be ahead of the time at which its record is fetched. One
            that is further ahead leaves on the rejected side and moves no watermark. Without it a
            single such record closes every window.
    """
    contract = Contract(model)
    if key is not None and key not in contract.schema.names:
        raise TopologyError(
            f"source({topic.name!r}): {model.__name__} has no field {key!r} to be keyed by; "
            f"it has {sorted(contract.schema.names)}"
        )
    if event_time is None:
        raise TopologyError(
            f"source({topic.name!r}): event_time is missing; name the AwareDatetime field of "
            f"{model.__name__} that says when it happened, or a function that makes that time"
        )
    check_event_time(f"source({topic.name!r})", event_time, missing_event_time, contract)
    if out_of_orderness < timedelta(0):
        raise TopologyError(f"source({topic.name!r}): out_of_orderness is below zero")
    if max_future is not None and max_future < timedelta(0):
        raise TopologyError(f"source({topic.name!r}): max_future is below zero")
    times = (event_time, missing_event_time, out_of_orderness, max_future)
    return Stream(Source(topic.name, contract, key, *times))


def _edge(origin: Stream | Results | Exit, destination: Any, *kinds: type[Topic | Parquet]) -> Edge:
    if not isinstance(destination, kinds):
        options = " or ".join(f"{kind.__name__.lower()}(...)" for kind in kinds)
        raise TopologyError(f"{origin}.to({destination!r}): give it a {options}")
    return Edge(origin, destination)
