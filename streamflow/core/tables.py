"""What the rows of a table look like, whose partition values are columns too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import pyarrow as pa

from streamflow.core.closing import closing_of
from streamflow.core.file_layout import layout_problems
from streamflow.core.folder_candidates import folder_candidates
from streamflow.core.parquet import leaf_columns, why_not
from streamflow.core.plan import SinkPlan
from streamflow.destinations import Delta, Parquet
from streamflow.errors import TopologyError
from streamflow.former_names import stored, stored_name
from streamflow.partition_by import PartitionBy
from streamflow.writer_settings import WriterSettings

if TYPE_CHECKING:
    from streamflow.archives import Archive
    from streamflow.checking import Checks
    from streamflow.quality import Quality
    from streamflow.results import Results
    from streamflow.stream import Stream


def sink_plan(
    table: Parquet, schema: pa.Schema, origin: Stream | Results | Checks | Quality | Archive
) -> SinkPlan:
    """A table of the rows of `origin`, of this schema.

    Raises:
        TopologyError: the table cannot be partitioned, or written, so.
    """
    names = [part.name for part in table.partition_by]
    columns = [stored(field) for field in schema]
    made: list[pa.Field] = []
    for part in table.partition_by:
        if names.count(part.name) > 1:
            raise TopologyError(f"{table}: two of its partitions are named {part.name!r}")
        _check_partition(table, part, schema, [column.name for column in columns])
        if part.name != part.column:
            made.append(pa.field(part.name, pa.string()))
    renamed = {stored_name(f): f.name for f in schema if stored_name(f) != f.name}
    closing, folders = closing_of(origin, table), None
    if table.layout.choose_folders:
        _check_choice(table, schema)
        taken = (*table.layout.sort_by, *table.layout.bloom_by)
        folders = folder_candidates(origin, columns, renamed, taken)
    rows = pa.schema([*columns, *made])
    plan = SinkPlan(table.name, table, rows, closing, renamed, folders=folders)
    problem = next(iter(layout_problems(plan.layout, plan.schema, plan.partition_by)), None)
    if problem is not None:
        raise TopologyError(f"{table}: {problem}")
    if isinstance(table.storage, WriterSettings):
        inside = [column for column in plan.schema if column.name not in plan.partition_by]
        _check_settings(table, table.storage, pa.schema(inside))
    if isinstance(table, Delta):
        _check_delta(table, plan.schema)
    return plan


def _check_choice(table: Parquet, schema: pa.Schema) -> None:
    if isinstance(table, Delta):
        raise TopologyError(
            f'{table}: partition_by="auto" is for plain tables; of a Delta table the columns are'
            " said when it is made: name them, `streamflow storage analyze` finds them"
        )
    if "auto" in schema.names:
        raise TopologyError(
            f'{table}: partition_by="auto" leaves it to the rows, which have a column of that'
            ' name; for the column say partition_by=["auto"], or rename it'
        )


def _check_settings(table: Parquet, settings: WriterSettings, inside: pa.Schema) -> None:
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


def _check_partition(
    table: Parquet, part: PartitionBy, schema: pa.Schema, columns: Sequence[str]
) -> None:
    where = str(table)
    if part.column not in schema.names:
        raise TopologyError(f"{where}: no column {part.column!r}; it has {sorted(schema.names)}")
    if part.name != part.column and part.name in columns:
        raise TopologyError(
            f"{where}: the partition {part.name!r} would hide a column of that name; "
            f"partition by the column {part.name!r} itself or rename it"
        )
    if part.name.startswith("_") and not isinstance(table, Delta):
        raise TopologyError(
            f"{where}: the folders of {part.name!r} would begin with _, and pyarrow takes such for"
            " hidden: it would read no row. Partition by a column of another name, or have a Delta"
            " table, delta(...)"
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
