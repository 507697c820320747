"""What aiokafka's consumer gives for the topics of micro-batches: whole Kafka batches of records.

aiokafka makes one `ConsumerRecord` of eleven fields for each record and hands it through a
generator and two loops. A micro-batch takes its columns from what the parser gives, so here a Kafka
batch goes through all of that as one. What is skipped (control batches, aborted transactions,
records below the position) is aiokafka's own doing as before. Two of its methods are replaced, by
topic and for the whole process, since its fetcher is not told the app:

    PartitionRecords.__init__           the batches that it goes through are wrapped
    PartitionRecords._consumer_record   what a wrapped batch gives is handed on as it is
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aiokafka.consumer.fetcher import PartitionRecords

#: A record as aiokafka's parser gives it: offset, timestamp, key, value and headers.
Parsed = Any

_whole: set[str] = set()
_made = PartitionRecords.__init__
_wrap = PartitionRecords._consumer_record


def fetch_whole(topics: Iterable[str]) -> None:
    """From now on consumers of this process are given `list[Parsed]` for these topics."""
    _whole.update(topics)


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


class _WholeBatches:
    """The batches of a fetch; control batches, which aiokafka looks into, are left as they are."""

    def __init__(self, batches: Any) -> None:
        self.has_next = batches.has_next
        self._batches = batches

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        return batch if batch.is_control_batch else _WholeBatch(batch)


def _init(records: Any, tp: Any, batches: Any, *args: Any) -> None:
    _made(records, tp, _WholeBatches(batches) if tp.topic in _whole else batches, *args)


def _consumer_record(records: Any, tp: Any, record: Any) -> Any:
    if not isinstance(record, _WholeBatch):
        return _wrap(records, tp, record)
    position = records.next_fetch_offset
    if record.records[0].offset >= position:
        return record.records
    # A position in the middle of a batch: the broker sends the batch as a whole.
    return [one for one in record.records if one.offset >= position]


fetched: Any = PartitionRecords
fetched.__init__ = _init
fetched._consumer_record = _consumer_record
