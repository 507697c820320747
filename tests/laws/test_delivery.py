"""What each way of delivery promises, whatever crashes, and whichever way it was before.

Without transactions topics may get records again, but tables and state are those of a run that
nothing has interrupted; that holds, too, while an owner that was thought dead writes on.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.batch import Record, TopicPartition
from streamflow.testing import COMMIT_POINTS, PLAIN_POINTS, ROLL_POINTS, TopologyDriver
from tests.examples import law
from tests.laws.orders import order, records, topology
from tests.laws.test_laws import COMMIT_HEADERS, NOW, TOPICS

Way = Literal["exactly_once", "at_least_once"]
POINTS = sorted({*COMMIT_POINTS, *PLAIN_POINTS, *ROLL_POINTS})

streams = st.lists(records(), min_size=3, max_size=25)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=4)
#: What happens after some of the records: the process dies at a step, or another one takes over
#: and the one before wakes up some time later; and how the next one delivers.
events = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.one_of(
            st.tuples(st.sampled_from([*PLAIN_POINTS, *POINTS]), st.integers(0, 4)),
            st.tuples(st.just("overtaken"), st.integers(0, 2)),
            st.tuples(st.just("compacted"), st.just(0)),
        ),
        st.sampled_from(["exactly_once", "at_least_once"]),
    ),
    max_size=4,
)


class Run:
    """A stream, interrupted."""

    make: Callable[..., TopologyDriver] = TopologyDriver

    def __init__(
        self,
        stream: Sequence[Record],
        way: Way,
        *,
        batches: Sequence[int] = (1_000,),
        commit_records: int = 5,
        keep_disk: bool = True,
    ) -> None:
        self.left = list(stream)
        self.sleeping: list[tuple[int, Callable[[], None]]] = []
        self.driver = self.make(
            topology,
            NOW,
            partitions=2,
            batches=batches,
            commit_records=commit_records,
            keep_disk=keep_disk,
        )
        self.driver.delivery = way
        self.driver.restart()

    def send(self, count: int) -> None:
        some, self.left = self.left[:count], self.left[count:]
        self.driver.send("orders", *some)

    def interrupt(self, count: int, what: tuple[str, int], way: Way) -> None:
        point, after = what
        for turns, wake in list(self.sleeping):
            if turns == 0:
                wake()
        self.sleeping = [(turns - 1, wake) for turns, wake in self.sleeping if turns > 0]
        if point == "overtaken":
            some, self.left = self.left[:count], self.left[count:]
            for record in some:  # they are there, and neither owner has taken them yet
                log = self.driver.broker.place("orders", record.key)
                self.driver.broker.append(log, record)
            self.driver.delivery = way
            self.sleeping.append((after, self.driver.overtake()))
            return
        self.driver.delivery = way  # of whoever comes after the crash
        if point == "compacted":
            self.send(count)
            self.compact()
            return
        with self.driver.crash(at=point, after=after):
            self.send(count)
        self.driver.process()

    def compact(self) -> None:
        """Let the broker keep the last record of each key; it waits until an owner has begun."""
        self.driver.restart()
        for log in self.driver.broker.topics["orders-orders-changelog"]:
            last = {record.key: offset for offset, record in log.records}
            log.records = [(offset, r) for offset, r in log.records if last[r.key] == offset]
        self.driver.restart()
        self.driver.process()

    def finish(self) -> TopologyDriver:
        self.send(len(self.left))
        for _, wake in self.sleeping:
            wake()
        self.driver.restart()
        self.driver.process()
        self.driver.end_of_input()
        return self.driver


def uninterrupted(stream: Sequence[Record]) -> TopologyDriver:
    """The same stream in as few batches and commits as there can be."""
    driver = TopologyDriver(topology, NOW, partitions=2, commit_records=1_000)
    driver.send("orders", *stream)
    driver.end_of_input()
    return driver


def exact(driver: TopologyDriver) -> dict[str, Any]:
    """What is exact either way: tables, and the state as far as it is seen."""
    results = [
        {name: value for name, value in row.items() if name != "mean_weight"}
        for row in driver.files("per-minute")
    ]
    return {
        "rows": sorted(map(str, driver.files("orders"))),
        "results": sorted(map(str, results)),
        "totals": dict(+driver.totals),
        "rules": dict(+driver.rules),
    }


def sent(driver: TopologyDriver, name: str) -> Counter[str]:
    """The records of a topic, without what names the commit that sent them."""
    return Counter(
        str((r.key, r.value, r.timestamp, [h for h in r.headers if h[0] not in COMMIT_HEADERS]))
        for r in driver.records(name)
    )


def results(driver: TopologyDriver) -> Counter[str]:
    """Without means, which depend on the order of sums."""
    rows = driver.read("per-minute")
    return Counter(str({k: v for k, v in row.items() if k != "mean_weight"}) for row in rows)


@pytest.mark.parametrize("after", range(3))
@pytest.mark.parametrize("point", [*PLAIN_POINTS, *ROLL_POINTS])
def test_a_crash_at_any_step_without_transactions_repeats_at_the_most(
    point: str, after: int
) -> None:
    stream = [order(10 * n, ("FR", "DE")[n % 2], cents=n) for n in range(40)]
    whole = uninterrupted(stream)
    run = Run(stream, "at_least_once", batches=[3], commit_records=3)
    run.send(10)
    run.interrupt(20, (point, after), "at_least_once")
    driver = run.finish()
    assert exact(driver) == exact(whole)
    more = sent(driver, "orders.clean") - sent(whole, "orders.clean")
    assert not sent(whole, "orders.clean") - sent(driver, "orders.clean")
    assert set(more) <= set(sent(whole, "orders.clean"))
    assert bool(more) == (point in {"commit", "mark"} or (point, after > 0) == ("produce", True))


@law()
@given(streams, events, cuts, st.integers(1, 8), st.booleans(), st.booleans())
def test_tables_and_state_are_exact_and_topics_lose_nothing_whatever_happens(
    stream: list[Record],
    happens: list[tuple[int, tuple[str, int], Way]],
    batches: list[int],
    commit_records: int,
    keep_disk: bool,
    plain: bool,
) -> None:
    whole = uninterrupted(stream)
    way: Way = "at_least_once" if plain else "exactly_once"
    run = Run(stream, way, batches=batches, commit_records=commit_records, keep_disk=keep_disk)
    for count, what, following in happens:
        run.interrupt(count, what, following)
    driver = run.finish()
    assert exact(driver) == exact(whole)
    ways = {way, *(following for _, _, following in happens)}
    for name in TOPICS:
        found, wanted = sent(driver, name), sent(whole, name)
        assert found.keys() == wanted.keys()
        assert all(found[record] >= count for record, count in wanted.items())
        assert ways != {"exactly_once"} or found == wanted
    found, wanted = results(driver), results(whole)
    assert found.keys() == wanted.keys()
    assert ways != {"exactly_once"} or found == wanted


@law()
@given(streams, cuts, st.integers(1, 15))
def test_without_a_crash_nothing_is_repeated(
    stream: list[Record], batches: list[int], commit_records: int
) -> None:
    whole = uninterrupted(stream)
    driver = Run(stream, "at_least_once", batches=batches, commit_records=commit_records).finish()
    assert exact(driver) == exact(whole)
    assert {name: sent(driver, name) for name in TOPICS} == {
        name: sent(whole, name) for name in TOPICS
    }
    assert driver.broker.offsets.get(TopicPartition("orders", 0)) is None
