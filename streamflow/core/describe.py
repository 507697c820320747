"""What tells a function, a rule or a stage from another one: for the version of a topology."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from streamflow.aggregates import METHODS, Aggregate, UserDefined
from streamflow.changes import Changed
from streamflow.enrich import Enrich
from streamflow.epochs import Epoch
from streamflow.event_time import Header, KafkaTimestamp
from streamflow.expand import Expand, MapRows
from streamflow.rules import Rule
from streamflow.stages import Arm, Branch, Dedup, Filter, Gate, Map, Stage
from streamflow.told import told_function

if TYPE_CHECKING:
    from streamflow.sources import Source


def digest(parts: Sequence[str]) -> str:
    """A hash of these texts."""
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def describe_function(function: str | Callable[..., Any]) -> str:
    """What tells a function, or SQL, from another."""
    return function if isinstance(function, str) else told_function(function)


def describe_aggregate(aggregate: Aggregate) -> str:
    """What tells it from another: its repr, on which its state depends, and code of a user's."""
    if not isinstance(aggregate, UserDefined):
        return repr(aggregate)
    code = [describe_function(getattr(aggregate.function, name)) for name in METHODS]
    return "\n".join([repr(aggregate), *code])


def _describe_rule(rule: Rule) -> tuple[str, ...]:
    fix = () if rule.fix is None else (rule.fix[0], describe_function(rule.fix[1]))
    default = () if rule.default is None else (repr(rule.default),)
    condition = describe_function(rule.condition)
    on_error = () if rule.on_error == "broken" else (rule.on_error,)
    return (rule.name, rule.severity, condition, rule.outcome, *fix, *default, *on_error)


def describe_stage(stage: Stage | Branch) -> str:  # noqa: PLR0911 - one for each kind
    """What tells a stage from another."""
    match stage:
        case Gate():
            watches = [f"{one.name}: {one.threshold.signature}" for one in stage.watches]
            return f"gate {[_describe_rule(rule) for rule, _ in stage.rules]} {watches}"
        case Filter():
            return f"filter {describe_function(stage.condition)} {stage.on_error}"
        case Dedup():
            return f"{stage.name} within {stage.within}"
        case Changed():
            return f"{stage.name} of {stage.fields} forgetting after {stage.forget_after}"
        case Map():
            columns = [f"{name}={describe_function(e)}" for name, e in stage.columns.items()]
            return f"map {stage.schema} {columns} {sorted(stage.forgiving)} {stage.on_error}"
        case MapRows() | Expand():
            made = stage.function if isinstance(stage, MapRows) else stage.given
            return f"{stage.name} {stage.schema} {describe_function(made)} {stage.on_error}"
        case Enrich():
            looked_up = f"{sorted(stage.columns)} by {stage.keys} {stage.on_error}"
            return f"{stage.name} {stage.schema} {describe_function(stage.function)} {looked_up}"
        case Branch():
            conditions = [describe_function(condition) for condition in stage.conditions]
            return f"branch {conditions} {stage.on_error}"
        case Arm():
            return f"arm {stage.number}"


def describe_source(source: Source) -> str:
    """What decides which rows its records make."""
    named = source.event_time
    kept = isinstance(named, KafkaTimestamp | Header | Epoch)
    event_time = repr(named) if kept else describe_function(named)
    return "\n".join(
        [
            f"{source.topic} key {', '.join(source.keys) or None} at {event_time}",
            f"{source.contract.schema} out of order {source.out_of_orderness}",
            f"at most {source.max_future} ahead, else {source.missing_event_time}",
            f"idle after {source.idle_after}",
            f"tombstones {source.tombstones} {source.envelope or ''}".rstrip(),
        ]
    )
