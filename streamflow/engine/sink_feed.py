"""What the sink of a partition reads, and what that means for its chain of cuts.

A rows topic is written for the sink, in commits; its rolls trim it. Or it is a source topic itself
(`archive_feed.py`), which belongs to others: it is never trimmed, and loses its oldest records by
its own retention.
"""

from __future__ import annotations

from typing import Protocol

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.cut import Cut
from streamflow.core.rows import Trailer
from streamflow.core.sink_spec import SinkSpec
from streamflow.engine.sink_buffer import Buffer, Commits
from streamflow.errors import SinkRefused


class Held(Protocol):
    """What a sink holds of its partition beyond its chain of cuts, in order.

    What lies before `stop` can be rolled, up to there or any boundary before it.
    """

    @property
    def position(self) -> int:
        """The next offset to take."""
        ...

    @property
    def stop(self) -> int:
        """Up to where it can be rolled."""
        ...

    @property
    def one_layout(self) -> int:
        """Up to where it is laid out as its beginning is."""
        ...

    @property
    def nbytes(self) -> int:
        """Encoded rows, all of them."""
        ...

    @property
    def held_bytes(self) -> int:
        """About what all this takes in memory."""
        ...

    @property
    def whole_bytes(self) -> int:
        """Encoded rows that can be rolled."""
        ...

    @property
    def unpacked_bytes(self) -> int:
        """What these take when they are unpacked."""
        ...

    @property
    def commits(self) -> int:
        """How many commits can be rolled; none: nothing can."""
        ...

    @property
    def ended(self) -> bool:
        """Does what can be rolled go up to the end of a bounded input?"""
        ...

    @property
    def ages_empty(self) -> bool:
        """Is it rolled in its time though it has no row?"""
        ...

    def __len__(self) -> int: ...

    def take_from(self, batch: MicroBatch) -> Trailer | None:
        """Hold the records of a batch from `position` on, up to where a commit ends; its trailer,
        or None where none ends in what is left of the batch.

        Raises `SinkRefused` when a record does not fit; then the position has not moved beyond it.
        """
        ...

    def skip(self, position: int) -> None:
        """Move over offsets that carry no record."""
        ...

    def upto(self, stop: int) -> Commits:
        """What can be rolled before `stop`."""
        ...

    def drop(self, stop: int) -> None:
        """Forget what lies before `stop`."""
        ...


class Feed(Protocol):
    """A kind of partitions. One for each partition."""

    def held(self, tp: TopicPartition, start: int, after: int | None, epoch: int = 0) -> Held:
        """Nothing, beyond a cut that ends at `start` with commit `after` of an owner's epoch."""
        ...

    def opened(self, stop: int) -> None:
        """The sink begins, and the partition ends here so far."""
        ...

    def is_done(self, last: Cut, held: Held) -> bool:
        """Is a bounded input rolled to its end, where this is the last cut?"""
        ...

    def to_trim(self, cut: Cut) -> int | None:
        """Up to where the partition may be trimmed when this cut is finished; None: it may not."""
        ...

    def deleted(self, spec: SinkSpec, cut: Cut, needed: int, first: int) -> SinkRefused:
        """The partition begins at `first`, and the sink needs it from `needed`, after this cut."""
        ...


class RowsFeed:
    """The `Feed` of rows topics."""

    def held(self, tp: TopicPartition, start: int, after: int | None, epoch: int = 0) -> Held:
        """See `Feed.held`."""
        return Buffer(tp, start, after, epoch)

    def opened(self, stop: int) -> None:
        """See `Feed.opened`; the last trailer tells the end of an input."""

    def is_done(self, last: Cut, held: Held) -> bool:
        """See `Feed.is_done`."""
        return last.end_of_input and not len(held)

    def to_trim(self, cut: Cut) -> int | None:
        """See `Feed.to_trim`."""
        return cut.first

    def deleted(self, spec: SinkSpec, cut: Cut, needed: int, first: int) -> SinkRefused:
        """See `Feed.deleted`."""
        return SinkRefused(
            f"{cut.tp} starts at offset {first}, but sink {spec.name!r} still"
            f" needs it from {needed} ({cut}): rows were deleted before they were rolled; check"
            " the topic's retention, and replay the missing range of the sources into a new"
            " table"
        )
