"""A worker whose Faust fetches no more, silently: it ends, and the next one has all there is."""

from itertools import islice
from pathlib import Path

from streamflow.broker import Broker
from streamflow.demo.flights import flight_records
from streamflow.errors import WorkerStalled
from tests.integration.apps.stalling import STALLS
from tests.integration.worker import WorkerUnderTest

PARTITIONS, FIRST, ALL = 1, 200, 500


def test_a_worker_whose_faust_has_silently_stopped_to_fetch_ends_and_the_next_goes_on(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    app = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path, "tests.integration.apps.stalling")
    flights = list(islice(flight_records(), ALL))
    stalls = {STALLS: "1", "STREAMFLOW_STALL_TIMEOUT": "4", "STREAMFLOW_STALL_EXIT": "true"}
    try:
        app.create("flights", PARTITIONS)
        app.produce("flights", flights[:FIRST], PARTITIONS)
        worker = app.start("--commit-interval", "0.1", **stalls)
        app.wait_until(worker, lambda: app.committed("flights", PARTITIONS) == FIRST)
        app.produce("flights", flights[FIRST:], PARTITIONS)
        _, said = worker.communicate(timeout=120)
        assert worker.returncode == WorkerStalled.streamflow_exit_code, said.decode()[-4000:]
        last = said.decode().splitlines()[-1]
        assert last.startswith("error: nothing has been done for 4 s, and no pause says why: ")
        assert app.committed("flights", PARTITIONS) == FIRST

        totals = app.finish(app.start("--until-end"))["totals"]
        assert totals["in"] == ALL
        assert totals["passed"] + totals["rejected"] == ALL
        assert len(app.read("flights.dlq")) == totals["rejected"]
    finally:
        app.close()
