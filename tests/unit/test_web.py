"""When a worker is live and ready, from what its lanes say."""

from types import SimpleNamespace
from typing import Any

from streamflow.batch import TopicPartition
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.standby import Lag
from streamflow.engine.status import later_status, worker_status
from streamflow.engine.web import Health
from streamflow.errors import StateRefused

ROWS = TopicPartition("orders-rows", 0)
TP = TopicPartition("orders", 1)


class App:
    """As much of a worker as its pages look at."""

    def __init__(self) -> None:
        self.crashed, self.crash_reason = False, None
        self.consumer = SimpleNamespace(highwater=lambda tp: 0)
        self.host: Any = SimpleNamespace(
            tasks={},
            sinks={},
            ends={},
            reading=[],
            waits={},
            stalled=[],
            standbys=SimpleNamespace(lags={TP: Lag(7, 700)}),
            stage=SimpleNamespace(circuits={"flights": "open"}, upkeep_problems={"t": "why"}),
            lookups={"enrich Priced": LookupCounts(keys=8, cached=6, calls=2, seconds=0.5)},
            failure=None,
            closed=False,
            assigned=False,
            broker_wait=SimpleNamespace(words=None),
            totals=dict,
        )


def test_a_worker_that_starts_is_live_but_not_ready() -> None:
    health = Health(App())
    live, report = health.live()
    assert live
    assert report["standbys"] == {str(TP): {"records": 7, "bytes": 700, "problem": None}}
    assert report["circuits"] == {"flights": "open"}
    assert report["upkeep"] == {"t": "why"}
    assert report["lookups"]["enrich Priced"]["cached"] == 6
    well, report = health.ready()
    assert (well, report["state"]) == (False, "starting")


def test_the_last_status_of_a_worker_is_that_of_the_lanes_it_had() -> None:
    app = App()
    app.host.tasks = {TP: SimpleNamespace(task=None)}
    last = later_status(app)
    app.host.tasks = {}
    assert worker_status(app).tasks == 0
    assert last().tasks == 1
    assert last().circuits == {"flights": "open"}


def test_a_worker_that_waits_for_its_broker_is_live_and_says_so() -> None:
    app = App()
    app.host.broker_wait.words = "no Kafka broker answers at a:1"
    for well, report in (Health(app).live(), Health(app).ready()):
        assert report["state"] == "waiting"
        assert report["waiting_for"] == "no Kafka broker answers at a:1"
        assert well == ("stalled" in report), "live, and not ready"


def test_a_worker_is_ready_when_every_lane_is_open() -> None:
    app = App()
    app.host.assigned = True
    lane = SimpleNamespace(is_open=True, sink=None)
    app.host.sinks = {ROWS: lane}
    assert Health(app).ready() == (
        True,
        {"state": "running", "partitions": 1, "not_open": []},
    )
    lane.is_open = False
    well, report = Health(app).ready()
    assert (well, report["not_open"]) == (False, ["orders-rows[0]"])


def test_a_worker_that_a_person_has_to_look_at_is_not_live() -> None:
    app = App()
    app.host.failure = StateRefused("one of them was changed by hand")
    well, report = Health(app).live()
    assert not well
    assert (report["state"], report["failure"]) == ("failed", "one of them was changed by hand")


def test_a_worker_in_which_nothing_is_done_is_not_live() -> None:
    app = App()
    app.host.stalled = [ROWS]
    well, report = Health(app).live()
    assert not well
    assert report["stalled"] == ["orders-rows[0]"]
