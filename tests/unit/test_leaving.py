"""A worker that is told to stop leaves, whatever hangs then; one that is done is left alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from streamflow.engine.run import LeaveWithin

ROOT = Path(__file__).parents[2]

#: A worker that gets SIGTERM while it starts, and whose stop waits in a thread for ever.
HANGING = """
import asyncio, os, signal, threading
from streamflow.clock import SystemClock
from streamflow.edges.memory import MemoryBroker
from streamflow.engine.faults import no_faults
from streamflow.engine.host import Host
from streamflow.engine.run import LeaveWithin, run_app
from streamflow.engine.settings import Settings
from tests.laws.orders import topology
from tests.unit.memory_world import MemoryWorld

class App:
    crashed = False

    def __init__(self):
        clock = SystemClock()
        world = MemoryWorld(MemoryBroker(0), topology, clock)
        self.host = Host(topology, Settings.load(), world, clock, no_faults)

    async def start(self):
        os.kill(os.getpid(), signal.SIGTERM)

    async def stop(self):
        print("stopping", flush=True)
        %s

with LeaveWithin(0.3) as leaving:
    asyncio.run(run_app(App(), lambda status: None, leaving.begin))
print("left", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop",
    [
        "await asyncio.to_thread(threading.Event().wait)",
        "await asyncio.Event().wait()",
        "asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)",
        "os.kill(os.getpid(), signal.SIGTERM); await asyncio.Event().wait()",
    ],
    ids=["a thread", "a coroutine", "a thread that is left behind", "a second signal"],
)
def test_a_stop_that_hangs_ends_the_process(stop: str) -> None:
    command = [sys.executable, "-c", HANGING % stop]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (1, "stopping\n"), done.stderr


@pytest.mark.slow
def test_a_stop_that_does_not_hang_is_waited_for() -> None:
    command = [sys.executable, "-c", HANGING % "await asyncio.sleep(0.01)"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "stopping\nleft\n"), done.stderr


def test_the_time_runs_only_until_it_is_left() -> None:
    with LeaveWithin(0.01) as leaving:
        leaving.begin()
        timer = leaving._timer
    assert timer is not None
    timer.join(5)  # this process is still here
    assert timer.finished.is_set()
    with LeaveWithin(0.01):
        pass
