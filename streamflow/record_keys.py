"""What a topic is keyed by, and what the key of a record says of it.

One field is the key as its text. Several are a JSON object of them, as Kafka Connect and Debezium
write it, with or without its schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from streamflow.errors import TopologyError
from streamflow.exact_cast import plain_text

#: Values of a JSON object, as they stand there.
Row = dict[str, msgspec.Raw]

_ROW = msgspec.json.Decoder(Row)
_DECODE = msgspec.json.decode
#: What reading JSON fails with; the last where it lies too deep.
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class KeyField:
    """A field that a topic is keyed by: its name, that in JSON, and the type of its column."""

    name: str
    json: str
    kind: pa.DataType


def key_names(where: str, given: object) -> tuple[str, ...]:
    """The fields that were named; none where the topic is not keyed by what its values say.

    Raises:
        TopologyError: it is no name and no names, or one comes twice.
    """
    if given is None:
        return ()
    listed = tuple(given) if isinstance(given, tuple | list) else (given,)
    names = tuple(name for name in listed if isinstance(name, str))
    if not names or len(names) != len(listed):
        raise TopologyError(f"{where}: key={given!r}; name the field that the topic is keyed by")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TopologyError(f"{where}: key names {twice[0]!r} twice; leave one out")
    return names


def text_of(column: pa.Array) -> pa.Array:
    """A column's values as keys have them, as bytes."""
    if pa.types.is_binary(column.type):
        return column
    return pc.cast(plain_text(column), pa.binary())


def number_text(number: float) -> str:
    """A number as `text_of` writes it: `1`, and not `1.0`."""
    return pc.cast(pa.scalar(number), pa.string()).as_py()


def texts_of_keys(
    keys: Sequence[bytes | None], fields: Sequence[KeyField], *, enveloped: bool
) -> list[Sequence[bytes | None]]:
    """Of each field its text in each key; None where a key has none.

    Args:
        keys: The records' keys.
        fields: What they are keyed by.
        enveloped: The key of one field may be a JSON object too.
    """
    if len(fields) > 1:
        rows = [None if key is None else object_of(key, fields) for key in keys]
        return [
            [None if row is None else _text(row[field.json], field.kind) for row in rows]
            for field in fields
        ]
    if not enveloped:
        return [keys for _ in fields]
    return [[None if key is None else key_text(key, field) for key in keys] for field in fields]


def key_text(key: bytes, field: KeyField) -> bytes | None:
    """A key of one field: the value of the JSON object's one field, or else the key as it is."""
    row = object_of(key, (field,))
    return key if row is None else _text(row[field.json], field.kind)


def object_of(key: bytes, fields: Sequence[KeyField]) -> Row | None:
    """The values of a key that is a JSON object of just these fields; None for any other."""
    names = {field.json for field in fields}
    try:
        row = _ROW.decode(key)
        if row.keys() == {"schema", "payload"} != names:
            row = _ROW.decode(row["payload"])
    except _NOT_JSON:
        return None
    return row if row.keys() == names else None


def is_key(key: bytes, fields: Sequence[KeyField]) -> bool:
    """Has a key the form of one? A single field's may be any text."""
    if len(fields) < 2:
        return bool(fields)
    row = object_of(key, fields)
    return row is not None and not any(bytes(v).startswith((b"{", b"[")) for v in row.values())


def values_of(key: bytes, fields: Sequence[KeyField], *, enveloped: bool) -> Row | None:
    """What a key says of its fields, as a value would, by their names there; None where it does
    not.
    """
    texts = [found[0] for found in texts_of_keys([key], fields, enveloped=enveloped)]
    known = [text for text in texts if text is not None]
    if not known or len(known) < len(texts):
        return None
    try:
        return {f.json: _json_of(text, f.kind) for f, text in zip(fields, known, strict=True)}
    except UnicodeDecodeError:
        return None


def key_of_texts(fields: Sequence[KeyField], texts: Sequence[bytes | None]) -> bytes | None:
    """The key of a row whose fields have these texts; None where one is null."""
    known = [text for text in texts if text is not None]
    if len(known) < len(texts):
        return None
    if len(fields) == 1:
        return known[0]
    row = {f.json: _json_of(text, f.kind) for f, text in zip(fields, known, strict=True)}
    return msgspec.json.encode(row)


def _text(value: msgspec.Raw, kind: pa.DataType) -> bytes | None:
    """What is no single value gets a text that no column has."""
    try:
        decoded = _DECODE(value)
        if isinstance(decoded, int | float) and not isinstance(decoded, bool):
            # As an integer, which it looks like, it has lost its sign.
            number = -0.0 if bytes(value) == b"-0" else decoded
            return _number(number, kind) or bytes(value)
    except (*_NOT_JSON, OverflowError):
        return bytes(value)
    if isinstance(decoded, str):
        return decoded.encode("utf-8", "surrogatepass")
    return None if decoded is None else bytes(value)


def _number(number: float, kind: pa.DataType) -> bytes | None:
    """As a column of numbers writes it; None for any other, where it is as it stands there."""
    if pa.types.is_floating(kind):
        return number_text(float(number)).encode()
    whole = pa.types.is_integer(kind) and int(number) == number
    return b"%d" % int(number) if whole else None


def _json_of(text: bytes, kind: pa.DataType) -> msgspec.Raw:
    """Numbers and truth values stand in JSON without quotes. Raises `UnicodeDecodeError`."""
    bare = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if bare and isinstance(_found(text), int | float):
        # An integer of zero has no sign.
        return msgspec.Raw(b"-0.0" if text == b"-0" and pa.types.is_floating(kind) else text)
    return msgspec.Raw(msgspec.json.encode(text.decode()))


def _found(text: bytes) -> object:
    try:
        return _DECODE(text)
    except _NOT_JSON:
        return None
