"""Answers what stages ask: calls the users' `async def` functions, within bounds, and remembers.

One for all tasks of a worker, so that `concurrency` bounds what a service is asked by the worker,
and what one partition has asked for the others need not. A task waits here and nowhere else; other
tasks, the heartbeats and the fetches go on, in the same event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from streamflow.clock import Clock
from streamflow.core.enrichment import Answers, Ask
from streamflow.enrich import Enrich, PerKey

#: Answers an ask; a task is given one.
Answer = Callable[[Ask], Awaitable[Answers]]


async def no_lookups(ask: Ask) -> Answers:
    """For tasks of which no stage asks anything."""
    raise AssertionError(f"nobody answers {ask.stage.name}")


class Lookups:
    """Answers asks. Not for use by several event loops.

    Affects: whatever the users' functions call.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stages: dict[Enrich, _Service] = {}

    async def answer(self, ask: Ask) -> Answers:
        """What is known of each key, or why that failed. Never raises for what a function does."""
        service = self._stages.get(ask.stage)
        if service is None:
            service = self._stages[ask.stage] = _Service(ask.stage, self._clock)
        return await service.answer(ask.keys)


class _Service:
    """One stage's function, with the calls that are under way and the answers that are kept."""

    def __init__(self, stage: Enrich, clock: Clock) -> None:
        self._stage = stage
        self._clock = clock
        self._free = asyncio.Semaphore(stage.limits.concurrency)
        #: By key when it is to be forgotten, and the answer; who was asked for last is at the end.
        self._kept: OrderedDict[Any, tuple[float, dict[str, Any] | None]] = OrderedDict()

    async def answer(self, keys: list[Any]) -> Answers:
        """See `Lookups.answer`."""
        found = self._recalled(keys)
        asking = _Asking(self._stage, self._free, [key for key in keys if key not in found])
        await asking.done()
        self._keep(asking.found)
        return Answers({**found, **asking.found}, asking.failed)

    def _recalled(self, keys: Iterable[Any]) -> dict[Any, dict[str, Any] | None]:
        if self._stage.cache is None:
            return {}
        now, found = self._clock.monotonic(), dict[Any, dict[str, Any] | None]()
        for key in keys:
            kept = self._kept.get(key)
            if kept is not None and now < kept[0]:
                self._kept.move_to_end(key)
                found[key] = kept[1]
        return found

    def _keep(self, found: Mapping[Any, dict[str, Any] | None]) -> None:
        cache = self._stage.cache
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

    A call that raises is made again with halves of its keys, so that only those fail that fail
    alone; not one that was too late, which says nothing of any key. Where a failure is tried again
    later, the first is enough: no call is begun after it.
    """

    def __init__(self, stage: Enrich, free: asyncio.Semaphore, keys: list[Any]) -> None:
        size = 1 if isinstance(stage.lookup, PerKey) else stage.limits.batch
        self.found: dict[Any, dict[str, Any] | None] = {}
        self.failed: dict[Any, str] = {}
        self._stage = stage
        self._free = free
        self._left = deque(keys[i : i + size] for i in range(0, len(keys), size))

    async def done(self) -> None:
        """Wait until every key has its answer, or has failed."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._stage.limits.concurrency, len(self._left))):
                group.create_task(self._work())

    async def _work(self) -> None:
        while self._left:
            keys = self._left.popleft()
            async with self._free:
                await self._call(keys)

    async def _call(self, keys: list[Any]) -> None:
        timeout = asyncio.timeout(self._stage.limits.timeout.total_seconds())
        try:
            async with timeout:
                given = await self._asked(keys)
        except MemoryError:  # which is no answer of anybody
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._fail(keys, "the lookup was cancelled")
        except Exception as error:
            if timeout.expired():
                self._give_up(keys, f"no answer within {self._stage.limits.timeout}")
            else:
                self._fail(keys, f"{type(error).__name__}: {error}")
        else:
            self._take(keys, given)

    async def _asked(self, keys: list[Any]) -> Mapping[Any, Any]:
        if isinstance(self._stage.lookup, PerKey):
            return {keys[0]: await self._stage.lookup.function(keys[0])}
        given: Any = await self._stage.lookup(list(keys))
        if not isinstance(given, Mapping):
            raise TypeError(f"the lookup gives a {type(given).__name__}, not answers by key")
        if given and not any(key in given for key in keys):
            raise KeyError(f"the lookup answers {next(iter(given))!r}, but {keys[0]!r} was asked")
        return given

    def _take(self, keys: list[Any], given: Mapping[Any, Any]) -> None:
        for key in keys:
            answer = given.get(key)
            try:
                self.found[key] = None if answer is None else self._stage.checked(answer)
            except Exception as error:
                self._give_up([key], f"its answer is not what the model says: {error}")

    def _fail(self, keys: list[Any], why: str) -> None:
        """Ask again in halves, unless it is one key, or one failure is as good as many."""
        if len(keys) == 1 or self._stage.on_error == "retry":
            self._give_up(keys, why)
            return
        middle = len(keys) // 2
        self._left.extendleft((keys[middle:], keys[:middle]))

    def _give_up(self, keys: list[Any], why: str) -> None:
        self.failed.update(dict.fromkeys(keys, why))
        if self._stage.on_error == "retry":
            self.failed.update(dict.fromkeys((k for part in self._left for k in part), why))
            self._left.clear()
