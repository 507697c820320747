"""Records without a value: dead letters, or, where a source says so, deletions of their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa

from streamflow.batch import MicroBatch
from streamflow.envelopes import opened
from streamflow.errors import TopologyError
from streamflow.record_keys import texts_of_keys, values_of
from streamflow.schema import Contract

if TYPE_CHECKING:
    from streamflow.sources import Source

#: What a record with a key and without a value is.
Tombstones = Literal["dead_letter", "delete"]


def check_tombstones(
    where: str, tombstones: Tombstones, keys: Sequence[str], contract: Contract
) -> None:
    """Raises `TopologyError` when a deletion could not be a row: all it has is its key."""
    if tombstones == "dead_letter":
        return
    if tombstones != "delete":
        raise TopologyError(f'{where}: tombstones={tombstones!r}; it is "dead_letter" or "delete"')
    if not keys:
        raise TopologyError(
            f'{where}: tombstones="delete" needs key=...: the record\'s key is all that a record '
            "without a value says"
        )
    needed = [f.name for f in contract.schema if not f.nullable and f.name not in keys]
    if needed:
        raise TopologyError(
            f"{where}: a record without a value has only its key, so every other field of "
            f"{contract.model.__name__} can be null; declare {needed[0]!r} with | None"
        )


@dataclass(frozen=True)
class Unwrapped:
    """The values to be decoded, and the place of each in the micro-batch, or None where that is
    their own. By place: what their keys say of each field that the topic is keyed by; which records
    delete their keys, where that is understood; and why records have no value to be decoded.
    `empty` is how many are dropped.
    """

    values: Sequence[bytes | None]
    keys: Sequence[Sequence[bytes | None]]
    deleted: pa.Array | None = None
    places: Sequence[int] | None = None
    refused: Mapping[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    empty: int = 0


def unwrapped(source: Source, batch: MicroBatch) -> Unwrapped:
    """What is in the records. A tombstone becomes a value that has its key, and null in every other
    field.
    """
    keys = texts_of_keys(batch.keys, source.key_fields, enveloped=source.envelope is not None)
    if source.tombstones == "dead_letter" or not source.keys:
        return Unwrapped(batch.values, keys)
    if source.envelope is not None:
        found = opened(
            source.envelope, source.key_fields, source.contract, batch.values, batch.keys
        )
        return Unwrapped(
            list(found.values.values()),
            keys,
            pa.array(found.deleted, pa.bool_()),
            list(found.values),
            found.refused,
            found.empty,
        )
    deleted = [value is None for value in batch.values]
    if not any(deleted):
        return Unwrapped(batch.values, keys, pa.array(deleted, pa.bool_()))
    nulls = dict.fromkeys(source.contract.json_names.values())
    values = list(batch.values)
    for row in (row for row, gone in enumerate(deleted) if gone):
        key = batch.keys[row]
        made = None if key is None else values_of(key, source.key_fields, enveloped=False)
        if made is not None:
            values[row] = msgspec.json.encode(nulls | made)
    return Unwrapped(values, keys, pa.array(deleted, pa.bool_()))
