"""A circuit breaker goes by its definition, whatever calls do and in whatever order they end."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from streamflow.engine.circuit import Circuit
from streamflow.retry import CircuitBreaker
from tests.examples import examples

BREAKER = CircuitBreaker(2, 2, 3, timedelta(seconds=10), timedelta(seconds=15))


def failing(circuit: Circuit, at: float, times: int = 1) -> None:
    for _ in range(times):
        call = circuit.begin(at)
        assert call is not None
        circuit.failed(call, at)


def succeeding(circuit: Circuit, at: float, times: int = 1) -> None:
    for _ in range(times):
        call = circuit.begin(at)
        assert call is not None
        circuit.succeeded(call)


def test_the_defaults() -> None:
    breaker = CircuitBreaker()
    assert (breaker.failure_threshold, breaker.success_threshold, breaker.window) == (5, 3, 100)
    assert (breaker.open_for, breaker.max_open) == (timedelta(seconds=60), timedelta(seconds=300))


def test_it_opens_by_the_failures_of_its_window_and_closes_after_successes() -> None:
    circuit = Circuit(BREAKER)
    failing(circuit, 0)
    succeeding(circuit, 0, 2)
    failing(circuit, 0)  # the first has left the window
    assert circuit.phase == "closed"
    failing(circuit, 1)
    assert (circuit.phase, circuit.seconds_left(2), circuit.begin(10.9)) == ("open", 9, None)
    succeeding(circuit, 11)
    assert circuit.phase == "half_open"
    succeeding(circuit, 11)
    assert circuit.phase == "closed"
    failing(circuit, 12)
    assert circuit.phase == "closed"  # what was before it opened counts no more


def test_half_open_it_lets_one_call_at_a_time_and_opens_for_longer_when_that_fails() -> None:
    circuit = Circuit(BREAKER)
    failing(circuit, 0, 2)
    call = circuit.begin(10)
    assert call is not None
    assert circuit.begin(10) is None
    assert circuit.seconds_left(10) == 0
    circuit.abandoned(call)
    failing(circuit, 10)
    assert circuit.seconds_left(10) == 15  # not 20: that is the longest
    succeeding(circuit, 25, 2)
    failing(circuit, 26, 2)
    assert circuit.seconds_left(26) == 10


def test_calls_that_were_begun_before_it_opened_say_nothing_when_they_end_later() -> None:
    circuit = Circuit(BREAKER)
    late = [circuit.begin(0) for _ in range(3)]
    failing(circuit, 0, 2)
    circuit.failed(late[0] or 0, 5)
    assert circuit.seconds_left(5) == 5
    probe = circuit.begin(10)
    circuit.failed(late[1] or 0, 10)
    circuit.succeeded(late[2] or 0)
    assert (circuit.phase, circuit.begin(10)) == ("half_open", None)
    circuit.succeeded(probe or 0)
    assert circuit.phase == "half_open"


class Reference:
    """The definition, with calls that end at once: `None` for one that may not be made."""

    def __init__(self) -> None:
        self.since: list[bool] = []
        self.opened: float | None = None
        self.lasts = 0.0
        self.probes: list[bool] = []

    def call(self, at: float, good: bool) -> bool:
        if self.opened is not None and at < self.opened + self.lasts:
            return False
        if self.opened is None:
            self.since.append(good)
            if self.since[-BREAKER.window :].count(False) >= BREAKER.failure_threshold:
                self.open(at)
        elif not good:
            self.open(at)
        else:
            self.probes.append(good)
            if len(self.probes) == BREAKER.success_threshold:
                self.opened, self.lasts, self.since = None, 0.0, []
        return True

    def open(self, at: float) -> None:
        self.opened, self.probes = at, []
        self.lasts = min(self.lasts * 2 or 10.0, 15.0)


@examples(300)
@given(calls=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=60))
def test_it_is_its_definition(calls: list[tuple[int, bool]]) -> None:
    circuit, reference, now = Circuit(BREAKER), Reference(), 0.0
    for later, good in calls:
        now += later
        call = circuit.begin(now)
        assert (call is not None) == reference.call(now, good)
        if call is not None and good:
            circuit.succeeded(call)
        elif call is not None:
            circuit.failed(call, now)
        is_open = circuit.phase == "open"
        assert is_open == (reference.opened is not None and not reference.probes)
        if is_open:
            assert circuit.seconds_left(now) == (reference.opened or 0) + reference.lasts - now


@examples(300)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["begin", "good", "bad", "left"])),
        max_size=80,
    )
)
def test_it_never_lets_more_than_one_through_before_it_is_closed_again(
    events: list[tuple[int, str]],
) -> None:
    circuit, now = Circuit(BREAKER), 0.0
    under_way: list[tuple[int, bool]] = []  # and whether it was begun half open
    for later, event in events:
        now += later
        if event == "begin":
            call = circuit.begin(now)
            if circuit.phase == "open":
                assert call is None
                assert circuit.seconds_left(now) > 0
            if call is not None:
                under_way.append((call, circuit.phase == "half_open"))
        elif under_way:
            call, _ = under_way.pop(0)
            if event == "good":
                circuit.succeeded(call)
            elif event == "bad":
                circuit.failed(call, now)
            else:
                circuit.abandoned(call)
        if circuit.phase == "half_open":
            assert sum(probe for _, probe in under_way) <= 1
        for call, _ in under_way if event == "begin" and circuit.phase == "closed" else ():
            assert call >= 0
