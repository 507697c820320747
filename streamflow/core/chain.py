"""Second stage: what a stream does with each row on its way, before windows and sinks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.core.decode import Decoded
from streamflow.core.dedup import deduplicate
from streamflow.core.folder_name import has_name
from streamflow.core.gate import gate
from streamflow.core.halving import each_alone
from streamflow.core.plan import TaskPlan
from streamflow.core.step import Raw, Reject, StateView, TaskState
from streamflow.rules import one_per_row
from streamflow.schema import EVENT_TIME, LINEAGE, WARNINGS
from streamflow.stages import Dedup, Filter, Gate, Map

Rows = pa.RecordBatch


@dataclass(frozen=True)
class Chained:
    """Rows that came through with the place of their record in the micro-batch; and what did not.

    `rules` counts what each rule and filter did; `dropped` rows were left out on purpose. `state`
    has what deduplications and thresholds remember. `stop` is an offset before the end of the
    micro-batch where a threshold has stopped the partition, or None; all else is then for nothing.
    """

    rows: Rows
    places: pa.Array
    rejects: list[Reject]
    rules: Counter[str]
    dropped: int
    state: TaskState
    stop: int | None = None


def chain(
    plan: TaskPlan, batch: MicroBatch, decoded: Decoded, before: TaskState, view: StateView
) -> Chained:
    """Take decoded rows through all stages of the stream, in order."""
    rows = decoded.rows.append_column(WARNINGS, pa.nulls(decoded.rows.num_rows, WARNINGS.type))
    state = Chained(rows, decoded.places, list(decoded.rejects), Counter(), 0, before)
    for stage in plan.stages:
        match stage:
            case Gate():
                state = _gate(stage, batch, state)
            case Filter():
                state = _filter(stage, batch, state)
            case Map():
                state = _map(stage, batch, state)
            case Dedup():
                state = _dedup(stage, plan, state, view)
    return _check_folders(plan, batch, state)


def _gate(stage: Gate, batch: MicroBatch, state: Chained) -> Chained:
    before = state.rows.schema.get_field_index(WARNINGS.name)
    earlier = state.rows.column(before)
    rows = state.rows.remove_column(before)
    known = earlier.null_count < len(earlier)
    if known:
        rows = rows.append_column("__earlier", earlier)
    decoded = Decoded(rows, state.places, state.rejects)
    gated = gate(stage, batch, decoded, state.state.breakers)
    rows = gated.rows
    if known:
        rows = _joined(rows, rows.column("__earlier"), rows.column(WARNINGS.name))
    rules = state.rules + gated.rules
    return replace(
        state,
        rows=rows,
        places=gated.places,
        rejects=gated.rejects,
        rules=rules,
        dropped=state.dropped + gated.dropped,
        state=replace(state.state, breakers=gated.breakers),
        stop=min((stop for stop in (state.stop, gated.stop) if stop is not None), default=None),
    )


def _joined(rows: Rows, earlier: pa.Array, later: pa.Array) -> Rows:
    """The rows with the warnings of two gates in one column."""
    pairs = zip(earlier.to_pylist(), later.to_pylist(), strict=True)
    both = [[*(one or ()), *(other or ())] or None for one, other in pairs]
    kept = rows.drop_columns(["__earlier", WARNINGS.name])
    return kept.append_column(WARNINGS, pa.array(both, WARNINGS.type))


def _filter(stage: Filter, batch: MicroBatch, state: Chained) -> Chained:
    def verdict(rows: Rows) -> pa.Array:
        return pc.fill_null(_column(stage.compiled(rows), pa.bool_(), rows), False)

    keep, failed = each_alone(verdict, state.rows, pa.bool_())
    state = _without(state, batch, stage.name, failed)
    return _dropped(state, keep.drop_null(), stage.name)


def _dedup(stage: Dedup, plan: TaskPlan, state: Chained, view: StateView) -> Chained:
    keep, after = deduplicate(stage, state.rows, state.state, plan.out_of_orderness, view)
    return _dropped(replace(state, state=after), keep, stage.name)


def _dropped(state: Chained, keep: pa.Array, name: str) -> Chained:
    """Without the rows that are not kept, which are counted under a name."""
    gone = keep.false_count
    if not gone:
        return state
    return replace(
        state,
        rows=state.rows.filter(keep),
        places=state.places.filter(keep),
        rules=state.rules + Counter({name: gone}),
        dropped=state.dropped + gone,
    )


def _map(stage: Map, batch: MicroBatch, state: Chained) -> Chained:
    carried = [*LINEAGE.names, EVENT_TIME.name, WARNINGS.name]

    # Whether null is allowed is looked at below, for all rows at once.
    loose = [field.with_nullable(True) for field in stage.schema]

    def mapped(rows: Rows) -> pa.Array:
        arrays = [_column(stage.compiled[f.name](rows), f.type, rows) for f in stage.schema]
        return pa.StructArray.from_arrays(arrays, fields=loose)

    made, failed = each_alone(mapped, state.rows, pa.struct(loose))
    state = _without(state, batch, stage.name, failed)
    kept = state.rows.select(carried)
    schema = pa.schema([*stage.schema, *kept.schema])
    rows = pa.RecordBatch.from_arrays([*made.drop_null().flatten(), *kept.columns], schema=schema)
    nulls = {
        row: f"{field.name} is null, but {stage.model.__name__} says that it cannot be"
        for field in reversed(list(stage.schema))
        if not field.nullable
        for row in pc.indices_nonzero(pc.is_null(rows.column(field.name))).to_pylist()
    }
    return _without(replace(state, rows=rows), batch, stage.name, nulls)


def _check_folders(plan: TaskPlan, batch: MicroBatch, state: Chained) -> Chained:
    """Refuse rows whose text would have to name a folder of a table and cannot."""
    for name in plan.folder_columns:
        column = state.rows.column(name)
        bad = pc.indices_nonzero(pc.invert(has_name(name, column))).to_pylist()
        why = {
            row: f"the table's rows lie in folders by {name}, and {column[row].as_py()[:40]!r} "
            "names none: it is empty, reserved, or longer than 255 bytes in all"
            for row in bad
        }
        state = _without(state, batch, "sink", why, reason="unstorable", field=name)
    return state


def _column(values: Any, kind: pa.DataType, rows: Rows) -> pa.Array:
    flat = one_per_row(values, rows)
    return flat if flat.type == kind else pc.cast(flat, kind)


def _without(
    state: Chained,
    batch: MicroBatch,
    stage: str,
    failed: dict[int, str],
    *,
    reason: str = "failed",
    field: str = "",
) -> Chained:
    """Without the rows that failed, which are rejects."""
    if not failed:
        return state
    rejects = list(state.rejects)
    for row, why in sorted(failed.items()):
        raw = Raw.of(batch, state.places[row].as_py())
        rejects.append(Reject(raw, stage, reason, why, field))
    bad = pa.array(list(failed), pa.int64())
    keep = pc.invert(pc.is_in(pa.array(range(len(state.places)), pa.int64()), value_set=bad))
    rows, places = state.rows.filter(keep), state.places.filter(keep)
    return replace(state, rows=rows, places=places, rejects=rejects)
