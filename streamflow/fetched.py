"""What aiokafka's consumer gives for the topics of micro-batches: whole Kafka batches of records.

aiokafka makes one `ConsumerRecord` of eleven fields for each record and hands it through a
generator and two loops. A micro-batch takes its columns from what the parser gives, so here a Kafka
batch goes through all of that as one. What is skipped (control batches, aborted transactions,
records below the position) is aiokafka's own doing as before. Two of its methods are replaced, by
topic and for the whole process, since its fetcher is not told the app:

    PartitionRecords.__init__           the batches that it goes through are wrapped
    PartitionRecords._consumer_record   what a wrapped batch gives is handed on as it is

A batch is given as a list of its records, or unread: its records are then made while somebody goes
through them, one at a time, and each is gone from the processor's cache no sooner than it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aiokafka.consumer.fetcher import PartitionRecords

#: A record as aiokafka's parser gives it: offset, timestamp, key, value and headers.
Parsed = Any

_whole: set[str] = set()
_unread: set[str] = set()
_made = PartitionRecords.__init__
_wrap = PartitionRecords._consumer_record


def fetch_whole(topics: Iterable[str]) -> None:
    """From now on consumers of this process are given `list[Parsed]` for these topics."""
    _whole.update(topics)


def fetch_unread(topics: Iterable[str]) -> None:
    """From now on consumers of this process are given `Iterator[Parsed]` for these topics.

    Each can be gone through once.
    """
    _unread.update(topics)


class _UnreadBatch:
    """A Kafka batch that comes as one record, which has the last offset that the batch covers."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self.offset = batch.next_offset - 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[_UnreadBatch]:
        yield self

    def given(self, position: int) -> Iterator[Parsed]:
        """The records from a position on."""
        if position <= self._batch.base_offset:
            return iter(self._batch)
        return (one for one in self._batch if one.offset >= position)


class _WholeBatch:
    """A Kafka batch that gives all its records at once, as one that has the last offset."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self.records: list[Parsed] = []
        self.offset = -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[_WholeBatch]:
        self.records = list(self._batch)
        if self.records:
            self.offset = self.records[-1].offset
            yield self

    def given(self, position: int) -> list[Parsed]:
        """The records from a position on."""
        if self.records[0].offset >= position:
            return self.records
        # A position in the middle of a batch: the broker sends the batch as a whole.
        return [one for one in self.records if one.offset >= position]


class _Batches:
    """The batches of a fetch; control batches, which aiokafka looks into, are left as they are."""

    def __init__(self, batches: Any, wrap: type[_WholeBatch | _UnreadBatch]) -> None:
        self.has_next = batches.has_next
        self._batches = batches
        self._wrap = wrap

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        return batch if batch.is_control_batch else self._wrap(batch)


def _init(records: Any, tp: Any, batches: Any, *args: Any) -> None:
    if tp.topic in _unread:
        batches = _Batches(batches, _UnreadBatch)
    elif tp.topic in _whole:
        batches = _Batches(batches, _WholeBatch)
    _made(records, tp, batches, *args)


def _consumer_record(records: Any, tp: Any, record: Any) -> Any:
    if isinstance(record, _WholeBatch | _UnreadBatch):
        return record.given(records.next_fetch_offset)
    return _wrap(records, tp, record)


fetched: Any = PartitionRecords
fetched.__init__ = _init
fetched._consumer_record = _consumer_record
