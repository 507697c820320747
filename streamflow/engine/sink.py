"""The sink stage of one rows partition: gathers commits and rolls them into Parquet files.

Goals: every committed row is in exactly one visible file, whatever crashes, and also while a worker
that was thought dead goes on writing.

Plan: the rows topic is the write-ahead log, and a chain of cuts beside the table is the only state.
A roll first writes the next cut under a name that can be taken once, then the files it names, and
only when all of them are visible may the log be trimmed up to the cut's `first`. So a cut that is
unfinished can always be executed again, from the log, and it gives the same files.

The race: a stopped owner wakes up in the middle of a roll. Its cut's name is taken by then, so it
follows the cut that stands; or its cut stands and the new owner has followed that. Either way both
write equal files under names that are taken once, and the second attempt at each is refused. What
both hold are records of one immutable log, so rows beyond the followed cut stay good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.clock import Clock
from streamflow.core.cut import Cut, next_cut
from streamflow.core.file_layout import settings_of, sort_of
from streamflow.core.sink_spec import SinkSpec
from streamflow.engine.chain import Table, chain_of, files_of
from streamflow.engine.holdings import Holdings
from streamflow.engine.sink_feed import Feed, RowsFeed
from streamflow.engine.sink_fold import FOLD_AFTER
from streamflow.engine.sink_plan import Planner
from streamflow.engine.sink_roll import Written, check_commits, check_schema
from streamflow.engine.sink_rows import Form, Rows
from streamflow.engine.sink_success import Success
from streamflow.engine.table_folders import TableFolders
from streamflow.engine.table_numbers import Numbers
from streamflow.errors import SinkRefused

CRASH_POINTS = ("cut-temp", "cut", "files-written", "files-linked")

#: Commits without any row are rolled into a cut without files after this many: each is a few
#: hundred bytes here, and the log cannot be trimmed behind them otherwise.
IDLE_COMMITS = 10_000


def ignore(_point: str) -> None:
    """The faults of production: none."""


class SinkPartition:
    """Rolls one rows partition. Synchronous, and for one thread at a time.

    Call `open`, then any number of `receive` and `tick`, then `close`; `open` may follow again.
    After `SinkUnavailable` call `tick`, or `receive` with the same batch, when it may have passed:
    nothing is lost or repeated. After `SinkRefused` only `close` may follow.
    """

    def __init__(  # noqa: PLR0913 - what it works on, and what tests give it
        self,
        spec: SinkSpec,
        tp: TopicPartition,
        table: Table,
        *,
        clock: Clock,
        owner: str,
        feed: Feed | None = None,
        faults: Callable[[str], None] = ignore,
        holdings: Holdings | None = None,
        fold_after: int = FOLD_AFTER,
    ) -> None:
        self.spec = spec
        self.tp = tp
        self._chain = chain_of(table, clock)
        self._feed: Feed = feed or RowsFeed()
        self._clock = clock
        self._owner = owner
        self._faults = faults
        self._holdings = holdings or Holdings()
        self._fold_after = fold_after
        self._success = Success(spec, table, tp)
        self._folders = TableFolders(files_of(table), spec)
        self.planner = Planner(files_of(table), spec.storage)
        self._versions = Numbers(files_of(table))
        #: Bytes of rows per offset of the topic, as they were read.
        self.mean_bytes = 0.0
        self._read = (0, 0)
        #: What this process has made visible since it was made.
        self.written = Written()
        # The last finished cut, the one that stands but is not finished yet, and what lies beyond.
        self._last: Cut | None = None
        self._pending: Cut | None = None
        self._buffer = self._feed.held(tp, 0, None)
        # When the first commit came that is not rolled, and the last one with rows.
        self._since: float | None = None
        self._heard: float | None = None
        self._ratio = 1.0  # bytes of files per byte of chunks, as last measured

    def open(self, first_offset: int, end_offset: int) -> int:
        """Claim the table, read the chain and return the offset to seek to.

        `[first_offset, end_offset)` is what the rows partition holds. A last cut that is not
        finished is executed as soon as its rows have come again.
        """
        self._feed.opened(end_offset)
        self.close()
        self._chain.claim(self.spec, self._owner)
        cut = self._chain.start(self.tp, self.spec, first_offset)
        finished = self._chain.finished(cut)
        needed = cut.next if finished else cut.first
        if cut.next > end_offset:
            raise SinkRefused(
                f"{cut} ends beyond the topic's end {end_offset}: the topic was made anew or lost"
                f" records; give sink {self.spec.name!r} a new table, or restore the topic"
            )
        if first_offset > needed:
            raise self._feed.deleted(self.spec, cut, needed, first_offset)
        if finished:
            self._follow(cut)
        else:
            self._pending = cut
            before = self._chain.epoch_before(cut)
            self._buffer = self._feed.held(self.tp, cut.first, cut.after, before)
        return needed

    def receive(self, batch: MicroBatch) -> int | None:
        """Hold a batch and roll when it is due.

        Returns the offset up to which the rows topic may be trimmed, when that has moved. A batch
        may begin before the wanted offset, but not after it.
        """
        buffer = self._buffer
        if batch.tp != self.tp or batch.start > buffer.position:
            raise SinkRefused(
                f"sink {self.spec.name!r} wants {self.tp}@{buffer.position}, and got {batch}:"
                " records would be skipped"
            )
        trim = self._settle()
        wanted = batch.cut(buffer.position, max(batch.stop, buffer.position))
        self._measure(wanted)
        # A roll may find the chain beyond this batch: then nothing is left of it.
        while (ended := self._buffer.take_from(wanted)) is not None:
            self._holdings.hold(self.tp, self._buffer.held_bytes)
            now = self._clock.monotonic()
            self._since = now if self._since is None else self._since
            self._heard = now if ended.chunks else self._heard
            trim = _latest(trim, self._settle())
        self._buffer.skip(batch.stop)
        self._holdings.hold(self.tp, self._buffer.held_bytes)
        return trim

    def tick(self) -> int | None:
        """Roll when it is time to, or what an error left over; as `receive`."""
        return self._settle()

    def roll(self) -> int | None:
        """Roll every whole commit that is held, due or not; as `receive`."""
        return self._settle(due=lambda: self._buffer.commits > 0)

    def close(self) -> None:
        """Drop everything held; nothing is written."""
        self._holdings.forget(self.tp)
        self._last = self._pending = self._since = self._heard = None
        self._buffer = self._feed.held(self.tp, 0, None)

    def deleted(self, first: int) -> SinkRefused:
        """What to say where the partition has come to begin at `first`, behind what was read."""
        assert self._last is not None, "open() comes first"
        return self._feed.deleted(self.spec, self._last, self.wanted, first)

    @property
    def position(self) -> int:
        """The offset up to which every row is visible."""
        pending, last = self._pending, self._last  # another thread may look while one rolls
        if pending is not None:
            return pending.first
        return 0 if last is None else last.next

    @property
    def wanted(self) -> int:
        """The offset that the next batch has to begin at, or before."""
        return self._buffer.position

    @property
    def lag_bytes(self) -> int:
        """Encoded rows held and not yet visible."""
        return self._buffer.nbytes

    @property
    def done(self) -> bool:
        """Has the input ended, and is every row of it visible?"""
        last = self._last
        if last is None or self._pending is not None or self._success.is_due:
            return False
        return self._feed.is_done(last, self._buffer)

    def _settle(self, due: Callable[[], bool] | None = None) -> int | None:
        """Finish what stands and roll what is due, as far as the rows held allow."""
        trim, due = None, due or self._due
        self._success.mark()
        while self._pending is not None or due():
            if not self._is_there(self._pending):
                break
            with self._holdings.rolls.share(self._buffer.unpacked_bytes) as room:
                rows = self._decide(room) if self._pending is None else None
                if self._pending is None or not self._is_there(self._pending):
                    continue
                trim = self._finish(self._pending, rows or self._rows(self._pending, room))
            self._success.mark()
        return trim

    def _is_there(self, cut: Cut | None) -> bool:
        """Are all commits held that the cut rolls? None rolls what is held."""
        if cut is None or self._buffer.stop >= cut.next:
            return True
        if cut.next <= self._buffer.position:
            check_commits(cut, self._buffer.upto(cut.next))
        return False

    def _rows(self, cut: Cut, room: int) -> Rows:
        commits = self._buffer.upto(cut.next)
        check_commits(cut, commits)
        form = Form(cut.partition_by, cut.sort, commits.merging)
        return Rows(commits.chunks, form, room, self._holdings.rolls)

    def _due(self) -> bool:
        """Is it time to roll? Only whole commits count, so a cut ends just after a trailer.

        All files of a cut have one layout, so it is when the first commit of another has come.
        """
        if not self._buffer.commits:
            return False
        if self._buffer.ended or self._buffer.one_layout < self._buffer.stop:
            return True
        if not self._buffer.whole_bytes and not self._buffer.ages_empty:
            return self._buffer.commits >= IDLE_COMMITS
        if self._buffer.whole_bytes * self._ratio >= self.spec.target_bytes:
            return True
        if self._holdings.too_much(self.tp):
            return True
        spec, now = self.spec, self._clock.monotonic()
        return any(
            interval is not None and since is not None and now - since >= interval.total_seconds()
            for interval, since in (
                (spec.roll_interval, self._since),
                (spec.inactivity_interval, self._heard),
            )
        )

    def _decide(self, room: int) -> Rows | None:
        """Make what stands next in the chain the pending cut; its rows if it was decided here.

        Nothing is pending where others have rolled on and all of theirs is finished.
        """
        assert self._last is not None, "open() comes first"
        stop = self._buffer.one_layout
        commits = self._buffer.upto(stop)
        trailers = list(commits.trailers.values())
        layout = trailers[-1].layout
        check_schema(commits, layout)
        if layout.merging is not None and not self._chain.replaces:
            raise SinkRefused(
                f"rows of {self.tp} take the place of earlier ones, which a plain table has not:"
                f" they belong into a Delta table, 'delta:{self.spec.path}' for a command"
            )
        schema, parts = layout.schema_id, self._folders.of(layout, commits)
        columns = pa.schema([field for field in commits.schema if field.name not in parts])
        sort = sort_of(self.spec.layout, columns)
        form = Form(parts, sort, layout.merging)
        rows = Rows(commits.chunks, form, room, self._holdings.rolls)
        writer = self.planner.settings(schema, rows)
        writer = rows.fitted(settings_of(self.spec.layout, writer, columns))
        version = self._versions.of(schema)
        last, topology = self._last, self.spec.topology
        trailers[-1] = replace(trailers[-1], layout=replace(layout, partition_by=parts))
        cut = next_cut(last, topology, rows.groups, trailers, stop, writer, sort, version)
        self._faults("cut-temp")
        standing = self._chain.settle(cut)
        self._faults("cut")
        if standing.k > cut.k:
            self._catch_up(standing)
            return None
        self._pending = standing
        return rows if standing == cut else None

    def _catch_up(self, last: Cut) -> None:
        """Go on from the last cut of a chain whose cuts since the last one here are folded."""
        if self._chain.finished(last):
            self._follow(last)
            return
        self._pending = last
        if self._buffer.position < last.first:
            before = self._chain.epoch_before(last)
            self._buffer = self._feed.held(self.tp, last.first, last.after, before)
        self._buffer.drop(last.first)

    def _finish(self, cut: Cut, rows: Rows) -> int | None:
        """Make all files of the cut visible and go on after it; returns up to where the log may be
        trimmed then.
        """
        commits = self._buffer.upto(cut.next)
        standing, written = self._chain.finish(cut, rows, self._faults)
        if written.files and written.files == len(cut.files):
            self._ratio = written.bytes / commits.payload_bytes
        self.written += written
        self._follow(standing)
        if cut.k % self._fold_after == 0:
            self._chain.fold(self.tp, self._faults)
        return self._feed.to_trim(cut)

    def _follow(self, cut: Cut) -> None:
        """Go on after a finished cut."""
        self._last, self._pending = cut, None
        self._success.visible(cut)
        if self._buffer.position < cut.next:
            self._buffer = self._feed.held(self.tp, cut.next, cut.trailer, cut.epoch)
        self._buffer.drop(cut.next)
        self._holdings.hold(self.tp, self._buffer.held_bytes)
        self._since = self._clock.monotonic() if len(self._buffer) else None

    def _measure(self, batch: MicroBatch) -> None:
        nbytes, offsets = self._read
        self._read = (nbytes + batch.nbytes, offsets + batch.stop - batch.start)
        self.mean_bytes = self._read[0] / max(self._read[1], 1)


def _latest(trim: int | None, newer: int | None) -> int | None:
    return trim if newer is None else newer
