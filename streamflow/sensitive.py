"""Fields that say who somebody is, or what nobody else should read: how each leaves a topology.

A field is marked in its model, and goes out of the topology masked, whatever way it takes. Inside,
rules, windows and lookups see what it is:

    class Customer(BaseModel):
        id: str
        email: Annotated[str, hashed()]
        phone: Annotated[str | None, masked(shown=4)]
        notes: Annotated[str | None, withheld()]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import pyarrow as pa

from streamflow.arguments import is_some_whole
from streamflow.errors import TopologyError

#: Under which name a column's metadata, in files too, say how it left.
SENSITIVE = b"sensitive"
#: Stands for words that may have a value.
WITHHELD: Final = "(its words are withheld: they may be sensitive)"
#: As many characters may be shown.
MOST_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Sensitive:
    """How values of a field leave: see `hashed`, `masked`, `withheld` and `cleared`."""

    way: Literal["hashed", "masked", "withheld", "cleared"]
    shown: int = 0
    why: str = ""

    def __str__(self) -> str:
        if self.way == "masked":
            return f"masked(shown={self.shown})"
        return f"{self.way}({self.why!r})" if self.why else f"{self.way}()"

    @property
    def is_kept_apart(self) -> bool:
        """Do different values stay different?"""
        return self.way in ("hashed", "cleared")


def hashed() -> Sensitive:
    """Mark a field of text, in `Annotated`: a keyed hash of it leaves the topology.

    The same text gives the same 32 hexadecimal digits everywhere, so rows can be counted, grouped
    and joined by it; without the key, `STREAMFLOW_MASKING_KEY`, nobody can try out what it was.
    BLAKE2b with a key (RFC 7693).
    """
    return Sensitive("hashed")


def masked(*, shown: int = 4) -> Sensitive:
    """Mark a field of text, in `Annotated`: `****` and its last characters leave the topology.

    Args:
        shown: How many of the last characters are shown, 0 to 8, of texts that are at least twice
            as long; of others none.
    """
    is_some_whole("masked", "shown", shown)
    if not 0 <= shown <= MOST_SHOWN:
        raise TopologyError(f"masked: shown is 0 to {MOST_SHOWN}, not {shown}")
    return Sensitive("masked", shown)


def withheld() -> Sensitive:
    """Mark a field that can be null, in `Annotated`: null leaves the topology."""
    return Sensitive("withheld")


def cleared(why: str) -> Sensitive:
    """Mark a field that is made of sensitive ones, in `Annotated`: it may leave as it is.

    Args:
        why: For whoever reviews the model, and for readers of files, whose metadata have it.
    """
    if not isinstance(why, str) or not why.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TopologyError("cleared: say why it may leave as it is, in words")
    return Sensitive("cleared", why=why)


def mark_of(
    annotation: Any, metadata: Iterable[Any], kind: pa.DataType, nullable: bool, where: str
) -> dict[bytes, bytes]:
    """What the column of a field knows of its mark; nothing where it has none.

    Raises:
        TopologyError: it has two, one is of a part of its values, or its type cannot be masked so.
    """
    marks = [*_marks(metadata), *_marks(_of_optional(annotation))]
    if len(_anywhere(annotation)) > len(_marks(_of_optional(annotation))):
        raise TopologyError(
            f"{where}: a mark is for a whole field, as in Annotated[list[str] | None, withheld()]"
        )
    if not marks:
        return {}
    if len(marks) > 1:
        raise TopologyError(f"{where}: it is marked {marks[0]} and {marks[1]}; leave one")
    mark = marks[0]
    if mark.way in ("hashed", "masked") and not pa.types.is_string(kind):
        raise TopologyError(
            f"{where}: {mark} is for text, and this is {kind}; withheld() is for whatever can be"
            " null"
        )
    if mark.way == "withheld" and not nullable:
        raise TopologyError(f"{where}: withheld() makes null of it; declare it | None")
    detail = f":{mark.shown}" if mark.way == "masked" else f":{mark.why}" if mark.why else ""
    return {SENSITIVE: f"{mark.way}{detail}".encode()}


def _marks(metadata: Iterable[Any]) -> list[Sensitive]:
    return [one for one in metadata if isinstance(one, Sensitive)]


def _of_optional(annotation: Any) -> Sequence[Any]:
    """What is noted of T in T | None: an alias of a marked type is often used so."""
    inner = [one for one in get_args(annotation) if one is not type(None)]
    one = inner[0] if len(inner) == 1 and type(None) in get_args(annotation) else None
    return get_args(one)[1:] if get_origin(one) is Annotated else ()


def _anywhere(annotation: Any) -> list[Sensitive]:
    """The marks of a type and of all types in it."""
    parts = get_args(annotation)
    return [*_marks(parts), *(mark for part in parts for mark in _anywhere(part))]


def marks_of(schema: pa.Schema) -> dict[str, Sensitive]:
    """The marks of fields, by name; of cleared ones too."""
    found: dict[str, Sensitive] = {}
    for field in schema:
        mark = (field.metadata or {}).get(SENSITIVE)
        if mark is not None:
            way, _, detail = mark.decode().partition(":")
            shown = int(detail) if way == "masked" else 0
            why = detail if way == "cleared" else ""
            found[field.name] = Sensitive(way, shown, why)  # pyright: ignore[reportArgumentType]
    return found


def ways_of(schema: pa.Schema) -> dict[str, Sensitive]:
    """The fields that do not leave as they are, by name."""
    return {name: mark for name, mark in marks_of(schema).items() if mark.way != "cleared"}
