"""Streams in windows, and the results of their aggregates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import BaseModel

from streamflow.aggregates import Aggregate, AggregateFunction, UserDefined, fields_of, name_of
from streamflow.arguments import in_words, is_some_duration
from streamflow.destinations import Parquet, Topic
from streamflow.edge import Edge, Exit, edge_to
from streamflow.errors import NoMethod, TopologyError
from streamflow.schema import TIMESTAMP, arrow_schema
from streamflow.sensitive import Sensitive, ways_of
from streamflow.triggers import Early, LatePolicy, check_triggers
from streamflow.windows import Window, is_window

if TYPE_CHECKING:
    from streamflow.stream import Stream


#: What every result has, whatever else it has.
_OWN = {
    "window_start": "where its window begins",
    "window_end": "where its window ends",
    "revision": "which correction it is",
    "final": "whether its window has ended",
}


@dataclass(frozen=True, eq=False)
class Windowed:
    """A stream in windows; only `aggregate` can follow."""

    stream: Stream
    window: Window
    by: tuple[str, ...]
    grace: timedelta
    early: Early | None = None
    late: LatePolicy = "side_output"

    if not TYPE_CHECKING:  # to which what is not there is an error, and shall be

        def __getattr__(self, name: str) -> Any:
            """In words, for what a stream would have. Raises `NoMethod`."""
            _need_stream_method(self, name)
            raise NoMethod(
                f"a window on {self.stream} has no .{name}: only .aggregate(Model, ...) follows it;"
                " what is to be done with rows, do before .window(...)"
            )

    def aggregate(
        self, model: type[BaseModel], **aggregates: Aggregate | AggregateFunction
    ) -> Results:
        """One final row per window and group, as `model` declares it.

        `model` has the grouping fields, `window_start`, and one field per aggregate.
        """
        ways = ways_of(self.stream.schema)
        made = {name: _aggregate(name, given, ways) for name, given in aggregates.items()}
        return Results(self, model, MappingProxyType(made))


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
        self._check_names()
        for name, aggregate in self.aggregates.items():
            for needed in fields_of(aggregate):
                self.windowed.stream.need(f"{name_of(aggregate)}() as {name}", needed)
        if schema.field("window_start").type != TIMESTAMP:
            raise TopologyError(f"{self.model.__name__}.window_start must be an AwareDatetime")
        object.__setattr__(self, "schema", schema)

    def _check_names(self) -> None:
        """Raises `TopologyError` where two values would have one name."""
        for name in self.aggregates:
            if name in self.windowed.by:
                raise TopologyError(
                    f"aggregate(): {name!r} is one of the fields that {self} are grouped by; name"
                    " the aggregate otherwise"
                )
        for name in (*self.windowed.by, *self.aggregates):
            if name in _OWN:
                raise TopologyError(
                    f"aggregate(): every result of {self} says by {name!r} {_OWN[name]}; name yours"
                    " otherwise, a field of the records by a .map(...) before the window"
                )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """In words, for what a stream would have. Raises `NoMethod`."""
            _need_stream_method(self, name)
            lose = ", or leave the window out, if nobody wants them" if name == "drop" else ""
            raise NoMethod(
                f"results of {self.model.__name__} have no .{name}: send them on, by"
                f" .to(topic(...)) or .to(parquet(...)){lose}"
            )

    def __str__(self) -> str:
        return repr(self.name)

    @property
    def name(self) -> str:
        """The operator's name, from source and model: state survives an inserted stage."""
        return f"{self.windowed.stream.source.topic}.{self.model.__name__.lower()}"

    @property
    def late(self) -> Exit:
        """Records that came after their window was final, or after `update` kept it no longer."""
        return Exit(self, "late")

    def to(self, destination: Topic | Parquet) -> Edge:
        """Send results on, to a topic keyed by group and window start, or to a table."""
        return edge_to(self, destination, Topic, Parquet)


def _need_stream_method(of: object, name: str) -> None:
    """Raises `AttributeError` for what is no method of a stream either."""
    from streamflow.stream import Stream

    if name.startswith("_") or not callable(getattr(Stream, name, None)):
        raise AttributeError(f"{type(of).__name__!r} object has no attribute {name!r}")


def windowed(
    stream: Stream,
    window: Window,
    by: str | Sequence[str],
    grace: timedelta,
    early: Early | None,
    late: LatePolicy,
) -> Windowed:
    """Raises `TopologyError` when rows cannot be grouped so, or the window cannot close so."""
    where, groups = f"window on {stream}", _groups(stream, by)
    is_window(where, window)
    is_some_duration(where, "grace", grace)
    if grace < timedelta(0):
        raise TopologyError(f"{where}: grace {in_words(grace)} is below zero")
    check_triggers(where, window, grace, early, late)
    return Windowed(stream, window, groups, grace, early, late)


def _groups(stream: Stream, by: Any) -> tuple[str, ...]:
    """The fields to group by. Raises `TopologyError` where results would be partial or wrong."""
    where = f"window on {stream}"
    groups = (by,) if isinstance(by, str) else tuple(by) if isinstance(by, tuple | list) else None
    if not groups:
        raise TopologyError(f"{where}: by={by!r}; name the fields to group by")
    for name in groups:
        stream.need("window", name)
        kind = stream.schema.field(name).type
        if pa.types.is_nested(kind):
            raise TopologyError(f"{where}: cannot group by {name!r}, which is {kind}")
    twice = [name for name in groups if groups.count(name) > 1]
    if twice:
        raise TopologyError(f"{where}: by has {twice[0]!r} twice; leave one out")
    if not stream.keys or not set(stream.keys) <= set(groups):
        key = " and ".join(map(repr, stream.source.keys)) or None
        raise TopologyError(
            f"{where}: grouping by {list(groups)} does not contain the topic's key {key}, so "
            "results would be partial per partition; group by it too"
        )
    return groups


def _aggregate(name: str, given: Any, ways: Mapping[str, Sensitive]) -> Aggregate:
    """What was given for a field of the results, which has to be an aggregate."""
    if isinstance(given, AggregateFunction):
        made = UserDefined(given)
        return UserDefined(given, discreet=not ways.keys().isdisjoint(made.fields))
    if not isinstance(given, Aggregate) or isinstance(given, type):
        raise TopologyError(
            f"aggregate(): {name} is {given!r}; it must be an aggregate, such as Count(), or an "
            "instance of an AggregateFunction"
        )
    return given
