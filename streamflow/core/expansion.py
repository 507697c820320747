"""Several rows of one row, and rows by a Python function."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.changes import CHANGE
from streamflow.core.halving import each_alone
from streamflow.exact_cast import cast_exactly, sound
from streamflow.expand import Expand, MapRows, expanded, made_row
from streamflow.failed_words import NOT_ITS_OWN, words_of
from streamflow.schema import EVENT_TIME, LINEAGE, WARNINGS
from streamflow.storable import unfit

Rows = pa.RecordBatch
_CARRIED = [*LINEAGE.names, EVENT_TIME.name, WARNINGS.name, CHANGE.name]


def carried_of(rows: Rows) -> list[str]:
    """The columns that rows carry over to those that are made of them."""
    return [name for name in _CARRIED if name in rows.schema.names]


def expand(stage: Expand, rows: Rows) -> tuple[pa.Array, dict[int, str]]:
    """The rows that are made of each row, as lists; null where that fails, and why.

    All rows that are made of one row fail with one of them: a dead letter is the whole record.
    """
    kind = pa.list_(pa.struct(list(stage.schema)))

    def lists(some: Rows) -> pa.Array:
        parents, made = expanded(stage.explode, some)
        arrays = [_column(stage, f, made, some, parents) for f in stage.schema]
        items = pa.StructArray.from_arrays(arrays, fields=list(stage.schema))
        sizes = pc.value_counts(parents)
        at = pc.index_in(pa.array(range(some.num_rows), pa.int64()), sizes.field("values"))
        many = pc.fill_null(sizes.field("counts").take(at), 0)
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(many)])
        return pa.ListArray.from_arrays(pc.cast(offsets, pa.int32()), items).cast(kind)

    return each_alone(lists, rows, kind, stage.on_error)


def unfolded(stage: Expand, lists: pa.Array, rows: Rows) -> tuple[Rows, pa.Array]:
    """The rows in these lists with what they carry of the rows they were made from, numbered among
    those of their record; and the number of the row that each was made from.
    """
    parents = pc.cast(pc.list_parent_indices(lists), pa.int64())
    carried = rows.select(carried_of(rows)).take(parents)
    columns: list[Any] = [*pc.list_flatten(lists).flatten(), *carried.columns]
    made = pa.RecordBatch.from_arrays(columns, schema=pa.schema([*stage.schema, *carried.schema]))
    return _numbered(made), parents


def map_rows(stage: MapRows, rows: Rows) -> tuple[pa.Array, dict[int, str]]:
    """What a Python function makes of each row; null where it fails, and why. As `each_alone`."""
    fields = [name for name in rows.schema.names if not name.startswith("_")]
    made: list[Any] = []
    failed: dict[int, str] = {}
    for number, row in enumerate(rows.select(fields).to_pylist(maps_as_pydicts="strict")):
        if failed and stage.on_error != "dead_letter":
            failed[number] = ""
            made.append(None)
            continue
        try:
            value = made_row(stage, row)
            _refuse_unfit(stage, pa.array([value], pa.struct(list(stage.schema))))
        except NOT_ITS_OWN:
            raise
        except BaseException as error:
            failed[number], value = words_of(error), None
        made.append(value)
    return pa.array(made, pa.struct(list(stage.schema))), failed


def _column(stage: Expand, field: pa.Field, made: Rows, rows: Rows, parents: pa.Array) -> pa.Array:
    """A field of the rows that are made, or taken over from the rows they are made from."""
    if field.name in stage.columns:
        column = made.column(field.name)
    else:
        column = rows.column(field.name).take(parents)
    if not field.nullable and column.null_count:
        model = stage.model.__name__
        raise ValueError(f"{field.name} is null, but {model} says that it cannot be")
    column = cast_exactly(column, field.type, field.name)
    if field.name in stage.columns and callable(stage.given):
        column = sound(column, field.name)
    for why in unfit(column, field).values():
        raise ValueError(why)
    return column


def _refuse_unfit(stage: MapRows, made: pa.Array) -> None:
    for field, column in zip(stage.schema, made.flatten(), strict=True):
        for why in unfit(column, field).values():
            raise ValueError(why)


def _numbered(rows: Rows) -> Rows:
    """With `_index` counting the rows of each record, which lie together."""
    offsets = rows.column("_offset")
    if not len(offsets):
        return rows
    # Where a record begins its first row's number is kept; the largest so far is then each row's.
    here = pa.array(range(len(offsets)), pa.int64())
    begins = pa.concat_arrays([pa.array([True]), pc.not_equal(offsets[1:], offsets[:-1])])
    first = pc.cumulative_max(pc.if_else(begins, here, 0))
    index = pc.subtract(here, first)
    place = rows.schema.get_field_index("_index")
    return rows.set_column(place, rows.schema.field(place), pc.cast(index, pa.int32()))
