"""Archives: the records of a topic as they are, from the topic itself into a table."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from streamflow.destinations import Parquet, Topic
from streamflow.edge import Edge, edge_to
from streamflow.errors import TopologyError
from streamflow.schema import LINEAGE

_HEADER = pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.binary())])

#: A record as a row. `_timestamp` is null where the record has none, or one of no year of the
#: calendar.
ARCHIVED = pa.schema(
    [
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(pa.field("item", _HEADER, nullable=False)), nullable=False),
        LINEAGE.field("_topic"),
        LINEAGE.field("_partition"),
        LINEAGE.field("_offset"),
        LINEAGE.field("_timestamp").with_nullable(True),
    ]
)


@dataclass(frozen=True, eq=False)
class Archive:
    """The committed records of a topic, of which nothing is decoded; see `archive`."""

    topic: str

    def to(self, destination: Parquet) -> Edge:
        """Keep them in a table."""
        return edge_to(self, destination, Parquet)

    def __str__(self) -> str:
        return f"archive({self.topic!r})"


def archive(topic: Topic) -> Archive:
    """The committed records of a topic as they are: `archive(topic("clicks")).to(parquet("raw"))`.

    Each becomes one row: `key` and `value` as bytes, null where the record has none; `headers` in
    order, with repeated names; and `_topic`, `_partition`, `_offset` and `_timestamp`, Kafka's.
    Nothing is decoded, so there are no dead letters; there is no event time and no state. The
    topic's partitions are read by the sinks of the table and by nothing else of the topology, from
    the oldest record on, and are never trimmed.
    """
    _is_topic(topic)
    return Archive(topic.name)


def _is_topic(given: object) -> None:
    if not isinstance(given, Topic):
        raise TopologyError(f"archive({given!r}): what is read is a topic; say topic(...)")
