"""Checks of a stream over its extents: `stream.check(...)`, and the records of what they find."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamflow.arguments import in_words, is_some_duration
from streamflow.checks import Check, RowCount, Volume
from streamflow.destinations import Parquet, Topic
from streamflow.edge import Edge, edge_to
from streamflow.errors import TopologyError
from streamflow.schema import AGGREGATE_LINEAGE, TIMESTAMP
from streamflow.windows import MICROSECOND, Calendar, Tumbling

if TYPE_CHECKING:
    from streamflow.stream import Stream

Extent = Tumbling | Calendar | int
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
#: What a table of check results can be partitioned by, besides days and months of `window_start`:
#: values that all name folders.
FOLDERS = ("severity", "verdict", "_topic", "_partition")

#: One row for each extent and check. `window_start` and `window_end` are the bounds of an extent of
#: time; `row_first` and `row_next` those of one of rows, numbered from 0 in each partition.
CHECKED = pa.schema(
    [
        pa.field("checks", pa.string(), nullable=False),
        pa.field("check", pa.string(), nullable=False),
        pa.field("severity", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("at_least", pa.float64()),
        pa.field("at_most", pa.float64()),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("window_start", TIMESTAMP),
        pa.field("window_end", TIMESTAMP),
        pa.field("row_first", pa.int64()),
        pa.field("row_next", pa.int64()),
        pa.field("examples", pa.list_(pa.int64()), nullable=False),
        *AGGREGATE_LINEAGE,
    ]
)


@dataclass(frozen=True, eq=False)
class Checks:
    """Checks of a stream over extents; they take no row from it."""

    stream: Stream
    checks: tuple[Check, ...]
    over: Extent
    grace: timedelta
    label: str

    @property
    def name(self) -> str:
        """The operator's name: what its state is kept under."""
        return f"{self.stream.source.topic}.{self.label}"

    @property
    def counted(self) -> bool:
        """Are its extents of rows, and not of time?"""
        return isinstance(self.over, int)

    @property
    def extent(self) -> Tumbling | Calendar:
        """Its extents as windows: over times, or over the numbers of rows taken for times."""
        return extent_windows(self.over)

    def __str__(self) -> str:
        return repr(self.name)

    def to(self, destination: Topic | Parquet) -> Edge:
        """Send what they find on, one row for each check and extent that is over: to a topic as
        JSON, keyed by check, partition and extent, or to a table.
        """
        edge = edge_to(self, destination, Topic, Parquet)
        if isinstance(destination, Parquet):
            check_table(destination, FOLDERS)
        return edge


def checks_on(
    stream: Stream, checks: Sequence[Any], over: Any, grace: timedelta, label: str
) -> Checks:
    """Raises `TopologyError` for what cannot be checked so."""
    where = f"check on {stream}"
    check_name(where, label)
    if not checks:
        raise TopologyError(f"{where}: give it a check, such as RowCount(at_least=1)")
    for check in checks:
        if not isinstance(check, Check):
            raise TopologyError(f"{where}: {check!r} is no check; say RowCount(at_least=1)")
        for name in check.fields:
            stream.need(f"{where}: {check.label}", name)
    labels = [check.label for check in checks]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise TopologyError(
            f"{where}: two checks are named {twice[0]!r}; give one a name=... of its own"
        )
    _check_extent(where, checks, over, grace)
    return Checks(stream, tuple(checks), over, grace, label)


def extent_windows(over: Extent) -> Tumbling | Calendar:
    """Extents as windows: over times, or over the numbers of rows taken for microseconds."""
    return Tumbling(over * MICROSECOND) if isinstance(over, int) else over


def check_name(where: str, label: str) -> None:
    """Raises `TopologyError` unless it is one."""
    if not _NAME.fullmatch(label):
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


def _check_extent(where: str, checks: Sequence[Check], over: Any, grace: Any) -> None:
    check_over(where, over)
    is_some_duration(where, "grace", grace)
    if grace < timedelta(0):
        raise TopologyError(f"{where}: grace {in_words(grace)} is below zero")
    if not isinstance(over, int):
        return
    if grace:
        raise TopologyError(f"{where}: extents of rows are over with their last one; no grace")
    for check in checks:
        if isinstance(check, RowCount | Volume):
            raise TopologyError(
                f"{where}: {check.label}: an extent of {over} rows always has {over}; check it "
                "over windows of time"
            )


def check_table(table: Parquet, folders: Sequence[str]) -> None:
    """Raises `TopologyError` for a table that is partitioned by what may name no folder."""
    where = f"parquet({table.path!r})"
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
