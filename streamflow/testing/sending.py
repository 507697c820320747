"""What a test sends, as records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamflow.batch import Headers, Record
from streamflow.core.json_values import to_json
from streamflow.topology import Topology


def key_of(topology: Topology, topic: str) -> str | None:
    """The field that a topic is keyed by. Raises `ValueError` where the topology reads no such."""
    keys = {plan.source.topic: plan.source.key for plan in topology.tasks}
    keys |= {sink.source: None for sink in topology.archives if sink.source is not None}
    if topic not in keys:
        raise ValueError(f"the topology does not read {topic!r}; it reads {sorted(keys)}")
    return keys[topic]


def record_of(given: Any, key: str | None, headers: Headers) -> Record:
    """A mapping, bytes or a record as a record of a topic that is keyed by this field."""
    if isinstance(given, Record):
        return given
    if isinstance(given, bytes):
        return Record(None, given, None, headers)
    if not isinstance(given, Mapping):
        raise TypeError(
            f"a record is a mapping, bytes or a Record, not {given!r}; one without a value is "
            "Record(key, None)"
        )
    value = given.get(key) if key is not None else None
    return Record(None if value is None else str(value).encode(), to_json(given), None, headers)
