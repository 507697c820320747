"""`streamflow worker`: run a topology on Kafka."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import signal
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from streamflow.cli.display import Display
from streamflow.cli.load import load_topology
from streamflow.clock import SystemClock
from streamflow.engine.run import run_app
from streamflow.engine.settings import Settings
from streamflow.engine.status import conservation
from streamflow.service import topology_app

EPILOG = """Example: streamflow worker topologies.flights --broker 127.0.0.1:9092

Every option is also a setting: STREAMFLOW_BROKER, STREAMFLOW_LAKE and so on."""


@click.command(epilog=EPILOG)
@click.argument("topology")
@click.option("--broker", help="Kafka's bootstrap servers, HOST:PORT, comma separated.")
@click.option("--app-id", help="Consumer group and internal topics; the topology's name if unset.")
@click.option("--topic-prefix", help="Put before every topic that the topology names.")
@click.option("--lake", type=click.Path(path_type=Path), help="Folder below which tables lie.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder of local states.")
@click.option("--worker-id", help="Names this worker's state folder; one per worker and machine.")
@click.option("--until-end", is_flag=True, help="Stop when all there is at the start is done.")
@click.option("--commit-interval", type=float, help="Seconds between commits at the most.")
@click.option("--web-port", type=int, help="Serve /live on this port of loopback.")
@click.option("--log-level", default="warning", show_default=True, help="Level of the log.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
def command(topology: str, log_level: str, as_json: bool, until_end: bool, **given: Any) -> None:
    """Run TOPOLOGY, a module such as topologies.flights, until it is told to stop."""
    set_up_log(log_level)
    faulthandler.register(signal.SIGUSR1)  # for whoever asks what a worker is doing
    settings = Settings.load(until_end=until_end or None, **given)
    loaded = load_topology(topology)
    console = Console(stderr=True)
    clock = SystemClock()
    started = clock.monotonic()
    with Display(console, loaded.name) as display:
        status = asyncio.run(_run(topology_app(loaded, settings), display))
    seconds = clock.monotonic() - started
    records = status.totals["in"]
    if as_json:
        summary = {"records": records, "seconds": seconds, **status.as_json()}
        click.echo(orjson.dumps(summary))
        return
    for line in conservation(status.totals):
        click.echo(line)
    click.echo(f"{status.files} files, {status.rows:,} rows, {seconds:.1f} s")


def set_up_log(level: str) -> None:
    """Log to stderr; the client's log, where retries look like errors, only with `info`."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    if logging.getLogger().level > logging.INFO:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


async def _run(app: Any, display: Display) -> Any:
    return await run_app(app, display.show)
