"""Lanes while whoever answers is away: tried again, then a circuit breaker, and nothing is lost."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from streamflow.clock import SystemClock
from streamflow.edges.memory import MemoryStore
from streamflow.engine.inbox import QUEUE_BATCHES
from streamflow.engine.lookups import Lookups
from streamflow.engine.task import TaskLimits
from streamflow.errors import StreamflowError
from streamflow.retry import CircuitBreaker, RetryPolicy
from tests.unit.test_enrich_lanes import FIRST, SECOND, Service, Worker, go, until

#: One failure opens it, for a moment.
SOON = CircuitBreaker(1, 1, 1, timedelta(milliseconds=50))


def test_an_open_circuit_breaker_pauses_the_partition_and_nothing_is_lost() -> None:
    async def test() -> None:
        service = Service(failures=2)
        worker = Worker(service, "dead_letter", breaker=SOON)
        await worker.start()
        await worker.send(FIRST, "tea")
        await worker.send(FIRST, "flaky", "milk")
        await until(lambda: "breaker" in worker.pauses.reasons(FIRST))
        await until(lambda: worker.out(FIRST) == [("tea", 3)])  # all before it is committed
        for _ in range(QUEUE_BATCHES + 1):
            await worker.send(FIRST, "tea")
        await until(lambda: len(worker.out(FIRST)) == QUEUE_BATCHES + 4)
        wanted = [("tea", 3), ("flaky", 5), ("milk", 4), *[("tea", 3)] * (QUEUE_BATCHES + 1)]
        assert worker.out(FIRST) == wanted
        assert worker.broker.records("dlq") == []
        await until(lambda: worker.pauses.reasons(FIRST) == frozenset())
        assert service.failures == 0
        await worker.close()

    go(test)


def test_what_an_open_circuit_breaker_holds_back_is_done_by_the_next_owner() -> None:
    async def test() -> None:
        service = Service(failures=1)
        long = CircuitBreaker(1, 1, 1, timedelta(seconds=200))
        worker = Worker(service, "dead_letter", breaker=long)
        await worker.start()
        await worker.send(FIRST, "tea", "flaky", "milk")
        await until(lambda: "breaker" in worker.pauses.reasons(FIRST))
        lane = worker.lanes[FIRST]
        assert lane.is_open
        await lane.close(5)
        assert worker.out(FIRST) == []
        worker.lookups = Lookups(SystemClock())
        lane = worker.lanes[FIRST] = worker.lane(FIRST)
        assert await lane.open() == 0
        lane.start()
        await worker.feed(FIRST, 0)
        await until(lambda: len(worker.out(FIRST)) == 3)
        await worker.close()

    go(test)


def test_a_task_that_is_lost_while_it_waits_for_a_circuit_breaker_forgets_that() -> None:
    async def test() -> None:
        service = Service(failures=1)
        a_while = CircuitBreaker(1, 1, 1, timedelta(milliseconds=500))
        limits = TaskLimits(timedelta(milliseconds=100))
        worker = Worker(service, "dead_letter", breaker=a_while, limits=limits)
        await worker.start()
        lane = worker.lanes[FIRST]
        await worker.send(FIRST, "tea")
        await worker.send(FIRST, "flaky")
        await until(lambda: "breaker" in worker.pauses.reasons(FIRST))
        await worker.fence(FIRST)
        await until(lambda: not lane.is_open)
        await until(lambda: len(worker.out(FIRST)) == 2)
        assert worker.out(FIRST) == [("tea", 3), ("flaky", 5)]
        await until(lambda: worker.pauses.reasons(FIRST) == frozenset())
        await worker.close()

    go(test)


def test_nulls_do_not_wait_for_a_circuit_breaker() -> None:
    async def test() -> None:
        service = Service(failures=1)
        long = CircuitBreaker(1, 1, 1, timedelta(seconds=200))
        worker = Worker(service, "null", breaker=long, concurrency=1)
        await worker.start()
        await worker.send(FIRST, "flaky", "tea")
        await until(lambda: len(worker.out(FIRST)) == 2)
        assert worker.out(FIRST) == [("flaky", None), ("tea", None)]
        assert worker.pauses.reasons(FIRST) == frozenset()
        await worker.close()

    go(test)


def test_calls_that_failed_in_passing_are_made_again_as_often_as_is_said() -> None:
    async def test() -> None:
        service = Service(failures=4)
        worker = Worker(service, "dead_letter", retry=RetryPolicy(5))
        await worker.start()
        await worker.send(FIRST, "flaky", "flaky")
        await until(lambda: len(worker.out(FIRST)) == 2)
        assert (worker.broker.records("dlq"), service.failures) == ([], 0)
        service.failures = 3
        worker = Worker(service, "dead_letter", retry=RetryPolicy(3, per_minute=1))
        await worker.start()
        await worker.send(FIRST, "flaky")
        await until(lambda: len(worker.broker.records("dlq")) == 1)
        assert service.failures == 1
        await worker.close()

    go(test)


def test_a_half_open_circuit_breaker_lets_one_call_of_the_worker_through() -> None:
    async def test() -> None:
        service = Service(failures=1)
        worker = Worker(service, "dead_letter", breaker=SOON, concurrency=4)
        await worker.start()
        await worker.send(FIRST, "flaky")
        await until(lambda: "breaker" in worker.pauses.reasons(FIRST))
        service.most = 0
        await worker.send(FIRST, "tea", "a", "b", "c")
        await worker.send(SECOND, "tea", "a", "b", "held")
        await until(lambda: len(worker.out(FIRST)) == 5)
        service.held.set()
        await until(lambda: len(worker.out(SECOND)) == 4)
        assert [name for name, _ in worker.out(FIRST)][1:] == ["tea", "a", "b", "c"]
        assert [name for name, _ in worker.out(SECOND)] == ["tea", "a", "b", "held"]
        await worker.close()

    go(test)


def test_a_lane_that_leaves_commits_what_came_before_an_answer_that_does_not_come() -> None:
    async def test() -> None:
        service = Service()
        worker = Worker(service, limits=TaskLimits(timedelta(hours=1)))
        await worker.start()
        await worker.send(FIRST, "tea", "milk")
        await until(lambda: worker.lanes[FIRST].task.state.position == 2)  # type: ignore[union-attr]
        await worker.send(FIRST, "held")
        await until(lambda: service.under_way == 1)
        assert worker.out(FIRST) == []
        await worker.lanes[FIRST].close(0.2)
        assert worker.out(FIRST) == [("tea", 3), ("milk", 4)]
        assert service.under_way == 0
        await worker.close()

    go(test)


class BrokenStore(MemoryStore):
    """A store with a defect."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        raise ZeroDivisionError("defect")


AT_ONCE = RetryPolicy(None, timedelta(microseconds=1), timedelta(microseconds=1))


def test_what_does_not_pass_by_itself_stops_the_worker_after_some_attempts() -> None:
    async def test() -> None:
        worker = Worker(Service())
        refusals: list[StreamflowError] = []
        lane = worker.lanes[FIRST] = worker.lane(FIRST, refusals.append, AT_ONCE)
        await lane.open()
        lane.start()
        worker.stores[FIRST] = BrokenStore()
        await worker.fence(FIRST)
        await worker.send(FIRST, "tea")
        await until(lambda: bool(refusals))
        words = str(refusals[0])
        assert words.startswith("sales[0]: failed 11 times without a commit in between")
        assert "ZeroDivisionError('defect')" in words
        await lane.close(1)

    go(test)


class AwayBroker(MemoryStore):
    """Cannot be asked for so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if self.times:
            self.times -= 1
            raise ConnectionError("away")
        return super().get(keys)


def test_what_passes_by_itself_is_waited_for_without_end() -> None:
    async def test() -> None:
        worker = Worker(Service())
        lane = worker.lanes[FIRST] = worker.lane(FIRST, retry=AT_ONCE)
        await lane.open()
        lane.start()
        away = worker.stores[FIRST] = AwayBroker(times=50)
        await worker.fence(FIRST)
        await worker.send(FIRST, "tea")
        await until(lambda: len(worker.out(FIRST)) == 1)
        assert away.times == 0
        assert [name for name, _ in worker.out(FIRST)] == ["tea"]
        await lane.close(1)

    go(test)


def test_a_lane_that_waits_to_be_taken_up_again_leaves_at_once() -> None:
    async def test() -> None:
        worker = Worker(Service())
        hours = RetryPolicy(None, timedelta(hours=1), timedelta(hours=1))
        lane = worker.lanes[FIRST] = worker.lane(FIRST, retry=hours)
        await lane.open()
        lane.start()
        await worker.fence(FIRST)
        await worker.send(FIRST, "tea")
        await until(lambda: not lane.is_open)
        async with asyncio.timeout(60):
            await lane.close(3600)
        assert worker.out(FIRST) == []

    go(test)
