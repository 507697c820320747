"""Marks the time partitions of a table that are complete with an empty file `_SUCCESS`.

Each rows partition of a table has a chain of its own, maybe in another worker. Whoever has made a
cut visible looks at the others' last visible ones: of several that come to the end of a partition,
the last one to look sees them all, so it needs no meeting, and marking twice is marking once.
"""

from __future__ import annotations

from streamflow.batch import TopicPartition
from streamflow.core.cut import Cut
from streamflow.core.sink_spec import SinkSpec
from streamflow.core.step import INFINITY
from streamflow.engine.chain import Table, files_of
from streamflow.engine.sink_chain import last_visible
from streamflow.ports import LoggedTable


class Success:
    """What one rows partition does for it.

    `visible` is told of each cut whose files are visible; `mark` then does what is due, and again
    when it failed. A table's files are listed when a partition may have ended, not at each cut. In
    a table with a log nothing is marked: who reads that does not look into folders.
    """

    def __init__(self, spec: SinkSpec, table: Table, tp: TopicPartition) -> None:
        marked = spec.partitions is not None and not isinstance(table, LoggedTable)
        self._closing = spec.closing if marked else None
        self._partitions = spec.partitions or 0
        self._files = files_of(table)
        self._topic = tp.topic
        self._looked: int | None = None
        self._reached: int | None = None

    @property
    def is_due(self) -> bool:
        """Can a partition have become complete that is not marked yet?"""
        reached = self._reached
        if self._closing is None or reached is None or reached == self._looked:
            return False
        if INFINITY in (reached, self._looked):
            return True
        return self._closing.ended_between(self._looked, reached)

    def visible(self, cut: Cut) -> None:
        """All rows up to this cut can be read."""
        self._reached = _watermark(cut)

    def mark(self) -> None:
        """Mark what is complete. Raises `SinkUnavailable`; then nothing is forgotten."""
        if not self.is_due:
            return
        assert self._closing is not None
        everywhere = self._everywhere()
        if everywhere is not None:
            for name in self._closing.to_mark(self._files.names(), everywhere):
                self._files.create(name, b"")
        self._looked = self._reached

    def _everywhere(self) -> int | None:
        """The least watermark of what is visible of the table; None where one has none."""
        marks: list[int] = []
        for partition in range(self._partitions):
            cut = last_visible(self._files, TopicPartition(self._topic, partition))
            mark = None if cut is None else _watermark(cut)
            if mark is None:
                return None
            marks.append(mark)
        return min(marks)


def _watermark(cut: Cut) -> int | None:
    return INFINITY if cut.end_of_input else cut.watermark
