"""What aiokafka's consumer gives for the topics of micro-batches: whole Kafka batches of records.

aiokafka makes one `ConsumerRecord` of eleven fields for each record and hands it through a
generator and two loops. A micro-batch takes its columns from what the parser gives, so here a Kafka
batch goes through all of that as one. What is skipped (control batches, aborted transactions,
records below the position) is aiokafka's own doing as before. Three of its names are replaced, by
topic and for the whole process, since its fetcher is not told the app:

    PartitionRecords.__init__           the batches that it goes through are wrapped
    PartitionRecords._consumer_record   what a wrapped batch gives is handed on as it is
    MemoryRecords                       the bytes of a fetch are kept, to be read again

aiokafka's parser fails on a header whose name is not UTF-8, which some clients can send, and would
fail so for ever. Such a batch is read again, with the name escaped as in Python.

A batch is given as a list of its records, or unread: its records are then made while somebody goes
through them, one at a time, and each is gone from the processor's cache no sooner than it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

#: A record as aiokafka's parser gives it: offset, timestamp, key, value and headers.
Parsed = Any

#: What a batch begins with: its first offset, and the bytes after this.
_LENGTH = struct.Struct(">qi")

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

    def __init__(self, batch: Any, data: bytes) -> None:
        self._batch = batch
        self._data = data
        self.offset = batch.next_offset - 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[_UnreadBatch]:
        yield self

    def given(self, position: int) -> Iterator[Parsed]:
        """The records from a position on."""
        if position <= self._batch.base_offset:
            return self._records()
        return (one for one in self._records() if one.offset >= position)

    def _records(self) -> Iterator[Parsed]:
        one: Parsed | None = None
        try:
            for one in self._batch:
                yield one
        except UnicodeDecodeError:
            done = -1 if one is None else one.offset
            again = _leniently(self._batch.base_offset, self._data)
            yield from (record for record in again if record.offset > done)


class _WholeBatch:
    """A Kafka batch that gives all its records at once, as one that has the last offset."""

    def __init__(self, batch: Any, data: bytes) -> None:
        self._batch = batch
        self._data = data
        self.records: list[Parsed] = []
        self.offset = -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[_WholeBatch]:
        try:
            self.records = list(self._batch)
        except UnicodeDecodeError:
            self.records = _leniently(self._batch.base_offset, self._data)
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

    def __init__(self, batches: _Kept, wrap: type[_WholeBatch | _UnreadBatch]) -> None:
        self.has_next = batches.has_next
        self._batches = batches
        self._wrap = wrap

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        return batch if batch.is_control_batch else self._wrap(batch, self._batches.data)


class _Kept:
    """The batches of a fetch, with the bytes that they are read from."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._batches = MemoryRecords(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


class _Escaping(bytearray):
    """Bytes of which each part is a text: what is no UTF-8 in it is escaped."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Escaping(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        del errors
        return super().decode(encoding, "backslashreplace")


def _leniently(base_offset: int, data: bytes) -> list[Parsed]:
    """The records of the batch that begins at an offset, by aiokafka's parser in Python."""
    start = 0
    while (found := _LENGTH.unpack_from(data, start))[0] != base_offset:
        start += _LENGTH.size + found[1]
    parser: Any = _DefaultRecordBatchPy(data[start : start + _LENGTH.size + found[1]])
    parser._maybe_uncompress()
    parser._buffer = _Escaping(parser._buffer)
    return list(parser)


def _init(records: Any, tp: Any, batches: Any, *args: Any) -> None:
    wrap = _UnreadBatch if tp.topic in _unread else _WholeBatch if tp.topic in _whole else None
    if wrap is not None:
        batches = _Batches(batches, wrap)
    _made(records, tp, batches, *args)


def _consumer_record(records: Any, tp: Any, record: Any) -> Any:
    if isinstance(record, _WholeBatch | _UnreadBatch):
        return record.given(records.next_fetch_offset)
    return _wrap(records, tp, record)


fetcher.MemoryRecords = _Kept  # type: ignore[assignment,misc]
fetched: Any = PartitionRecords
fetched.__init__ = _init
fetched._consumer_record = _consumer_record
