"""Makes the keys with which a source takes values: for what is sent, and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa

from streamflow.envelopes import opened
from streamflow.record_keys import key_of_texts, number_text, text_of
from streamflow.sources import Source


def key_of(document: Any, names: Sequence[str]) -> bytes:
    """The key that a document's fields make: the text of one, or a JSON object of several.

    Raises:
        ValueError: there is no such field, or it is null, a list or an object.
    """
    values = {name: _single(document, name) for name in names}
    if len(values) > 1:
        return orjson.dumps(
            {name: _written_once(value) for name, value in values.items()},
        )
    (value,) = values.values()
    if isinstance(value, str):
        return value.encode()
    return number_text(value).encode() if isinstance(value, float) else orjson.dumps(value)


def field_of(document: Any, name: str) -> Any:
    """Raises `ValueError`: it is no object, or has no such field."""
    if not isinstance(document, dict):
        raise ValueError(f"the line is no JSON object, so it has no field {name!r}")
    if name not in document:
        raise ValueError(f"there is no field {name!r}; it has {sorted(document)}")
    return document[name]


def keys_for(source: Source, values: Sequence[bytes]) -> list[bytes | None]:
    """The key of each value, of a change event that of its row; None where it has none, or is none
    that the source takes.
    """
    if not source.keys:
        return [None] * len(values)
    keys = _as_written(source, values)
    places = [place for place, key in enumerate(keys) if key is None]
    if not places:
        return keys
    documents = [values[place] for place in places]
    if source.envelope is not None:
        nothing = [None] * len(documents)
        found = opened(source.envelope, source.key_fields, source.contract, documents, nothing)
        documents, places = list(found.values.values()), [places[at] for at in found.values]
    decoding = source.contract.decode(documents)
    columns = [text_of(decoding.batch.column(name)).to_pylist() for name in source.keys]
    for place, texts in zip(decoding.places, zip(*columns, strict=True), strict=True):
        keys[places[place]] = key_of_texts(source.key_fields, texts)
    return keys


def why_no_key(source: Source, value: bytes) -> str:
    """Why `keys_for` made none of a value: its record is refused, by which field, or its key is."""
    model, documents = source.contract.model.__name__, [value]
    if source.envelope is not None:
        found = opened(source.envelope, source.key_fields, source.contract, documents, [None])
        if found.refused:
            return f"no key: {found.refused[0][1]}"
        documents = list(found.values.values())
    names = [field.json for field in source.key_fields]
    for refused in source.contract.decode(documents).refused:
        if refused.field.split(".")[0] not in names:
            at = f"field {refused.field!r}: " if refused.field else ""
            return f"no key: {model} does not take the record: {at}{refused.message}"
    named = " and ".join(map(repr, source.keys))
    return (
        f"no key: {source.topic!r} is keyed by {named}, which is not there, null, or not as"
        f" {model} takes it"
    )


def _as_written(source: Source, values: Sequence[bytes]) -> list[bytes | None]:
    """The quick way, at a third of the time, for values in which fields surely stand as in columns:
    all of a plain model, and text for text or a whole number for one; None for others.
    """
    keys: list[bytes | None] = [None] * len(values)
    if source.envelope is not None or not source.contract.is_plain or len(source.keys) > 1:
        return keys
    (field,) = source.key_fields
    kind = str if pa.types.is_string(field.kind) else int
    if kind is int and not pa.types.is_integer(field.kind):
        return keys
    for place, value in enumerate(values):
        try:
            found = orjson.loads(value)[field.json]
        except (ValueError, TypeError, KeyError):
            continue
        if type(found) is kind:
            keys[place] = str(found).encode()
    return keys


def _single(document: Any, name: str) -> Any:
    value = field_of(document, name)
    if value is None or isinstance(value, dict | list):
        raise ValueError(
            f"field {name!r} is {type(value).__name__}, not text or a number to key by"
        )
    return value


def _written_once(value: Any) -> Any:
    """The same number is written the same way, for the partition goes by it: `1` for `1.0`."""
    return orjson.Fragment(number_text(value)) if isinstance(value, float) else value
