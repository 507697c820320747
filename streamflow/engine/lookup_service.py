"""What a stage asks by: a user's `async def` function, called within bounds, and what it answered.

Its circuit breaker counts calls. While it is open nobody waits here: whoever asks is told for how
long it is. When that is over, calls are made one at a time, to see whether who is asked is back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from random import Random
from typing import Any

from streamflow.clock import Clock
from streamflow.engine.circuit import Circuit
from streamflow.engine.failures import as_failure, classify
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.retries import Retries, RetryBudget
from streamflow.enrich import Enrich, PerKey
from streamflow.errors import LookupUnavailable
from streamflow.failed_words import NOT_ITS_OWN, words_of
from streamflow.retry import RETRYABLE, ErrorClass

#: Failures that say that who is asked is not there, or lets nobody in; all others are answers.
AWAY = RETRYABLE | {ErrorClass.PERMISSION}


class TooLate(TimeoutError):
    """A call took longer than its stage allows."""


class Cancelled(Exception):
    """A function was cancelled, by whatever it called, or raised what is no `Exception`."""


class Service:
    """One stage's function, with the calls that are under way and the answers that are kept.

    Args:
        stage: Whose it is.
        clock: For the cache, the circuit and retries.
        wait: Waits so many seconds before a call is made again.
        rng: Draws how long.
    """

    def __init__(
        self, stage: Enrich, clock: Clock, wait: Callable[[float], Awaitable[None]], rng: Random
    ) -> None:
        self.stage = stage
        self.wait = wait
        self.circuit: Circuit | None = None
        self.counts = LookupCounts()
        #: How many calls were answered so far, and a key of the last one of them.
        self.answered, self.good = 0, list[Any]()
        self._clock = clock
        self._rng = rng
        self._budget = RetryBudget(stage.limits.retry.per_minute if stage.limits.retry else None)
        self._free = asyncio.Semaphore(stage.limits.concurrency)
        self._ended = asyncio.Event()
        #: By key when it is to be forgotten, and the answer; who was asked for last is at the end.
        self._kept: OrderedDict[Any, tuple[float, dict[str, Any] | None]] = OrderedDict()

    def retries(self) -> Retries | None:
        """The attempts at one call, the first of which begins now."""
        policy = self.stage.limits.retry
        return policy and Retries(policy, self._rng, self._clock.monotonic(), self._budget)

    def wait_for(self, retries: Retries) -> float | None:
        """Seconds until the next attempt; None for none."""
        return retries.wait(self._clock.monotonic())

    @property
    def is_doubted(self) -> bool:
        """Is the next call to show whether who is asked is back?"""
        circuit = self.circuit
        if circuit is None or circuit.phase == "closed":
            return False
        return not circuit.seconds_left(self._clock.monotonic())

    def away_after(self, error: Exception) -> LookupUnavailable | None:
        """What is to be raised where nothing may be asked any more after this failure of a call,
        as who is asked seems to be away; else None.
        """
        if self.circuit is None or classify(error) not in AWAY:
            return None
        left = self.circuit.seconds_left(self._clock.monotonic())
        return self._away(left) if left > 0 else None

    async def call(self, keys: list[Any], again: bool, counts: bool) -> Mapping[Any, Any]:
        """Make one call, when the circuit lets it, in its turn and its time; `again` the same.
        Where it fails, that `counts` against who is asked, or tells of the keys only.

        Raises:
            LookupUnavailable: the circuit is open.
            Exception: whatever the function raises; TimeoutError of ours when it was too late.
        """
        number = await self._admitted()
        failure: BaseException | None = None
        try:
            async with self._free:
                return await self._timed(keys, again)
        except BaseException as error:
            failure = error
            raise
        finally:
            self._end(number, failure, counts)

    async def _timed(self, keys: list[Any], again: bool) -> Mapping[Any, Any]:
        began = self._clock.monotonic()
        self.counts.calls += 1
        self.counts.retried += again
        try:
            return await self._asked(keys)
        except Exception:
            self.counts.failed += 1
            raise
        finally:
            self.counts.seconds += self._clock.monotonic() - began

    async def _asked(self, keys: list[Any]) -> Mapping[Any, Any]:
        timeout = asyncio.timeout(self.stage.limits.timeout.total_seconds())
        try:
            async with timeout:
                given = await _given(self.stage, keys)
        except NOT_ITS_OWN:
            raise
        except BaseException as error:
            failure = as_failure(error)
            if not timeout.expired():
                if failure is error:
                    raise
                cancelled = isinstance(error, asyncio.CancelledError)
                raise Cancelled(
                    "the lookup was cancelled" if cancelled else words_of(error)
                ) from None
        else:
            if not timeout.expired():
                self.answered, self.good = self.answered + 1, keys[:1]
                return given
        # Whatever the function has made of being cancelled.
        raise TooLate(f"no answer within {self.stage.limits.timeout}")

    async def _admitted(self) -> int:
        while self.circuit is not None:
            now = self._clock.monotonic()
            number = self.circuit.begin(now)
            if number is not None:
                return number
            left = self.circuit.seconds_left(now)
            if left > 0:
                raise self._away(left)
            await self._ended.wait()  # of the one call that shows whether it is back
        return 0

    def _away(self, left: float) -> LookupUnavailable:
        return LookupUnavailable(
            f"{self.stage.name}: its circuit breaker is open, nothing is asked for {left:.0f} s",
            left,
        )

    def _end(self, number: int, failure: BaseException | None, counts: bool) -> None:
        circuit = self.circuit
        if circuit is None:
            return
        if failure is None:
            circuit.succeeded(number)
        elif not isinstance(failure, Exception):
            circuit.abandoned(number)
        elif classify(failure) not in AWAY:
            circuit.succeeded(number)  # it has said no, so it is there
        elif counts or circuit.phase == "half_open":
            circuit.failed(number, self._clock.monotonic())
        else:
            circuit.abandoned(number)
        self._ended.set()
        self._ended = asyncio.Event()

    def recalled(self, keys: Iterable[Any]) -> dict[Any, dict[str, Any] | None]:
        """The answers to these keys that are kept."""
        if self.stage.cache is None:
            return {}
        now, found = self._clock.monotonic(), dict[Any, dict[str, Any] | None]()
        for key in keys:
            kept = self._kept.get(key)
            if kept is not None and now < kept[0]:
                self._kept.move_to_end(key)
                found[key] = kept[1]
        return found

    def keep(self, found: Mapping[Any, dict[str, Any] | None], since: float) -> None:
        """Keep answers that were asked for at this time."""
        cache = self.stage.cache
        if cache is None:
            return
        until = since + cache.ttl.total_seconds()
        for key, answer in found.items():
            self._kept[key] = (until, answer)
            self._kept.move_to_end(key)
        while len(self._kept) > cache.max_keys:
            self._kept.popitem(last=False)


async def _given(stage: Enrich, keys: list[Any]) -> Mapping[Any, Any]:
    if isinstance(stage.lookup, PerKey):
        return {keys[0]: await stage.lookup.function(keys[0])}
    given: Any = await stage.lookup(list(keys))
    if not isinstance(given, Mapping):
        raise TypeError(f"the lookup gives a {type(given).__name__}, not answers by key")
    other = next((key for key in given if type(key) is not type(keys[0])), None)
    if other is not None and not any(key in given for key in keys):
        raise KeyError(f"the lookup answers {other!r}, but {keys[0]!r} was asked")
    return given
