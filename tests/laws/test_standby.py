"""A state that is followed is one that a restore may begin with: whoever takes a task over with it
goes on as with one that was read from nothing, whenever it was followed and broken off.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.batch import Record, TopicPartition
from streamflow.edges.memory import MemoryChangelog, MemoryStore, MemoryTail
from streamflow.engine.restore import restore
from streamflow.engine.standby import Standby, StandbyPorts
from streamflow.engine.sync import run_sync
from streamflow.testing import TopologyDriver
from tests.examples import law
from tests.laws.orders import order
from tests.laws.test_delivery import (
    PLAIN_POINTS,
    Run,
    Way,
    cuts,
    events,
    exact,
    streams,
    uninterrupted,
)

CHANGELOG = "orders-orders-changelog"


class Broken(Exception):
    """The process that follows dies."""


class Disk(MemoryStore):
    """A store whose process may die before any of its writes."""

    breaks: Iterator[bool] = iter(())

    def apply(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        self._step()
        super().apply(changes)

    def load(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        self._step()
        super().apply(changes)

    def loaded(self) -> None:
        self._step()

    def clear(self) -> None:
        self._step()
        super().clear()

    def _step(self) -> None:
        if next(self.breaks, False):
            raise Broken


class Followed(TopologyDriver):
    """A worker, and another one that follows its states: it has a turn before any step of a commit
    at which `turns` says so, and dies before a write of its disk at which `breaks` says so.
    """

    def __init__(
        self, *given: Any, turns: Iterable[bool] = (), breaks: Iterable[bool] = (), **more: Any
    ) -> None:
        self.turns, self.breaks = iter(turns), iter(breaks)
        self.disks = {TopicPartition("orders", p): Disk() for p in range(2)}
        self.standbys: dict[TopicPartition, Standby] = {}
        super().__init__(*given, **more)

    def follow(self) -> None:
        for tp, disk in self.disks.items():
            disk.breaks = self.breaks
            try:
                run_sync(self._standby(tp, disk).turn())
            except Broken:
                del self.standbys[tp]  # the next one finds the disk as it was left
            disk.breaks = iter(())

    def take_over(self) -> None:
        """The standby's worker is the owner now; the other one, started again, stands by."""
        self.standbys.clear()
        for tp, disk in self.disks.items():
            owned, self._stores[tp] = self._stores[tp], disk
            self.disks[tp] = copy_of(owned)
        self.restart()
        self.process()

    def _standby(self, tp: TopicPartition, disk: Disk) -> Standby:
        if tp not in self.standbys:
            tail = MemoryTail(self.broker, TopicPartition(CHANGELOG, tp.partition))
            self.standbys[tp] = Standby(
                CHANGELOG, lambda: StandbyPorts(tail, disk), self.clock, no_rest
            )
        return self.standbys[tp]

    def _faults(self, point: str) -> None:
        if next(self.turns, False):
            self.follow()
        super()._faults(point)


async def no_rest(seconds: float) -> None:
    assert seconds == 0


def copy_of(store: MemoryStore) -> Disk:
    made = Disk()
    made.apply(store.scan(b"", b"\xff"))
    return made


class Copied(TopologyDriver):
    """A worker whose states are copied before any step of a commit at which `turns` says so."""

    def __init__(self, *given: Any, turns: Iterable[bool] = (), **more: Any) -> None:
        self.turns = iter(turns)
        self.copies: list[dict[TopicPartition, Disk]] = []
        super().__init__(*given, **more)

    def begin_from(self, number: int) -> None:
        """A worker without states is started, and begins from one of the copies."""
        if self.copies:
            chosen = self.copies[number % len(self.copies)]
            self._stores.update({tp: copy_of(disk) for tp, disk in chosen.items()})
        self.restart()
        self.process()

    def _faults(self, point: str) -> None:
        if next(self.turns, False):
            self.copies.append({tp: copy_of(store) for tp, store in self._stores.items()})
        super()._faults(point)


def held(store: MemoryStore) -> dict[bytes, bytes]:
    return dict(store.scan(b"", b"~"))


@law()
@given(
    streams,
    st.lists(st.tuples(st.integers(0, 30), events), max_size=3),
    cuts,
    st.integers(1, 8),
    st.lists(st.booleans(), max_size=40),
    st.booleans(),
)
def test_beginning_from_a_backup_is_unobservable(
    stream: list[Record],
    happens: list[tuple[int, Any]],
    batches: list[int],
    commit_records: int,
    turns: list[bool],
    plain: bool,
) -> None:
    """From any that was ever made, as often as one likes."""
    whole = uninterrupted(stream)
    way: Way = "at_least_once" if plain else "exactly_once"
    make: Callable[..., TopologyDriver] = partial(Copied, turns=turns)
    made: type[Run] = type("CopiedRun", (Run,), {"make": staticmethod(make)})
    run = made(stream, way, batches=batches, commit_records=commit_records)
    driver = run.driver
    assert isinstance(driver, Copied)
    for number, troubles in happens:
        for count, what, following in troubles:
            run.interrupt(count, what, following)
        driver.begin_from(number)
    assert exact(run.finish()) == exact(whole)


def followed(**more: Any) -> type[Run]:
    """A run whose states are followed."""
    make: Callable[..., TopologyDriver] = partial(Followed, **more)
    return type("FollowedRun", (Run,), {"make": staticmethod(make)})


@law()
@given(
    streams,
    st.lists(st.tuples(st.booleans(), st.booleans(), events), max_size=3),
    cuts,
    st.integers(1, 8),
    st.lists(st.booleans(), max_size=60),
    st.lists(st.booleans(), max_size=25),
    st.booleans(),
)
def test_taking_over_from_a_standby_is_unobservable(
    stream: list[Record],
    happens: list[tuple[bool, bool, Any]],
    batches: list[int],
    commit_records: int,
    turns: list[bool],
    breaks: list[bool],
    plain: bool,
) -> None:
    whole = uninterrupted(stream)
    way: Way = "at_least_once" if plain else "exactly_once"
    made = followed(turns=turns, breaks=breaks)
    run = made(stream, way, batches=batches, commit_records=commit_records)
    driver = run.driver
    assert isinstance(driver, Followed)
    for follows, takes_over, troubles in happens:
        for count, what, following in troubles:
            run.interrupt(count, what, following)
        if follows:
            driver.follow()
        if takes_over:
            driver.take_over()
    assert exact(run.finish()) == exact(whole)


@law()
@given(streams, events, cuts, st.lists(st.booleans(), max_size=60), st.booleans())
def test_a_state_that_was_followed_is_one_that_was_read_from_nothing(
    stream: list[Record], happens: Any, batches: list[int], turns: list[bool], plain: bool
) -> None:
    way: Way = "at_least_once" if plain else "exactly_once"
    run = followed(turns=turns)(stream, way, batches=batches)
    for count, what, following in happens:
        run.interrupt(count, what, following)
    driver = run.finish()
    assert isinstance(driver, Followed)
    driver.follow()
    for tp, disk in driver.disks.items():
        fresh = MemoryStore()
        changelog = MemoryChangelog(driver.broker, TopicPartition(CHANGELOG, tp.partition))
        run_sync(restore(fresh, changelog, driver.clock, CHANGELOG))
        assert held(disk) == held(fresh)
        assert driver.standbys[tp].lag.records == 0


@pytest.mark.parametrize("point", PLAIN_POINTS)
def test_a_standby_in_the_middle_of_any_commit_has_whole_commits(point: str) -> None:
    stream = [order(10 * n, ("FR", "DE")[n % 2], cents=n) for n in range(40)]
    whole = uninterrupted(stream)
    run = followed(turns=[True] * 200)(stream, "at_least_once", batches=[3], commit_records=3)
    run.send(10)
    run.interrupt(20, (point, 1), "at_least_once")
    driver = run.driver
    assert isinstance(driver, Followed)
    driver.take_over()
    assert exact(run.finish()) == exact(whole)
