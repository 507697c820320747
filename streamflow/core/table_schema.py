"""What a table's files look like, version after version, and what a new version may change.

A table is read as one: so a column keeps its type for ever, a column that is added may be null,
since earlier files do not have it, and rows stay in folders of the same columns. The versions are
numbered from 0 and lie beside the table's cuts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from streamflow.core.sink_spec import SinkSpec
from streamflow.errors import SinkRefused

FORMAT: Final = 1
_NAME = re.compile(r"schema-(\d{5,})\.json")


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One version. `columns` are `(name, Arrow type, may it be null?)`, partition columns too.
    `zones` are those of the partition columns, where one is not UTC.
    """

    columns: tuple[tuple[str, str, bool], ...]
    partition_by: tuple[str, ...]
    topology_version: str
    zones: tuple[str, ...] = ()

    def same_as(self, other: TableSchema) -> bool:
        """Would both write the same files?"""
        return replace(self, topology_version=other.topology_version) == other


def schema_of(spec: SinkSpec) -> TableSchema:
    """What the sink of a topology would write."""
    columns = tuple((field.name, str(field.type), field.nullable) for field in spec.schema)
    return TableSchema(columns, spec.partition_by, spec.topology_version, spec.zones)


def changes(old: TableSchema, new: TableSchema) -> list[str]:
    """Why `new` cannot be read together with `old`, in words; nothing when it can."""
    there = {name: kind for name, kind, _ in old.columns}
    found = [
        f"column {name!r} is {kind}, it was {there[name]}"
        if name in there
        else f"column {name!r} is new and is never null, but earlier files do not have it"
        for name, kind, nullable in new.columns
        if there.get(name) != kind and (name in there or not nullable)
    ]
    if old.partition_by != new.partition_by:
        names = [", ".join(s.partition_by) or "no column" for s in (new, old)]
        found.append(f"it is partitioned by {names[0]}, it was by {names[1]}")
    elif old.zones != new.zones:
        zones = [", ".join(s.zones) or "UTC" for s in (new, old)]
        found.append(
            f"it is partitioned by days or months of {zones[0]}, it was by those of {zones[1]}"
        )
    return found


def schema_name(number: int) -> str:
    """The private name of a version."""
    return f"schema-{number:05d}.json"


def schema_names(names: Iterable[str]) -> list[str]:
    """The names of all versions among `names`, oldest first."""
    numbered = {int(match[1]): match[0] for match in map(_NAME.fullmatch, names) if match}
    return [numbered[number] for number in sorted(numbered)]


def encode_schema(schema: TableSchema) -> bytes:
    """Its JSON."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "columns": schema.columns,
        "partition_by": schema.partition_by,
        "topology_version": schema.topology_version,
    }
    return orjson.dumps(document | ({"zones": schema.zones} if schema.zones else {}))


def decode_schema(data: bytes, name: str) -> TableSchema:
    """The version that the file `name` holds. Raises `SinkRefused` when it cannot be read."""
    try:
        document: dict[str, Any] = orjson.loads(data)
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']!r}, this version knows {FORMAT}")
        columns = tuple((str(c), str(kind), bool(null)) for c, kind, null in document["columns"])
        return TableSchema(
            columns,
            tuple(document["partition_by"]),
            document["topology_version"],
            tuple(document.get("zones", ())),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise SinkRefused(f"table schema {name} cannot be read: {error!r}") from None
