"""The versions of a table's columns: agreed on before anything is written, and known by their ids.

They are files beside the table. A name is taken once, so whoever comes second looks again.
"""

from __future__ import annotations

from streamflow.core.sink_spec import SinkSpec
from streamflow.core.table_schema import TableSchema, encode_schema, refuse, schema_of
from streamflow.engine.table_folders import known_folders, settled, take, to_take
from streamflow.engine.table_numbers import versions
from streamflow.ports import TableFiles


def check(files: TableFiles, spec: SinkSpec) -> list[TableSchema]:
    """The versions of a table. Raises `SinkRefused` where the sink cannot write it."""
    known = versions(files)
    chosen = known_folders(files) or to_take(spec, known)
    refuse(*settled(spec, known, chosen))
    return known


def agree(files: TableFiles, spec: SinkSpec) -> None:
    """Write down what the topology will write into this table from now on.

    Called before anything is committed for it: later the rows would be in the topic already.

    Raises:
        SinkRefused: the table does not allow this change; in words, by column.
    """
    while True:
        known = check(files, spec)
        chosen = to_take(spec, known)
        if chosen is not None and take(files, chosen).partition_by != chosen.partition_by:
            check(files, spec)  # another one was taken at this very moment
        if spec.schema_id in {version.id for version in known}:
            return
        mine = schema_of(spec, known[-1].number + 1 if known else 0)
        if files.create(mine.name, encode_schema(mine), private=True):
            return
