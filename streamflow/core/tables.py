"""What the rows of a table look like, whose partition values are columns too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pyarrow as pa

from streamflow.core.closing import Closing
from streamflow.core.file_layout import layout_problems
from streamflow.core.parquet import leaf_columns, why_not
from streamflow.core.plan import SinkPlan
from streamflow.destinations import Delta, Parquet, PartitionBy
from streamflow.errors import TopologyError
from streamflow.writer_settings import WriterSettings


def sink_plan(table: Parquet, schema: pa.Schema, closing: Closing | None) -> SinkPlan:
    """A table of rows of this schema.

    Raises:
        TopologyError: the table cannot be partitioned, or written, so.
    """
    return SinkPlan(table.name, table, _columns(table, schema), closing)


def _columns(table: Parquet, schema: pa.Schema) -> pa.Schema:
    """The columns of rows of this schema in a table: with its partition values."""
    made: list[Any] = []
    names = [part.name for part in table.partition_by]
    for part in table.partition_by:
        if names.count(part.name) > 1:
            raise TopologyError(f"{table}: two of its partitions are named {part.name!r}")
        _check_partition(table, part, schema)
        if part.name != part.column:
            made.append(pa.field(part.name, pa.string()))
    columns = pa.schema([*schema, *made])
    problem = next(iter(layout_problems(table.layout, columns, names)), None)
    if problem is not None:
        raise TopologyError(f"{table}: {problem}")
    if isinstance(table.storage, WriterSettings):
        _check_settings(table, table.storage, columns)
    if isinstance(table, Delta):
        _check_delta(table, columns)
    return columns


def _check_settings(table: Parquet, settings: WriterSettings, columns: pa.Schema) -> None:
    inside = pa.schema([f for f in columns if f.name not in {p.name for p in table.partition_by}])
    known = [leaf.path for leaf in leaf_columns(inside)]
    named = [*(column.path for column in settings.columns), *settings.bloom]
    missing = [path for path in named if path not in known]
    if missing:
        raise TopologyError(
            f"{table}: storage names column {missing[0]!r}; the files have {', '.join(known)}"
        )
    problem = why_not(inside, settings)
    if problem is not None:
        raise TopologyError(f"{table}: storage cannot be written so: {problem}")


def _check_delta(table: Delta, schema: pa.Schema) -> None:
    """Raises `TopologyError` for columns that a Delta table does not tell apart. It has a type for
    all that models have (`schema.py`).
    """
    lower = [name.lower() for name in schema.names]
    twice = next((name for name in schema.names if lower.count(name.lower()) > 1), None)
    if twice is not None:
        raise TopologyError(f"{table}: Delta does not tell column {twice!r} from one in other case")


def _check_partition(table: Parquet, part: PartitionBy, schema: pa.Schema) -> None:
    where = str(table)
    if part.column not in schema.names:
        raise TopologyError(f"{where}: no column {part.column!r}; it has {sorted(schema.names)}")
    if part.name != part.column and part.name in schema.names:
        raise TopologyError(
            f"{where}: the partition {part.name!r} would hide a column of that name; "
            f"partition by the column {part.name!r} itself or rename it"
        )
    if part.unit is not None and not pa.types.is_timestamp(schema.field(part.column).type):
        raise TopologyError(f"{where}: {part.column!r} is no timestamp to take a {part.name} of")


def check_apart(where: str, tables: Sequence[Parquet]) -> None:
    """Raises `TopologyError` where the folder of a table lies in that of another: whoever reads all
    files of the outer one would read both.
    """
    for inner, outer in permutations(tables, 2):
        if inner.path.startswith(f"{outer.path}/"):
            raise TopologyError(
                f"{where}: {inner} lies in {outer}, whose readers would take its rows for theirs; "
                "give it a folder beside it"
            )
