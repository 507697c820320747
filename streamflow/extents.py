"""Extents that checks and quality are over: windows of event time, or so many records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from streamflow.arguments import matches
from streamflow.destinations import Parquet, Topic
from streamflow.edge import Edge, edge_to
from streamflow.errors import TopologyError
from streamflow.windows import MICROSECOND, Calendar, Tumbling

if TYPE_CHECKING:
    from streamflow.stream import Stream

Extent = Tumbling | Calendar | int
#: An extent of more would never be over.
MOST_ROWS = 10**12
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, eq=False)
class OverExtents:
    """Something that is said of a stream's records for each extent; it takes no record away."""

    stream: Stream
    over: Extent
    label: str

    #: What a table of it can be partitioned by, besides days and months of `window_start`: values
    #: that all name folders.
    folders: ClassVar[tuple[str, ...]] = ("_topic", "_partition")

    @property
    def name(self) -> str:
        """The operator's name: what its state is kept under."""
        return f"{self.stream.source.topic}.{self.label}"

    @property
    def counted(self) -> bool:
        """Are its extents of records, and not of time?"""
        return isinstance(self.over, int)

    @property
    def extent(self) -> Tumbling | Calendar:
        """Its extents as windows: over times, or over the numbers of records taken for times."""
        return Tumbling(self.over * MICROSECOND) if isinstance(self.over, int) else self.over

    def __str__(self) -> str:
        return repr(self.name)

    def to(self, destination: Topic | Parquet) -> Edge:
        """Send it on, a row for each extent that is over, and of checks for each of them: to a
        topic as JSON, keyed by what the row is about, or to a table.
        """
        edge = edge_to(self, destination, Topic, Parquet)
        if isinstance(destination, Parquet):
            _check_table(destination, self.folders)
        return edge


def check_name(where: str, label: str) -> None:
    """Raises `TopologyError` unless it is one."""
    if not matches(_NAME, label):
        raise TopologyError(f"{where}: its name {label!r} has to be of letters, digits and . _ -")


def check_over(where: str, over: Any) -> None:
    """Raises `TopologyError` unless it is an extent."""
    if isinstance(over, bool) or not isinstance(over, int | Tumbling | Calendar):
        raise TopologyError(
            f"{where}: over={over!r} is no extent; say Tumbling(...) or Calendar(...) for windows "
            "of event time, or a number of rows. Whatever was fetched together is none: how "
            "records are cut into batches must not be seen"
        )
    if isinstance(over, int) and over < 1:
        raise TopologyError(f"{where}: over={over} is no number of rows above zero")
    if isinstance(over, int) and over > MOST_ROWS:
        raise TopologyError(f"{where}: over={over:,} is more than {MOST_ROWS:,} rows")


def _check_table(table: Parquet, folders: Sequence[str]) -> None:
    """Raises `TopologyError` for a table that is partitioned by what may name no folder."""
    where = str(table)
    if table.revisions is not None:
        raise TopologyError(
            f"{where}: revisions={table.revisions!r} is for results of windows; here are none"
        )
    for part in table.partition_by:
        if part.unit is None and part.column not in folders:
            raise TopologyError(
                f"{where}: such rows are partitioned by {', '.join(folders)}, or a "
                f"day(...) or month(...) of 'window_start', not by {part.column!r}"
            )
