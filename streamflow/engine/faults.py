"""Named points at which a test, or an environment variable, can make the process die.

The steps of a commit and of a roll call their name here before they act, so a step that is added
is a step that is crash-tested.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

Faults = Callable[[str], None]

#: The steps of a commit, in order. A crash at a step is a crash just before it.
COMMIT_POINTS = ("begin", "produce", "offsets", "commit", "apply", "ack")
#: The steps of a roll, in order.
ROLL_POINTS = ("cut-temp", "cut", "files-written", "files-linked")
CRASH_POINTS = (*COMMIT_POINTS, *ROLL_POINTS)

VARIABLE = "STREAMFLOW_CRASH_AT"


def no_faults(point: str) -> None:
    """Nothing happens at any point."""


def faults_from_environment() -> Faults:
    """`STREAMFLOW_CRASH_AT=commit:3` kills the process (SIGKILL) the third time it gets there."""
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return no_faults
    name, _, count = wanted.partition(":")
    left = {name: int(count or "1")}

    def crash(point: str) -> None:
        if point in left:
            left[point] -= 1
            if left[point] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return crash
