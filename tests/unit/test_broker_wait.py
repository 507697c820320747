"""A start waits for its broker, says so, and gives up in words."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka.errors import KafkaConnectionError

from streamflow.clock import SimulatedClock
from streamflow.engine import broker_wait
from streamflow.engine.broker_wait import BrokerWait
from streamflow.engine.settings import COMMAND_WAIT, WORKER_WAIT, Settings
from streamflow.errors import CheckFailed, NoBroker

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AWAY = NoBroker("no broker at a:1")
TICK = timedelta(milliseconds=1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        broker_wait, "LOOKS", replace(broker_wait.LOOKS, backoff=TICK, max_delay=TICK)
    )


class Step:
    """Fails with these, one after the other, each after ten seconds; then succeeds."""

    def __init__(self, errors: Iterable[Exception], seconds: float) -> None:
        self.clock = SimulatedClock(NOON)
        self.wait = BrokerWait(seconds, self.clock)
        #: What was waited for when it was tried.
        self.seen: list[str | None] = []
        self._errors = iter(errors)

    async def __call__(self) -> str:
        self.seen.append(self.wait.words)
        self.clock.advance(timedelta(seconds=10))
        for error in self._errors:
            raise error
        return "done"

    def done(self) -> str:
        return asyncio.run(self.wait.through(self))


def test_a_broker_that_comes_later_is_waited_for_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    step = Step([AWAY, KafkaConnectionError("closed"), AWAY, AWAY], 60)
    assert step.done() == "done"
    assert step.seen == [None, *["no broker at a:1"] * 4]
    assert step.wait.words is None
    assert [record.getMessage() for record in caplog.records] == [
        "no broker at a:1; waiting for it, 50 s at the most",
        "no broker at a:1; waiting for it, 20 s at the most",
        "a broker answers, after 50.0 s",
    ]


def test_where_none_comes_the_start_fails_and_names_the_setting() -> None:
    step = Step([AWAY] * 9, 30)
    with pytest.raises(NoBroker, match=r"^no broker at a:1; it was waited for 30 s \(STREAMFLOW_B"):
        step.done()
    assert len(step.seen) == 3
    assert step.wait.words is None


def test_an_attempt_that_takes_longer_than_the_wait_is_told_by_its_own_time() -> None:
    step = Step([AWAY], 3)
    words = "it was waited for 10 s, of which STREAMFLOW_BROKER_WAIT is 3 s, .* does not answer; is"
    with pytest.raises(NoBroker, match=f"^no broker at a:1; {words}"):
        step.done()


def test_what_to_do_is_said_when_nothing_came_and_not_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    step = Step([NoBroker("no broker at a:1; start one")] * 3, 20)
    with pytest.raises(NoBroker, match=r"^no broker at a:1; start one; it was waited for 20 s"):
        step.done()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["no broker at a:1; waiting for it, 10 s at the most"]


def test_who_does_not_want_to_wait_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamflow")
    step = Step([AWAY], 0)
    with pytest.raises(NoBroker, match=r"^no broker at a:1$"):
        step.done()
    assert not caplog.records


@pytest.mark.parametrize("error", [CheckFailed(["no topic"]), ValueError("a defect")])
def test_what_is_not_of_a_broker_that_is_away_is_not_waited_for(error: Exception) -> None:
    step = Step([error], 60)
    with pytest.raises(type(error)):
        step.done()
    assert len(step.seen) == 1


def test_a_worker_waits_longer_than_a_person_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings.load().wait_for_broker(WORKER_WAIT) == 300
    assert Settings.load().wait_for_broker(COMMAND_WAIT) == 3
    monkeypatch.setenv("STREAMFLOW_BROKER_WAIT", "PT1M")
    assert {Settings.load().wait_for_broker(each) for each in (WORKER_WAIT, COMMAND_WAIT)} == {60}
