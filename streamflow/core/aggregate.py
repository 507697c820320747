"""Partial aggregates: rows reduced per window and group, merged in any order, finished once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates import Aggregate
from streamflow.aggregates.part import canonical
from streamflow.aggregates.reductions import Reduction
from streamflow.batch import TopicPartition
from streamflow.core.placed import of_rows
from streamflow.core.plan import PartColumn, WindowPlan
from streamflow.core.window import Assigned, each_window, ends_of
from streamflow.errors import FunctionFailed, StateRefused
from streamflow.exact_cast import nearest_float
from streamflow.schema import TIMESTAMP
from streamflow.sensitive import SENSITIVE
from streamflow.windows import Session

START, END = "__start", "__end"
_SESSION = "__session"
_ROW = "__row"
_WINDOWS, _FIRST = "__windows", "__amended"
#: Kept of every group besides its aggregates: how rows and partials are reduced to each.
KEPT = (("__latest", "max"), ("__first", "min"), ("__next", "max"))
#: Of windows that late rows correct: did the rows come late? They are reduced on their own, so that
#: the first final result has the others only. And in how many commits have they corrected it?
AMENDS, REVISIONS = "__amends", "__revisions"


def partial(plan: WindowPlan, on_time: Assigned, times: pa.Array) -> pa.Table:
    """Reduce rows to one partial per window and group."""
    rows, starts = on_time.rows, on_time.starts
    columns: dict[str, Any] = {START: starts}
    if isinstance(plan.window, Session):
        columns[END] = on_time.ends
    if plan.keep:
        columns[AMENDS] = pc.greater(on_time.amends, 0)
        columns[REVISIONS] = pa.repeat(pa.scalar(0, pa.int64()), len(starts))
    for name in plan.by:
        columns[name] = canonical(rows.column(name))
    for part in plan.parts:
        columns[part.column] = _prepared(part, rows, starts)
    offsets = rows.column("_offset")
    columns |= {"__latest": times, "__first": offsets, "__next": pc.add(offsets, 1)}
    firsts = [part.part.first for part in plan.parts]
    if on_time.windows is not None:
        return _in_each(plan, pa.table(columns), on_time, firsts)
    return _reduce(plan, _in_sessions(plan, pa.table(columns)), firsts)


def _in_each(
    plan: WindowPlan, table: pa.Table, on_time: Assigned, how: Sequence[str | Reduction]
) -> pa.Table:
    """Partials of rows that are in several windows: rows of the same windows are reduced first, and
    what that gives is put into each of them.
    """
    table = table.append_column(_WINDOWS, on_time.windows)
    alike = [START, *plan.by, _WINDOWS]
    if plan.keep:
        table = table.append_column(_FIRST, on_time.amends)
        alike.append(_FIRST)
    panes = reduce_by(plan, table, alike, how)
    windows = [_flat(panes.column(name)) for name in (START, _WINDOWS)]
    which, starts, number = each_window(plan.window, *windows)
    made = panes.drop_columns([START]).take(which).append_column(START, starts)
    if plan.keep:
        made = made.append_column(AMENDS, pc.less(number, made.column(_FIRST)))
        made = made.append_column(REVISIONS, pa.repeat(pa.scalar(0, pa.int64()), len(starts)))
    return _merge(plan, made)


def merge(plan: WindowPlan, partials: Sequence[pa.Table]) -> pa.Table:
    """One partial per window and group, sorted by window, then group."""
    merged = _merge(plan, pa.concat_tables(partials))
    if isinstance(plan.window, Session):
        # A long session hides from each other the two that lie before and after a short one in it.
        while (again := _merge(plan, merged)).num_rows < merged.num_rows:
            merged = again
    return in_order(plan, merged)


def in_order(plan: WindowPlan, partials: pa.Table) -> pa.Table:
    """Sorted by window, then group."""
    return partials.sort_by([(name, "ascending") for name in (START, *plan.by)])


def _merge(plan: WindowPlan, partials: pa.Table) -> pa.Table:
    return _reduce(plan, _in_sessions(plan, partials), [part.part.merge for part in plan.parts])


def _prepared(part: PartColumn, rows: pa.RecordBatch, starts: pa.Array) -> Any:
    """The column that a part is computed on."""
    names = part.part.columns or ((part.field,) if part.field is not None else ())
    columns = [rows.column(name) for name in names] or [starts]
    return part.part.prepare(*columns) if part.part.prepare else columns[0]


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
        apart = pc.or_(apart, pc.invert(_same(one, other)))
    first = pa.chunked_array([pa.array([True][:n], pa.bool_()), *apart.chunks], pa.bool_())
    numbers = pc.cumulative_sum(pc.cast(first, pa.int64()))
    return ordered.append_column(_SESSION, numbers)


def _same(one: Any, other: Any) -> Any:
    """Are these values of one group? Null is one with null, and NaN with NaN."""
    same = pc.fill_null(pc.equal(one, other), False)
    nulls = [pc.is_null(column, nan_is_null=True) for column in (one, other)]
    return pc.or_(same, pc.and_(pc.and_(*nulls), pc.equal(*map(pc.is_valid, (one, other)))))


def finish(
    plan: WindowPlan,
    merged: pa.Table,
    tp: TopicPartition,
    *,
    final: bool = True,
    revisions: pa.Array | None = None,
) -> pa.RecordBatch:
    """The rows of merged partials, in the schema of the results; `revisions` are 0 unless given.

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
    zeros = pa.repeat(pa.scalar(0, pa.int32()), n)
    made["revision"] = zeros if revisions is None else pc.cast(revisions, pa.int32())
    made["final"] = pa.repeat(pa.scalar(final), n)
    made["_topic"] = pa.repeat(pa.scalar(tp.topic, pa.string()), n)
    made["_partition"] = pa.repeat(pa.scalar(tp.partition, pa.int32()), n)
    made["_offset_first"], made["_offset_next"] = merged.column("__first"), merged.column("__next")
    for output, aggregate in plan.aggregates:
        mine = [part for part in plan.parts if part.output == output]
        parts = {part.part.name: merged.column(part.column) for part in mine}
        made[output] = _fit(plan, output, _results(aggregate, parts, merged), tp)
    for name in plan.by:  # a version of the topology before may have allowed it
        if made[name].null_count and not plan.schema.field(name).nullable:
            raise StateRefused(
                f"{tp}: a group of {plan.name!r} has null in {name}, whose model has none there, as"
                " an earlier version of the topology had; declare it | None until its windows are"
                " closed"
            )
    arrays = [_flat(made[field.name]) for field in plan.schema] + [_flat(merged.column("__latest"))]
    schema = pa.schema([*plan.schema, pa.field("__latest", pa.int64())])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _results(aggregate: Aggregate, parts: dict[str, Any], merged: pa.Table) -> Any:
    """The column of an aggregate. Raises `FunctionFailed` with the place of the row."""
    try:
        return aggregate.result(parts)
    except FunctionFailed:
        for row in range(merged.num_rows):
            with of_rows(merged.slice(row, 1)):
                aggregate.result({name: column.slice(row, 1) for name, column in parts.items()})
        raise


def _fit(plan: WindowPlan, output: str, values: Any, tp: TopicPartition) -> Any:
    """The values in the column's type. An overflow is never wrapped: a person has to decide."""
    field = plan.schema.field(output)
    declared = field.type
    if values.null_count and not field.nullable:
        raise StateRefused(
            f"{tp}: a result of {plan.name!r} is null, but {output} is not; declare it | None"
        )
    item = declared.value_field if pa.types.is_list(declared) else None
    if item is not None and not item.nullable and pc.list_flatten(values).null_count:
        raise StateRefused(
            f"{tp}: a result of {plan.name!r} has a null in {output}, whose model has none there; "
            "declare it a list of what may be None"
        )
    if pa.types.is_decimal(values.type) and pa.types.is_float64(declared):
        return nearest_float(values)
    try:
        return pc.cast(values, declared)
    except pa.ArrowInvalid as error:
        marked = SENSITIVE in (field.metadata or {})
        raise StateRefused(
            f"{tp}: a result of {plan.name!r} does not fit {output} ({declared})"
            f"{'' if marked else f': {error}'}; "
            "declare it as a type that holds it, a Decimal for large integers"
        ) from (None if marked else error)


def _columns(plan: WindowPlan) -> list[str]:
    bounds = [START, END] if isinstance(plan.window, Session) else [START]
    bounds += [AMENDS, REVISIONS] if plan.keep else []
    return [*bounds, *plan.by, *values(plan)]


def values(plan: WindowPlan) -> list[str]:
    """The columns of a partial that are reduced, besides its bounds and group."""
    return [*(part.column for part in plan.parts), *(name for name, _ in KEPT)]


def _groups(plan: WindowPlan) -> list[str]:
    window = _SESSION if isinstance(plan.window, Session) else START
    return [window, *plan.by, *([AMENDS] if plan.keep else [])]


def _reduce(plan: WindowPlan, table: pa.Table, how: Sequence[str | Reduction]) -> pa.Table:
    """One row per window and group."""
    bounds: list[tuple[str, str]] = []
    if isinstance(plan.window, Session):
        bounds = [(START, "min"), (END, "max")]
    if plan.keep:
        bounds = [(REVISIONS, "sum")]
    return reduce_by(plan, table, _groups(plan), how, bounds).select(_columns(plan))


def reduce_by(
    plan: WindowPlan,
    table: pa.Table,
    groups: Sequence[str],
    how: Sequence[str | Reduction],
    bounds: Sequence[tuple[str, str]] = (),
) -> pa.Table:
    """One row per value of `groups`: each part's column reduced as `how` says, in the order of the
    parts, and `bounds` by Arrow's functions.
    """
    named = [(part.column, function) for part, function in zip(plan.parts, how, strict=True)]
    steps = [(column, by) for column, by in named if isinstance(by, str)] + [*KEPT, *bounds]
    own = [(column, by) for column, by in named if not isinstance(by, str)]
    if own:
        table = table.append_column(_ROW, pa.arange(0, table.num_rows))
        steps.append((_ROW, "list"))
    reduced = table.group_by(list(groups), use_threads=False).aggregate(steps)
    names = {f"{column}_{function}": column for column, function in steps}
    reduced = reduced.rename_columns([names.get(name, name) for name in reduced.column_names])
    if own:
        # The rows of the group that row i of `reduced` stands for are its i-th list.
        lists = _flat(reduced.column(_ROW))
        rows, group = pc.list_flatten(lists), pc.list_parent_indices(lists)
        reduced = reduced.drop_columns([_ROW])
        for column, reduction in own:
            items = _flat(table.column(column)).take(rows)
            try:
                made = reduction(group, items, reduced.num_rows)
            except FunctionFailed:
                _find(reduction, group, items, table.take(rows))
                raise
            reduced = reduced.append_column(column, made)
    return reduced


def _find(reduction: Reduction, groups: pa.Array, items: pa.Array, partials: pa.Table) -> None:
    """Raises `FunctionFailed` with the place of the group that it cannot reduce, or of all."""
    with of_rows(partials):
        for group in pc.unique(groups):
            mine = pc.equal(groups, group)
            with of_rows(partials.filter(mine)):
                reduction(groups.filter(mine), items.filter(mine), 1)


def _flat(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
