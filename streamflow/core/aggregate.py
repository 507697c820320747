"""Partial aggregates: rows reduced per window and group, merged in any order, finished once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import TopicPartition
from streamflow.core.plan import PartColumn, WindowPlan
from streamflow.core.window import ends_of
from streamflow.errors import StateRefused
from streamflow.schema import TIMESTAMP
from streamflow.windows import Session

START, END = "__start", "__end"
_SESSION = "__session"
#: Kept of every group besides its aggregates: how `first` and merging reduce each.
KEPT = (("__latest", "max"), ("__first", "min"), ("__next", "max"))


def partial(
    plan: WindowPlan, rows: pa.RecordBatch, starts: pa.Array, ends: pa.Array, times: pa.Array
) -> pa.Table:
    """Reduce rows to one partial per window and group."""
    columns: dict[str, Any] = {START: starts}
    if isinstance(plan.window, Session):
        columns[END] = ends
    for name in plan.by:
        columns[name] = rows.column(name)
    for part in plan.parts:
        column = rows.column(part.field) if part.field is not None else starts
        columns[part.column] = part.part.prepare(column) if part.part.prepare else column
    offsets = rows.column("_offset")
    columns |= {"__latest": times, "__first": offsets, "__next": pc.add(offsets, 1)}
    steps = [(part.column, part.part.first) for part in plan.parts] + list(KEPT)
    return _reduce(plan, _in_sessions(plan, pa.table(columns)), steps).select(_columns(plan))


def merge(plan: WindowPlan, partials: Sequence[pa.Table]) -> pa.Table:
    """One partial per window and group, sorted by window, then group."""
    merged = _merge(plan, pa.concat_tables(partials))
    if isinstance(plan.window, Session):
        # A long session hides from each other the two that lie before and after a short one in it.
        while (again := _merge(plan, merged)).num_rows < merged.num_rows:
            merged = again
    return merged.sort_by([(name, "ascending") for name in (START, *plan.by)])


def _merge(plan: WindowPlan, partials: pa.Table) -> pa.Table:
    table = _in_sessions(plan, partials)
    steps = [(p.column, p.part.merge) for p in plan.parts if p.part.merge != "union"] + list(KEPT)
    order = [(name, "ascending") for name in _groups(plan)]
    merged = _reduce(plan, table, steps).sort_by(order)
    for part in plan.parts:
        if part.part.merge == "union":
            values = _union(plan, table, part).sort_by(order).column(part.column)
            merged = merged.append_column(part.column, values)
    return merged.select(_columns(plan))


def _in_sessions(plan: WindowPlan, table: pa.Table) -> pa.Table:
    """The table with a number for each run of rows of a group that touch; as it is without them."""
    if not isinstance(plan.window, Session):
        return table
    ordered = table.sort_by([(name, "ascending") for name in (*plan.by, START)])
    n = ordered.num_rows
    here, before = ordered.slice(1), ordered.slice(0, max(n - 1, 0))
    apart = pc.greater(here[START], before[END])
    for name in plan.by:
        one, other = here[name], before[name]
        both_null = pc.and_(pc.is_null(one), pc.is_null(other))
        same = pc.or_(pc.fill_null(pc.equal(one, other), False), both_null)
        apart = pc.or_(apart, pc.invert(same))
    first = pa.chunked_array([pa.array([True][:n], pa.bool_()), *apart.chunks], pa.bool_())
    numbers = pc.cumulative_sum(pc.cast(first, pa.int64()))
    return ordered.append_column(_SESSION, numbers)


def finish(plan: WindowPlan, merged: pa.Table, tp: TopicPartition) -> pa.RecordBatch:
    """The final rows of merged partials, in the schema of the results.

    The batch's column `__latest` (event time, microseconds) follows the schema's columns.
    """
    n = merged.num_rows
    made: dict[str, Any] = {name: merged.column(name) for name in plan.by}
    made["window_start"] = pc.cast(merged.column(START), TIMESTAMP)
    ends = (
        merged.column(END)
        if isinstance(plan.window, Session)
        else ends_of(plan.window, _flat(merged.column(START)))
    )
    made["window_end"] = pc.cast(ends, TIMESTAMP)
    made["revision"] = pa.repeat(pa.scalar(0, pa.int32()), n)
    made["final"] = pa.repeat(pa.scalar(True), n)
    made["_topic"] = pa.repeat(pa.scalar(tp.topic, pa.string()), n)
    made["_partition"] = pa.repeat(pa.scalar(tp.partition, pa.int32()), n)
    made["_offset_first"], made["_offset_next"] = merged.column("__first"), merged.column("__next")
    for output, aggregate in plan.aggregates:
        mine = [part for part in plan.parts if part.output == output]
        parts = {part.part.name: merged.column(part.column) for part in mine}
        made[output] = _fit(plan, output, aggregate.result(parts), tp)
    arrays = [_flat(made[field.name]) for field in plan.schema] + [_flat(merged.column("__latest"))]
    schema = pa.schema([*plan.schema, pa.field("__latest", pa.int64())])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _fit(plan: WindowPlan, output: str, values: Any, tp: TopicPartition) -> Any:
    """The values in the column's type. An overflow is never wrapped: a person has to decide."""
    declared = plan.schema.field(output).type
    try:
        return pc.cast(values, declared)
    except pa.ArrowInvalid as error:
        raise StateRefused(
            f"{tp}: a result of {plan.name!r} does not fit {output} ({declared}): {error}; "
            "declare the field as a Decimal"
        ) from error


def _columns(plan: WindowPlan) -> list[str]:
    bounds = [START, END] if isinstance(plan.window, Session) else [START]
    return [*bounds, *plan.by, *(part.column for part in plan.parts), *(name for name, _ in KEPT)]


def _groups(plan: WindowPlan) -> list[str]:
    return [_SESSION if isinstance(plan.window, Session) else START, *plan.by]


def _reduce(plan: WindowPlan, table: pa.Table, steps: list[tuple[str, str]]) -> pa.Table:
    if isinstance(plan.window, Session):
        steps = [*steps, (START, "min"), (END, "max")]
    reduced = table.group_by(_groups(plan), use_threads=False).aggregate(steps)
    names = {f"{column}_{function}": column for column, function in steps}
    return reduced.rename_columns([names.get(name, name) for name in reduced.column_names])


def _union(plan: WindowPlan, table: pa.Table, part: PartColumn) -> pa.Table:
    """Distinct values of each group over all its lists.

    A null row per partial is added, which `distinct` does not count: so a group of empty lists
    keeps its row and the result has the same groups as every other reduction.
    """
    groups = table.select(_groups(plan))
    lists = table.column(part.column).combine_chunks()
    values = groups.take(pc.list_parent_indices(lists))
    values = values.append_column(part.column, pc.list_flatten(lists))
    nulls = pa.nulls(groups.num_rows, lists.type.value_type)
    with_all_groups = pa.concat_tables([values, groups.append_column(part.column, nulls)])
    reduced = with_all_groups.group_by(_groups(plan), use_threads=False).aggregate(
        [(part.column, "distinct")]
    )
    reduced = reduced.rename_columns([*_groups(plan), part.column])
    return reduced.set_column(
        reduced.column_names.index(part.column),
        part.column,
        reduced.column(part.column).cast(part.part.type),
    )


def _flat(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
