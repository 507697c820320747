"""Before a worker starts: can its tables and its states be written? A full disk is waited for."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import FrameType

from streamflow.check import Finding
from streamflow.clock import Clock
from streamflow.errors import CheckFailed

log = logging.getLogger(__name__)

#: How often it is looked whether there is room.
LOOK_SECONDS = 5.0
#: How often it is said that there is none.
SAY_SECONDS = 30.0


def wait_for_folders(
    look: Callable[[], Sequence[Finding]],
    clock: Clock,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when all folders can be written, as a worker that runs waits while a disk is full.

    Whoever ends it meanwhile has stopped a worker that had nothing in hand: SIGTERM exits with 0.

    Args:
        look: What `streamflow check` finds of the folders.
        clock: The time.
        sleep: Waits so many seconds.

    Raises:
        CheckFailed: one cannot be written for another reason, in the words of `streamflow check`;
            it will hardly be later.
    """
    said: float | None = None
    with _leaving():
        while problems := [finding for finding in look() if finding.level == "problem"]:
            if not all(finding.full for finding in problems):
                raise CheckFailed([f"{finding.what}; {finding.fix}" for finding in problems])
            if said is None or clock.monotonic() - said >= SAY_SECONDS:
                said = clock.monotonic()
                for finding in problems:
                    log.warning("%s; %s; the worker starts when it can", finding.what, finding.fix)
            sleep(LOOK_SECONDS)
    if said is not None:
        log.warning("there is room again: the worker starts")


@contextmanager
def _leaving() -> Generator[None]:
    """As the first process of a container, which no signal ends that is not handled."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
