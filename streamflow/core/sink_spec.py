"""What a Parquet sink is: a table of one schema, laid out in Hive-style folders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa

from streamflow.core.closing import Closing
from streamflow.core.file_layout import layout_problems
from streamflow.core.folder_name import names_a_folder
from streamflow.destinations import Compatibility
from streamflow.errors import TopologyError
from streamflow.writer_settings import AS_THEY_COME, FileLayout, Storage, WriterSettings

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """One Parquet edge of a topology, checked in words when it is made.

    `path` is the table's folder, relative to the lake's root. `schema` is that of the rows, with
    the columns of `partition_by`: those go into the path and are left out of the files.
    `target_bytes` is the size of a roll, in encoded bytes; a roll is one file per partition value.
    `closing` tells when a time partition is complete, where that can be told: once all of the
    `partitions` of its rows topic have come so far; None where their number is not known.
    `storage` says how files are to be written, and `layout` how their rows lie in them. Where
    `partition_by` is left to the rows, `folders` are the columns that may come to be in it.
    `compatibility` says what later versions of `schema` may change.
    `run` is that of the names, where it is one of a part of the sources.
    `source` is the topic that its rows are read from as records, where no task makes them, and
    `origin` the app and the topic of the records which its tasks make them of.
    `zones` are those that the values of `partition_by` are times of, where one is not UTC, and
    `times` the columns of these times.
    """

    name: str
    path: str
    schema: pa.Schema
    schema_id: str
    topology: str
    topology_version: str
    partition_by: tuple[str, ...] = ()
    target_bytes: int = 128 * MIB
    roll_interval: timedelta | None = None
    inactivity_interval: timedelta | None = None
    closing: Closing | None = None
    partitions: int | None = None
    storage: Storage | WriterSettings = "none"
    zones: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    layout: FileLayout = AS_THEY_COME
    folders: tuple[str, ...] | None = None
    compatibility: Compatibility = "backward"
    run: str | None = None
    source: str | None = None
    origin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problem = next(iter(_problems(self)), None)
        if problem is not None:
            raise TopologyError(f"sink {self.name!r}: {problem}")


def _problems(spec: SinkSpec) -> list[str]:
    names = spec.schema.names
    problems = [f"column {name!r} is there twice" for name in names if names.count(name) > 1]
    if spec.target_bytes <= 0:
        problems.append(f"target_bytes is {spec.target_bytes}, it must be above 0")
    for name in ("roll_interval", "inactivity_interval"):
        given = getattr(spec, name)
        if given is not None and given <= timedelta(0):
            problems.append(f"{name} is {given}, it must be above 0")
    for column in spec.partition_by:
        if column not in names:
            problems.append(f"partition_by names {column!r}, the rows have {', '.join(names)}")
        elif not names_a_folder(spec.schema.field(column).type):
            problems.append(
                f"partition_by column {column!r} is {spec.schema.field(column).type}; folders are"
                " named by text, whole numbers, truth values and dates: derive such a column"
            )
    if len(set(spec.partition_by)) != len(spec.partition_by):
        problems.append(f"partition_by repeats a column: {', '.join(spec.partition_by)}")
    if set(spec.partition_by) >= set(names):
        problems.append("no column is left for the files: all are in partition_by")
    problems += layout_problems(spec.layout, spec.schema, spec.partition_by)
    problems += [
        f"column {field.name!r} holds nanoseconds, which Spark does not read from Parquet: use"
        " timestamp('us', 'UTC')"
        for field in spec.schema
        if _has_nanoseconds(field.type)
    ]
    return problems


def _has_nanoseconds(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_nanoseconds(kind.field(i).type) for i in range(kind.num_fields))
    return pa.types.is_timestamp(kind) and kind.unit == "ns"
