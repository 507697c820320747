"""Answers what stages ask: calls the users' `async def` functions, within bounds, and remembers.

One for all tasks of a worker, so that `concurrency` bounds what a service is asked by the worker,
and what one partition has asked for the others need not. A task waits here and nowhere else; other
tasks, the heartbeats and the fetches go on, in the same event loop.

A call that failed in passing is made again, here, by the stage's retry policy. While the stage's
circuit breaker is open nobody waits: the lane is told for how long it is, and asks again then. That
goes on where it had ended.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

from streamflow.clock import Clock
from streamflow.core.enrichment import Answers, Ask
from streamflow.engine.circuit import Circuit
from streamflow.engine.lookup_calls import Asked, Asking
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.lookup_service import Service
from streamflow.enrich import Enrich
from streamflow.errors import LookupUnavailable

#: Answers an ask; a task is given one.
Answer = Callable[[Ask], Awaitable[Answers]]
#: Of so many micro-batches that wait for a circuit breaker it is known what has come of them; of
#: more, all keys are asked for once more.
MOST_PUT_OFF = 256


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
        self._stages: dict[Enrich, Service] = {}
        self._put_off: OrderedDict[tuple[Enrich, tuple[Any, ...]], Asked] = OrderedDict()

    @property
    def counts(self) -> dict[str, LookupCounts]:
        """What was asked so far, by stage; a copy."""
        return {stage.name: replace(service.counts) for stage, service in self._stages.items()}

    async def answer(self, ask: Ask) -> Answers:
        """What is known of each key, or why that failed. Never raises for what a function does.

        Raises:
            LookupUnavailable: the stage's circuit breaker is open; ask again later.
            MemoryError: there was none to be had.
        """
        service, began = self._service(ask.stage), self._clock.monotonic()
        whole = ask.stage, tuple(ask.keys)
        asked = self._put_off.pop(whole, None)
        if asked is None:
            service.counts.keys += len(ask.keys)
            asked = Asked(ask.keys)
        known = service.recalled(asked.left)
        service.counts.cached += len(known)
        asked.left = [key for key in asked.left if key not in known]
        asked.found.update(known)
        before = set(asked.found)
        try:
            await Asking(service, asked).done()
        except LookupUnavailable:
            self._put_off[whole] = asked
            if len(self._put_off) > MOST_PUT_OFF:
                self._put_off.popitem(last=False)
            raise
        finally:
            new = {key: answer for key, answer in asked.found.items() if key not in before}
            service.keep(new, began)
        return Answers(asked.found, asked.failed)

    async def answer_in_the_end(self, ask: Ask) -> Answers:
        """The same, for whoever has nothing else to do while a circuit breaker is open."""
        while True:
            try:
                return await self.answer(ask)
            except LookupUnavailable as away:
                await self._wait(away.seconds)

    def _service(self, stage: Enrich) -> Service:
        service = self._stages.get(stage)
        if service is None:
            service = self._stages[stage] = Service(stage, self._clock, self._wait, self._rng)
            if self._breaking and stage.limits.breaker is not None:
                service.circuit = Circuit(stage.limits.breaker)
        return service


async def no_wait(seconds: float) -> None:
    """For tests, where time is simulated: what is tried again is so at once."""
    del seconds
