"""Second stage: what a stage of a stream does with rows on their way to windows and sinks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.changes import CHANGE, Changed
from streamflow.core.changed import Heard, detect
from streamflow.core.decode import Decoded
from streamflow.core.dedup import deduplicate
from streamflow.core.expansion import carried_of, expand, map_rows, unfolded
from streamflow.core.folder_name import has_name
from streamflow.core.gate import gate
from streamflow.core.halving import each_alone
from streamflow.core.recall import NOTHING_LEARNED, Learned, Recalled
from streamflow.core.step import Failure, Raw, Reject, StateView, TaskState, first_failure
from streamflow.exact_cast import cast_exactly, sound
from streamflow.expand import Expand, MapRows
from streamflow.on_error import OnError
from streamflow.rules import Condition, one_per_row, truth_per_row
from streamflow.schema import EVENT_TIME, WARNINGS
from streamflow.stages import Branch, Dedup, Filter, Gate, Map
from streamflow.storable import unfit, unfits, unsure

Rows = pa.RecordBatch


@dataclass(frozen=True)
class Chained:
    """Rows that came through a stage with the place of their record in the micro-batch; and what
    did not.

    `rules` counts what each rule and filter did, and `broken` has the places of rows that broke
    rules; `dropped` rows were left out on purpose, and of
    those that may go to a side `aside` has places and event times. `expanded` is how many more rows
    were made than they were made of. `state` has what stages remember. `stop` is an offset before
    the end of the micro-batch where a threshold has stopped the partition, and `failure` a record
    that stops it, or None; all else is then for nothing.
    `learned` is what can be recalled from here on.
    """

    rows: Rows
    places: pa.Array
    state: TaskState
    rejects: list[Reject] = field(default_factory=list[Reject])
    rules: Counter[str] = field(default_factory=Counter[str])
    dropped: int = 0
    expanded: int = 0
    stop: int | None = None
    broken: Mapping[str, pa.Array] = field(default_factory=dict[str, pa.Array])
    aside: tuple[pa.Array, pa.Array] | None = None
    failure: Failure | None = None
    learned: Learned = NOTHING_LEARNED


def pass_on(
    stage: Gate | Filter | Map | MapRows | Expand | Dedup | Changed,
    recalled: Recalled,
    came: Chained,
    out_of_orderness: int,
    view: StateView,
    deleted: pa.Array | None,
) -> Chained:
    """Take rows through one stage; `came` has no rejects and counts.

    `deleted` says of each record that was decoded whether it deletes its key.
    """
    batch = recalled.rest
    match stage:
        case Gate():
            return _gate(stage, batch, came)
        case Filter():
            return _filter(stage, batch, came)
        case Map():
            return _map(stage, batch, came)
        case MapRows():
            return _map_rows(stage, batch, came)
        case Expand():
            return _expand(stage, batch, came)
        case Dedup():
            keep, after = deduplicate(stage, came.rows, came.state, out_of_orderness, view)
            came = replace(came, state=after, aside=_aside(came, pc.invert(keep)))
            return _dropped(came, keep, stage.name)
        case Changed():
            return _changed(stage, recalled, came, out_of_orderness, view, deleted)


def part(stage: Branch, batch: MicroBatch, came: Chained) -> tuple[Chained, list[pa.Array]]:
    """The rows, less those on which a condition cannot be computed; and per arm which it gets.

    A condition is looked at where none before it was true.
    """
    left = pa.array(range(came.rows.num_rows), pa.int64())
    taken: list[pa.Array] = []
    failed: dict[int, str] = {}
    for condition in stage.compiled:
        true, wrong = _truth(condition, came.rows.take(left), "dead_letter")
        failed |= {left[row].as_py(): why for row, why in wrong.items()}
        taken.append(left.filter(pc.fill_null(true, False)))
        left = left.filter(pc.invert(pc.fill_null(true, True)))
    after = without(came, batch, "branch", failed, on_error=stage.on_error)
    # Rows that failed are in no arm; the places of the others move up.
    kept = _kept(came.rows.num_rows, failed)
    moved = pc.subtract(pc.cumulative_sum(pc.cast(kept, pa.int64())), 1)
    arms = [moved.take(rows) for rows in (*taken, left)]
    counts = Counter({name: len(arm) for name, arm in zip(stage.arms, arms, strict=True)})
    return replace(after, rules=+counts), arms


def _gate(stage: Gate, batch: MicroBatch, state: Chained) -> Chained:
    before = state.rows.schema.get_field_index(WARNINGS.name)
    earlier = state.rows.column(before)
    rows = state.rows.remove_column(before)
    known = earlier.null_count < len(earlier)
    if known:
        rows = rows.append_column("__earlier", earlier)
    gated = gate(stage, batch, Decoded(rows, state.places, []), state.state.breakers)
    rows = gated.rows
    if known:
        rows = _joined(rows, rows.column("__earlier"), rows.column(WARNINGS.name))
    after = replace(state.state, breakers=gated.breakers)
    return Chained(
        rows,
        gated.places,
        after,
        gated.rejects,
        gated.rules,
        gated.dropped,
        stop=gated.stop,
        failure=gated.failure,
        broken=gated.broken,
    )


def _joined(rows: Rows, earlier: pa.Array, later: pa.Array) -> Rows:
    """The rows with the warnings of two gates in one column, the earlier gate's first."""
    which = [pc.list_parent_indices(earlier), pc.list_parent_indices(later)]
    owners = pa.concat_arrays(
        [pc.add(pc.multiply(pc.cast(one, pa.int64()), 2), i) for i, one in enumerate(which)]
    )
    names = pa.concat_arrays([pc.list_flatten(earlier), pc.list_flatten(later)])
    names = names.take(pc.array_sort_indices(owners))
    sizes = [pc.fill_null(pc.list_value_length(one), 0) for one in (earlier, later)]
    many = pc.add(*sizes)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(many)])
    none = pc.equal(many, 0)
    both = pa.ListArray.from_arrays(offsets, names, type=WARNINGS.type, mask=none)
    kept = rows.drop_columns(["__earlier", WARNINGS.name])
    return kept.append_column(WARNINGS, both)


def _filter(stage: Filter, batch: MicroBatch, state: Chained) -> Chained:
    keep, failed = _truth(stage.compiled, state.rows, stage.on_error)
    state = without(state, batch, stage.name, failed, on_error=stage.on_error)
    return _dropped(state, keep.drop_null(), stage.name)


def _truth(condition: Condition, rows: Rows, on_error: OnError) -> tuple[pa.Array, dict[int, str]]:
    """Is the condition TRUE on each row? Null where it cannot be computed, and why."""

    def verdict(some: Rows) -> pa.Array:
        return pc.fill_null(truth_per_row(condition, some), False)

    return each_alone(verdict, rows, pa.bool_(), on_error)


def _changed(
    stage: Changed,
    recalled: Recalled,
    came: Chained,
    out_of_orderness: int,
    view: StateView,
    deleted: pa.Array | None,
) -> Chained:
    for name in (stage.by, stage.sequence):
        if isinstance(name, str):
            unknown = pc.is_null(came.rows.column(name))
            if deleted is not None:
                unknown = pc.and_not(unknown, deleted.take(came.places))
            why = f"{name} is null, so nothing says whether the record is newer"
            bad = dict.fromkeys(pc.indices_nonzero(unknown).to_pylist(), why)
            came = without(came, recalled.rest, stage.name, bad, field=name)
    gone = None if deleted is None else deleted.take(came.places)
    heard = Heard(came.rows, gone, recalled.hashes_of(came.rows, came.places), recalled.times)
    found = detect(stage, heard, came.state, out_of_orderness, view)
    lost, keep = found.lost.true_count, pc.is_valid(found.changes)
    dropped = keep.false_count + len(recalled)
    counts = Counter(found.changes.drop_null().to_pylist())
    counts |= Counter(conflict=lost, unchanged=dropped - lost)
    return replace(
        came,
        rows=came.rows.append_column(CHANGE, found.changes).filter(keep),
        places=came.places.filter(keep),
        rules=Counter({f"{stage.name}: {what}": count for what, count in (+counts).items()}),
        dropped=dropped,
        state=found.state,
        aside=_aside(came, found.lost),
        learned=found.learned,
    )


def _aside(came: Chained, gone: pa.Array) -> tuple[pa.Array, pa.Array]:
    times = pc.cast(came.rows.column(EVENT_TIME.name), pa.int64())
    return came.places.filter(gone), times.filter(gone)


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
    # Whether null is allowed is looked at below, for all rows at once.
    loose = [field.with_nullable(True) for field in stage.schema]

    def mapped(rows: Rows) -> pa.Array:
        arrays = [_field(stage, f, rows) for f in stage.schema]
        return pa.StructArray.from_arrays(arrays, fields=loose)

    made, failed = each_alone(mapped, state.rows, pa.struct(loose), stage.on_error)
    state = _remade(stage, batch, state, made, failed)
    nulls = {
        row: f"{field.name} is null, but {stage.model.__name__} says that it cannot be"
        for field in reversed(list(stage.schema))
        if not field.nullable
        for row in pc.indices_nonzero(pc.is_null(state.rows.column(field.name))).to_pylist()
    }
    bad = unfits(unsure(stage.schema), state.rows) | nulls
    return without(state, batch, stage.name, bad, on_error=stage.on_error)


def _map_rows(stage: MapRows, batch: MicroBatch, state: Chained) -> Chained:
    made, failed = map_rows(stage, state.rows)
    return _remade(stage, batch, state, made, failed)


def _remade(
    stage: Map | MapRows, batch: MicroBatch, state: Chained, made: pa.Array, failed: dict[int, str]
) -> Chained:
    """With the fields of these structs, which are null for rows that failed."""
    state = without(state, batch, stage.name, failed, on_error=stage.on_error)
    kept = state.rows.select(carried_of(state.rows))
    schema = pa.schema([*stage.schema, *kept.schema])
    rows = pa.RecordBatch.from_arrays([*made.drop_null().flatten(), *kept.columns], schema=schema)
    return replace(state, rows=rows)


def _expand(stage: Expand, batch: MicroBatch, state: Chained) -> Chained:
    lists, failed = expand(stage, state.rows)
    state = without(state, batch, stage.name, failed, on_error=stage.on_error)
    lists = lists.drop_null()
    full = pc.greater(pc.list_value_length(lists), 0)
    state = _dropped(state, full, stage.name)
    rows, parents = unfolded(stage, lists.filter(full), state.rows)
    made = Counter({f"{stage.name}:rows": rows.num_rows})
    return replace(
        state,
        rows=rows,
        places=state.places.take(parents),
        rules=state.rules + made,
        expanded=rows.num_rows - state.rows.num_rows,
    )


def check_folders(names: Mapping[str, str], batch: MicroBatch, state: Chained) -> Chained:
    """Refuse rows whose text in these fields would have to name a folder and cannot. `names` has
    what begins the folder's name.
    """
    for name, stored in names.items():
        column = state.rows.column(name)
        bad = pc.indices_nonzero(pc.invert(has_name(stored, column))).to_pylist()
        why = {
            row: f"the table's rows lie in folders by {name}, and {column[row].as_py()[:40]!r} "
            "names none: it is empty, reserved, or longer than 255 bytes in all"
            for row in bad
        }
        state = without(state, batch, "sink", why, reason="unstorable", field=name)
    return state


def _field(stage: Map, field: pa.Field, rows: Rows) -> pa.Array:
    name, values = field.name, one_per_row(stage.compiled[field.name](rows), rows)
    made = (
        _what_fits(values, field)
        if name in stage.forgiving
        else cast_exactly(values, field.type, name)
    )
    # Fields that are taken over, and SQL, have nothing that later steps could not take.
    return sound(made, name) if callable(stage.columns.get(name)) else made


def _what_fits(values: pa.Array, field: pa.Field) -> pa.Array:
    """The values as the field has them, and null for those that it cannot have."""

    def fitting(some: Rows) -> pa.Array:
        return cast_exactly(some.column(0), field.type, field.name)

    alone = pa.RecordBatch.from_arrays([values], names=["value"])
    made, _ = each_alone(fitting, alone, field.type)
    bad = unfit(made, field.with_nullable(True))
    if bad:
        there = _kept(len(made), bad)
        made = made.take(pc.if_else(there, pa.array(range(len(made)), pa.int64()), None))
    return sound(made, field.name) if pa.types.is_nested(field.type) else made


def without(
    state: Chained,
    batch: MicroBatch,
    stage: str,
    failed: dict[int, str],
    *,
    reason: str = "failed",
    field: str = "",
    on_error: OnError = "dead_letter",
) -> Chained:
    """Without the rows that failed, which are rejects; or of which the first is a failure."""
    if not failed:
        return state
    rejects, failure = list(state.rejects), None
    if on_error == "dead_letter":
        for row, why in sorted(failed.items()):
            raw = Raw.of(batch, state.places[row].as_py())
            rejects.append(Reject(raw, stage, reason, why, field))
    else:
        row = min(failed)
        offset = batch.offsets[state.places[row].as_py()]
        failure = Failure(offset, stage, failed[row], on_error)
    keep = _kept(state.rows.num_rows, failed)
    rows, places = state.rows.filter(keep), state.places.filter(keep)
    failure = first_failure(state.failure, failure)
    return replace(state, rows=rows, places=places, rejects=rejects, failure=failure)


def _kept(n: int, failed: Iterable[int]) -> pa.Array:
    """False at these of `n` rows."""
    bad = pa.array(list(failed), pa.int64())
    return pc.invert(pc.is_in(pa.array(range(n), pa.int64()), value_set=bad))
