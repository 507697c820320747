"""Is it a key that nobody answers, or is who is asked away? With one key, both fail."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from streamflow import per_key, source, topic
from streamflow.clock import SimulatedClock
from streamflow.core.enrichment import Answers, Ask
from streamflow.engine.lookups import Lookups
from streamflow.enrich import Enrich
from streamflow.errors import LookupUnavailable
from streamflow.retry import CircuitBreaker, RetryPolicy

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Visit(BaseModel):
    shop: int
    at: AwareDatetime


class Located(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    shop: int
    city_name: str | None = None


visits = source(topic("visits"), Visit, key="shop", event_time="at")


class Status(Exception):
    """An answer of a service."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status


class Wordless(Exception):
    """Has no words, nor anything else."""

    def __str__(self) -> str:
        raise ValueError("none")

    @property
    def response(self) -> object:
        raise ValueError("no response either")


class Panic(BaseException):
    """What a library in Rust raises."""


class Town:
    """Answers each key at once, but for those that are `bad`."""

    def __init__(self, bad: Mapping[int, BaseException | None]) -> None:
        self.bad = bad
        self.away = False
        self.calls = 0

    async def many(self, keys: list[int]) -> Mapping[int, Any]:
        return {key: await self.one(key) for key in keys}

    async def one(self, key: int) -> Any:
        self.calls += 1
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionError("away")
        if key in self.bad:
            error = self.bad[key]
            if error is None:
                await asyncio.Event().wait()
            else:
                raise error
        return {"cityName": f"town {key}"}


def stage_of(lookup: Any, late: float = 60, **more: Any) -> Enrich:
    """Calls are too late after so many seconds, by the clock on the wall."""
    timeout = timedelta(seconds=late)
    found = visits.enrich(Located, lookup, key="shop", timeout=timeout, **more).stages[-1]
    assert isinstance(found, Enrich)
    return found


class Asker:
    """Asks as a lane does: again, when the circuit breaker may be tried."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(NOW)
        self.lookups = Lookups(self.clock, wait=self._wait)
        self.put_off = 0

    async def ask(self, stage: Enrich, keys: list[int], turns: int = 30) -> Answers:
        for _ in range(turns):
            try:
                return await self.lookups.answer(Ask(stage, keys))
            except LookupUnavailable as away:
                self.put_off += 1
                self.clock.advance(timedelta(seconds=away.seconds + 0.001))
        raise AssertionError("it stays away")

    async def _wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)


ERRORS: list[BaseException | None] = [
    ValueError("no"),
    PermissionError("not yours"),
    Status(403),
    Status(503),
    ConnectionError("reset"),
    Wordless(),
    Panic("in a library"),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("count", [1, 2, 10, 300])
def test_of_a_key_that_is_refused_only_it_fails(error: BaseException, count: int) -> None:
    async def test() -> None:
        bad, asker = count // 3, Asker()
        stage = stage_of(Town({bad: error}).many)
        await asker.ask(stage, [-1])  # else it cannot be told from an outage
        answers = await asker.ask(stage, list(range(count)))
        assert set(answers.failed) == {bad}
        assert set(answers.found) == set(range(count)) - {bad}
        assert asker.put_off == 0

    asyncio.run(test())


@pytest.mark.parametrize("error", [None, Status(403), Status(503)], ids=["late", "403", "503"])
@pytest.mark.parametrize("each", [True, False])
def test_keys_that_come_again_and_again_stop_no_partition(
    error: BaseException | None, each: bool
) -> None:
    async def test() -> None:
        town, asker = Town({-1: error, -2: error}), Asker()
        late = 0.05 if error is None else 60
        stage = stage_of(per_key(town.one) if each else town.many, late)
        for first in range(0, 30, 10):
            keys = [-1, *range(first, first + 10), -2]
            answers = await asker.ask(stage, keys)
            if each or error is not None:  # a call that is too late says nothing of its keys
                assert set(answers.failed) == {-1, -2}

    asyncio.run(test())


def test_in_an_outage_nothing_fails_and_what_was_answered_is_not_asked_again() -> None:
    async def test() -> None:
        town, asker = Town({}), Asker()
        stage = stage_of(per_key(town.one), concurrency=1)
        keys = list(range(20))
        await asker.ask(stage, [-1])
        town.away = True
        with pytest.raises(AssertionError, match="stays away"):
            await asker.ask(stage, keys)
        town.away, town.calls = False, 0
        answers = await asker.ask(stage, keys)
        assert len(answers.found) + len(answers.failed) == 20
        # Given up before the breaker opened, as often as the policy says.
        assert len(answers.failed) <= 1
        assert town.calls <= 22

    asyncio.run(test())


def test_a_key_that_is_to_be_tried_without_end_is() -> None:
    async def test() -> None:
        town, asker = Town({7: Status(503)}), Asker()
        breaker = CircuitBreaker(2, 1, 10, timedelta(seconds=1))
        stage = stage_of(per_key(town.one), breaker=breaker, retry=RetryPolicy(None))
        with pytest.raises(AssertionError, match="stays away"):
            await asker.ask(stage, [5, 6, 7])
        town.bad = {}
        assert set((await asker.ask(stage, [5, 6, 7])).found) == {5, 6, 7}

    asyncio.run(test())


def given(function: Callable[[list[int]], Any]) -> Any:
    async def lookup(keys: list[int]) -> Any:
        return function(keys)

    return lookup


def test_more_answers_than_were_asked_for_are_no_failure() -> None:
    async def test() -> None:
        towns = {1: {"cityName": "Bern"}, 2: {"cityName": "Biel"}}
        answers = await Asker().ask(stage_of(given(lambda keys: towns)), [3])
        assert (answers.found, answers.failed) == ({3: None}, {})

    asyncio.run(test())


def test_an_answer_may_be_the_model_itself() -> None:
    async def test() -> None:
        made = Located.model_validate({"shop": 1, "cityName": "Bern"})
        answers = await Asker().ask(stage_of(given(lambda keys: {1: made})), [1])
        assert answers.found == {1: {"city_name": "Bern"}}

    asyncio.run(test())


def test_a_mapping_that_raises_fails_for_that_key_only() -> None:
    class Odd(dict[int, Any]):
        def get(self, key: int, default: Any = None) -> Any:
            if key == 2:
                raise Wordless
            return super().get(key, default)

    async def test() -> None:
        towns = Odd({1: {"cityName": "Bern"}, 2: {}})
        answers = await Asker().ask(stage_of(given(lambda keys: towns)), [1, 2])
        assert set(answers.found) == {1}
        assert "cannot say what is wrong" in answers.failed[2]

    asyncio.run(test())


@pytest.mark.parametrize("does", ["swallows", "converts"])
def test_what_a_function_makes_of_being_too_late_does_not_count(does: str) -> None:
    async def late(keys: list[int]) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if does == "converts":
                raise ValueError("no, not that") from None
        return {1: {"cityName": "Bern"}}

    async def test() -> None:
        answers = await Asker().ask(stage_of(late, 0.01, retry=None), [1])
        assert answers.failed == {1: "no answer within 0:00:00.010000"}

    asyncio.run(test())
