"""Sensitive fields are followed: a field that is made of one says how it leaves, too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from streamflow.aggregates import ApproxDistinct, Count, Distinct, fields_of, name_of
from streamflow.checks import Check, Measure
from streamflow.core.plan import Node, TaskPlan
from streamflow.enrich import Enrich
from streamflow.errors import TopologyError
from streamflow.event_time import Epoch
from streamflow.expand import Expand
from streamflow.results import Results
from streamflow.sensitive import Sensitive, marks_of, ways_of
from streamflow.sources import Source
from streamflow.sql import fields_in
from streamflow.stages import REMAKING, Map, Stage
from streamflow.stream import Stream

#: What these give are numbers of values, and not values.
_COUNTS = (Count, Distinct, ApproxDistinct)
_HOW = "mark it hashed(), masked() or withheld(), or cleared(why) where it may leave as it is"


def check_sensitive(where: str, source: Source, streams: Iterable[Stream]) -> None:
    """Raises `TopologyError` where a field that is made of a sensitive one is not marked, or a key
    would not tell records apart.
    """
    marks = ways_of(source.contract.schema)
    for key in source.keys:
        mark = marks.get(key)
        if mark is not None and not mark.is_kept_apart:
            raise TopologyError(
                f"{where}: {source.contract.model.__name__}.{key} is the key of {source.topic!r}"
                f" and marked {mark}: records of different keys would have one; mark it hashed()"
            )
    _check_event_time(where, source)
    for stream in streams:
        before = source.contract.schema
        for stage in stream.stages:
            if isinstance(stage, REMAKING):
                model = stage.model.__name__
                for field in stage.schema:
                    _check_field(
                        where, f"{model}.{field.name}", field, _made_of(stage, field.name), before
                    )
                before = stage.schema


def check_sensitive_results(where: str, results: Results) -> None:
    """The same of a window's results."""
    before, model = results.windowed.stream.schema, results.model.__name__
    marks: dict[str, Sensitive] = ways_of(results.schema)
    for name in results.windowed.by:
        mark = marks.get(name)
        if mark is not None and not mark.is_kept_apart:
            raise TopologyError(
                f"{where}: {model}.{name} is a group of {results} and marked {mark}: different"
                " groups would look alike; mark it hashed()"
            )
        _check_field(where, f"{model}.{name}", results.schema.field(name), {name}, before)
    for name, aggregate in results.aggregates.items():
        if not isinstance(aggregate, _COUNTS):
            made = f"{model}.{name}, {name_of(aggregate)}()"
            _check_field(where, made, results.schema.field(name), set(fields_of(aggregate)), before)


def check_sensitive_checks(where: str, checks: Sequence[Check], schema: pa.Schema) -> None:
    """The same of what checks of rows say: no model of theirs could say that it may leave."""
    ways = ways_of(schema)
    for check in checks:
        if isinstance(check, Measure) and not isinstance(check.computed, _COUNTS):
            found = sorted(ways.keys() & set(check.fields))
            if found:
                raise TopologyError(
                    f"{where}: {check.label} is made of {found[0]!r}, which is sensitive; take a"
                    " field of a map that is marked cleared(why)"
                )


def fields_of_key(task: TaskPlan) -> dict[int, frozenset[str]]:
    """By the number of each outlet its fields that are seen to be made of the records' key."""
    found: dict[int, frozenset[str]] = {}
    _follow(task.tree, frozenset(task.source.keys), found)
    return found


def _follow(node: Node, names: frozenset[str], found: dict[int, frozenset[str]]) -> None:
    stage = node.stage
    if isinstance(stage, REMAKING):
        mine = stage.schema.names
        names = frozenset(n for n in mine if not names.isdisjoint(_made_of(stage, n)))
    if node.outlet is not None:
        found[node.outlet.number] = names
    for child in node.nodes:
        _follow(child, names, found)


def _check_event_time(where: str, source: Source) -> None:
    given = source.event_time
    name = given.field if isinstance(given, Epoch) else given
    mark = ways_of(source.contract.schema).get(name) if isinstance(name, str) else None
    if mark is not None:
        raise TopologyError(
            f"{where}: {source.contract.model.__name__}.{name} is the event time of"
            f" {source.topic!r} and marked {mark}: rows, windows and records would say it; mark it"
            " cleared(why), or take another one"
        )


def _made_of(stage: Stage, name: str) -> set[str]:
    """The fields that a field of the rows after a stage is seen to be made of. What a function does
    is not seen: a field of the same name is taken for the same.
    """
    if isinstance(stage, Map) and name in stage.columns:
        expression = stage.columns[name]
        return fields_in(expression) if isinstance(expression, str) else {name}
    if isinstance(stage, Expand) and name in stage.columns and isinstance(stage.given, str):
        return {stage.given}
    if isinstance(stage, Enrich) and name in stage.columns:
        return set()
    return {name}


def _check_field(
    where: str, made: str, field: pa.Field, origins: set[str], before: pa.Schema
) -> None:
    found = sorted(origins & ways_of(before).keys())
    if found and field.name not in marks_of(pa.schema([field])):
        raise TopologyError(
            f"{where}: {made} is made of {found[0]!r}, which is sensitive, and is not marked;"
            f" {_HOW}"
        )
