"""What a worker counts of what it asks: keys, answers from the cache, calls, failures, time."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Cache, RetryPolicy, source, topic
from streamflow.clock import SimulatedClock
from streamflow.core.enrichment import Ask
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.lookups import Lookups, no_wait
from streamflow.enrich import Enrich

SECOND = timedelta(seconds=1)


class Sale(BaseModel):
    sku: str
    at: AwareDatetime


class Priced(BaseModel):
    sku: str
    cents: int | None


sales = source(topic("sales"), Sale, key="sku", event_time="at")


def test_keys_calls_and_time_are_counted() -> None:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    failing = [ConnectionError("away"), ValueError("never")]

    async def prices(keys: list[str]) -> dict[str, Any]:
        clock.advance(SECOND)
        if "odd" in keys and failing:
            raise failing.pop(0)
        return {key: {"cents": 1} for key in keys}

    stage = sales.enrich(
        Priced, prices, key="sku", cache=Cache(60 * SECOND), retry=RetryPolicy(3), concurrency=1
    ).stages[-1]
    assert isinstance(stage, Enrich)
    lookups = Lookups(clock, wait=no_wait)

    async def asked(*keys: str) -> None:
        await lookups.answer(Ask(stage, list(keys)))

    assert lookups.counts == {}
    asyncio.run(asked("tea", "milk"))
    asyncio.run(asked("tea", "free"))
    before = lookups.counts
    assert before == {stage.name: LookupCounts(keys=4, cached=1, calls=2, seconds=2.0)}
    # It fails in passing, is asked again, and fails for good; then half of it does not.
    asyncio.run(asked("odd", "even"))
    assert lookups.counts[stage.name] == LookupCounts(
        keys=6, cached=1, calls=6, retried=1, failed=2, seconds=6.0
    )
    assert before[stage.name].keys == 4


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (LookupCounts(), "0 calls"),
        (LookupCounts(keys=8, cached=6, calls=1, seconds=0.5), "75% cached, 1 call of 500 ms"),
        (LookupCounts(keys=9, calls=9, failed=2, seconds=0.009), "9 calls of 1 ms, 2 failed"),
    ],
)
def test_a_person_sees_what_tells_whether_the_service_is_slow(
    counts: LookupCounts, expected: str
) -> None:
    assert str(counts) == expected
