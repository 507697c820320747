"""When a worker is live and ready, from what its lanes say."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from streamflow.batch import TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.engine.web import STALLED_SECONDS, Health, Progress
from streamflow.errors import StateRefused

TP = TopicPartition("orders", 0)
ROWS = TopicPartition("orders-rows", 0)
LONG = timedelta(seconds=STALLED_SECONDS + 1)


def clock() -> SimulatedClock:
    return SimulatedClock(datetime(2024, 5, 1, tzinfo=UTC))


def test_a_partition_that_is_behind_and_does_not_move_is_stalled() -> None:
    time = clock()
    progress = Progress(time)
    assert progress.stalled({TP: (5, 9)}) == []
    time.advance(LONG)
    assert progress.stalled({TP: (5, 12)}) == [TP]
    assert progress.stalled({TP: (6, 12)}) == []
    time.advance(LONG)
    assert progress.stalled({TP: (7, 12)}) == []


def test_a_partition_that_has_nothing_to_do_is_not_stalled() -> None:
    time = clock()
    progress = Progress(time)
    assert progress.stalled({TP: (9, 9), ROWS: (3, None)}) == []
    time.advance(LONG)
    assert progress.stalled({TP: (9, 10), ROWS: (3, None)}) == []
    time.advance(timedelta(seconds=1))
    assert progress.stalled({TP: (9, 10), ROWS: (3, None)}) == []


class App:
    """As much of a worker as its pages look at."""

    def __init__(self) -> None:
        self.crashed, self.crash_reason = False, None
        self.consumer = SimpleNamespace(highwater=lambda tp: 0)
        self.host: Any = SimpleNamespace(
            tasks={}, sinks={}, waits={}, failure=None, closed=False, assigned=False, totals=dict
        )


def test_a_worker_that_starts_is_live_but_not_ready() -> None:
    health = Health(App(), clock())
    assert health.live()[0]
    well, report = health.ready()
    assert (well, report["state"]) == (False, "starting")


def test_a_worker_is_ready_when_every_lane_is_open() -> None:
    app = App()
    app.host.assigned = True
    lane = SimpleNamespace(is_open=True, sink=None)
    app.host.sinks = {ROWS: lane}
    assert Health(app, clock()).ready() == (
        True,
        {"state": "running", "partitions": 1, "not_open": []},
    )
    lane.is_open = False
    well, report = Health(app, clock()).ready()
    assert (well, report["not_open"]) == (False, ["orders-rows[0]"])


def test_a_worker_that_a_person_has_to_look_at_is_not_live() -> None:
    app = App()
    app.host.failure = StateRefused("one of them was changed by hand")
    well, report = Health(app, clock()).live()
    assert not well
    assert (report["state"], report["failure"]) == ("failed", "one of them was changed by hand")
