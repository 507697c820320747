"""Quality over extents: `stream.quality_over(...)`, and the records of what it says.

A record of the source counts in the extent that it comes in: of n records, in the order of their
offsets; or of a window of event time, the one that the largest event time so far lies in. So a
record without an event time counts too, and none is late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamflow.checking import Extent, check_name, check_over, check_table, extent_windows
from streamflow.destinations import Parquet, Topic
from streamflow.edge import Edge, edge_to
from streamflow.schema import AGGREGATE_LINEAGE, TIMESTAMP
from streamflow.windows import Calendar, Tumbling

if TYPE_CHECKING:
    from streamflow.stream import Stream

_OFFSETS = pa.list_(pa.int64())
_RULE = pa.struct(
    [
        pa.field("rule", pa.string()),
        pa.field("severity", pa.string()),
        pa.field("broken", pa.int64()),
        pa.field("fixed", pa.int64()),
        pa.field("examples", _OFFSETS),
    ]
)
_REASON = pa.struct(
    [
        pa.field("reason", pa.string()),
        pa.field("records", pa.int64()),
        pa.field("examples", _OFFSETS),
    ]
)
#: One row for each extent.
QUALITY = pa.schema(
    [
        pa.field("topology", pa.string(), nullable=False),
        pa.field("quality", pa.string(), nullable=False),
        pa.field("window_start", TIMESTAMP),
        pa.field("window_end", TIMESTAMP),
        pa.field("row_first", pa.int64()),
        pa.field("row_next", pa.int64()),
        pa.field("records", pa.int64(), nullable=False),
        pa.field("rejected", pa.int64(), nullable=False),
        pa.field("issues", pa.int64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("refused", pa.list_(_REASON), nullable=False),
        pa.field("rules", pa.list_(_RULE), nullable=False),
        *AGGREGATE_LINEAGE,
    ]
)


@dataclass(frozen=True, eq=False)
class Quality:
    """What there is to say of the quality of a source's records, for each extent of them."""

    stream: Stream
    over: Extent
    label: str

    @property
    def name(self) -> str:
        """What its state is kept under."""
        return f"{self.stream.source.topic}.{self.label}"

    @property
    def counted(self) -> bool:
        """Are its extents of records, and not of time?"""
        return isinstance(self.over, int)

    @property
    def extent(self) -> Tumbling | Calendar:
        """Its extents as windows: over times, or over the numbers of records taken for times."""
        return extent_windows(self.over)

    def __str__(self) -> str:
        return repr(self.name)

    def to(self, destination: Topic | Parquet) -> Edge:
        """Send it on, one row for each extent that is over: to a topic as JSON, keyed by partition
        and extent, or to a table.
        """
        edge = edge_to(self, destination, Topic, Parquet)
        if isinstance(destination, Parquet):
            check_table(destination, ("_topic", "_partition"))
        return edge


def quality_on(stream: Stream, over: Any, label: str) -> Quality:
    """Raises `TopologyError` for what is no extent, or no name."""
    where = f"quality of {stream}"
    check_name(where, label)
    check_over(where, over)
    return Quality(stream, over, label)
