"""From the checks of a stream to their plan: what is kept of each extent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates import Aggregate, ApproxDistinct, Collect, Count, Max, fields_of, name_of
from streamflow.aggregates.part import Part
from streamflow.checking import Checks
from streamflow.checks import Check, Freshness, Measure, NullRate, Share, Unique, Volume
from streamflow.core.describe import describe_aggregate, describe_function, digest
from streamflow.core.plan import ChecksPlan, PartColumn, SinkPlan, WindowPlan, described_parts
from streamflow.core.sensitive_fields import check_sensitive_checks
from streamflow.errors import TopologyError
from streamflow.rules import Condition
from streamflow.stages import filter_stage
from streamflow.windows import micros

#: Offsets of rows that a result names.
EXAMPLES = 3
#: Names in a partial: of the number of rows, and of those that a check marks.
ROWS, MARKED = "rows", "n"


def compile_checks(
    checks: Checks, topics: tuple[str, ...], sinks: tuple[SinkPlan, ...]
) -> ChecksPlan:
    """Raises `TopologyError` for a condition or an aggregate that does not fit the stream."""
    where = f"check on {checks.stream}"
    schema = checks.stream.schema
    check_sensitive_checks(where, checks.checks, schema)
    numbered = dict(enumerate(checks.checks))
    for check in checks.checks:
        for name in check.fields if isinstance(check, Unique) else ():
            kind = schema.field(name).type
            if pa.types.is_nested(kind):
                words = f"{where}: {check.label}: cannot compare {name!r}, which is {kind}"
                raise TopologyError(words)
    marked = {n: _condition(c, schema, where) for n, c in numbered.items() if _marks(c)}
    parts = [PartColumn(ROWS, part, None) for part in Count().parts()]
    for number, check in numbered.items():
        parts += _parts(number, check, schema, where)
    kept = [f"{_kept(check)} {_kinds(check, schema)}" for check in checks.checks]
    said = [f"{checks.over!r} {checks.grace}", *kept, *described_parts(parts)]
    key = f"{checks.name}~{digest(said)[:8]}"
    counts = [PartColumn(ROWS, part, None) for part in Count().parts()]
    by_key = {
        n: _window(f"{key}/{n}", checks, (key_column(n),), counts)
        for n, check in numbered.items()
        if isinstance(check, Unique)
    }
    return ChecksPlan(
        checks.name,
        key,
        checks.checks,
        [_described(check) for check in checks.checks],
        checks.counted,
        _window(key, checks, (), parts),
        by_key,
        marked,
        topics,
        sinks,
    )


def mark_column(number: int) -> str:
    """The column of rows that has the offset where a check marks the row, else null."""
    return f"__marked{number}"


def key_column(number: int) -> str:
    """The column of rows that has the key of a check of duplicates."""
    return f"__key{number}"


def measured(number: int, check: Measure, column: Mapping[str, Any]) -> Any:
    """The values of its aggregate, of the merged columns of partials by their names."""
    return check.computed.result(_of(number, column))


def first_marked(number: int, column: Mapping[str, Any]) -> Any:
    """The offsets of the oldest rows that a check marks, as lists."""
    return Collect(mark_column(number), limit=EXAMPLES).result(_of(number, column))


def _of(number: int, column: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{number}."
    return {name.removeprefix(prefix): c for name, c in column.items() if name.startswith(prefix)}


def _marks(check: Check) -> bool:
    return isinstance(check, NullRate | Share)


def _condition(check: Check, schema: pa.Schema, where: str) -> Condition:
    """Which rows it marks: those in its share."""
    if isinstance(check, NullRate):
        name = check.field
        return lambda rows: pc.is_null(rows.column(name))
    assert isinstance(check, Share)
    return filter_stage(check.condition, "dead_letter", schema, f"{where}: {check.label}").compiled


def _parts(number: int, check: Check, schema: pa.Schema, where: str) -> list[PartColumn]:
    match check:
        case NullRate() | Share():
            name = mark_column(number)
            count = Part(MARKED, "count", "sum", pa.int64(), None, (name,))
            first = Collect(name, limit=EXAMPLES).parts(pa.int64())
            return [PartColumn(str(number), part, name) for part in (count, *first)]
        case Freshness():
            made = Max("_timestamp").parts(schema.field("_timestamp").type)
            return [PartColumn(str(number), part, "_timestamp") for part in made]
        case Measure():
            return _measure(number, check, schema, f"{where}: {check.label}")
        case _:
            return []


def _measure(number: int, check: Measure, schema: pa.Schema, where: str) -> list[PartColumn]:
    aggregate: Aggregate = check.computed
    parts = aggregate.parts(*(schema.field(name).type for name in fields_of(aggregate)))
    gives = aggregate.result({part.name: pa.array([], part.type) for part in parts}).type
    number_of = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if not any(test(gives) for test in number_of):
        raise TopologyError(
            f"{where}: {name_of(aggregate)}() gives {gives}, and bounds are for numbers"
        )
    return [PartColumn(str(number), part, aggregate.field) for part in parts]


def _window(
    name: str, checks: Checks, by: tuple[str, ...], parts: Sequence[PartColumn]
) -> WindowPlan:
    return WindowPlan(
        name=name,
        window=checks.extent,
        grace=micros(checks.grace),
        by=by,
        aggregates=(),
        parts=tuple(parts),
        schema=pa.schema([]),
        topics=(),
        sinks=(),
        late_topic=None,
        early=None,
        keep=0,
        late_is_dead_letter=False,
    )


def _kinds(check: Check, schema: pa.Schema) -> str:
    """The types of what is compared by its text, or kept as hashes."""
    hashed = isinstance(check, Measure) and isinstance(check.computed, ApproxDistinct)
    names = check.fields if hashed or isinstance(check, Unique) else ()
    return " ".join(str(schema.field(name).type) for name in names)


def _kept(check: Check) -> str:
    """What is kept of an extent for it."""
    what = type(check).__name__
    match check:
        case Share():
            marked = "those missing" if check.at_most is None else "those there"
            return f"{what} {describe_function(check.condition)} {marked}"
        case Measure():
            return f"{what} {check.computed!r}"  # and no code, so that it can be mended
        case _:
            return f"{what} {check.fields}"


def _described(check: Check) -> str:
    more = f" {check.against} {check.within}" if isinstance(check, Volume) else ""
    stop = f" {check.stop.signature}" if check.stop else ""
    how = f" {describe_aggregate(check.computed)}" if isinstance(check, Measure) else ""
    return f"{_kept(check)} {check.label} {check.severity} {check.bounds}{more}{how}{stop}"
