"""The run journal: what processes write down of themselves, and what follows of it for a run."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from streamflow.batch import Record, TopicPartition
from streamflow.cli.runs import lines_of
from streamflow.clock import SimulatedClock
from streamflow.core.journal import (
    LOST_AFTER,
    TRANSITIONS,
    Execution,
    Progress,
    Run,
    State,
    decode_execution,
    runs_of,
)
from streamflow.edges.memory import MemoryAnnouncer, MemoryBroker
from streamflow.engine.host import Host
from streamflow.engine.inbox import Arrival
from streamflow.engine.journal import Journal
from streamflow.ranges import Ranges
from tests.unit.test_host import assigned, broker

__all__ = ["broker"]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)
JOURNAL = TopicPartition("orders-journal", 0)
MAY = Ranges("may", "beginning", "end", {P0: (0, 10), P1: (0, 5)})


def execution(name: str = "a", run: str = "may", at: datetime = NOW) -> Execution:
    return Execution(run, name, "worker", "ann@desk", "orders", "1", "exactly_once", at, at)


def far(position: int, at: datetime = NOW, *, done: bool = False, rejected: int = 0) -> Progress:
    return Progress(at, position, done, {"in": position, "rejected": rejected})


def later(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def one_run(*executions: Execution, begun: Sequence[Ranges] = (MAY,)) -> Run:
    (run,) = runs_of(executions, begun)
    return run


ENDED = [state for state, then in TRANSITIONS.items() if not then]


@pytest.mark.parametrize("before", TRANSITIONS)
@pytest.mark.parametrize("after", get_args(State))
def test_what_has_ended_has_ended_and_nobody_says_that_he_is_lost(
    before: State, after: State
) -> None:
    one = replace(execution(), state=before)
    if before == "running" and after not in ("pending", "lost"):
        moved = one.moved(after, later(1), {P0: far(3)}, "why")
        assert (moved.state, moved.heard, moved.error) == (after, later(1), "why")
        assert moved.ended == (None if after == "running" else later(1))
    else:
        with pytest.raises(ValueError, match=f"is {before} does not become {after}"):
            one.moved(after, later(1), {})


def test_what_is_written_is_what_is_read() -> None:
    one = execution().moved("running", later(1), {P0: far(3), P1: far(9, done=True)})
    for made in (execution(), one, one.moved("failed", later(2), {}, "it burns")):
        record = made.record()
        assert record.key == b"may/a"
        assert record.value is not None
        assert decode_execution(record.value) == made


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1}'])
def test_what_a_later_version_has_written_is_left_out(value: bytes) -> None:
    assert decode_execution(value) is None


def test_a_long_error_is_cut() -> None:
    assert len(execution().moved("failed", NOW, {}, "x" * 1_000_000).error) == 2_000


def test_who_is_not_heard_of_is_lost_until_he_is_heard_of_again() -> None:
    one = execution()
    assert one.seen(NOW + LOST_AFTER) == "running"
    assert one.seen(NOW + LOST_AFTER + timedelta(seconds=1)) == "lost"
    assert one.moved("running", later(60), {}).seen(later(61)) == "running"
    assert replace(one, state="cancelled").seen(later(60)) == "cancelled"


def test_a_run_goes_from_pending_over_its_processes_to_success() -> None:
    assert one_run().state(NOW) == "pending"
    first = execution("a").moved("running", NOW, {P0: far(10, done=True), P1: far(2)})
    assert one_run(first).state(NOW) == "running"
    # Killed: nothing more is written of it.
    assert one_run(first).state(later(60)) == "lost"
    second = execution("b", at=later(61)).moved("cancelled", later(62), {P1: far(3, later(62))})
    assert one_run(first, second).state(later(63)) == "cancelled"
    third = execution("c", at=later(64)).moved("failed", later(65), {P1: far(4, later(65))}, "oh")
    run = one_run(first, second, third)
    assert (run.state(later(66)), run.error) == ("failed", "oh")
    fourth = execution("d", at=later(70)).moved(
        "success", later(71), {P1: far(5, later(71), done=True, rejected=3)}
    )
    run = one_run(fourth, third, second, first)
    assert (run.state(later(72)), run.error) == ("success", "")
    assert (run.started, run.ended(later(72))) == (NOW, later(71))
    assert [one.id for one in run.executions] == ["a", "b", "c", "d"]
    assert run.totals == {"in": 15, "rejected": 3}
    assert run.score == 80
    assert {str(tp): one.position for tp, one in run.tasks.items()} == {
        "orders[0]": 10,
        "orders[1]": 5,
    }


def test_the_time_in_which_nobody_worked_is_told_apart() -> None:
    """Killed at 10, begun again at 61; two beside each other from 63 to 64."""
    killed = execution("a").moved("running", later(10), {P0: far(1)})
    second = execution("b", at=later(61)).moved("cancelled", later(64), {})
    third = execution("c", at=later(63)).moved("running", later(65), {})
    for run, now, minutes in (
        (one_run(), 1, 0),
        (one_run(killed), 11, 11),
        (one_run(killed), 60, 10),
        (one_run(killed, second), 70, 13),
        (one_run(killed, second, third), 66, 15),
        (one_run(killed, second, third), 99, 14),
    ):
        assert run.worked(later(now)) == timedelta(minutes=minutes)
    run = one_run(killed, second)
    assert run.as_json(later(70))["worked_seconds"] == 780
    assert lines_of(run, later(70), whole=False)[0] == (
        "may: cancelled after 1:04:00, at work for 0:13:00 of it, began 2026-01-01 00:00:00Z"
    )
    run = one_run(execution("a").moved("running", later(10), {}))
    words = "may: running for 0:10:30, began 2026-01-01 00:00:00Z"
    assert lines_of(run, later(10.5), whole=False)[0] == words


def test_a_process_that_has_done_its_part_makes_no_success_of_a_run_of_two() -> None:
    one = execution("a").moved("success", NOW, {P0: far(10, done=True)})
    assert one_run(one).state(NOW) == "cancelled"
    other = execution("b").moved("running", NOW, {P1: far(1)})
    assert one_run(one, other).state(NOW) == "running"


def test_a_task_that_moves_takes_its_totals_along_and_one_that_was_reset_goes_back() -> None:
    one = execution("a").moved("running", NOW, {P0: far(7)})
    other = execution("b").moved("running", later(1), {P0: far(9, later(1))})
    assert one_run(one, other).totals["in"] == 9
    assert one_run(other, one).totals["in"] == 9
    reset = execution("c").moved("running", later(2), {P0: far(2, later(2))})
    assert one_run(one, reset, other).totals["in"] == 2


def test_of_two_workers_that_begin_a_run_the_first_counts() -> None:
    also = replace(MAY, start="flights[0]@3")
    assert one_run(begun=(MAY, also)).ranges == MAY


def test_the_live_app_is_a_run_of_its_own_and_runs_come_in_the_order_of_their_beginnings() -> None:
    live = execution("l", "live", later(1))
    begun = [MAY, replace(MAY, run="june")]
    runs = runs_of([live, execution("m", "may", later(5))], begun)
    assert [run.id for run in runs] == ["june", "live", "may"]
    assert [run.ranges is None for run in runs] == [False, True, False]
    assert runs[1].state(later(1)) == "running"
    assert runs[1].as_json(later(1))["executions"][0]["state"] == "running"


class Journaled:
    """A worker on a Kafka in memory, and its journal there."""

    def __init__(self, broker: MemoryBroker, host: Host) -> None:
        broker.create(JOURNAL.topic, 1)
        self.broker, self.host = broker, host
        self.away = False
        told = execution(run="live")
        self.journal = Journal(self, told, lambda: host.tasks, SimulatedClock(later(1)))

    async def publish(self, records: Sequence[Record]) -> None:
        if self.away:
            raise OSError("no broker")
        await MemoryAnnouncer(self.broker, JOURNAL).publish(records)

    async def close(self) -> None:
        self.away = True

    @property
    def written(self) -> list[Execution]:
        found = [decode_execution(one.value or b"") for one in self.broker.records(JOURNAL.topic)]
        return [one for one in found if one is not None]

    async def work(self) -> None:
        """All there is is taken and committed."""
        await self.host.receive(Arrival(self.broker.fetch(P0, 0), lambda: None))
        async with asyncio.timeout(5):
            while self.broker.offsets.get(P0) != 5:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def leave(self) -> None:
        tasks = dict(self.host.tasks)
        await self.host.close()
        await self.journal.end("cancelled", "", tasks)
        assert asyncio.all_tasks() == {asyncio.current_task()}  # nothing is told any more


def test_a_process_writes_down_that_it_runs_how_far_it_came_and_how_it_ended(
    broker: MemoryBroker,
) -> None:
    async def go() -> list[Execution]:
        one = Journaled(broker, await assigned(broker))
        one.journal.begin()
        async with asyncio.timeout(5):
            while not one.written:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await one.work()
        await one.journal.turn()
        await one.leave()
        return one.written

    began, running, ended = asyncio.run(go())
    assert (began.state, began.tasks[P0].position) == ("running", 0)
    assert (running.state, running.tasks[P0].position) == ("running", 5)
    assert (ended.state, ended.ended, ended.tasks[P0].position) == ("cancelled", later(1), 5)
    assert ended.tasks[P0].totals["in"] == 5
    assert {one.id for one in (began, running, ended)} == {"a"}


def test_a_journal_that_cannot_be_written_harms_nothing(
    broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> list[Execution]:
        one = Journaled(broker, await assigned(broker))
        one.away = True
        one.journal.begin()
        await one.work()
        await one.leave()
        return one.written

    assert asyncio.run(go()) == []
    assert "the run journal cannot be written now: OSError('no broker')" in caplog.text
    assert "the run journal does not say that it is cancelled: OSError('no broker')" in caplog.text


def test_where_nothing_has_begun_nothing_ends(broker: MemoryBroker) -> None:
    async def go() -> list[Execution]:
        one = Journaled(broker, await assigned(broker))
        await one.leave()
        return one.written

    assert asyncio.run(go()) == []
