"""Answers what stages ask: calls the users' `async def` functions, within bounds, and remembers.

One for all tasks of a worker, so that `concurrency` bounds what a service is asked by the worker,
and what one partition has asked for the others need not. A task waits here and nowhere else; other
tasks, the heartbeats and the fetches go on, in the same event loop.

A call that failed in passing is made again, here, by the stage's retry policy. Its circuit breaker
counts calls; while it is open nobody waits here: the lane is told for how long it is, and asks
again then.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from streamflow.clock import Clock
from streamflow.core.enrichment import Answers, Ask
from streamflow.engine.circuit import Circuit
from streamflow.engine.failures import classify
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.retries import Retries, RetryBudget
from streamflow.enrich import Enrich, PerKey
from streamflow.errors import LookupUnavailable
from streamflow.failed_words import words_of
from streamflow.retry import RETRYABLE, ErrorClass

#: Answers an ask; a task is given one.
Answer = Callable[[Ask], Awaitable[Answers]]
#: Failures that say that who is asked is not there, or lets nobody in; all others are answers.
AWAY = RETRYABLE | {ErrorClass.PERMISSION}


class TooLate(TimeoutError):
    """A call took longer than its stage allows."""


class Cancelled(Exception):
    """A function was cancelled, by whatever it called."""


async def no_lookups(ask: Ask) -> Answers:
    """For tasks of which no stage asks anything."""
    raise AssertionError(f"nobody answers {ask.stage.name}")


class Lookups:
    """Answers asks. Not for use by several event loops.

    Args:
        clock: For caches, circuits and retries.
        wait: Waits so many seconds before a call is made again.
        breaking: Whether stages' circuit breakers open.

    Affects: whatever the users' functions call.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
        breaking: bool = True,
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._breaking = breaking
        self._rng = Random()
        self._stages: dict[Enrich, _Service] = {}

    @property
    def counts(self) -> dict[str, LookupCounts]:
        """What was asked so far, by stage; a copy."""
        return {stage.name: replace(service.counts) for stage, service in self._stages.items()}

    async def answer(self, ask: Ask) -> Answers:
        """What is known of each key, or why that failed. Never raises for what a function does.

        Raises:
            LookupUnavailable: the stage's circuit breaker is open; ask again later.
        """
        service = self._stages.get(ask.stage)
        if service is None:
            service = _Service(ask.stage, self._clock, self._wait, self._rng)
            self._stages[ask.stage] = service
            if self._breaking and ask.stage.limits.breaker is not None:
                service.circuit = Circuit(ask.stage.limits.breaker)
        return await service.answer(ask.keys)

    async def answer_in_the_end(self, ask: Ask) -> Answers:
        """The same, for whoever has nothing else to do while a circuit breaker is open."""
        while True:
            try:
                return await self.answer(ask)
            except LookupUnavailable as away:
                await self._wait(away.seconds)


async def no_wait(seconds: float) -> None:
    """For tests, where time is simulated: what is tried again is so at once."""
    del seconds


class _Service:
    """One stage's function, with the calls that are under way and the answers that are kept."""

    def __init__(
        self, stage: Enrich, clock: Clock, wait: Callable[[float], Awaitable[None]], rng: Random
    ) -> None:
        self.stage = stage
        self.wait = wait
        self.circuit: Circuit | None = None
        self.counts = LookupCounts()
        self._clock = clock
        self._rng = rng
        self._budget = RetryBudget(stage.limits.retry.per_minute if stage.limits.retry else None)
        self._free = asyncio.Semaphore(stage.limits.concurrency)
        self._ended = asyncio.Event()
        #: By key when it is to be forgotten, and the answer; who was asked for last is at the end.
        self._kept: OrderedDict[Any, tuple[float, dict[str, Any] | None]] = OrderedDict()

    async def answer(self, keys: list[Any]) -> Answers:
        """See `Lookups.answer`."""
        found = self._recalled(keys)
        self.counts.keys += len(keys)
        self.counts.cached += len(found)
        asking = _Asking(self, [key for key in keys if key not in found])
        try:
            await asking.done()
        finally:
            self._keep(asking.found)
        return Answers({**found, **asking.found}, asking.failed)

    def retries(self) -> Retries | None:
        """The attempts at one call, the first of which begins now."""
        policy = self.stage.limits.retry
        return policy and Retries(policy, self._rng, self._clock.monotonic(), self._budget)

    def wait_for(self, retries: Retries) -> float | None:
        """Seconds until the next attempt; None for none."""
        return retries.wait(self._clock.monotonic())

    async def call(self, keys: list[Any], again: bool) -> Mapping[Any, Any]:
        """Make one call, when the circuit lets it, in its turn and its time; `again` the same.

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
            self._end(number, failure)

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
                return await _given(self.stage, keys)
        except TimeoutError as error:
            if timeout.expired():
                raise TooLate(f"no answer within {self.stage.limits.timeout}") from error
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Cancelled("the lookup was cancelled") from None

    async def _admitted(self) -> int:
        while self.circuit is not None:
            now = self._clock.monotonic()
            number = self.circuit.begin(now)
            if number is not None:
                return number
            left = self.circuit.seconds_left(now)
            if left > 0:
                raise LookupUnavailable(
                    f"{self.stage.name}: its circuit breaker is open, nothing is asked for "
                    f"{left:.0f} s",
                    left,
                )
            await self._ended.wait()  # of the one call that shows whether it is back
        return 0

    def _end(self, number: int, failure: BaseException | None) -> None:
        circuit = self.circuit
        if circuit is None:
            return
        if failure is None:
            circuit.succeeded(number)
        elif not isinstance(failure, Exception):
            circuit.abandoned(number)
        elif classify(failure) in AWAY:
            circuit.failed(number, self._clock.monotonic())
        else:
            circuit.succeeded(number)  # it has said no, so it is there
        self._ended.set()
        self._ended = asyncio.Event()

    def _recalled(self, keys: Iterable[Any]) -> dict[Any, dict[str, Any] | None]:
        if self.stage.cache is None:
            return {}
        now, found = self._clock.monotonic(), dict[Any, dict[str, Any] | None]()
        for key in keys:
            kept = self._kept.get(key)
            if kept is not None and now < kept[0]:
                self._kept.move_to_end(key)
                found[key] = kept[1]
        return found

    def _keep(self, found: Mapping[Any, dict[str, Any] | None]) -> None:
        cache = self.stage.cache
        if cache is None:
            return
        until = self._clock.monotonic() + cache.ttl.total_seconds()
        for key, answer in found.items():
            self._kept[key] = (until, answer)
            self._kept.move_to_end(key)
        while len(self._kept) > cache.max_keys:
            self._kept.popitem(last=False)


class _Asking:
    """The calls for the keys of one micro-batch.

    A call that raises is made again: as it was, when that passes and as long as the policy says;
    then with halves of its keys, so that only those fail that fail alone; not one that was too
    late, which says nothing of any key. Where a failure is tried again later, the first is enough:
    no call is begun after it.
    """

    def __init__(self, service: _Service, keys: list[Any]) -> None:
        stage = self._stage = service.stage
        size = 1 if isinstance(stage.lookup, PerKey) else stage.limits.batch
        self.found: dict[Any, dict[str, Any] | None] = {}
        self.failed: dict[Any, str] = {}
        self._service = service
        self._away: LookupUnavailable | None = None
        #: Keys of calls to be made, and whether one may be made again as it is: not a half.
        self._left = deque((keys[i : i + size], True) for i in range(0, len(keys), size))

    async def done(self) -> None:
        """Wait until every key has its answer, or has failed.

        Raises:
            LookupUnavailable: no call may be made.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._stage.limits.concurrency, len(self._left))):
                group.create_task(self._work())
        if self._away is not None:
            raise self._away

    async def _work(self) -> None:
        while self._left:
            keys, whole = self._left.popleft()
            try:
                await self._call(keys, whole)
            except LookupUnavailable as away:
                if self._stage.on_error == "null":
                    self._give_up(keys, str(away))
                else:
                    self._away = away
                    self._left.clear()

    async def _call(self, keys: list[Any], whole: bool) -> None:
        retries, again = self._service.retries() if whole else None, False
        while True:
            try:
                given = await self._service.call(keys, again)
            except (MemoryError, LookupUnavailable):  # which are no answer of anybody
                raise
            except Exception as error:
                wait, why = self._next(error, retries)
                if wait is None:
                    self._fail(keys, why, halve=not isinstance(error, TooLate))
                    return
            else:
                self._take(keys, given)
                return
            await self._service.wait(wait)
            again = True

    def _next(self, error: Exception, retries: Retries | None) -> tuple[float | None, str]:
        """Seconds until the call is made again, None for never; and the words of its failure."""
        kind = classify(error)
        own = isinstance(error, TooLate | Cancelled)
        why = str(error) if own else words_of(error)
        policy = self._stage.limits.retry
        if retries is None or policy is None or kind not in frozenset(policy.retry_on):
            return None, why
        attempts = retries.attempts
        wait = self._service.wait_for(retries)
        return wait, why if attempts == 1 else f"{why} ({kind}, {attempts} attempts)"

    def _take(self, keys: list[Any], given: Mapping[Any, Any]) -> None:
        for key in keys:
            answer = given.get(key)
            try:
                self.found[key] = None if answer is None else self._stage.checked(answer)
            except Exception as error:
                self._give_up([key], f"its answer is not what the model says: {error}")

    def _fail(self, keys: list[Any], why: str, *, halve: bool) -> None:
        """Ask again in halves, unless it is one key, or one failure is as good as many."""
        if not halve or len(keys) == 1 or self._stage.on_error == "retry":
            self._give_up(keys, why)
            return
        middle = len(keys) // 2
        self._left.extendleft(((keys[middle:], False), (keys[:middle], False)))

    def _give_up(self, keys: list[Any], why: str) -> None:
        self.failed.update(dict.fromkeys(keys, why))
        if self._stage.on_error == "retry":
            left = (key for part, _ in self._left for key in part)
            self.failed.update(dict.fromkeys(left, why))
            self._left.clear()


async def _given(stage: Enrich, keys: list[Any]) -> Mapping[Any, Any]:
    if isinstance(stage.lookup, PerKey):
        return {keys[0]: await stage.lookup.function(keys[0])}
    given: Any = await stage.lookup(list(keys))
    if not isinstance(given, Mapping):
        raise TypeError(f"the lookup gives a {type(given).__name__}, not answers by key")
    if given and not any(key in given for key in keys):
        raise KeyError(f"the lookup answers {next(iter(given))!r}, but {keys[0]!r} was asked")
    return given
