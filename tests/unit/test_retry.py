"""How often something is tried, how long the waits are, and when it is given up."""

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow import CircuitBreaker, ErrorClass, RetryPolicy, TopologyError
from streamflow.engine.retries import MINUTE_SECONDS, Retries, RetryBudget
from streamflow.retry import RETRYABLE
from tests.examples import examples


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def waits(retries: Retries, at: float = 0.0, most: int = 100) -> list[float]:
    found: list[float] = []
    while len(found) < most and (wait := retries.wait(at)) is not None:
        found.append(wait)
        at += wait
    return found


def test_the_defaults_are_three_attempts_after_a_second_and_at_most_five_minutes() -> None:
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.within, policy.per_minute) == (3, None, None)
    assert (policy.backoff, policy.max_delay) == (seconds(1), seconds(300))
    assert policy.retry_on == RETRYABLE
    assert ErrorClass.LOGIC not in RETRYABLE
    assert len(waits(Retries(policy, Random(1), 0.0))) == 2


@examples(200)
@given(
    seed=st.integers(0, 2**32),
    first=st.floats(0.01, 10),
    longest=st.floats(10, 500),
    attempts=st.integers(1, 30),
)
def test_waits_are_drawn_between_the_first_and_three_times_the_one_before(
    seed: int, first: float, longest: float, attempts: int
) -> None:
    policy = RetryPolicy(attempts, seconds(first), seconds(longest))
    found = waits(Retries(policy, Random(seed), 0.0))
    assert found == waits(Retries(policy, Random(seed), 0.0))
    assert len(found) == attempts - 1
    low, high = policy.backoff.total_seconds(), policy.max_delay.total_seconds()
    before = low
    for wait in found:
        assert low <= wait <= min(high, 3 * before) or wait == high
        before = wait


def test_waits_differ_and_grow_to_the_longest() -> None:
    found = waits(Retries(RetryPolicy(None, seconds(1), seconds(60)), Random(2), 0.0), most=200)
    assert max(found) == 60
    assert len(set(found)) > 100


def test_no_attempt_begins_after_the_budget_of_time() -> None:
    policy = RetryPolicy(None, seconds(1), seconds(1), within=seconds(3.5))
    assert waits(Retries(policy, Random(1), 10.0), at=10.0) == [1, 1, 1]
    slow = Retries(policy, Random(1), 10.0)
    assert slow.wait(12.0) == 1  # the attempt itself took two seconds
    assert slow.wait(13.0) is None


def test_the_budget_of_a_minute_is_that_of_all_who_share_it() -> None:
    policy = RetryPolicy(None, seconds(1), seconds(1), per_minute=3)
    budget = RetryBudget(policy.per_minute)
    one, other = (Retries(policy, Random(1), 0.0, budget) for _ in range(2))
    assert [one.wait(0.0), other.wait(1.0), one.wait(2.0), other.wait(3.0)] == [1, 1, 1, None]
    assert other.wait(MINUTE_SECONDS - 0.1) is None
    assert other.wait(MINUTE_SECONDS) == 1
    assert other.wait(MINUTE_SECONDS) is None


REFUSED: list[tuple[Any, str]] = [
    (lambda: RetryPolicy(max_attempts=0), "at least 1, or None"),
    (lambda: RetryPolicy(max_attempts=1.5), "max_attempts is 1.5, which is no whole number"),  # type: ignore[arg-type]
    (lambda: RetryPolicy(per_minute=0), "at least 1, or None"),
    (lambda: RetryPolicy(backoff=seconds(0)), "backoff is above zero"),
    (lambda: RetryPolicy(backoff=seconds(2), max_delay=seconds(1)), "max_delay no shorter"),
    (lambda: RetryPolicy(within=seconds(-1)), "within is a time"),
    (lambda: RetryPolicy(backoff=1), "backoff is 1, which is no timedelta"),  # type: ignore[arg-type]
    (lambda: RetryPolicy(retry_on={"NETWORK"}), "retry_on holds error classes"),  # type: ignore[arg-type]
    (lambda: CircuitBreaker(failure_threshold=0), "thresholds are at least 1"),
    (lambda: CircuitBreaker(failure_threshold=11, window=10), "failure_threshold at most window"),
    (lambda: CircuitBreaker(success_threshold=0), "thresholds are at least 1"),
    (lambda: CircuitBreaker(open_for=seconds(0)), "open_for is above zero"),
    (lambda: CircuitBreaker(max_open=seconds(1)), "max_open no shorter"),
    (lambda: CircuitBreaker(window=None), "thresholds are at least 1"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("made", "words"), REFUSED)
def test_what_cannot_be_meant_is_refused(made: Any, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        made()
