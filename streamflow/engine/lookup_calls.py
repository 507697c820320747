"""The calls for the keys of one micro-batch."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamflow.engine.failures import classify
from streamflow.engine.lookup_service import Cancelled, Service, TooLate
from streamflow.engine.retries import Retries
from streamflow.enrich import PerKey
from streamflow.errors import LookupUnavailable
from streamflow.failed_words import words_of


@dataclass
class Asked:
    """What has come of asking for some keys: what is known of them, why others failed, and which
    are left, in the order in which they are to be asked for.

    `blamed` are keys after which alone the circuit was open: how often, and how many calls had been
    answered when it was last.
    """

    left: list[Any]
    found: dict[Any, dict[str, Any] | None] = field(default_factory=dict[Any, Any])
    failed: dict[Any, str] = field(default_factory=dict[Any, str])
    blamed: dict[Any, tuple[int, int]] = field(default_factory=dict[Any, Any])


class Asking:
    """Asks for the keys that are left.

    A call that raises is made again: as it was, when that passes and as long as the policy says;
    then with halves of its keys, so that only those fail that fail alone; not one that was too
    late, which says nothing of any key. Where a failure is tried again later, the first is enough:
    no call is begun after it.

    Is it a key, or is who is asked away? Both fail. So once a part of a call that failed was
    answered, its other parts do not count for the circuit; calls that are to show whether who is
    asked is back are of one key, another one each time, or of one that was answered; and a key has
    failed after which the circuit was open as often as the policy has attempts, but at least twice,
    though others were answered in between.
    """

    def __init__(self, service: Service, asked: Asked) -> None:
        stage = self._stage = service.stage
        size = 1 if isinstance(stage.lookup, PerKey) else stage.limits.batch
        self.asked = asked
        self._service = service
        self._away: LookupUnavailable | None = None
        #: Was anything answered since a call failed that was not one for a half?
        self._answered = False
        keys = asked.left
        #: Keys of calls to be made, and whether one may be made again as it is: not a half.
        self._left = deque((keys[i : i + size], True) for i in range(0, len(keys), size))

    async def done(self) -> None:
        """Wait until every key has its answer, or has failed.

        Raises:
            LookupUnavailable: no call may be made; what has come of it so far is in `asked`.
            MemoryError: there was none to be had.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._stage.limits.concurrency, len(self._left))):
                    group.create_task(self._work())
        except BaseExceptionGroup as several:
            if several.subgroup(MemoryError) is None:
                raise
            raise MemoryError(f"{self._stage.name}: {several}") from None
        self.asked.left = [key for keys, _ in self._left for key in keys]
        if self._away is not None:
            raise self._away

    async def _work(self) -> None:
        while self._left and self._away is None:
            keys, whole = self._next_keys()
            try:
                await self._see_if_it_is_back(keys[0])
                await self._call(keys, whole)
            except LookupUnavailable as away:
                if self._stage.on_error == "null":
                    self._give_up(keys, str(away))
                else:
                    self._away = away
                    self._left.append((keys, whole))

    def _next_keys(self) -> tuple[list[Any], bool]:
        keys, whole = self._left.popleft()
        if len(keys) > 1 and self._service.is_doubted:
            self._left.appendleft((keys[1:], whole))
            keys = keys[:1]
        return keys, whole

    async def _see_if_it_is_back(self, key: Any) -> None:
        """Before a key is asked for once more after which the circuit was open, ask for one that
        was answered before: else nothing would ever tell whether it is the key.

        Raises:
            LookupUnavailable: nothing may be asked any more.
        """
        service = self._service
        blamed = self.asked.blamed.get(key)
        if not service.good or not service.is_doubted or blamed is None:
            return
        try:
            if blamed[1] == service.answered:
                await service.call(service.good, again=False, counts=True)
        except (MemoryError, LookupUnavailable):
            raise
        except Exception as error:
            away = service.away_after(error)
            if away is not None:
                raise away from None

    async def _call(self, keys: list[Any], whole: bool) -> None:
        retries, again = self._service.retries() if whole else None, False
        while True:
            try:
                counts = whole or not self._answered
                given = await self._service.call(keys, again, counts)
            except (MemoryError, LookupUnavailable):  # which are no answer of anybody
                raise
            except Exception as error:
                is_blamed = self._blame(keys, error)
                wait, why = self._next(error, None if is_blamed else retries)
                if wait is None:
                    self._fail(keys, why, whole, halve=not isinstance(error, TooLate))
                    return
            else:
                self._take(keys, given)
                return
            await self._service.wait(wait)
            again = True

    def _blame(self, keys: list[Any], error: Exception) -> bool:
        """After the failure of a call for one key: is it the key?

        Raises:
            LookupUnavailable: it may be who is asked, and nothing may be asked any more.
        """
        away, answered = self._service.away_after(error), self._service.answered
        if away is None or len(keys) > 1 or self._stage.on_error == "null":
            return False
        times, before = self.asked.blamed.get(keys[0], (0, -1))
        times += before < answered
        self.asked.blamed[keys[0]] = times, answered
        if times < max(self._attempts(error), 2):
            raise away
        return True

    def _attempts(self, error: Exception) -> float:
        policy = self._stage.limits.retry
        if policy is None or classify(error) not in frozenset(policy.retry_on):
            return 1
        return policy.max_attempts or math.inf

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
        self._answered = True
        for key in keys:
            try:
                answer = given.get(key)
                self.asked.found[key] = None if answer is None else self._stage.checked(answer)
            except Exception as error:
                self._give_up([key], f"its answer is not what the model says: {words_of(error)}")

    def _fail(self, keys: list[Any], why: str, whole: bool, *, halve: bool) -> None:
        """Ask again in halves, unless it is one key, or one failure is as good as many."""
        if not halve or len(keys) == 1 or self._stage.on_error == "retry":
            self._give_up(keys, why)
            return
        self._answered = self._answered and not whole
        middle = len(keys) // 2
        self._left.extendleft(((keys[middle:], False), (keys[:middle], False)))

    def _give_up(self, keys: list[Any], why: str) -> None:
        self.asked.failed.update(dict.fromkeys(keys, why))
        if self._stage.on_error == "retry":
            left = (key for part, _ in self._left for key in part)
            self.asked.failed.update(dict.fromkeys(left, why))
            self._left.clear()
