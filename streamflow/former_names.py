"""Fields that were renamed: their columns in tables keep the name that they were given first.

Readers of files know a column by its name, and files are never rewritten. So no column of a table
is ever renamed; a field that is says what its column is called:

    class Order(BaseModel):
        customer: Annotated[str, formerly("client")]  # the column `client` of tables

Topics, gates and functions know the field by its new name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic.fields import FieldInfo

from streamflow.errors import TopologyError
from streamflow.sensitive import Sensitive

_FORMERLY, _FIELD = b"formerly", b"field"


@dataclass(frozen=True, slots=True)
class Formerly:
    """The name that the column of a field has in tables."""

    name: str


def formerly(name: str) -> Formerly:
    """Mark a renamed field, in `Annotated`: its column in tables keeps this name.

    After several renames it is the name that the tables have, so the first one.
    """
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TopologyError(f"formerly({name!r}): it takes the name that the field had, a text")
    return Formerly(name)


def others(metadata: Iterable[Any]) -> list[Any]:
    """The metadata of a field that says something of its values."""
    return [one for one in metadata if not isinstance(one, Formerly | Sensitive)]


def column_metadata(where: str, info: FieldInfo, name: str) -> dict[bytes, bytes]:
    """What the column of the field `name` knows of it beside its name and type.

    Raises:
        TopologyError: it has two former names, or is called so now.
    """
    found = {} if info.description is None else {b"description": info.description.encode()}
    names = [one.name for one in info.metadata if isinstance(one, Formerly)]
    if len(names) > 1:
        raise TopologyError(
            f"{where}: formerly(...) is given {len(names)} times, {', '.join(names)}; a column has"
            " one name in tables: leave the one that they have, which is the first it had"
        )
    if names == [name]:
        raise TopologyError(
            f"{where}: formerly({name!r}) is what the field is called now; give the name that its"
            " column has in tables, or leave it out"
        )
    return found | ({_FORMERLY: names[0].encode()} if names else {})


def stored_name(field: pa.Field) -> str:
    """The name that the column of a field has in tables."""
    former = (field.metadata or {}).get(_FORMERLY)
    return field.name if former is None else former.decode()


def field_name(column: pa.Field) -> str:
    """The name of the field that a column of a table is of."""
    other = (column.metadata or {}).get(_FIELD)
    return column.name if other is None else other.decode()


def stored(field: pa.Field) -> pa.Field:
    """The column of a field as tables have it; under another name it says that of the field."""
    metadata = dict(field.metadata or {})
    if metadata.pop(_FORMERLY, None) is None:
        return field
    return field.with_name(stored_name(field)).with_metadata(
        metadata | {_FIELD: field.name.encode()}
    )
