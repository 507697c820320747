"""What a topic is keyed by, and what the key of a record says of it.

One field is the key as its text. Several are a JSON object of them, as Kafka Connect and Debezium
write it, with or without its schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from streamflow.errors import TopologyError

#: Values of a JSON object, as they stand there.
Row = dict[str, msgspec.Raw]

_ROW = msgspec.json.Decoder(Row)


def key_fields(where: str, given: object) -> tuple[str, ...]:
    """The fields that were named; none where the topic is not keyed by what its values say.

    Raises:
        TopologyError: it is no name and no names, or one comes twice.
    """
    if given is None:
        return ()
    listed: Sequence[Any] = given if isinstance(given, tuple | list) else (given,)
    names = tuple(name for name in listed if isinstance(name, str))
    if not names or len(names) != len(listed):
        raise TopologyError(f"{where}: key={given!r}; name the field that the topic is keyed by")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TopologyError(f"{where}: key names {twice[0]!r} twice; leave one out")
    return names


def text_of(column: pa.Array) -> pa.Array:
    """A column's values as keys have them, as bytes."""
    return pc.cast(pc.cast(column, pa.string()), pa.binary())


def number_text(number: float) -> str:
    """A number as `text_of` writes it: `1`, and not `1.0`."""
    return pc.cast(pa.scalar(number), pa.string()).as_py()


def texts_of_keys(
    keys: Sequence[bytes | None], names: Sequence[str], *, enveloped: bool
) -> list[Sequence[bytes | None]]:
    """Of each field its text in each key; None where a key has none.

    Args:
        keys: The records' keys.
        names: The fields that they are keyed by.
        enveloped: The key of one field may be a JSON object too.
    """
    if len(names) != 1:
        rows = [None if key is None else object_of(key, names) for key in keys]
        return [[None if row is None else _text(row[name]) for row in rows] for name in names]
    if not enveloped:
        return [keys]
    return [[None if key is None else key_text(key, names[0]) for key in keys]]


def key_text(key: bytes, name: str) -> bytes | None:
    """A key of one field: the value of the JSON object's one field, or else the key as it is."""
    row = object_of(key, (name,))
    return key if row is None else _text(row[name])


def object_of(key: bytes, names: Sequence[str]) -> Row | None:
    """The values of a key that is a JSON object of just these fields; None for any other."""
    try:
        row = _ROW.decode(key)
        if row.keys() == {"schema", "payload"} != set(names):
            row = _ROW.decode(row["payload"])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return row if row.keys() == set(names) else None


def values_of(key: bytes, names: Sequence[str], *, enveloped: bool) -> Row | None:
    """What a key says of its fields, as JSON; None where it does not."""
    row = object_of(key, names) if enveloped or len(names) > 1 else None
    if row is not None or len(names) > 1:
        return row
    try:
        return {names[0]: msgspec.Raw(msgspec.json.encode(key.decode()))}
    except UnicodeDecodeError:
        return None


def _text(value: msgspec.Raw) -> bytes | None:
    """Raises nothing: what is no single value is no text that a column could have."""
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return bytes(value)
    if isinstance(decoded, str):
        return decoded.encode("utf-8", "surrogatepass")
    if isinstance(decoded, float):
        return number_text(decoded).encode()
    return None if decoded is None else bytes(value)
