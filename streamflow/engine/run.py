"""Running a topology's app in this process until it is done, told to stop, or refused."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from streamflow.engine.app import StreamflowApp
from streamflow.engine.process import collect_seldom, keep_memory
from streamflow.engine.status import Status, highwater, status_of
from streamflow.errors import StreamflowError

#: How often the display is told.
TICK_SECONDS = 0.25


async def run_app(app: StreamflowApp, on_tick: Callable[[Status], None]) -> Status:
    """Run until a bounded input is done or SIGTERM or SIGINT comes; returns the last status.

    A first signal commits what is in hand and leaves; a second one leaves at once, which is as
    safe as a crash.

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
                on_tick(_status(app))
                await _first(stop, app.host.finished, TICK_SECONDS)
    finally:
        stopping.cancel()
        if not starting.done():
            starting.cancel()
        tasks, sinks = dict(app.host.tasks), dict(app.host.sinks)
        ends, waits = {tp: highwater(app, tp) for tp in tasks}, app.host.waits
        with suppress(asyncio.CancelledError):
            await app.stop()
    _raise_failure(app)
    # Stopping commits what was in hand, so the last word is said after it.
    return status_of(tasks, sinks, ends, waits)


def _status(app: StreamflowApp) -> Status:
    host = app.host
    ends = {tp: highwater(app, tp) for tp in host.tasks}
    return status_of(host.tasks, host.sinks, ends, host.waits)


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
