"""`streamflow worker`: run a topology on Kafka."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from streamflow.check import check_folders
from streamflow.cli.display import Display
from streamflow.cli.environment import warn_of_unknown_variables
from streamflow.cli.folders import wait_for_folders
from streamflow.cli.load import load_topology
from streamflow.cli.log import set_up_log
from streamflow.cli.said import naming
from streamflow.clock import SystemClock
from streamflow.counted import counted
from streamflow.engine.app import StreamflowApp
from streamflow.engine.run import CLOSING_SECONDS, LeaveWithin, run_app
from streamflow.engine.settings import Settings
from streamflow.engine.status import Status, conservation
from streamflow.errors import SettingsError
from streamflow.service import topology_app

EPILOG = """Example: streamflow worker topologies.flights --broker 127.0.0.1:9092

Every option is also a setting: STREAMFLOW_BROKER, STREAMFLOW_LAKE and so on.

--until-end declares the end of the input: all windows close, and records that come later are
refused, since all would be late. For a topic that goes on leave it out, and stop the worker with
Ctrl-C, which closes no window; or run a part under a --run-id, beside the live app. To go on after
it nevertheless, use a new --app-id, or `streamflow state reset TOPOLOGY --source TOPIC --to
changelog --discard`, which begins with an empty state behind that end, in all partitions."""
LEVELS = ("debug", "info", "warning", "error", "critical")


@click.command(epilog=EPILOG)
@click.argument("topology")
@click.option("--broker", help="Kafka's bootstrap servers, HOST:PORT, comma separated.")
@click.option("--app-id", help="Consumer group and internal topics; the topology's name if unset.")
@click.option("--topic-prefix", help="Put before every topic that the topology names.")
@click.option("--lake", help="Folder below which tables lie, or an address: s3://bucket/lake.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder of local states.")
@click.option("--worker-id", help="Names this worker's state folder; one per worker and machine.")
@click.option("--run-id", help="Run a part of the sources beside the live app: a replay's name.")
@click.option("--from", "run_from", metavar="TIME|OFFSETS", help="Where a run begins; `beginning`.")
@click.option("--to", "run_to", metavar="TIME|OFFSETS", help="Where a run ends; `end`.")
@click.option(
    "--until-end",
    is_flag=True,
    help="Stop when all there is at the start is done, and take no later records: see below.",
)
@click.option("--resume", is_flag=True, help="Go on where a gate has stopped before.")
@click.option("--commit-interval", metavar="SECONDS", help="Between commits at the most.")
@click.option("--web-port", type=int, help="Serve /live on this port of loopback.")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="warning",
    show_default=True,
    help="Level of the log.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
def command(topology: str, log_level: str, as_json: bool, **given: Any) -> None:
    """Run TOPOLOGY, a module such as topologies.flights, until it is told to stop."""
    set_up_log(log_level)
    faulthandler.register(signal.SIGUSR1)  # for whoever asks what a worker is doing
    warn_of_unknown_variables()
    with naming(topology, given):
        _work(topology, as_json, given)


def _work(topology: str, as_json: bool, given: dict[str, Any]) -> None:
    flags = {name: given.pop(name) or None for name in ("until_end", "resume")}
    settings = Settings.load(**flags, **given)
    loaded = load_topology(topology)
    clock = SystemClock()
    wait_for_folders(partial(check_folders, loaded, settings), clock)
    refuse_address(settings)
    console = Console(stderr=True)
    started = clock.monotonic()
    with Display(console, loaded.name) as display:
        app = topology_app(loaded, settings)
        with LeaveWithin(settings.shutdown_timeout.total_seconds() + CLOSING_SECONDS) as leaving:
            status = asyncio.run(_run(app, display, leaving.begin))
    seconds = clock.monotonic() - started
    records = status.totals["in"]
    if as_json:
        summary = {"records": records, "seconds": seconds, **status.as_json(), **_of_run(app)}
        click.echo(orjson.dumps(summary))
        return
    for line in [*summary_lines(status, seconds), *run_lines(app)]:
        click.echo(line)


def summary_lines(status: Status, seconds: float) -> list[str]:
    """Totals go on over restarts, files are counted by each worker for itself: both say so."""
    made = f"{counted(status.files, 'file')}, {counted(status.rows, 'row')}"
    since = ["since the app began, in the partitions of this worker:"]
    since += [f"  {line}" for line in conservation(status.totals)]
    return [
        *(since if status.tasks or not status.archived else []),
        *(["delivery at least once"] if status.delivery == "at_least_once" else []),
        f"in this run: {made}, {seconds:.1f} s",
    ]


def run_lines(app: StreamflowApp) -> list[str]:
    """What a bounded run has read, and where it has written to; nothing for a live worker."""
    ranges = app.host.ranges
    if ranges is None:
        return []
    read = [f"  {tp} from {start:,} to {stop:,}" for tp, (start, stop) in ranges.offsets.items()]
    written = f"it wrote topics and tables whose names end in .{ranges.run}"
    return [f"the run {ranges.run!r} reads, whenever it is started:", *read, written]


def _of_run(app: StreamflowApp) -> dict[str, Any]:
    ranges = app.host.ranges
    return {} if ranges is None else {"run": orjson.loads(ranges.encoded())}


def refuse_address(settings: Settings) -> None:
    """Bind the web server's address for a moment, since its own failure would name no setting.

    Raises:
        SettingsError: somebody has it, or it is none of this machine.
    """
    if settings.web_port is None:
        return
    try:
        found = socket.getaddrinfo(settings.web_bind, settings.web_port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.web_bind}:{settings.web_port}: {error.strerror}; set "
            "another --web-port, or STREAMFLOW_WEB_BIND"
        ) from error


async def _run(app: Any, display: Display, on_stop: Callable[[], None]) -> Any:
    return await run_app(app, display.show, on_stop)
