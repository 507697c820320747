"""A local state is brought up to its changelog: what is read for it, and when it is made anew."""

from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streamflow.batch import Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.keys import META
from streamflow.edges.memory import FETCHED, MemoryBroker, MemoryChangelog, MemoryStore
from streamflow.edges.rocksdb import RocksStore
from streamflow.engine.restore import STALE_AFTER, restore
from streamflow.engine.sync import run_sync
from streamflow.ports import StateStore

TP = TopicPartition("changelog", 0)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class WatchedChangelog(MemoryChangelog):
    """Remembers from where to where it was read."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker, TP)
        self.reads: list[tuple[int, int]] = []

    async def fetch(
        self, start: int, stop: int
    ) -> tuple[Iterable[tuple[bytes, bytes | None]], int]:
        found, after = await super().fetch(start, stop)
        self.reads.append((start, after))
        return found, after


class Restoring:
    """A changelog, and local states of it that come and go."""

    def __init__(self, open_store: Callable[[], StateStore]) -> None:
        self.broker = MemoryBroker()
        self.broker.create(TP.topic, 1)
        self.clock = SimulatedClock(NOW)
        self.open_store = open_store

    def commit(self, *changes: tuple[bytes, bytes | None], born: int = 1) -> None:
        meta = (META, b'{"format": 3, "born": %d}' % born)
        for key, value in (*changes, meta):
            self.broker.append(TP, Record(key, value))

    def start(self) -> list[tuple[int, int]]:
        """A worker begins and leaves; what it read."""
        changelog = WatchedChangelog(self.broker)
        with closing(self.open_store()) as store:
            run_sync(restore(store, changelog, self.clock, str(TP)))
        return changelog.reads

    def held(self) -> dict[bytes, bytes]:
        with closing(self.open_store()) as store:
            return dict(store.scan(b"", b"~"))


@pytest.fixture(params=["memory", "rocksdb"])
def restoring(request: pytest.FixtureRequest, tmp_path: Path) -> Restoring:
    if request.param == "rocksdb":
        return Restoring(lambda: RocksStore(tmp_path / "flights-0"))
    store = MemoryStore()
    return Restoring(lambda: store)


def test_a_second_start_reads_nothing(restoring: Restoring) -> None:
    restoring.commit((b"a", b"1"), (b"b", b"1"))
    restoring.commit((b"a", None), (b"b", b"2"))
    assert restoring.start() == [(0, 6)]
    held = restoring.held()
    assert held == {b"b": b"2", META: held[META]}
    assert restoring.start() == []
    assert restoring.held() == held


def test_only_what_is_missing_is_read(restoring: Restoring) -> None:
    restoring.commit((b"a", b"1"))
    restoring.start()
    restoring.commit((b"b", b"2"))
    restoring.commit((b"a", None))
    assert restoring.start() == [(2, 6)]
    assert restoring.held().keys() == {b"b", META}


def test_more_than_comes_at_once_is_restored_whole(restoring: Restoring) -> None:
    for number in range(FETCHED):
        restoring.commit((b"%d" % number, b"x"), (b"%d" % (number // 2), None))
    assert restoring.start() == [(FETCHED * n, FETCHED * (n + 1)) for n in range(3)]
    wanted = {b"%d" % number for number in range(FETCHED // 2, FETCHED)}
    assert restoring.held().keys() == wanted | {META}


def test_a_state_that_was_not_written_for_long_is_made_anew(restoring: Restoring) -> None:
    """A tombstone may have been compacted away since."""
    restoring.commit((b"a", b"1"))
    restoring.start()
    restoring.clock.advance(STALE_AFTER)
    assert restoring.start() == []
    del restoring.broker.partition(TP).records[0]
    restoring.commit((b"b", b"2"))
    restoring.clock.advance(timedelta(seconds=1))
    assert restoring.start() == [(0, 4)]
    assert restoring.held().keys() == {b"b", META}


def test_what_a_restore_that_was_broken_off_left_is_not_trusted(restoring: Restoring) -> None:
    restoring.commit((b"a", b"1"))
    with closing(restoring.open_store()) as store:
        store.clear()
        store.load([(b"never", b"1")])
    assert restoring.start() == [(0, 2)]
    assert restoring.held().keys() == {b"a", META}


def test_a_state_of_another_birth_is_made_anew(restoring: Restoring) -> None:
    restoring.commit((b"a", b"1"))
    restoring.start()
    restoring.commit((b"b", b"2"), born=2)
    assert restoring.start() == [(2, 4), (0, 4)]
