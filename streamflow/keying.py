"""Makes the keys with which a source takes values: for what is sent, and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa

from streamflow.record_keys import number_text, text_of
from streamflow.sources import Source


def key_of(document: Any, names: Sequence[str]) -> bytes:
    """The key that a document's fields make: the text of one, or a JSON object of several.

    Raises:
        ValueError: there is no such field, or it is null, a list or an object.
    """
    values = {name: _single(document, name) for name in names}
    if len(values) > 1:
        return orjson.dumps(values)
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
    """The key of each value; None where it has none, or is none that the source takes."""
    if not source.keys:
        return [None] * len(values)
    if source.envelope is not None or _is_as_written(source):
        return [_written(source, value) for value in values]
    decoding = source.contract.decode(values)
    columns = [text_of(decoding.batch.column(name)).to_pylist() for name in source.keys]
    keys: list[bytes | None] = [None] * len(values)
    for place, texts in zip(decoding.places, zip(*columns, strict=True), strict=True):
        keys[place] = _of_texts(source.keys, texts)
    return keys


def _single(document: Any, name: str) -> Any:
    value = field_of(document, name)
    if value is None or isinstance(value, dict | list):
        raise ValueError(
            f"field {name!r} is {type(value).__name__}, not text or a number to key by"
        )
    return value


def _is_as_written(source: Source) -> bool:
    """Do the key's fields stand in the values under their names, and as columns have them?"""
    infos = [source.contract.model.model_fields[name] for name in source.keys]
    kinds = [source.contract.schema.field(name).type for name in source.keys]
    plain = all(pa.types.is_string(kind) or pa.types.is_integer(kind) for kind in kinds)
    return plain and all(info.alias is info.validation_alias is None for info in infos)


def _written(source: Source, value: bytes) -> bytes | None:
    """Of a change event the key of its row."""
    try:
        document = orjson.loads(value)
        if source.envelope is not None:
            event = _object_in(document, "payload") or document
            document = _object_in(event, "after") or _object_in(event, "before")
        return key_of(document, source.keys)
    except ValueError:
        return None


def _object_in(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, dict) else None


def _of_texts(names: Sequence[str], texts: Sequence[bytes | None]) -> bytes | None:
    known = [text for text in texts if text is not None]
    if len(known) != len(texts):
        return None
    if len(names) == 1:
        return known[0]
    return orjson.dumps({name: text.decode() for name, text in zip(names, known, strict=True)})
