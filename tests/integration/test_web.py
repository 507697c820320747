"""`/live` and `/ready` of a real worker, and what it listens on."""

import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamflow.broker import Broker
from streamflow.demo.flights import flight_records
from tests.integration.faust_worker import faust_worker
from tests.integration.sockets import open_files
from tests.integration.worker import WorkerUnderTest

PARTITIONS = 2
FLIGHTS = 300
LISTEN = "0A"


@pytest.fixture
def under_test(kafka: Broker, fresh: str, tmp_path: Path) -> Iterator[WorkerUnderTest]:
    made = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path)
    made.create("flights", PARTITIONS)
    made.produce("flights", islice(flight_records(), FLIGHTS), PARTITIONS)
    yield made
    made.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Status and document; 0 while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("application/json")
            return answer.status, orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, orjson.loads(error.read())
    except urllib.error.URLError:
        return 0, {}


def listening(worker: "subprocess.Popen[bytes]") -> list[str]:
    """Addresses a process listens on, as the kernel writes them: `0100007F:17B2`."""
    mine = open_files(worker.pid)
    found: list[str] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{worker.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and f"socket:[{fields[9]}]" in mine:
                found.append(fields[1])
    return found


def test_a_worker_tells_that_it_is_live_and_ready(under_test: WorkerUnderTest) -> None:
    port = free_port()
    worker = under_test.start("--web-port", str(port), "--commit-interval", "0.2")
    under_test.wait_until(worker, lambda: get(port, "/ready")[0] == 200)
    under_test.wait_until(worker, lambda: under_test.committed("flights", PARTITIONS) == FLIGHTS)

    status, live = get(port, "/live")
    assert (status, live["state"], live["stalled"]) == (200, "running", [])
    assert live["totals"]["in"] == FLIGHTS
    assert live["tasks"] == PARTITIONS
    status, ready = get(port, "/ready")
    assert (status, ready["not_open"]) == (200, [])
    assert ready["partitions"] == 3 * PARTITIONS  # the source, and the rows of two tables

    assert listening(worker) == [f"0100007F:{port:04X}"]
    worker.terminate()
    under_test.finish(worker, timeout=30)
    assert get(port, "/live") == (0, {})


def test_a_worker_without_a_port_listens_on_nothing(under_test: WorkerUnderTest) -> None:
    worker = under_test.start("--commit-interval", "0.2")
    under_test.wait_until(worker, lambda: under_test.committed("flights", PARTITIONS) == FLIGHTS)
    assert listening(worker) == []
    worker.terminate()
    under_test.finish(worker, timeout=30)


def test_faust_s_own_command_line_serves_the_pages_on_loopback(under_test: WorkerUnderTest) -> None:
    port = free_port()
    worker = faust_worker(under_test, "topologies.flights", "--web-port", str(port))
    under_test.wait_until(worker, lambda: get(port, "/ready")[0] == 200)
    assert get(port, "/live")[0] == 200
    assert listening(worker) == [f"0100007F:{port:04X}"]
    worker.terminate()
    worker.communicate(timeout=30)
    assert worker.returncode == 0
