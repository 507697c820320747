"""Quality over extents: `stream.quality_over(...)`, and the records of what it says.

A record of the source counts in the extent that it comes in: of n records, in the order of their
offsets; or of a window of event time, the one that the largest event time so far lies in. So a
record without an event time counts too, and none is late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamflow.extents import OverExtents, check_name, check_over
from streamflow.schema import AGGREGATE_LINEAGE, TIMESTAMP

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


class Quality(OverExtents):
    """What there is to say of the quality of a source's records, for each extent of them."""


def quality_on(stream: Stream, over: Any, label: str) -> Quality:
    """Raises `TopologyError` for what is no extent, or no name."""
    where = f"quality of {stream}"
    check_name(where, label)
    check_over(where, over)
    return Quality(stream, over, label)
