"""What of the client's warnings is written in an outage, and what is counted."""

import io
import logging
from datetime import UTC, datetime, timedelta

import pytest

from streamflow.cli.log import REPEATS, SPAN_SECONDS, FewRepeats
from streamflow.clock import SimulatedClock

SPAN = timedelta(seconds=SPAN_SECONDS)


class Log:
    """A log whose lines can be read."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
        self._text = io.StringIO()
        self.handler = FewRepeats(self._text, self.clock)

    def say(self, name: str, level: int, words: str, *values: object) -> None:
        self.handler.handle(logging.LogRecord(name, level, "", 0, words, values, None))

    @property
    def lines(self) -> list[str]:
        return self._text.getvalue().splitlines()


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_warning_of_the_client_is_written_a_few_times_and_then_counted(log: Log) -> None:
    for port in range(1000):
        log.say("aiokafka.conn", logging.ERROR, "no connection to %s", port)
    log.say("aiokafka", logging.ERROR, "another line")
    assert log.lines == [*(f"no connection to {n}" for n in range(REPEATS)), "another line"]

    log.clock.advance(SPAN)
    log.say("streamflow", logging.INFO, "all is well")
    told = f"no connection to 999 ({1000 - REPEATS} such lines were left out)"
    assert log.lines[REPEATS + 1 :] == [told, "all is well"]

    log.say("aiokafka.conn", logging.ERROR, "no connection to %s", 1)
    assert log.lines[-1] == "no connection to 1", "another span"


def test_what_was_left_out_is_said_at_the_end(log: Log) -> None:
    for _ in range(REPEATS + 2):
        log.say("aiokafka", logging.WARNING, "away")
    log.handler.close()
    assert log.lines == [*["away"] * REPEATS, "away (2 such lines were left out)"]


def test_lines_of_our_own_and_of_what_goes_well_are_all_written(log: Log) -> None:
    for number in range(50):
        log.say("streamflow.engine", logging.ERROR, "task %s lost", number)
        log.say("aiokafka", logging.INFO, "joined")
    assert len(log.lines) == 100
