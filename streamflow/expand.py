"""Stages that make several rows of one, or that are a Python function of one row, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, TypeAdapter

from streamflow.counted import counted
from streamflow.errors import TopologyError
from streamflow.exact_cast import check_cast
from streamflow.nested import held_dict, taken_apart
from streamflow.on_error import OnError, is_on_error
from streamflow.schema import arrow_schema

#: From rows to the rows that are made of them: for each the number of the row it is made from,
#: rising, and its fields.
Explode = Callable[[pa.RecordBatch], tuple[Any, pa.RecordBatch]]


@dataclass(frozen=True, eq=False)
class Expand:
    """Makes zero or more rows of another model of each row; `columns` are made, others taken over.

    `given` is the field or the function that says how.
    """

    model: type[BaseModel]
    schema: pa.Schema
    columns: frozenset[str]
    given: str | Explode
    explode: Explode
    on_error: OnError

    @property
    def name(self) -> str:
        """What rows of which nothing was made are counted under; `<name>:rows` are those made."""
        return f"expand {self.model.__name__}"


@dataclass(frozen=True, eq=False)
class MapRows:
    """Makes a row of another model of each row by a Python function; `keys` must stay as they
    are.
    """

    model: type[BaseModel]
    schema: pa.Schema
    function: Callable[[dict[str, Any]], Any]
    keys: tuple[str, ...]
    on_error: OnError

    @property
    def columns(self) -> frozenset[str]:
        """The fields that are made, and not taken over."""
        return frozenset(self.schema.names).difference(self.keys)

    @property
    def name(self) -> str:
        """The stage that its dead letters name."""
        return f"map_rows {self.model.__name__}"


def expand_stage(
    model: type[BaseModel], by: str | Explode, on_error: OnError, schema: pa.Schema, where: str
) -> Expand:
    """Raises `TopologyError` when a field has no origin, or one that does not fit its type."""
    is_on_error(where, on_error)
    wanted = arrow_schema(model)
    explode = _of_list(by, schema, wanted.names, where) if isinstance(by, str) else by
    made = _tried(explode, schema, where).schema
    unknown = sorted(set(made.names) - set(wanted.names))
    if unknown:
        raise TopologyError(f"{where}: {model.__name__} has no field {unknown[0]!r}")
    for field in wanted:
        here = f"{where}: {model.__name__}.{field.name}"
        origin = made if field.name in made.names else schema
        if field.name not in origin.names:
            raise TopologyError(
                f"{here} is neither made nor a field of the stream, which has "
                f"{sorted(name for name in schema.names if not name.startswith('_'))}"
            )
        kind = origin.field(field.name).type
        check_cast(here, kind, field.type)
    return Expand(model, wanted, frozenset(made.names), by, explode, on_error)


def map_rows_stage(
    model: type[BaseModel],
    function: Callable[[dict[str, Any]], Any],
    on_error: OnError,
    keys: tuple[str, ...],
    where: str,
) -> MapRows:
    """Raises `TopologyError` when it is no function, or the model cannot be columns."""
    is_on_error(where, on_error)
    if not callable(function):
        raise TopologyError(f"{where}: {function!r} is no function from a row to another")
    schema = arrow_schema(model)
    kept = keys if set(keys) <= set(schema.names) else ()
    return MapRows(model, schema, function, kept, on_error)


def _of_list(name: str, schema: pa.Schema, wanted: Sequence[str], where: str) -> Explode:
    """Rows of the items of a list: each is a field of the list's name. Where that is not wanted,
    and items are structs, those of their fields that are.
    """
    kind = schema.field(name).type
    if not pa.types.is_list(kind):
        raise TopologyError(f"{where}: {name!r} is {kind}, not a list")
    inside: list[str] = []
    if pa.types.is_struct(kind.value_type) and name not in wanted:
        inside = [field.name for field in kind.value_type if field.name in wanted]

    def explode(rows: pa.RecordBatch) -> tuple[Any, pa.RecordBatch]:
        lists = rows.column(name)
        items = pc.list_flatten(lists)
        columns = [pc.struct_field(items, one) for one in inside] or [items]
        values = pa.RecordBatch.from_arrays(columns, names=inside or [name])
        return pc.list_parent_indices(lists), values

    return explode


def _tried(explode: Explode, schema: pa.Schema, where: str) -> pa.RecordBatch:
    """The rows that are made of zero rows."""
    none = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)
    try:
        parents, made = expanded(explode, none)
    except Exception as error:
        raise TopologyError(
            f"{where}: cannot be computed on these fields, tried on zero rows: "
            f"{type(error).__name__}: {error}"
        ) from error
    if len(parents):
        raise TopologyError(f"{where}: makes {counted(len(parents), 'row')} of zero rows")
    return made


def expanded(explode: Explode, rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
    """For each row that is made of these the number of its parent, and its fields.

    Raises:
        ValueError: the function gives something else.
        Exception: whatever the function raises.
    """
    given: Any = explode(rows)
    if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[1], pa.RecordBatch):
        raise ValueError("the function does not give (parents, pa.RecordBatch)")
    parents, made = given
    if isinstance(parents, pa.ChunkedArray):
        parents = parents.combine_chunks()
    if not isinstance(parents, pa.Array) or not pa.types.is_integer(parents.type):
        raise ValueError("the parents are no pa.Array of integers")
    if len(parents) != made.num_rows or parents.null_count:
        raise ValueError(
            f"the function gives {counted(len(parents), 'parent')} for"
            f" {counted(made.num_rows, 'row')}"
        )
    parents = pc.cast(parents, pa.int64())
    if len(parents):
        low, high = pc.min_max(parents).as_py().values()
        falls = pc.any(pc.less(parents[1:], parents[:-1])).as_py()
        if low < 0 or high >= rows.num_rows or falls:
            raise ValueError(f"the parents do not rise from 0 to below {rows.num_rows}")
    return parents, made


def made_row(stage: MapRows, row: Mapping[str, Any]) -> dict[str, Any]:
    """What the function makes of one row, as the model has it.

    Raises:
        ValueError: it is no such row, or has another key.
        Exception: whatever the function raises.
    """
    made: Any = stage.function(dict(row))
    is_made = isinstance(made, stage.model)
    model = made if is_made else stage.model.model_validate(made)
    values = {name: taken_apart(getattr(model, name)) for name in stage.schema.names}
    if is_made:  # which nothing may have looked at since: pydantic takes any assignment
        values = _held(stage.model).validate_python(values)
    for key in stage.keys:
        if values[key] != row[key]:
            raise ValueError(f"changes {key!r}, which the topic is keyed by")
    return values


@cache
def _held(model: type[BaseModel]) -> TypeAdapter[dict[str, Any]]:
    """Looks whether values are what an instance of the model may hold."""
    return TypeAdapter(held_dict(model))
