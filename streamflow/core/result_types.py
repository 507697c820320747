"""Are the results of a window what their model says? Tried on no rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from streamflow.aggregates import Aggregate, ApproxDistinct, First, Last, Part, fields_of, name_of
from streamflow.core.plan import PartColumn, SinkPlan
from streamflow.errors import TopologyError
from streamflow.results import Results


def parts_of(results: Results) -> tuple[PartColumn, ...]:
    """The columns of their partials.

    Raises:
        TopologyError: an aggregate or a group is not what the field of the model is.
    """
    _check_groups(results)
    parts: list[PartColumn] = []
    for output, aggregate in results.aggregates.items():
        made = _parts(results, aggregate)
        _check_type(results, output, aggregate, made)
        _check_null(results, output, aggregate)
        hashed = None
        if isinstance(aggregate, ApproxDistinct):
            hashed = results.windowed.stream.schema.field(aggregate.field).type
        parts += [PartColumn(output, part, aggregate.field, hashed) for part in made]
    return tuple(parts)


def check_folders_of(results: Results, sinks: Sequence[SinkPlan]) -> None:
    """Text that names folders has to come from the records, where it is looked at one by one."""
    by = results.windowed.by
    for sink in sinks:
        for part in sink.table.partition_by:
            made = part.column in results.schema.names and part.column not in by
            if made and pa.types.is_string(results.schema.field(part.column).type):
                raise TopologyError(
                    f"{sink.table}: {part.column!r} is text that an aggregate "
                    f"makes, and not every text names a folder; partition by {list(by)} or by "
                    "day('window_start')"
                )


def _check_groups(results: Results) -> None:
    """A result's grouping fields are the records' own: of the same types, as often null."""
    stream = results.windowed.stream
    for name in results.windowed.by:
        field = f"{results.model.__name__}.{name}"
        origin = f"{stream.model.__name__}.{name}"
        declared, given = results.schema.field(name), stream.schema.field(name)
        if declared.type != given.type:
            raise TopologyError(
                f"{field} is {declared.type}, but {origin} is {given.type}; change the model"
            )
        if stream.nullable(name) and not declared.nullable:
            raise TopologyError(
                f"{field} can be null, since {origin} can; {_or_none(results, name)}"
            )


def _parts(results: Results, aggregate: Aggregate) -> list[Part]:
    """The columns of an aggregate's partial, for the fields that it is computed on."""
    fields = results.windowed.stream.schema
    kinds = [fields.field(name).type for name in fields_of(aggregate)]
    return aggregate.parts(*kinds)


def _check_type(results: Results, output: str, aggregate: Aggregate, parts: Sequence[Part]) -> None:
    """What the aggregate gives, tried on no rows, must fit the model's field."""
    gives = aggregate.result({part.name: pa.array([], part.type) for part in parts}).type
    declared = results.schema.field(output).type
    if not _fits(gives, declared):
        name = f"{results.model.__name__}.{output}"
        made = f"{name_of(aggregate)}() gives {gives}"
        raise TopologyError(f"{name} is {declared}, but {made}; change the model")


def _fits(gives: pa.DataType, declared: pa.DataType) -> bool:
    if gives == declared:
        return True
    if pa.types.is_list(gives) and pa.types.is_list(declared):
        return gives.value_type == declared.value_type
    whole = pa.types.is_integer(gives) or pa.types.is_decimal(gives)
    numbers = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_floating)
    return whole and any(test(declared) for test in numbers)


def _check_null(results: Results, output: str, aggregate: Aggregate) -> None:
    """A window in which a field is always null gives a result only where the model allows null."""
    name = aggregate.field
    _check_items(results, output, aggregate)
    if name is None or results.schema.field(output).nullable:
        return
    of_nulls = aggregate.null_of_nulls and results.windowed.stream.nullable(name)
    if aggregate.null_of_few or of_nulls:
        raise TopologyError(
            f"{results.model.__name__}.{output} can be null, since "
            f"{name_of(aggregate)}({name!r}) is null where "
            f"{aggregate.null_where.format(name)}; {_or_none(results, output)}"
        )


def _check_items(results: Results, output: str, aggregate: Aggregate) -> None:
    """A list that is taken as it is has nulls in it only where the model allows them."""
    if not isinstance(aggregate, First | Last):
        return
    given: Any = results.windowed.stream.schema.field(aggregate.field).type
    declared: Any = results.schema.field(output).type
    lists = pa.types.is_list(given) and pa.types.is_list(declared)
    if lists and given.value_field.nullable and not declared.value_field.nullable:
        raise TopologyError(
            f"{results.model.__name__}.{output} can have a null in it, since "
            f"{results.windowed.stream.model.__name__}.{aggregate.field} can; declare it a list of"
            " what may be None"
        )


def _or_none(results: Results, name: str) -> str:
    annotation = results.model.model_fields[name].annotation
    plain = isinstance(annotation, type)
    return f"declare it {annotation.__name__ if plain else annotation} | None"
