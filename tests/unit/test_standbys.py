"""What a worker follows: when, what of it fails, and what becomes of the folders."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamflow.batch import Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.keys import META
from streamflow.edges.memory import FETCHED, MemoryBroker, MemoryTail
from streamflow.engine import standbys as module
from streamflow.engine.commit import APPLIED
from streamflow.engine.placement import WARM
from streamflow.engine.restore import STALE_AFTER
from streamflow.engine.seating import Seating
from streamflow.engine.standby import Standby, StandbyPorts
from streamflow.engine.standbys import Standbys
from streamflow.errors import StateDamaged
from tests.unit.local_states import MemoryStates
from tests.unit.test_assignment import TPS, Worker, broker_with, run
from tests.unit.test_lanes import until

A, B = (TopicPartition("orders", partition) for partition in range(2))
CHANGELOG = "orders-changelog"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Following:
    """A worker that follows what its group says, on a Kafka in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.broker.create(CHANGELOG, 2)
        self.clock = SimulatedClock(NOW)
        self.states = MemoryStates(self.broker, {"orders": CHANGELOG}, self.clock)
        self.seating = Seating()
        self.asked = 0
        self.before_bounds: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)
        self.standbys = Standbys(self.bounds, self.rejoin, self.clock)

    async def bounds(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        await self.before_bounds()
        logs = {tp: self.broker.partition(tp) for tp in tps}
        return {tp: (log.first_offset, log.next_offset) for tp, log in logs.items()}

    async def rejoin(self) -> None:
        self.asked += 1

    async def told(
        self, *standbys: TopicPartition, own: Sequence[TopicPartition] = (), warming: bool = False
    ) -> None:
        self.seating.standbys = frozenset(standbys)
        self.seating.warming = frozenset(standbys if warming else ())
        await self.standbys.follow(own)

    def commit(self, tp: TopicPartition, entries: int = 1) -> None:
        log = TopicPartition(CHANGELOG, tp.partition)
        for n in range(entries):
            self.broker.append(log, Record(b"k%d" % n, b"v"))
        self.broker.append(log, Record(META, b'{"format": 3, "born": 1}'))

    def applied(self, tp: TopicPartition) -> int:
        found = self.states.disk[tp].get([APPLIED])[0] if tp in self.states.disk else None
        return int(found or 0)

    def lags(self) -> dict[TopicPartition, int | None]:
        return {tp: lag.records for tp, lag in self.standbys.lags.items()}


def story(tell: Callable[[Following], Awaitable[None]]) -> None:
    async def go() -> None:
        following = Following()
        async with asyncio.timeout(30):
            await following.standbys.begin(following.states, following.seating)
            await tell(following)
            await following.standbys.close()
        assert not following.states.open_now

    asyncio.run(go())


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_SECONDS", 0.001)


def test_it_keeps_near_the_end_and_writes_nothing_but_its_disk() -> None:
    async def tell(it: Following) -> None:
        it.commit(A, 10)
        await it.told(A, B)
        await until(lambda: it.lags() == {A: 0, B: 0})
        it.commit(A, 3)
        it.commit(B, 2)
        await until(lambda: (it.applied(A), it.applied(B)) == (15, 3))
        assert it.seating.has == {A: 15, B: 3}
        assert it.seating.follows == {A, B}
        assert [it.broker.partition(TopicPartition(CHANGELOG, p)).next_offset for p in (0, 1)] == [
            15,
            3,
        ]
        assert it.broker.epochs == {}, "nobody was fenced"
        assert it.broker.offsets == {}

    story(tell)


def test_a_task_that_becomes_this_worker_s_own_finds_its_database_closed() -> None:
    """Also while its standby is at work, which does nothing more to it then."""

    async def tell(it: Following) -> None:
        gate, reads = asyncio.Event(), []

        class Slow(MemoryTail):
            async def fetch(self, start: int, stop: int) -> Any:
                reads.append(start)
                if start >= FETCHED:
                    await gate.wait()
                return await super().fetch(start, stop)

        opened = it.states.open
        it.states.open = lambda tp: StandbyPorts(
            Slow(it.broker, it.states.changelog(tp)), opened(tp).store
        )
        it.commit(A, 5 * FETCHED)
        await it.told(A, B)
        await until(lambda: FETCHED in reads)
        await it.told(B, own=[A])
        with closing(it.states.store(A)) as store:
            gate.set()
            store.apply([(b"k1", b"the task's own")])
            await until(lambda: it.lags() == {B: 0})
            assert store.get([b"k1"]) == [b"the task's own"]
            assert max(reads) == FETCHED

    story(tell)


def test_a_state_that_is_far_behind_holds_no_other_one_up() -> None:
    async def tell(it: Following) -> None:
        await it.told(A, B)
        await until(lambda: it.lags() == {A: 0, B: 0})
        gate = asyncio.Event()
        standby = it.standbys._of[A]
        turn = standby.turn

        async def waits(bounds: tuple[int, int] | None = None) -> None:
            await gate.wait()
            await turn(bounds)

        standby.turn = waits
        it.commit(A, WARM + 1)
        await until(lambda: A in it.standbys._turns)
        it.commit(B)
        await until(lambda: it.applied(B) == 2)
        gate.set()
        await until(lambda: it.applied(A) == WARM + 2)

    story(tell)


def test_what_fails_for_one_says_nothing_of_the_others_and_is_tried_again() -> None:
    async def tell(it: Following) -> None:
        corrupt, opened = [StateDamaged("the state is corrupt")], it.states.open

        def fail(tp: TopicPartition) -> StandbyPorts:
            if tp == A and corrupt:
                raise corrupt[0]
            return opened(tp)

        it.states.open = fail
        it.commit(A)
        it.commit(B)
        await it.told(A, B)
        await until(lambda: it.applied(B) == 2 and it.standbys.lags[A].problem is not None)
        assert it.standbys.lags[A].problem == "the state is corrupt"
        corrupt.clear()
        await until(lambda: it.applied(A) == 2)
        assert it.standbys.lags[A].problem is None

    story(tell)


def test_a_changelog_that_has_lost_commits_is_not_followed_and_stops_nobody() -> None:
    async def tell(it: Following) -> None:
        it.commit(A, 5)
        await it.told(A)
        await until(lambda: it.applied(A) == 6)
        log = it.broker.partition(TopicPartition(CHANGELOG, 0))
        log.records, log.next_offset = [], 0
        it.commit(A)
        await until(lambda: it.standbys._of[A].given_up)
        assert "ends at 2, but the local state" in (it.standbys.lags[A].problem or "")
        assert it.applied(A) == 6, "the local state is what a person may need"
        assert it.seating.has == {}

    story(tell)


def test_an_end_that_lags_behind_the_last_commit_is_looked_at_again() -> None:
    """As the stable end does for a moment after the task here was let go."""

    async def tell(it: Following) -> None:
        it.commit(A, 5)
        await it.told(A)
        await until(lambda: it.applied(A) == 6)
        log = it.broker.partition(TopicPartition(CHANGELOG, 0))
        there, end = log.records, log.next_offset
        log.records, log.next_offset = there[:2], 2
        await until(lambda: it.standbys._of[A].refused > 0)
        assert not it.standbys._of[A].given_up
        log.records, log.next_offset = there, end
        await until(lambda: it.standbys._of[A].applied == 6)
        assert it.standbys.lags[A].problem is None

    story(tell)


def test_a_disk_that_is_full_takes_nothing_of_standbys_until_there_is_room() -> None:
    async def tell(it: Following) -> None:
        it.states.no_room = "the disk is 97 % full"
        it.commit(A)
        await it.told(A)
        await until(lambda: it.standbys.lags[A].problem == "the disk is 97 % full")
        assert it.applied(A) == 0
        it.states.no_room = None
        await until(lambda: it.applied(A) == 2)

    story(tell)


def test_a_folder_stays_while_it_is_of_use_and_is_removed_then() -> None:
    async def tell(it: Following) -> None:
        it.commit(A)
        it.commit(B)
        await it.told(A, B)
        await until(lambda: it.lags() == {A: 0, B: 0})
        await it.told(own=[B])
        it.standbys.closed({B: 2})
        it.clock.advance(STALE_AFTER)
        await it.standbys.turn()
        assert it.states.disk.keys() == {A, B}
        it.clock.advance(timedelta(seconds=1))
        await it.standbys.turn()
        assert it.states.disk.keys() == {B}, "what is owned stays"
        assert it.seating.has == {B: 2}

    story(tell)


def test_a_state_that_nothing_is_written_to_does_not_grow_old() -> None:
    async def tell(it: Following) -> None:
        it.commit(A)
        await it.told(A)
        await until(lambda: it.applied(A) == 2)
        store = it.states.disk[A]
        for _ in range(3):
            it.clock.advance(STALE_AFTER - timedelta(hours=1))
            seen = store.get([b"~applied-at"])
            await until(lambda seen=seen: store.get([b"~applied-at"]) != seen)
        assert store.get([b"k0"]) == [b"v"]
        store.apply([(b"k0", b"not read again")])
        await it.standbys.turn()
        assert store.get([b"k0"]) == [b"not read again"]

    story(tell)


def test_who_is_to_have_tasks_asks_for_them_once_when_their_states_are_warm() -> None:
    async def tell(it: Following) -> None:
        it.commit(A, 10)
        it.commit(B, 10)
        await it.told(A, B, warming=True)
        await until(lambda: it.asked == 1)
        assert it.lags() == {A: 0, B: 0}
        await it.told(A, B, warming=True)
        for _ in range(5):
            await it.standbys.turn()
        assert it.asked == 1, "not again at once"
        it.clock.advance(timedelta(seconds=module.REJOIN_SECONDS))
        await until(lambda: it.asked == 2)

    story(tell)


def test_a_broker_that_is_away_is_asked_again() -> None:
    async def tell(it: Following) -> None:
        tries = iter([OSError("away"), OSError("away")])

        async def away() -> None:
            error = next(tries, None)
            if error is not None:
                raise error

        it.before_bounds = away
        it.commit(A)
        await it.told(A)
        await until(lambda: it.applied(A) == 2)

    story(tell)


def test_how_far_behind_it_is_in_records_and_bytes() -> None:
    async def go() -> None:
        it = Following()
        standby = Standby(CHANGELOG, lambda: it.states.open(A), it.clock)
        assert standby.lag.as_json() == {"records": None, "bytes": None, "problem": None}
        for n in range(100):
            it.broker.append(TopicPartition(CHANGELOG, 0), Record(b"%04d" % n, b"v" * 16))
        it.commit(A, 0)
        await standby.turn((0, 50))
        standby._stop = 101
        assert (standby.lag.records, standby.lag.bytes) == (51, 51 * 20)
        await standby.turn()
        assert (standby.lag.records, standby.lag.bytes) == (0, 0)
        await standby.close()

    asyncio.run(go())


def test_a_worker_that_takes_a_task_over_reads_what_its_standby_has_not() -> None:
    async def tell() -> None:
        broker = broker_with(300)
        owner, heir = Worker(broker), Worker(broker)
        await owner.assigned(TPS[:1])
        await until(lambda: owner.ready)
        heir.consumer.seating.standbys = frozenset(TPS[:1])
        await heir.assigned(TPS[1:])
        await owner.bring(TPS[0])
        changelog = broker.partition(TopicPartition("clicks-clicks-changelog", 0))
        await until(lambda: changelog.next_offset > 0)
        heir.consumer.seating.standbys = frozenset()
        await until(lambda: heir.host.standbys.lags[TPS[0]].records == 0)
        await heir.assigned(TPS)
        await until(lambda: heir.ready)
        task = heir.host.tasks[TPS[0]].task
        assert task is not None
        assert task.state.position == 300
        assert task.restored_offsets == 0
        await owner.host.close()
        await heir.host.close()

    run(tell)
