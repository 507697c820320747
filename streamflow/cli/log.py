"""The log of a worker, on stderr."""

from __future__ import annotations

import copy
import logging
import sys
from dataclasses import dataclass
from typing import TextIO

from streamflow.clock import Clock, SystemClock
from streamflow.errors import StreamflowError

#: Of the client's warnings that differ in nothing but their values, so many are written within a
#: span; how many were left out is said when it is over.
REPEATS, SPAN_SECONDS = 5, 30.0
#: Whose warnings: in an outage each of a worker's clients tells of each of its attempts.
CLIENTS = ("aiokafka", "faust", "mode")


class NotTheLastWord(logging.Filter):
    """Drops the first failure of the host: the command ends with it, as `error:`."""

    def __init__(self) -> None:
        super().__init__()
        self._first = True

    def filter(self, record: logging.LogRecord) -> bool:
        """Is this to be logged?"""
        words = record.args if isinstance(record.args, tuple) else ()
        if self._first and any(isinstance(word, StreamflowError) for word in words):
            self._first = record.levelno < logging.ERROR
            return self._first
        return True


@dataclass
class _Said:
    """A warning within its span: the last of those that were left out, and how many they are."""

    since: float
    times: int = 0
    left_out: int = 0
    last: logging.LogRecord | None = None


class FewRepeats(logging.StreamHandler[TextIO]):
    """Writes a warning of the client a few times within a span, and then how many more there were.

    What is left out is not lost: its number comes with the first line of any kind after the span,
    or when the log is closed.
    """

    def __init__(self, stream: TextIO | None = None, clock: Clock | None = None) -> None:
        super().__init__(stream or sys.stderr)
        self._clock = clock or SystemClock()
        self._said: dict[tuple[str, int, str], _Said] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, unless it has been said often enough."""
        self._tell(self._clock.monotonic())
        if record.levelno >= logging.WARNING and record.name.split(".")[0] in CLIENTS:
            key = (record.name, record.levelno, str(record.msg))
            said = self._said.setdefault(key, _Said(self._clock.monotonic()))
            said.times += 1
            if said.times > REPEATS:
                said.left_out, said.last = said.left_out + 1, record
                return
        super().emit(record)

    def close(self) -> None:
        """Say what was left out."""
        self._tell(float("inf"))
        super().close()

    def _tell(self, now: float) -> None:
        over = [key for key, said in self._said.items() if now - said.since >= SPAN_SECONDS]
        for said in [self._said.pop(key) for key in over]:
            if said.last is not None:
                told = copy.copy(said.last)
                told.msg = f"{said.last.getMessage()} ({said.left_out:,} such lines were left out)"
                told.args = told.exc_info = told.exc_text = None
                super().emit(told)


def set_up_log(level: str) -> None:
    """Log to stderr; the client's log, where retries look like errors, only with `info`."""
    handler = FewRepeats()
    handler.addFilter(NotTheLastWord())
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        handlers=[handler],
    )
    if logging.getLogger().level > logging.INFO:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
