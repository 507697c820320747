"""Running a topology's app in this process until it is done, told to stop, or refused."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from streamflow.engine.app import StreamflowApp
from streamflow.engine.process import collect_seldom, keep_memory
from streamflow.engine.status import Status, later_status, worker_status
from streamflow.errors import StreamflowError

log = logging.getLogger(__name__)

#: What closing takes at the most, beyond the time in which what is in hand is committed.
CLOSING_SECONDS = 10.0
#: How often the display is told.
TICK_SECONDS = 0.25


async def run_app(
    app: StreamflowApp,
    on_tick: Callable[[Status], None],
    on_stop: Callable[[], None] = lambda: None,
) -> Status:
    """Run until a bounded input is done or SIGTERM or SIGINT comes; returns the last status.

    A first signal commits what is in hand and leaves; a second one leaves at once, which is as
    safe as a crash. `on_stop` is called at the first one, and when the worker ends for another
    reason.

    Raises:
        StreamflowError: something that only a person can settle.
    """
    stop = asyncio.Event()
    _on_signals(stop)
    keep_memory()
    collect_seldom()
    starting = asyncio.create_task(app.start(), name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            await starting
            while not (stop.is_set() or app.host.finished.is_set() or app.crashed):
                on_tick(worker_status(app))
                await _first(stop, app.host.finished, TICK_SECONDS)
    finally:
        on_stop()
        stopping.cancel()
        if not starting.done():
            starting.cancel()
        last = later_status(app)
        with suppress(asyncio.CancelledError):
            await app.stop()
    _raise_failure(app)
    # Stopping commits what was in hand, so the last word is said after it.
    return last()


class LeaveWithin:
    """Ends the process so many seconds after `begin`, whatever hangs then; not once it is left.

    A disk that does not answer holds a thread, for which Python waits without end. To end so is as
    safe as a crash.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """The time runs."""
        self._timer = threading.Timer(self._seconds, self._leave)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> LeaveWithin:
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _leave(self) -> None:
        log.error("not stopped after %.1f s: leaving as it is, nothing is lost", self._seconds)
        faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        os._exit(1)


def _raise_failure(app: StreamflowApp) -> None:
    if app.host.failure is not None:
        raise app.host.failure
    if app.crashed:
        reason = app.crash_reason
        raise StreamflowError(f"the worker crashed: {reason!r}") from reason


def _on_signals(stop: asyncio.Event) -> None:
    def handle() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, handle)


async def _first(one: asyncio.Event, other: asyncio.Event, seconds: float) -> None:
    waiting = {asyncio.create_task(one.wait()), asyncio.create_task(other.wait())}
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
