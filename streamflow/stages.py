"""The stages of a stream as values: what happens to each record between its source and its exits.

A stage looks at each row alone, or at the rows before it in its partition, so that how a partition
was cut into micro-batches cannot be seen.
A function is given a `pa.RecordBatch` and gives one value per row; it is tried on zero rows when
the topology is built.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel

from streamflow.arguments import in_words, is_some_duration, is_text
from streamflow.changes import Changed, kinds_of, said_kinds
from streamflow.enrich import Enrich
from streamflow.errors import TopologyError
from streamflow.exact_cast import check_cast
from streamflow.expand import Expand, MapRows
from streamflow.on_error import OnError, is_on_error
from streamflow.rules import Condition, Rule, tried
from streamflow.schema import EVENT_TIME, LINEAGE, arrow_schema
from streamflow.sql import compile_condition
from streamflow.thresholds import Threshold, is_threshold
from streamflow.windows import micros

Expression = str | Callable[[pa.RecordBatch], Any]


@dataclass(frozen=True)
class Cast:
    """A field of a map, and what becomes of values that its type cannot hold; see `cast`."""

    expression: Expression
    loss: Literal["reject", "null"]


def cast(expression: Expression, *, loss: Literal["reject", "null"] = "reject") -> Cast:
    """A field of `map`, with a policy for values that do not fit its type.

    No cast ever loses anything in silence: a fraction does not fit an integer, "x" no number, 2^60
    + 1 no float, 1.239 no decimal of two places, 5 no bool, noon no date.

    Args:
        expression: SQL or a function over columns, as for any field of a map.
        loss: What a value that does not fit makes: `"reject"`, a dead letter of its row, as for
            fields without a policy; `"null"`, a null, which the field has to allow. An expression
            that fails is a dead letter with both.
    """
    return Cast(expression, loss)


@dataclass(frozen=True)
class Watch:
    """A threshold of a gate: on how often its rule `rule` is broken, or with None any of them."""

    name: str
    rule: str | None
    threshold: Threshold

    def words(self, how: str) -> str:
        """Who did this to a partition, and why."""
        return f"the gate {self.name!r} has {how}: its rules were broken by {self.threshold.limit}"


@dataclass(frozen=True, eq=False)
class Gate:
    """Rules and what each is compiled to, and the thresholds that are held against them."""

    rules: tuple[tuple[Rule, Condition], ...]
    watches: tuple[Watch, ...] = ()


@dataclass(frozen=True, eq=False)
class Filter:
    """Keeps rows on which the condition is TRUE; where it is FALSE or NULL, a row is dropped."""

    condition: Expression
    compiled: Condition
    on_error: OnError

    @property
    def name(self) -> str:
        """What dropped rows are counted under."""
        return f"filter {_text(self.condition)}"


@dataclass(frozen=True, eq=False)
class Map:
    """Makes rows of another model: its fields are computed, or taken over by name. In those of
    `forgiving` a value that does not fit the field's type becomes null.
    """

    model: type[BaseModel]
    schema: pa.Schema
    columns: Mapping[str, Expression]
    compiled: Mapping[str, Condition]
    forgiving: frozenset[str]
    on_error: OnError

    @property
    def name(self) -> str:
        """The stage that its dead letters name."""
        return f"map {self.model.__name__}"


@dataclass(frozen=True, eq=False)
class Dedup:
    """Drops a row whose keys have passed within a time; `within` is in microseconds."""

    keys: tuple[str, ...]
    within: int
    label: str | None = None
    kinds: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What duplicates are counted under, and its state is kept under."""
        return f"dedup {self.label or ','.join(self.keys)}"

    @property
    def compared(self) -> str:
        """What it remembers: state of anything else is not read."""
        return said_kinds(self.keys, self.kinds)


@dataclass(frozen=True, eq=False)
class Branch:
    """Parts rows by conditions: each goes into the arm of the first one that is TRUE on it, and
    into the last arm where none is.
    """

    conditions: tuple[Expression, ...]
    compiled: tuple[Condition, ...]
    on_error: OnError

    @property
    def arms(self) -> list[str]:
        """A name for each arm, which the rows that go into it are counted under."""
        texts = [_text(condition) for condition in self.conditions]
        # Functions without a name; and what is called as the last arm is.
        several = {text for text in texts if texts.count(text) > 1 or text == "rest"}
        named = [f"{t} {i}" if t in several else t for i, t in enumerate(texts)]
        return [f"branch {name}" for name in (*named, "rest")]


@dataclass(frozen=True, eq=False)
class Arm:
    """One of the ways of a branch, by number."""

    branch: Branch
    number: int

    @property
    def name(self) -> str:
        """What rows that go into it are counted under."""
        return self.branch.arms[self.number]


Stage = Gate | Filter | Map | MapRows | Expand | Enrich | Dedup | Changed | Arm
#: Stages after which rows are of another model.
REMAKING = (Map, MapRows, Expand, Enrich)


def gate_stage(
    rules: tuple[Rule, ...], threshold: Threshold | None, schema: pa.Schema, where: str
) -> Gate:
    """Raises `TopologyError` when a rule does not compile, or there is none to hold a threshold
    against.
    """
    is_threshold(where, threshold)
    if threshold is not None and not rules:
        raise TopologyError(f"{where}: a threshold needs a rule to be held against")
    watches = [Watch(rule.name, rule.name, rule.threshold) for rule in rules if rule.threshold]
    if threshold is not None:
        watches.append(Watch(threshold.name or "gate", None, threshold))
    return Gate(tuple((rule, rule.compiled(schema)) for rule in rules), tuple(watches))


def filter_stage(condition: Expression, on_error: OnError, schema: pa.Schema, where: str) -> Filter:
    """Raises `TopologyError` when the condition does not compile or gives no truth values."""
    is_on_error(where, on_error)
    return Filter(condition, _truth(condition, schema, where), on_error)


def branch_stage(
    conditions: tuple[Expression, ...], on_error: OnError, schema: pa.Schema, where: str
) -> Branch:
    """Raises `TopologyError` when there is no condition, one is there twice, or one does not
    compile or gives no truth values.
    """
    is_on_error(where, on_error)
    if not conditions:
        raise TopologyError(f"{where}: give it a condition for each arm but the last")
    twice = [one for one in conditions if conditions.count(one) > 1]
    if twice:
        raise TopologyError(
            f"{where}: {_text(twice[0])!r} is there twice, and the second would get no rows"
        )
    compiled = tuple(_truth(one, schema, where) for one in conditions)
    return Branch(conditions, compiled, on_error)


def map_stage(
    model: type[BaseModel],
    given: Mapping[str, Expression | Cast],
    on_error: OnError,
    schema: pa.Schema,
    where: str,
) -> Map:
    """Raises `TopologyError` when a field has no origin, or one that does not fit its type."""
    is_on_error(where, on_error)
    wanted = arrow_schema(model)
    columns = {name: e.expression if isinstance(e, Cast) else e for name, e in given.items()}
    unknown = sorted(set(columns) - set(wanted.names))
    if unknown:
        raise TopologyError(f"{where}: {model.__name__} has no field {unknown[0]!r}")
    compiled: dict[str, Condition] = {}
    for field in wanted:
        here = f"{where}: {model.__name__}.{field.name}"
        if field.name in columns:
            compiled[field.name] = _compiled(columns[field.name], schema, here)
        elif field.name in schema.names:
            compiled[field.name] = _taken(field.name)
        else:
            raise TopologyError(
                f"{here} is neither computed nor a field of the stream, which has "
                f"{sorted(name for name in schema.names if not name.startswith('_'))}"
            )
        check_cast(here, tried(compiled[field.name], schema, here).type, field.type)
    return Map(model, wanted, columns, compiled, _forgiving(given, wanted, where), on_error)


def _forgiving(
    given: Mapping[str, Expression | Cast], wanted: pa.Schema, where: str
) -> frozenset[str]:
    """The fields in which a value that does not fit becomes null."""
    casts = {name: one for name, one in given.items() if isinstance(one, Cast)}
    for name, one in casts.items():
        if one.loss not in ("reject", "null"):
            raise TopologyError(
                f"{where}: cast of {name!r}: loss is 'reject' or 'null', not {one.loss!r}"
            )
        if one.loss == "null" and not wanted.field(name).nullable:
            raise TopologyError(
                f"{where}: {name!r} cannot be null, but its cast makes null of what does not fit; "
                'declare it | None, or take loss="reject"'
            )
    return frozenset(name for name, one in casts.items() if one.loss == "null")


def dedup_stage(
    keys: tuple[str, ...],
    within: timedelta,
    name: str | None,
    known: Collection[str],
    schema: pa.Schema,
    where: str,
) -> Dedup:
    """Raises `TopologyError` when keys cannot be compared, there is no time, or the name is one of
    those that are known.
    """
    is_some_duration(where, "within", within)
    if not keys or within <= timedelta(0):
        raise TopologyError(
            f"{where}: name its keys, and a time above zero; within is {in_words(within)}"
        )
    if name is not None:
        is_text(where, "name", name)
    for key in keys:
        kind = schema.field(key).type
        if pa.types.is_nested(kind):
            raise TopologyError(f"{where}: cannot compare {key!r}, which is {kind}")
    stage = Dedup(keys, micros(within), name, kinds_of(schema, keys))
    if stage.name in known:
        raise TopologyError(
            f"{where}: it is there already by {list(keys)}; give it a name=... of its own"
        )
    return stage


def rules_of(stages: Iterable[object]) -> list[Rule]:
    """The rules of all gates. One that is in several arms is counted, and told, once."""
    gates = [stage for stage in stages if isinstance(stage, Gate)]
    return list({rule.name: rule for gate in gates for rule, _ in gate.rules}.values())


def with_lineage(schema: pa.Schema) -> pa.Schema:
    """The columns that rows of these fields have."""
    return pa.schema([*schema, *LINEAGE, EVENT_TIME])


def _truth(condition: Expression, schema: pa.Schema, where: str) -> Condition:
    compiled = _compiled(condition, schema, where)
    kind = tried(compiled, schema, where).type
    if not pa.types.is_boolean(kind):
        raise TopologyError(f"{where}: gives {kind}, not true or false")
    return compiled


def _text(expression: Expression) -> str:
    """SQL as it is, a function by its name."""
    if isinstance(expression, str):
        return expression
    return getattr(expression, "__name__", type(expression).__name__)


def _compiled(expression: Expression, schema: pa.Schema, where: str) -> Condition:
    if not isinstance(expression, str):
        if not callable(expression):
            raise TopologyError(f"{where}: {expression!r} is neither SQL nor a function")
        return expression
    computed = compile_condition(expression, schema, where)

    def column(rows: pa.RecordBatch) -> Any:
        made: Any = computed(rows)
        return pa.repeat(made, rows.num_rows) if isinstance(made, pa.Scalar) else made

    return column


def _taken(name: str) -> Condition:
    return lambda rows: rows.column(name)
