"""What a test sends, as records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamflow.batch import Headers, Record
from streamflow.core.json_values import to_json
from streamflow.keying import keys_for
from streamflow.sources import Source
from streamflow.topology import Topology


def source_of(topology: Topology, topic: str) -> Source | None:
    """What says how a topic is keyed; None for one that is only archived. Raises `ValueError` where
    the topology reads no such.
    """
    sources = {sink.source: None for sink in topology.archives if sink.source is not None}
    sources |= {plan.source.topic: plan.source for plan in topology.tasks}
    if topic not in sources:
        raise ValueError(f"the topology does not read {topic!r}; it reads {sorted(sources)}")
    return sources[topic]


def record_of(given: Any, source: Source | None, headers: Headers) -> Record:
    """A mapping, bytes or a record as a record of a topic that is keyed as its source says."""
    if isinstance(given, Record):
        return given
    if isinstance(given, bytes):
        return Record(None, given, None, headers)
    if not isinstance(given, Mapping):
        raise TypeError(
            f"a record is a mapping, bytes or a Record, not {given!r}; one without a value is "
            "Record(key, None)"
        )
    value = to_json(given)
    keys = [None] if source is None else keys_for(source, [value])
    return Record(keys[0], value, None, headers)
