"""A source topic as what a sink reads: its records are the rows, and a cut may end after any.

Nothing is committed for it, so a commit is what a cut rolls: its number is the offset where it
ends. Where a row lies is told by its record (`core/raw_rows.py`), so a redo of a cut gives the same
files, however the records come in batches then.

Offsets that carry no record (aborted transactions, markers) are rolled in their time, like rows:
else retention could delete them behind the end of the chain, and nobody could tell that they were
nothing.
"""

from __future__ import annotations

import pyarrow as pa

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.cut import Cut
from streamflow.core.names import Names
from streamflow.core.plan import SinkPlan
from streamflow.core.raw_rows import RawChunk, raw_chunks, raw_rows
from streamflow.core.rows import UNPACKED_BYTES, Layout, RowsChunk, Trailer
from streamflow.core.sink_spec import SinkSpec
from streamflow.engine.sink_buffer import RECORD_BYTES, Commits
from streamflow.engine.sink_feed import Feed, Held, RowsFeed
from streamflow.errors import SinkRefused
from streamflow.topology import Topology


def archives_of(topology: Topology, names: Names) -> dict[str, SinkPlan]:
    """The archives that workers of these names write, by their topics.

    A run of a part of the sources writes none: the table of the app itself has every record.
    """
    if names.run is not None:
        return {}
    return {names.source(s.source): s for s in topology.archives if s.source is not None}


class ArchiveFeed:
    """The `Feed` of a partition of an archived topic.

    Args:
        plan: The table.
        spec: The same, as the sink knows it.
        bounded: Is the sink done when all is rolled that was there when it began?
        chunk_bytes: So many bytes of rows are held as they came, before they are encoded.
    """

    def __init__(
        self,
        plan: SinkPlan,
        spec: SinkSpec,
        *,
        bounded: bool = False,
        chunk_bytes: int = UNPACKED_BYTES,
    ) -> None:
        self._plan = plan
        self._layout = Layout(spec.schema_id, spec.partition_by, spec.topology_version)
        self._bounded = bounded
        self._chunk_bytes = chunk_bytes
        self._end: int | None = None

    def held(self, tp: TopicPartition, start: int, after: int | None, epoch: int = 0) -> Held:
        """See `Feed.held`."""
        del after, epoch
        return Records(tp, start, self._plan, self._layout, self._end, self._chunk_bytes)

    def opened(self, stop: int) -> None:
        """See `Feed.opened`."""
        self._end = stop if self._bounded else None

    def is_done(self, last: Cut, held: Held) -> bool:
        """See `Feed.is_done`; what has come since then is left for another worker."""
        del held
        return self._end is not None and last.next >= self._end

    def to_trim(self, cut: Cut) -> int | None:
        """See `Feed.to_trim`: never."""
        del cut
        return None

    def deleted(self, spec: SinkSpec, cut: Cut, needed: int, first: int) -> SinkRefused:
        """See `Feed.deleted`."""
        return SinkRefused(
            f"{cut.tp} starts at offset {first}, but the archive {spec.path!r} ends at"
            f" {needed}: records were deleted before they were archived; check the topic's"
            " retention. To go on without them, archive into a new table"
        )


def feed_of(plan: SinkPlan, spec: SinkSpec, *, bounded: bool = False) -> Feed:
    """What a partition of this table is fed from."""
    return RowsFeed() if plan.source is None else ArchiveFeed(plan, spec, bounded=bounded)


class Records:
    """Takes the records of a partition from an offset on; see `Held`.

    They are held in chunks, encoded; the newest, until there are enough of them for a chunk, as
    they came.
    """

    def __init__(
        self,
        tp: TopicPartition,
        start: int,
        plan: SinkPlan,
        layout: Layout,
        end: int | None,
        chunk_bytes: int,
    ) -> None:
        self.tp = tp
        #: See `Held`. Any offset is a boundary.
        self.position = start
        self.ages_empty = True
        self._start = start
        self._plan = plan
        self._layout = layout
        self._end = end
        self._most = chunk_bytes
        self._chunks: list[RawChunk] = []
        self._chunk_bytes = self._unpacked = 0
        self._newest: list[pa.RecordBatch] = []
        self._newest_bytes = 0

    @property
    def stop(self) -> int:
        """See `Held.stop`."""
        return self.position

    @property
    def one_layout(self) -> int:
        """See `Held.one_layout`: there is one only."""
        return self.position

    @property
    def nbytes(self) -> int:
        """See `Held.nbytes`."""
        return self._chunk_bytes + self._newest_bytes

    @property
    def whole_bytes(self) -> int:
        """See `Held.whole_bytes`."""
        return self.nbytes

    @property
    def held_bytes(self) -> int:
        """See `Held.held_bytes`."""
        return self.nbytes + RECORD_BYTES * (len(self._chunks) + len(self._newest))

    @property
    def unpacked_bytes(self) -> int:
        """See `Held.unpacked_bytes`."""
        return self._unpacked + self._newest_bytes

    @property
    def commits(self) -> int:
        """See `Held.commits`: all that is held is one."""
        return int(self.position > self._start)

    @property
    def ended(self) -> bool:
        """See `Held.ended`."""
        return self._end is not None and self._start < self._end <= self.position

    def __len__(self) -> int:
        return self.commits

    def take_from(self, batch: MicroBatch) -> Trailer | None:
        """See `Held.take_from`: a commit ends where the batch does."""
        if batch.stop <= self.position:
            return None
        part = batch.cut(self.position, batch.stop)
        if len(part):
            rows = self._plan.rows(raw_rows(part))
            self._newest.append(rows)
            self._newest_bytes += rows.nbytes
            if self._newest_bytes >= self._most:
                self._encode()
        start, self.position = self.position, batch.stop
        return self._trailer(start, batch.stop, len(part))

    def skip(self, position: int) -> None:
        """See `Held.skip`."""
        self.position = max(self.position, position)

    def upto(self, stop: int) -> Commits:
        """See `Held.upto`."""
        self._encode()
        found = [chunk.between(self._start, stop) for chunk in self._chunks if chunk.first < stop]
        chunks = {chunk.first: chunk for chunk in found if chunk is not None}
        if stop <= self._start:
            return Commits({}, {})
        rows = sum(chunk.rows for chunk in chunks.values())
        held: dict[int, RowsChunk] = {**chunks}
        return Commits(held, {stop - 1: self._trailer(self._start, stop, rows)})

    def drop(self, stop: int) -> None:
        """See `Held.drop`."""
        self._encode()
        self._chunks = [chunk for chunk in self._chunks if chunk.last >= stop]
        self._chunk_bytes = sum(len(chunk.payload) for chunk in self._chunks)
        self._unpacked = sum(chunk.unpacked for chunk in self._chunks)
        self._start = max(self._start, stop)
        self.skip(stop)

    def _encode(self) -> None:
        """Hold the newest rows in chunks."""
        if not self._newest:
            return
        rows = pa.Table.from_batches(self._newest)
        self._newest, self._newest_bytes = [], 0
        for chunk in raw_chunks(rows):
            self._chunks.append(chunk)
            self._chunk_bytes += len(chunk.payload)
            self._unpacked += chunk.unpacked

    def _trailer(self, start: int, stop: int, rows: int) -> Trailer:
        return Trailer(
            commit=stop,
            previous=None,
            chunks=int(rows > 0),
            layout=self._layout,
            sources={self.tp.topic: (self.tp.partition, start, stop)},
            counts={"in": rows, "passed": rows} if rows else {},
        )
