"""What change detection compares: a field that moves with each change, or a row's contents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from streamflow.arguments import in_words, is_duration
from streamflow.errors import TopologyError
from streamflow.windows import micros

if TYPE_CHECKING:
    from streamflow.stream import Stream

#: What became of the key of a row that passed: `new`, `changed` or `deleted`.
CHANGE = pa.field("_change", pa.string(), nullable=False)


@dataclass(frozen=True)
class Content:
    """Rows are equal when these fields are, or all of them where none is named; see `content`."""

    fields: tuple[str, ...] = ()


def content(*fields: str) -> Content:
    """Compare rows by the contents of these fields, or of all: by a hash of 128 bits."""
    return Content(fields)


ALL_FIELDS = content()


def kinds_of(schema: pa.Schema, names: Iterable[str]) -> tuple[str, ...]:
    """Of which kinds fields are: values of different kinds are never the same key."""
    numbers = (pa.types.is_integer, pa.types.is_floating)
    types = [schema.field(name).type for name in names]
    return tuple("number" if any(n(kind) for n in numbers) else str(kind) for kind in types)


def said_kinds(names: Sequence[str], kinds: Sequence[str]) -> str:
    """The names of fields, each with its kind."""
    return ", ".join(map(" ".join, zip(names, kinds, strict=False)))


@dataclass(frozen=True, eq=False)
class Changed:
    """Drops a row that says nothing new of its key, or is older than what is known of it.

    Attributes:
        keys: The fields that name what a row is about.
        by: The field that every change moves forward, or what is compared.
        fields: The fields that are compared; none with `by` a field.
        sequence: The field that orders rows of one time, if any.
        forget_after: After how long without a record a key is forgotten, in microseconds.
        kinds: Of which kinds the keys are, and the fields that order records.
    """

    keys: tuple[str, ...]
    by: str | Content
    fields: tuple[str, ...]
    sequence: str | None
    forget_after: int | None
    kinds: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What its rows are counted under, and its state is kept under."""
        how = self.by if isinstance(self.by, str) else f"content({','.join(self.by.fields)})"
        order = "" if self.sequence is None else f",{self.sequence}"
        forgets = "" if self.forget_after is None else " forgetting"
        return f"changed {','.join(self.keys)} by {how}{order}{forgets}"

    @property
    def compared(self) -> str:
        """What it remembers, besides its name: state of anything else is not read."""
        return said_kinds(_ordered(self.keys, self.by, self.sequence), self.kinds)


def _ordered(keys: tuple[str, ...], by: str | Content, sequence: str | None) -> tuple[str, ...]:
    """The keys, and the fields that order records."""
    return (*keys, *(one for one in (by, sequence) if isinstance(one, str)))


def changed_on(
    stream: Stream,
    keys: tuple[str, ...],
    by: str | Content,
    sequence: str | None,
    forget_after: timedelta | None,
) -> Changed:
    """Raises `TopologyError` when a field is not there or cannot serve, the stage is not the only
    one, or not by what a record without a value deletes.
    """
    where = f"changed on {stream}"
    for name in (*keys, *(by.fields if isinstance(by, Content) else (by,))):
        stream.need("changed", name)
    if sequence is not None:
        stream.need("changed", sequence)
    if any(isinstance(stage, Changed) for stage in stream.stages):
        raise TopologyError(f"{where}: it detects changes already; once is enough")
    if stream.source.tombstones == "delete" and set(keys) != set(stream.keys):
        named = " and ".join(map(repr, stream.source.keys))
        raise TopologyError(
            f"{where}: a record without a value deletes what {named} names, so that is the key, "
            f"not {list(keys)}"
        )
    return _stage(keys, by, sequence, forget_after, stream.schema, where)


def _stage(
    keys: tuple[str, ...],
    by: str | Content,
    sequence: str | None,
    forget_after: timedelta | None,
    schema: pa.Schema,
    where: str,
) -> Changed:
    """The stage by fields that are there."""
    if not keys:
        raise TopologyError(f"{where}: name the fields that say what a record is about")
    if forget_after is not None:
        is_duration(where, "forget_after", forget_after)
        if forget_after <= timedelta(0):
            raise TopologyError(f"{where}: forget_after={in_words(forget_after)} is not above zero")
    for name in keys:
        if pa.types.is_nested(schema.field(name).type):
            kind = schema.field(name).type
            raise TopologyError(f"{where}: cannot compare {name!r}, which is {kind}")
    for name in (by, sequence):
        if isinstance(name, str):
            kind = schema.field(name).type
            if not (pa.types.is_integer(kind) or pa.types.is_timestamp(kind)):
                raise TopologyError(
                    f"{where}: {name!r} is {kind}; an int or an AwareDatetime can say which of two "
                    "records is newer; or compare by=content(...)"
                )
    fields = () if isinstance(by, str) else by.fields
    if isinstance(by, Content) and not fields:
        fields = tuple(name for name in schema.names if not name.startswith("_"))
    forgotten = None if forget_after is None else micros(forget_after)
    kinds = kinds_of(schema, _ordered(keys, by, sequence))
    return Changed(keys, by, fields, sequence, forgotten, kinds)
