"""When a time partition of a table is complete: no row that comes on time can lie in it any more.

A row is on time if its event time is not below the watermark before it (DESIGN 6). So a day of a
table of records is complete when the watermarks of all tasks have passed its end, and a day of a
table of results when the watermarks have closed every window that begins, or ends, in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamflow.archives import Archive
from streamflow.checking import Checks
from streamflow.core.folder_name import DEFAULT_PARTITION
from streamflow.destinations import Parquet
from streamflow.event_time import A_MONTH
from streamflow.partition_by import PartitionBy
from streamflow.quality import Quality
from streamflow.results import Results
from streamflow.stages import REMAKING, Gate
from streamflow.stream import Stream
from streamflow.windows import Calendar, Hopping, Session, Sliding, Tumbling, Window, micros

SUCCESS = "_SUCCESS"


@dataclass(frozen=True, slots=True)
class Closing:
    """Which of a table's partition columns is a time, and how far behind the watermark one of its
    partitions is complete: `lag` in microseconds.
    """

    place: int
    by: PartitionBy
    lag: int

    def complete(self, value: str, watermark: int) -> bool:
        """Is this partition complete at this watermark, in microseconds?"""
        try:
            return self.by.end(value) <= watermark - self.lag
        except (ValueError, OverflowError):  # a folder of somebody else's, or of no calendar
            return False

    def ended_between(self, earlier: int | None, later: int) -> bool:
        """Can a partition have become complete from one watermark to the other?"""
        if earlier is None:
            return True
        return self.by.period(earlier - self.lag) != self.by.period(later - self.lag)

    def to_mark(self, names: Iterable[str], watermark: int) -> Iterator[str]:
        """Of the table's files: what to create to say which partitions are complete; in order.

        A folder that is named as no time (null) is never complete.
        """
        names = list(names)
        marked = {name for name in names if name.endswith(f"/{SUCCESS}")}
        folders = {name.rsplit("/", 1)[0] for name in names if name.endswith(".parquet")}
        parts = {tuple(folder.split("/")[: self.place + 1]) for folder in folders}
        for part in sorted(parts):
            value = part[-1].partition("=")[2] if len(part) == self.place + 1 else ""
            mark = "/".join((*part, SUCCESS))
            known = value not in {"", DEFAULT_PARTITION} and mark not in marked
            if known and self.complete(value, watermark):
                yield mark


def closing_of(
    origin: Stream | Results | Checks | Quality | Archive, table: Parquet
) -> Closing | None:
    """How the time partitions of a table become complete; None where that is not known."""
    lags = dict(_lags(origin))
    for place, by in enumerate(table.partition_by):
        if by.unit is not None and by.column in lags:
            return Closing(place, by, lags[by.column])
    return None


def _lags(origin: Stream | Results | Checks | Quality | Archive) -> Iterator[tuple[str, int]]:
    """The time columns whose values cannot come below the watermark, less what is told here."""
    if isinstance(origin, Stream):
        event_time = origin.source.event_time
        if isinstance(event_time, str) and not any(
            can_change(s, event_time) for s in origin.stages
        ):
            yield event_time, 0
    elif isinstance(origin, Results):
        grace = micros(origin.windowed.grace)
        yield "window_end", grace
        longest = _longest(origin.windowed.window)
        if longest is not None:
            yield "window_start", grace + longest


def can_change(stage: object, column: str) -> bool:
    """Can values of this column be others after the stage?"""
    mended = isinstance(stage, Gate) and any(rule.field == column for rule, _ in stage.rules)
    return mended or isinstance(stage, REMAKING)


def _longest(window: Window) -> int | None:
    """The longest window in microseconds; None where there is no bound."""
    match window:
        case Tumbling(size=size) | Hopping(size=size) | Sliding(size=size):
            return micros(size)
        case Calendar():
            return micros(A_MONTH)
        case Session():
            return None
