"""A table whose store is away is left alone by its circuit breaker, and nothing is lost by it."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.clock import SimulatedClock
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.guarded_files import Guard, GuardedFiles
from streamflow.engine.inbox import Arrival
from streamflow.engine.pauses import Pauses
from streamflow.engine.settings import Settings
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.sink_stage import breaker_of, retry_of
from streamflow.errors import SinkRefused, SinkUnavailable, TableAway
from streamflow.ports import TableFiles
from streamflow.retry import CircuitBreaker, ErrorClass, RetryPolicy
from streamflow.testing.contracts_files import LAWS
from tests.examples import examples
from tests.unit.sink_log import TP, Log, ids, partition
from tests.unit.test_lanes import Consumer, until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BREAKER = CircuitBreaker(3, 2, 5, timedelta(seconds=60), timedelta(seconds=300))


class Table:
    """Files in memory behind a breaker, and the time."""

    def __init__(self, breaker: CircuitBreaker = BREAKER) -> None:
        self.files, self.clock = MemoryFiles(), SimulatedClock(NOW)
        self.guard = Guard("flights", breaker, self.clock)
        self.guarded = GuardedFiles(self.files, self.guard)
        self.until = 0.0

    def fail(self, times: int) -> None:
        self.files.away = True
        for _ in range(times):
            with pytest.raises(SinkUnavailable, match="does not answer"):
                self.guarded.create("a", b"1")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_contract_is_kept(law: Callable[[TableFiles], None]) -> None:
    law(Table().guarded)


def test_it_opens_waits_tries_one_call_at_a_time_and_closes() -> None:
    table = Table()
    table.fail(3)
    assert table.guard.phase == "open"
    table.files.away = False
    asked = table.files.asked
    with pytest.raises(TableAway, match="flights: its circuit breaker is open") as away:
        table.guarded.exists("a")
    assert (away.value.seconds, table.files.asked) == (60, asked)
    table.clock.advance(timedelta(seconds=60))

    def first() -> float:
        with pytest.raises(TableAway, match="until one call") as beside:
            table.guarded.exists("a")
        return beside.value.seconds

    assert table.guard.call(first) == 0
    assert table.guard.phase == "half_open"
    assert table.guarded.create("a", b"1")
    assert table.guard.phase == "closed"
    table.fail(3)
    table.clock.advance(timedelta(seconds=60))
    table.fail(1)
    with pytest.raises(TableAway) as away:
        table.guarded.exists("a")
    assert away.value.seconds == 120


def test_what_a_person_has_to_mend_and_what_is_an_answer_opens_nothing() -> None:
    table = Table()
    table.files.full = True
    for _ in range(10):
        with pytest.raises(SinkUnavailable, match="no space"):
            table.guarded.create("a", b"1")

    def fail(error: Exception) -> None:
        raise error

    allowed = SinkUnavailable("not allowed", ErrorClass.PERMISSION)
    denied = SinkUnavailable("denied")
    denied.__cause__ = PermissionError(13, "denied")
    for error in (allowed, denied, SinkRefused("a name"), FileNotFoundError("b")):
        for _ in range(10):
            with pytest.raises(type(error)):
                table.guard.call(lambda error=error: fail(error))
    assert table.guard.phase == "closed"
    busy = SinkUnavailable("slow down", ErrorClass.RESOURCE_EXHAUSTION)
    for _ in range(3):
        with pytest.raises(SinkUnavailable, match="slow down"):
            table.guard.call(lambda: fail(busy))
    assert table.guard.phase == "open"


@examples(100)
@given(
    st.lists(st.sampled_from(["commit", "away", "back", "wait", "tick"]), max_size=40),
    st.integers(1, 4),
)
def test_whenever_a_store_goes_away_every_row_is_in_one_file(turns: list[str], count: int) -> None:
    table, topic = Table(), Log()
    sink = partition(table.guarded, clock=table.clock)
    sink.open(0, 0)

    def turn() -> None:
        asked = table.files.asked
        left_alone = table.guard.phase == "open" and table.clock.monotonic() < table.until
        try:
            sink.receive(topic.fetch(sink.wanted, topic.end))
        except TableAway as away:
            table.until = table.clock.monotonic() + away.seconds
        except SinkUnavailable:
            table.until = 0.0
        assert not left_alone or table.files.asked == asked

    for what in turns:
        if what == "commit":
            topic.commit(count)
        elif what in ("away", "back"):
            table.files.away = what == "away"
        elif what == "wait":
            table.clock.advance(timedelta(seconds=30))
        turn()
    table.files.away = False
    for _ in range(20):
        table.clock.advance(timedelta(seconds=300))
        turn()
    assert ids(table.files) == list(range(topic.rows))


def test_its_partition_waits_for_as_long_as_it_is_open_and_goes_on_by_itself() -> None:
    at_once = RetryPolicy(None, timedelta(milliseconds=1), timedelta(milliseconds=1))

    async def test() -> None:
        short = timedelta(milliseconds=10)
        table, topic = Table(CircuitBreaker(3, 2, 5, short, short)), Log()
        log: list[str] = []
        pauses = Pauses(Consumer(log))

        async def bounds() -> tuple[int, int]:
            return topic.first, topic.end

        async def trim(*_: Any) -> None:
            pass

        def never(error: Exception) -> None:
            raise error

        make = lambda: partition(table.guarded, clock=table.clock)  # noqa: E731
        lane = SinkLane(TP, make, bounds, trim, pauses, never, at_once)
        await lane.open()
        lane.start()
        table.files.away = True
        topic.commit(4)
        await lane.put(Arrival(topic.fetch(0, topic.end), lambda: None))
        await until(lambda: "breaker" in pauses.reasons(TP))
        assert pauses.reasons(TP) == {"breaker"}
        assert "its circuit breaker is open" in pauses.words()[TP]["breaker"]
        asked = table.files.asked
        table.files.away = False
        await asyncio.sleep(0.05)  # it looks some times, and the store is left alone
        assert table.files.asked == asked
        table.clock.advance(short)
        await until(lambda: pauses.words() == {})
        assert ids(table.files) == list(range(topic.rows))
        await lane.close()

    asyncio.run(asyncio.wait_for(test(), 10))


def test_what_is_set_is_what_is_done() -> None:
    made = Settings.load(
        sink_retry_wait=2, sink_retry_max_wait=1, sink_breaker_failures=20, sink_breaker_open=7
    )
    assert retry_of(made) == RetryPolicy(None, timedelta(seconds=2), timedelta(seconds=2))
    breaker = breaker_of(made)
    assert breaker is not None
    assert (breaker.failure_threshold, breaker.window) == (20, 20)
    assert (breaker.open_for, breaker.max_open) == (timedelta(seconds=7), timedelta(minutes=5))
    assert breaker_of(Settings.load(sink_breaker_failures=0)) is None
