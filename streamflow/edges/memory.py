"""A Kafka and a state store in memory, for tests and for the embedded mode.

They keep what the engine relies on: transactions are all or nothing, a commit leaves a control
record (an offset that no record carries) in each partition it wrote, a later owner of a
transactional id fences the earlier one, and nothing uncommitted is ever read.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from streamflow.batch import MicroBatch, Record, TopicPartition
from streamflow.core.poison import TopicLimits, batch_bytes
from streamflow.edges.partitioner import default_partition
from streamflow.errors import Fenced, Refused, TaskLost, Unavailable

#: Offsets that a changelog gives at once.
FETCHED = 1_000


@dataclass
class Partition:
    """One partition's log: `(offset, record)`, and the offset that comes next."""

    records: list[tuple[int, Record]] = field(default_factory=list)
    next_offset: int = 0
    first_offset: int = 0

    def append(self, record: Record) -> int:
        """Add a record; returns its offset."""
        offset = self.next_offset
        self.records.append((offset, record))
        self.next_offset += 1
        return offset

    def trim(self, before: int) -> None:
        """Delete everything below an offset."""
        keep = bisect_left(self.records, before, key=lambda entry: entry[0])
        del self.records[:keep]
        self.first_offset = max(self.first_offset, min(before, self.next_offset))


class MemoryBroker:
    """Topics, transactions and group offsets, in memory. `now_ms` stamps records without a time,
    and fetches; `limits` holds the largest batch of a topic; `settings` what else is known of one,
    and `refuses` is asked for each record.
    """

    def __init__(self, now_ms: int = 0) -> None:
        self.now_ms = now_ms
        self.refuses: Callable[[str, Record], bool] = lambda topic, record: False
        self.topics: dict[str, list[Partition]] = {}
        self.offsets: dict[TopicPartition, int] = {}
        self.epochs: dict[str, int] = {}
        self.limits: dict[str, int] = {}
        self.settings: dict[str, TopicLimits] = {}

    def create(self, topic: str, partitions: int, *, record_bytes: int | None = None) -> None:
        """Create a topic if it is not there; it takes records of any size unless told otherwise."""
        self.topics.setdefault(topic, [Partition() for _ in range(partitions)])
        if record_bytes is not None:
            self.limits[topic] = record_bytes

    def partition(self, tp: TopicPartition) -> Partition:
        """The log of one partition."""
        return self.topics[tp.topic][tp.partition]

    def place(self, topic: str, key: bytes | None) -> TopicPartition:
        """The partition that a record of this key belongs to; without a key, the first."""
        count = len(self.topics[topic])
        return TopicPartition(topic, default_partition(key, count) if key is not None else 0)

    def takes_not(self, topic: str, record: Record) -> bool:
        """Would it refuse this record?"""
        size = batch_bytes(record)
        return size > self.limits.get(topic, size) or self.refuses(topic, record)

    def append(self, tp: TopicPartition, record: Record) -> int:
        """Write one record outside any transaction; returns its offset."""
        stamped = record if record.timestamp is not None else record._replace(timestamp=self.now_ms)
        return self.partition(tp).append(stamped)

    def fetch(self, tp: TopicPartition, start: int, limit: int = 10_000) -> MicroBatch:
        """Up to `limit` records from `start` on, as the transport would hand them over."""
        log = self.partition(tp)
        first = bisect_left(log.records, start, key=lambda entry: entry[0])
        entries = log.records[first : first + limit]
        rest = first + limit < len(log.records)
        stop = entries[-1][0] + 1 if rest else log.next_offset
        return MicroBatch(
            tp,
            start,
            max(stop, start),
            [offset for offset, _ in entries],
            [record.key for _, record in entries],
            [record.value for _, record in entries],
            [record.timestamp or 0 for _, record in entries],
            [record.headers for _, record in entries],
            self.now_ms,
        )

    async def topic_limits(self) -> Mapping[str, TopicLimits]:
        """What can be known of topics before something is refused."""
        sizes = {topic: TopicLimits(bytes=limit) for topic, limit in self.limits.items()}
        return sizes | self.settings

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, partition by partition."""
        return [record for log in self.topics.get(topic, []) for _, record in log.records]


class MemoryOutbox:
    """A transactional producer on a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, transactional_id: str) -> None:
        self._broker = broker
        self._id = transactional_id
        self._epoch = 0
        self._open: list[tuple[TopicPartition, Record]] | None = None
        self._calls: list[tuple[TopicPartition, list[Record]]] = []
        self._positions: dict[TopicPartition, int] = {}

    async def fence(self) -> None:
        """See `Outbox.fence`."""
        self._epoch = self._broker.epochs.get(self._id, 0) + 1
        self._broker.epochs[self._id] = self._epoch
        self._open = None

    async def begin(self) -> None:
        """See `Outbox.begin`."""
        if self._open is not None:
            raise TaskLost(f"{self._id}: a transaction is open already")
        self._open, self._calls, self._positions = [], [], {}

    async def produce(self, to: TopicPartition | str, records: Sequence[Record]) -> None:
        """See `Outbox.produce`."""
        transaction = self._transaction()
        if (to if isinstance(to, str) else to.topic) not in self._broker.topics:
            raise Unavailable(f"{self._id}: there is no topic for {to}")
        batches: dict[TopicPartition, list[Record]] = {}
        for record in records:
            tp = self._broker.place(to, record.key) if isinstance(to, str) else to
            self._broker.partition(tp)
            transaction.append((tp, record))
            batches.setdefault(tp, []).append(record)
        self._calls += batches.items()

    async def flush(self) -> Mapping[TopicPartition, int]:
        """See `Outbox.flush`."""
        transaction = self._transaction()
        for tp, batch in self._calls:
            if any(self._broker.takes_not(tp.topic, record) for record in batch):
                raise Refused(tp.topic, batch, "it does not take one of them")
        counts = Counter(tp for tp, _ in transaction)
        return {tp: self._broker.partition(tp).next_offset + n for tp, n in counts.items()}

    async def offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `Outbox.offsets`."""
        self._transaction()
        self._positions.update(positions)

    async def commit(self) -> None:
        """See `Outbox.commit`."""
        for tp, record in self._transaction():
            self._broker.append(tp, record)
        self._finish()
        self._calls = []
        self._broker.offsets.update(self._positions)

    async def abort(self) -> None:
        """See `Outbox.abort`."""
        self._transaction()
        self._finish()

    async def close(self) -> None:
        """See `Outbox.close`."""
        self._open = None

    def _transaction(self) -> list[tuple[TopicPartition, Record]]:
        if self._broker.epochs.get(self._id) != self._epoch:
            raise Fenced(f"{self._id}: a newer producer has this transactional id")
        if self._open is None:
            raise TaskLost(f"{self._id}: no transaction is open")
        return self._open

    def _finish(self) -> None:
        """Leave the control record, as Kafka does, in every partition that was written to."""
        for tp in {tp for tp, _ in self._open or ()}:
            self._broker.partition(tp).next_offset += 1
        self._open = None


class MemoryPlainOutbox:
    """A producer without transactions on a `MemoryBroker`: what it is given is there at once."""

    def __init__(self, broker: MemoryBroker, transactional_id: str) -> None:
        self._broker = broker
        self._fence = MemoryOutbox(broker, transactional_id)
        self._ends: dict[TopicPartition, int] = {}
        self._refused: Refused | None = None

    async def fence(self) -> None:
        """See `Outbox.fence`; fences owners that use transactions, and none that does not."""
        await self._fence.fence()

    async def begin(self) -> None:
        """See `Outbox.begin`; nothing is opened."""
        self._ends, self._refused = {}, None

    async def produce(self, to: TopicPartition | str, records: Sequence[Record]) -> None:
        """See `Outbox.produce`; a batch that is refused is not there, and said in `flush`."""
        if (to if isinstance(to, str) else to.topic) not in self._broker.topics:
            raise Unavailable(f"there is no topic for {to}")
        batches: dict[TopicPartition, list[Record]] = {}
        for record in records:
            tp = self._broker.place(to, record.key) if isinstance(to, str) else to
            batches.setdefault(tp, []).append(record)
        for tp, batch in batches.items():
            if any(self._broker.takes_not(tp.topic, record) for record in batch):
                self._refused = Refused(tp.topic, batch, "it does not take one of them")
                continue
            for record in batch:
                self._ends[tp] = self._broker.append(tp, record) + 1

    async def flush(self) -> Mapping[TopicPartition, int]:
        """See `Outbox.flush`."""
        if self._refused is not None:
            raise self._refused
        return dict(self._ends)

    async def offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `Outbox.offsets`; the group's offset is not moved."""

    async def commit(self) -> None:
        """See `Outbox.commit`; nothing is left to do."""

    async def abort(self) -> None:
        """See `Outbox.abort`; nothing can be taken back."""

    async def close(self) -> None:
        """See `Outbox.close`."""


class MemoryChangelog:
    """One partition of a `MemoryBroker`, read as a changelog."""

    def __init__(self, broker: MemoryBroker, tp: TopicPartition) -> None:
        self._broker = broker
        self._tp = tp

    async def bounds(self) -> tuple[int, int]:
        """See `Changelog.bounds`."""
        log = self._broker.partition(self._tp)
        return log.first_offset, log.next_offset

    async def read(self, start: int, stop: int) -> Sequence[tuple[bytes, bytes | None]]:
        """See `Changelog.read`."""
        log = self._broker.partition(self._tp)
        return [
            (record.key or b"", record.value)
            for offset, record in log.records
            if start <= offset < stop
        ]

    async def fetch(
        self, start: int, stop: int
    ) -> tuple[Iterable[tuple[bytes, bytes | None]], int]:
        """See `Changelog.fetch`; like the real one's, the records can be gone through once."""
        end = min(start + FETCHED, stop)
        return iter(await self.read(start, end)), end

    async def close(self) -> None:
        """See `Changelog.close`."""


class MemoryTail(MemoryChangelog):
    """A changelog of a `MemoryBroker` that is looked at again and again."""

    async def stop(self) -> None:
        """See `Tail.stop`."""


class MemoryAnnouncer:
    """Writes notes to one partition of a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, tp: TopicPartition) -> None:
        self._broker = broker
        self._tp = tp

    async def publish(self, records: Sequence[Record]) -> None:
        """See `Announcer.publish`."""
        for record in records:
            self._broker.append(self._tp, record)

    async def close(self) -> None:
        """See `Announcer.close`."""


class MemoryStore:
    """An ordered map in memory. It outlives `close`, as a disk does."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._values: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `StateStore.get`."""
        return [self._values.get(key) for key in keys]

    def scan(
        self, start: bytes, stop: bytes, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """See `StateStore.scan`."""
        low, high = bisect_left(self._keys, start), bisect_left(self._keys, stop)
        return [(key, self._values[key]) for key in self._keys[low:high][:limit]]

    def apply(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """See `StateStore.apply`."""
        for key, value in list(changes):  # an error in them must leave all as it was
            if value is None:
                if self._values.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
                continue
            if key not in self._values:
                insort(self._keys, key)
            self._values[key] = value

    def load(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """See `StateStore.load`."""
        self.apply(changes)

    def loaded(self) -> None:
        """See `StateStore.loaded`."""

    def clear(self) -> None:
        """See `StateStore.clear`."""
        self._keys.clear()
        self._values.clear()

    def close(self) -> None:
        """See `StateStore.close`."""
