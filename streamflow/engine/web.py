"""`/live` and `/ready`: is this worker at it, for Docker, Kubernetes, or a person with curl.

    /live   200 while there is progress: 503 when a person has to look, or when a partition has been
            behind for `STALLED_SECONDS` without moving
    /ready  200 when partitions are assigned and every lane is open

Both answer with the state as JSON. They are pages of Faust's own web server, which runs only when a
port was asked for, on loopback unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from faust.web import View

from streamflow.batch import TopicPartition
from streamflow.clock import Clock, SystemClock
from streamflow.engine.host import Host
from streamflow.engine.status import highwater, status_of

#: A partition that is behind and does not move for this long makes the worker not live.
STALLED_SECONDS = 60.0
CONTENT_TYPE = "application/json"

Positions = Mapping[TopicPartition, tuple[int, int | None]]


class Progress:
    """Finds the partitions that stand still, from one look to the next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Position of each partition that is behind, and when it was first seen there.
        self._behind: dict[TopicPartition, tuple[int, float]] = {}

    def stalled(self, positions: Positions) -> list[TopicPartition]:
        """Partitions that have been behind at the same position for too long.

        `positions` are `(position, end)` of every partition; an end of None is not known.
        """
        now = self._clock.monotonic()
        behind: dict[TopicPartition, tuple[int, float]] = {}
        for tp, (position, end) in positions.items():
            if end is not None and position < end:
                before, since = self._behind.get(tp, (position, now))
                behind[tp] = (position, since if before == position else now)
        self._behind = behind
        return sorted(tp for tp, (_, since) in behind.items() if now - since > STALLED_SECONDS)


class Health:
    """The state of one app's worker, as the two pages tell it."""

    def __init__(self, app: Any, clock: Clock | None = None) -> None:
        self._app = app
        self._progress = Progress(clock or SystemClock())

    def live(self) -> tuple[bool, dict[str, Any]]:
        """Is there progress?"""
        host: Host = self._app.host
        stalled = [str(tp) for tp in self._progress.stalled(self._positions(host))]
        failure = host.failure or self._app.crash_reason
        ends = {tp: highwater(self._app, tp) for tp in host.tasks}
        report = {
            "state": self._state(),
            "stalled": stalled,
            **status_of(host.tasks, host.sinks, ends, host.waits).as_json(),
        }
        if failure is not None:
            report["failure"] = str(failure)
        return failure is None and not stalled, report

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Is every partition that this worker has in work?"""
        host: Host = self._app.host
        lanes = {**host.tasks, **host.sinks}
        closed = sorted(str(tp) for tp, lane in lanes.items() if not lane.is_open)
        report = {"state": self._state(), "partitions": len(lanes), "not_open": closed}
        return host.assigned and not closed, report

    def _state(self) -> str:
        host: Host = self._app.host
        if host.failure is not None or self._app.crashed:
            return "failed"
        if host.closed:
            return "stopping"
        return "running" if host.assigned else "starting"

    def _positions(self, host: Host) -> Positions:
        running = [(tp, lane.task) for tp, lane in host.tasks.items() if lane.task is not None]
        # One that waits for a reason that was said stands still on purpose.
        waits = {tp for tp, reasons in host.waits.items() if reasons.keys() - {"opening", "inbox"}}
        tasks = {tp: task.state.position for tp, task in running if tp not in waits}
        sinks = {tp: lane.sink.wanted for tp, lane in host.sinks.items() if lane.sink}
        at = {**tasks, **sinks}
        return {tp: (position, highwater(self._app, tp)) for tp, position in at.items()}


def add_pages(web: Any, app: Any) -> None:
    """Put both pages on Faust's web server."""
    health = Health(app)

    class Live(View):
        """Is there progress?"""

        view_name = "live"
        view_path = "/live"

        async def get(self, request: Any, **kwargs: Any) -> Any:
            del request, kwargs
            return _answer(self, *health.live())

    class Ready(View):
        """Is every partition that this worker has in work?"""

        view_name = "ready"
        view_path = "/ready"

        async def get(self, request: Any, **kwargs: Any) -> Any:
            del request, kwargs
            return _answer(self, *health.ready())

    web.add_view(Live)
    web.add_view(Ready)


def _answer(view: Any, well: bool, report: Mapping[str, Any]) -> Any:
    body = orjson.dumps(report, option=orjson.OPT_APPEND_NEWLINE)
    return view.bytes(body, content_type=CONTENT_TYPE, status=200 if well else 503)
