"""At the start of a worker, or a command: no broker answers yet, since it is started later.

A worker that runs waits through an outage; so does one that starts, for as long as a setting says,
and says so: in its log, in `/live`, and by not being ready. After that the address is taken for
wrong, and the start fails in words.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import TypeVar

from streamflow.clock import Clock
from streamflow.engine.failures import is_retryable
from streamflow.engine.retries import Retries
from streamflow.errors import NoBroker, StreamflowError
from streamflow.retry import RetryPolicy

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How often it is said that there is still none.
SAY_SECONDS = 30.0
#: How often it is looked for.
LOOKS = RetryPolicy(
    max_attempts=None, backoff=timedelta(seconds=0.1), max_delay=timedelta(seconds=2)
)


class BrokerWait:
    """Does what needs a broker, again and again until one answers.

    Args:
        seconds: For how long; an attempt that has begun by then is waited for.
        clock: Tells the time.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        #: What is waited for, in words; None while nothing is.
        self.words: str | None = None
        self._seconds = seconds
        self._clock = clock

    async def through(self, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step, which can be done again after a failure of the network.

        Raises:
            NoBroker: none has answered for so long.
            StreamflowError: the step fails for another reason than that.
        """
        began = said = self._clock.monotonic()
        retries = Retries(LOOKS, Random(), began)
        try:
            while True:
                try:
                    done = await step()
                    if self.words is not None:
                        waited = self._clock.monotonic() - began
                        log.warning("a broker answers, after %.1f s", waited)
                    return done
                except Exception as error:
                    if not _passes(error):
                        raise
                    now = self._clock.monotonic()
                    self._give_up_after(now - began, error)
                    if self.words is None or now - said >= SAY_SECONDS:
                        said = now
                        self._say(now - began, error)
                    wait = retries.wait(now)
                    assert wait is not None, "without end"
                await asyncio.sleep(min(wait, max(began + self._seconds - now, 0.0)))
        finally:
            self.words = None

    def _give_up_after(self, waited: float, error: Exception) -> None:
        if waited < self._seconds:
            return
        if not self._seconds and isinstance(error, NoBroker):
            raise error
        words = f"{_told(error)}; it was waited for"
        if waited < self._seconds + 1:
            raise NoBroker(f"{words} {self._seconds:g} s (STREAMFLOW_BROKER_WAIT)") from error
        raise NoBroker(
            f"{words} {waited:.0f} s, of which STREAMFLOW_BROKER_WAIT is {self._seconds:g} s, since"
            " an attempt that has begun is waited for: something takes connections there and does"
            " not answer; is it a Kafka broker's address?"
        ) from error

    def _say(self, waited: float, error: Exception) -> None:
        self.words = _told(error)
        left = self._seconds - waited
        # What to do about it is said when nothing comes of the waiting.
        what = self.words.partition("; ")[0]
        log.warning("%s; waiting for it, %.3g s at the most", what, max(left, 0))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, NoBroker) else f"the broker does not answer: {error!r}"


def _passes(error: Exception) -> bool:
    """Is it of a broker that is away?"""
    if isinstance(error, StreamflowError):
        return isinstance(error, NoBroker)
    return is_retryable(error)
