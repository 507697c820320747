"""Named points at which a test, or an environment variable, can make the process die, or stand.

The steps of a commit and of a roll call their name here before they act, so a step that is added
is a step that is crash-tested.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable

Faults = Callable[[str], None]

#: The steps of a commit, in order. A crash at a step is a crash just before it.
COMMIT_POINTS = ("begin", "produce", "offsets", "commit", "apply", "ack")
#: Those of one without a transaction; it passes `produce` for each topic.
PLAIN_POINTS = ("begin", "produce", "commit", "mark", "apply", "name", "ack")
#: The steps of a roll, in order.
ROLL_POINTS = ("cut-temp", "cut", "files-written", "files-linked")
CRASH_POINTS = (*COMMIT_POINTS, *ROLL_POINTS)

VARIABLE, FREEZE_VARIABLE = "STREAMFLOW_CRASH_AT", "STREAMFLOW_FREEZE_AT"
SIGNALS = {VARIABLE: signal.SIGKILL, FREEZE_VARIABLE: signal.SIGSTOP}


def no_faults(point: str) -> None:
    """Nothing happens at any point."""


def faults_from_environment() -> Faults:
    """`STREAMFLOW_CRASH_AT=commit:3` kills the process (SIGKILL) the third time it gets there, and
    `STREAMFLOW_FREEZE_AT` stops it (SIGSTOP) until somebody lets it go on (SIGCONT).
    """
    left: dict[str, list[tuple[int, signal.Signals]]] = {}
    for variable, number in SIGNALS.items():
        name, _, count = os.environ.get(variable, "").partition(":")
        if name:
            left.setdefault(name, []).append((int(count or "1"), number))
    if not left:
        return no_faults
    reached: Counter[str] = Counter()

    def fault(point: str) -> None:
        reached[point] += 1
        for count, number in left.get(point, ()):
            if reached[point] == count:
                os.kill(os.getpid(), number)

    return fault
