"""Checks of a stream over its extents: `stream.check(...)`, and the records of what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamflow.arguments import in_words, is_some_duration
from streamflow.checks import Check, RowCount, Volume
from streamflow.errors import TopologyError
from streamflow.extents import OverExtents, check_name, check_over
from streamflow.schema import AGGREGATE_LINEAGE, TIMESTAMP

if TYPE_CHECKING:
    from streamflow.stream import Stream

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
class Checks(OverExtents):
    """Checks of a stream over extents."""

    checks: tuple[Check, ...]
    grace: timedelta

    folders = ("severity", "verdict", "_topic", "_partition")


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
    return Checks(stream, over, label, tuple(checks), grace)


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
