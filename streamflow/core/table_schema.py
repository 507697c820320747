"""The versions of a table's columns, which are numbered from 0 and lie beside the table's cuts.

A version is written down before anything is committed for it. Its id is a hash of its columns:
whoever has columns that the table had already is of that version again, and makes no new one.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pyarrow as pa

from streamflow.core.compatibility import PROMISES, Difference, changes, differences
from streamflow.core.sink_spec import SinkSpec
from streamflow.errors import SinkRefused
from streamflow.schema import schema_id

FORMAT: Final = 2
_NAME = re.compile(r"schema-(\d{5,})\.json")


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One version: its columns, partition columns too. `zones` are those of the partition columns,
    where one is not UTC, `times` the columns of these times, empty also where they are not known.
    `partition_by` is None where it is left to the rows, and `folders` are the columns which may be
    chosen then; None where that is not known. `origin` is the app that wrote it, and
    the topic whose records its rows are made of, empty where that is not known.
    """

    number: int
    columns: pa.Schema
    partition_by: tuple[str, ...] | None
    topology_version: str
    zones: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    origin: tuple[str, ...] = ()
    folders: tuple[str, ...] | None = None

    @property
    def id(self) -> str:
        """The id of its columns, by which rows and files name them."""
        return schema_id(self.columns)

    @property
    def never(self) -> list[str]:
        """Its columns of which not every value names a folder, as far as that is known."""
        may = self.columns.names if self.folders is None else self.folders
        return [name for name in self.columns.names if name not in may]

    @property
    def name(self) -> str:
        """The private name of the version."""
        return f"schema-{self.number:05d}.json"


def schema_of(spec: SinkSpec, number: int) -> TableSchema:
    """What the sink of a topology would write, as the version of this number."""
    by = spec.partition_by if spec.folders is None else None
    more = spec.zones, spec.times, spec.origin, spec.folders
    return TableSchema(number, spec.schema, by, spec.topology_version, *more)


def refuse(spec: SinkSpec, known: Sequence[TableSchema]) -> None:
    """Raise `SinkRefused` where the sink cannot write a table of these versions, in words: each
    column that it may not change, with the newest version that says so.

    Columns that the table had already are taken: what they promise was looked at then.
    """
    found: dict[str, str] = {}
    again = spec.schema_id in {old.id for old in known}
    for old in reversed(known):
        for problem in _other_folders(old, spec):
            found.setdefault("", problem)
        changed = () if again else differences(old.columns, spec.schema, spec.compatibility)
        for one in changed:
            found.setdefault(one.column, f"{one} (version {old.number})")
    if found:
        raise refusal(spec, list(found.values()))


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a sink would find of its table: does it stand, and which version of its columns would
    it write, a new one with these changes against the newest there is, or one that it has?
    """

    stands: bool
    version: int
    is_new: bool
    changes: tuple[str, ...]


def foreseen(
    spec: SinkSpec,
    known: Sequence[TableSchema],
    *,
    stands: bool,
    before: pa.Schema | None = None,
) -> Foreseen:
    """Of a sink that is not refused; `before` are columns of a table that has no versions."""
    numbers = {old.id: old.number for old in known}
    last = known[-1].columns if known else before
    found = () if last is None else tuple(changes(last, spec.schema))
    if spec.schema_id in numbers:
        return Foreseen(stands, numbers[spec.schema_id], False, found)
    return Foreseen(stands, known[-1].number + 1 if known else 0, True, found)


def refusal(spec: SinkSpec, found: Iterable[Difference | str]) -> SinkRefused:
    """What cannot be changed so in a table, and what to do."""
    lines = "".join(f"\n  {one}" for one in found)
    return SinkRefused(
        f"table {spec.path!r} of sink {spec.name!r} would not be one table any more. It is"
        f" {spec.compatibility!r}: {PROMISES[spec.compatibility]}; it stays in the same folders."
        f"{lines}\n"
        "change the topology back, or declare another compatibility=..., or write another table"
        " under a new app id, which reads its sources from the start"
    )


def schema_names(names: Iterable[str]) -> list[str]:
    """The names of all versions among `names`, oldest first."""
    numbered = {int(match[1]): match[0] for match in map(_NAME.fullmatch, names) if match}
    return [numbered[number] for number in sorted(numbered)]


def encode_schema(schema: TableSchema) -> bytes:
    """Its JSON, with the columns for people and, in `arrow`, as they are."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "id": schema.id,
        "columns": [(field.name, str(field.type), field.nullable) for field in schema.columns],
        "partition_by": schema.partition_by,
        "topology_version": schema.topology_version,
        "arrow": b64encode(schema.columns.serialize()).decode(),
    }
    more = {"zones": schema.zones, "times": schema.times, "origin": schema.origin}
    document |= {name: value for name, value in more.items() if value}
    return orjson.dumps(document | ({} if schema.folders is None else {"folders": schema.folders}))


def decode_schema(data: bytes, name: str) -> TableSchema:
    """The version that the file `name` holds. Raises `SinkRefused` when it cannot be read."""
    try:
        number = int(_NAME.fullmatch(name)[1])  # type: ignore[index]
        document: dict[str, Any] = orjson.loads(data)
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']!r}, this version knows {FORMAT}")
        columns = pa.ipc.read_schema(pa.py_buffer(b64decode(document["arrow"])))
        found = TableSchema(
            number,
            columns,
            None if document["partition_by"] is None else tuple(document["partition_by"]),
            document["topology_version"],
            tuple(document.get("zones", ())),
            tuple(document.get("times", ())),
            tuple(document.get("origin", ())),
            tuple(document["folders"]) if "folders" in document else None,
        )
        if found.id != document["id"]:
            raise ValueError(f"its id is {document['id']!r}, and its columns have {found.id}")
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise SinkRefused(f"table schema {name} cannot be read: {error!r}") from None
    return found


def _other_folders(old: TableSchema, spec: SinkSpec) -> list[str]:
    if old.partition_by != spec.partition_by:
        pair = (spec.partition_by, old.partition_by or ())
        names = [", ".join(by) or "no column" for by in pair]
        return [f"it is partitioned by {names[0]}, it was by {names[1]}"]
    if old.zones != spec.zones:
        zones = [", ".join(some) or "UTC" for some in (spec.zones, old.zones)]
        return [f"it is partitioned by days or months of {zones[0]}, it was by those of {zones[1]}"]
    if old.origin[:1] == spec.origin[:1] and old.origin[1:] != spec.origin[1:]:
        # The numbers of commits are those of the source's task: another's are none that follow.
        return [f"its rows are made of {spec.origin[1]!r}, they were of {old.origin[1]!r}"]
    if old.times and old.times != spec.times:
        of = [", ".join(some) for some in (spec.times, old.times)]
        return [f"it is partitioned by times of {of[0]}, it was by those of {of[1]}"]
    return []
