"""`/live` and `/ready`: is this worker at it, for Docker, Kubernetes, or a person with curl.

    /live   200 while there is progress: 503 when a person has to look, or when nothing of what
            there is to do has been done for too long (`watchdog.py`)
    /ready  200 when partitions are assigned and every lane is open

A worker that waits for its broker at the start is live, and not ready: its state is `waiting`.
Both answer with the state as JSON. They are pages of Faust's own web server, which runs only when a
port was asked for, on loopback unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from faust.web import View

from streamflow.engine.host import Host
from streamflow.engine.status import worker_status

CONTENT_TYPE = "application/json"


class Health:
    """The state of one app's worker, as the two pages tell it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def live(self) -> tuple[bool, dict[str, Any]]:
        """Is there progress?"""
        host: Host = self._app.host
        stalled = [str(tp) for tp in host.stalled]
        failure = host.failure or self._app.crash_reason
        status = worker_status(self._app).as_json()
        report = {"state": self._state(), "stalled": stalled, **status}
        if host.broker_wait.words is not None:
            report["waiting_for"] = host.broker_wait.words
        if failure is not None:
            report["failure"] = str(failure)
        return failure is None and not stalled, report

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Is every partition that this worker has in work?"""
        host: Host = self._app.host
        lanes = {**host.tasks, **host.sinks}
        closed = sorted(str(tp) for tp, lane in lanes.items() if not lane.is_open)
        report = {"state": self._state(), "partitions": len(lanes), "not_open": closed}
        if host.broker_wait.words is not None:
            report["waiting_for"] = host.broker_wait.words
        return host.assigned and not closed, report

    def _state(self) -> str:
        host: Host = self._app.host
        if host.failure is not None or self._app.crashed:
            return "failed"
        if host.closed:
            return "stopping"
        if host.broker_wait.words is not None:
            return "waiting"
        return "running" if host.assigned else "starting"


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
