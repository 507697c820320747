"""A micro-batch: one fetched chunk of one partition, as raw columns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]


class TopicPartition(NamedTuple):
    """A partition of a topic; equal to any other client's (topic, partition) tuple."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Record(NamedTuple):
    """One record to be produced. `timestamp` is milliseconds since the epoch, None for now."""

    key: bytes | None
    value: bytes | None
    timestamp: int | None = None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """Records of one partition that were fetched together.

    `start` is the position before the fetch and `stop` the position after it, so consecutive
    batches of a partition meet (`stop` of one is `start` of the next) even over offsets that no
    record carries: holes left by compaction, and control records of transactions. A batch may
    hold no record at all. `timestamps` are Kafka's and `fetched` is the time of the fetch, both in
    milliseconds since the epoch.
    """

    tp: TopicPartition
    start: int
    stop: int
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps: Sequence[int]
    headers: Sequence[Headers]
    fetched: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    def __str__(self) -> str:
        return f"{self.tp}@{self.start}..{self.stop}"

    @property
    def nbytes(self) -> int:
        """Size of keys and values in bytes."""
        return sum(map(len, filter(None, self.keys))) + sum(map(len, filter(None, self.values)))

    def only(self, rows: Sequence[int]) -> MicroBatch:
        """The same stretch of the partition with only the records in these rows, in order."""
        return MicroBatch(
            self.tp,
            self.start,
            self.stop,
            [self.offsets[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.values[row] for row in rows],
            [self.timestamps[row] for row in rows],
            [self.headers[row] for row in rows],
            self.fetched,
        )

    def cut(self, start: int, stop: int) -> MicroBatch:
        """The part of this batch whose offsets lie in `[start, stop)`."""
        rows = slice(bisect_left(self.offsets, start), bisect_left(self.offsets, stop))
        return MicroBatch(
            self.tp,
            max(start, self.start),
            min(stop, self.stop),
            self.offsets[rows],
            self.keys[rows],
            self.values[rows],
            self.timestamps[rows],
            self.headers[rows],
            self.fetched,
        )
