"""Debezium's change events: what happened to one row of a table, in an envelope.

`{"before": ..., "after": ..., "op": "c", "source": {...}, "ts_ms": ...}`, or that as the `payload`
beside a `schema`. A row is `after`, byte for byte, and fields that are taken from the envelope; of
a deletion it has the key, those fields, and null otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import msgspec

from streamflow.errors import TopologyError
from streamflow.record_keys import KeyField, Row, values_of
from streamflow.schema import Contract

#: What records without a value are counted under.
TOMBSTONE = "debezium: tombstone"
_ROWS = ("c", "u", "r")
_NULL = msgspec.Raw(b"null")
_ROW = msgspec.json.Decoder(Row)
_ENCODE = msgspec.json.Encoder().encode


class _NoEvent(Exception):
    """A JSON document that is no change event, or one that makes no row."""


@dataclass(frozen=True)
class Debezium:
    """Values are Debezium's change events; see `debezium`. `fields` has names and paths."""

    fields: tuple[tuple[str, str], ...] = ()


def debezium(**fields: str) -> Debezium:
    """The values of a source are Debezium's change events, as JSON with or without its schema.

    `c`, `u` and `r` make a row of `after`. `d` deletes the key that `before` has, or else the
    record's key; the record without a value that follows it says nothing more and is dropped,
    counted as `debezium: tombstone`. What is no such event, also `t`, which empties a table without
    naming its rows, is a dead letter with the reason `envelope`. The record's key is a JSON
    document of the fields that are the key; that of one field can be its text.

    Args:
        fields: Fields of the model that are in the envelope and not in the row, by their path
            there: `lsn="source.lsn"`. One that orders changes lets `changed(..., by="lsn")` tell
            late deletions too.
    """
    return Debezium(tuple(fields.items()))


def _check_path(where: str, path: object, envelope: Debezium) -> None:
    if not isinstance(path, str) or not all(map(str.isidentifier, path.split("."))):
        raise TopologyError(f"{where} is no path of names: say 'source.lsn'")
    if path.split(".")[0] in ("op", "before", "after", "schema", "payload"):
        raise TopologyError(f"{where}: take source.* or ts_*; the row has its own fields")
    if any(other.startswith(f"{path}.") for _, other in envelope.fields):
        raise TopologyError(f"{where} is a whole, of which other fields take parts")


@dataclass(frozen=True)
class Opened:
    """What is in the envelopes of a micro-batch, by the place of the record.

    `values` are JSON documents of rows, those of `deleted` too; `refused` has a reason and what is
    wrong; `empty` records had no value.
    """

    values: dict[int, bytes]
    deleted: list[bool]
    refused: dict[int, tuple[str, str]]
    empty: int


def check_debezium(where: str, envelope: object, keys: Sequence[str], contract: Contract) -> None:
    """Raises `TopologyError` where deletions could not be rows, or a field cannot be filled."""
    if not isinstance(envelope, Debezium):
        raise TopologyError(f"{where}: envelope={envelope!r} is none; say envelope=debezium()")
    names, model = contract.schema.names, contract.model.__name__
    if not keys:
        raise TopologyError(
            f"{where}: envelope=debezium() needs key=...: a deletion says only which row it is"
        )
    for name, path in envelope.fields:
        if name not in names:
            raise TopologyError(f"{where}: debezium: {model} has no field {name!r}")
        if name in keys:
            raise TopologyError(f"{where}: debezium: the key {name!r} is a field of the row")
        _check_path(f"{where}: debezium: {name}={path!r}", path, envelope)
    filled = {*keys, *(name for name, _ in envelope.fields)}
    needed = [f.name for f in contract.schema if not f.nullable and f.name not in filled]
    if needed:
        raise TopologyError(
            f"{where}: a deletion has only its key and fields of the envelope, so every other "
            f"field of {model} can be null; declare {needed[0]!r} with | None"
        )


def opened(
    envelope: Debezium,
    fields: Sequence[KeyField],
    contract: Contract,
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None],
) -> Opened:
    """Take rows and deletions out of their envelopes. The records' keys name deleted rows where
    these do not.
    """
    decode, names = _decoder(envelope), contract.json_names
    nulls = dict.fromkeys(names.values(), _NULL)
    rows, refused = dict[int, bytes](), dict[int, tuple[str, str]]()
    deleted = [False] * len(values)
    empty = 0
    for place, value in enumerate(values):
        if value is None:
            empty += 1
            continue
        try:
            event = decode(value)
            event = event if event.payload is None else event.payload
            if event.op == "d":
                gone = nulls | _key_of(event, fields, keys[place])
                rows[place] = _ENCODE(gone | _said(envelope, names, event))
                deleted[place] = True
            else:
                rows[place] = _row(envelope, names, event)
        except (msgspec.ValidationError, _NoEvent) as error:
            refused[place] = ("envelope", str(error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refused[place] = ("not-json", str(error))
    return Opened(rows, deleted, refused, empty)


def _key_of(event: Any, fields: Sequence[KeyField], key: bytes | None) -> Row:
    """Which row was deleted: in the columns it had, or where these are not said, the record's key.

    Raises:
        _NoEvent: neither says it.
    """
    before: Row = {} if event.before == _NULL else _ROW.decode(event.before)
    if all(field.json in before for field in fields):
        return {field.json: before[field.json] for field in fields}
    made = None if key is None else values_of(key, fields, enveloped=True)
    if made is not None:
        return made
    named = " and ".join(repr(field.name) for field in fields)
    raise _NoEvent(f"a deletion without {named}: neither before nor the record's key has it")


def _row(envelope: Debezium, names: Mapping[str, str], event: Any) -> bytes:
    """The row after the change. Raises `_NoEvent` when the event has none."""
    if event.op not in _ROWS:
        raise _NoEvent(_unknown(event.op))
    after = bytes(event.after)
    if not after.startswith(b"{"):
        raise _NoEvent(f"op {event.op!r} without a row in after")
    said = _said(envelope, names, event)
    if not said:
        return after
    # Of two fields of one name the last counts.
    between = b"" if after[1:-1].strip() == b"" else b","
    return after[:-1] + between + _ENCODE(said)[1:]


def _unknown(op: str | None) -> str:
    if op is None:
        return "no change event: it has no op"
    if op == "t":
        return "op 't' empties a table and names no row; drop the table's state and read it again"
    if len(op) > 1:  # not of Debezium: it may be anything
        return "its op is none of c, u, d, r"
    return f"op {op!r} is none of c, u, d, r"


def _said(envelope: Debezium, names: Mapping[str, str], event: Any) -> Row:
    """The fields that are taken from the envelope; null for what is not there."""
    return {names[name]: _at(event, path) for name, path in envelope.fields}


def _at(event: Any, path: str) -> msgspec.Raw:
    for part in path.split("."):
        event = _NULL if event is None else getattr(event, part)
        if event is _NULL:
            break
    return cast("msgspec.Raw", event)


@cache
def _decoder(envelope: Debezium) -> Callable[[bytes], Any]:
    """Reads an event, in a payload or not, as far as it is needed; the rest is skipped."""
    tree: dict[str, Any] = {}
    for _, path in envelope.fields:
        *parents, leaf = path.split(".")
        at = tree
        for part in parents:
            at = at.setdefault(part, {})
        at[leaf] = {}
    own = [("op", str | None, None), ("before", msgspec.Raw, _NULL), ("after", msgspec.Raw, _NULL)]
    fields = [*own, *_fields(tree)]
    event = msgspec.defstruct("Event", fields)
    payload = ("payload", event | None, None)
    return msgspec.json.Decoder(msgspec.defstruct("Value", [payload, *fields])).decode


def _fields(tree: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [
        (name, msgspec.defstruct(name, _fields(below)) | None, None)
        if below
        else (name, msgspec.Raw, _NULL)
        for name, below in tree.items()
    ]
