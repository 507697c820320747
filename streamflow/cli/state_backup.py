"""`streamflow state backup` and `restore`: copies of a worker's states, while it is stopped."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from streamflow.cli.load import load_topology
from streamflow.clock import SystemClock, millis
from streamflow.edges.rocksdb import StateFolder
from streamflow.engine.settings import Settings
from streamflow.errors import StateRefused
from streamflow.state.backup import back_up_all, restore_one
from streamflow.state.on_kafka import AppStates
from streamflow.states import name_of
from streamflow.topology import Topology

BACKUP = """Example: streamflow state backup topologies.flights --to /backups

The worker has to be stopped; one that runs makes backups by itself where STREAMFLOW_BACKUP_DIR is
set. No broker is asked. Of each task the last two copies are kept."""

RESTORE = """Example: streamflow state restore topologies.flights --from /backups

The worker has to be stopped. Each backup is held against the task's changelog first; one that
cannot be gone on from is refused, and the exit code is 1. A state that is there stays."""


@click.command(epilog=BACKUP)
@click.argument("topology")
@click.option("--to", required=True, type=click.Path(path_type=Path), help="Folder of backups.")
@click.option("--app-id", help="Consumer group; the topology's name if unset.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder of local states.")
@click.option("--worker-id", help="Names the worker's folder among them.")
def backup(topology: str, to: Path, **given: Any) -> None:
    """Copy the local states of a worker of TOPOLOGY, which is stopped."""
    settings = Settings.load(**given)
    app = settings.names(load_topology(topology).name).app
    now_ms = millis(SystemClock().now())
    for line in back_up_all(settings.state_dir / app / settings.worker_id, to / app, now_ms):
        click.echo(line)


@click.command(epilog=RESTORE)
@click.argument("topology")
@click.option(
    "--from",
    "copies",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of backups.",
)
@click.option("--source", metavar="TOPIC", help="Tasks of this source; all if left out.")
@click.option("--partition", type=click.IntRange(0), help="One task; all if left out.")
@click.option("--broker", help="Kafka's bootstrap servers, HOST:PORT, comma separated.")
@click.option("--app-id", help="Consumer group; the topology's name if unset.")
@click.option("--topic-prefix", help="Put before every topic that the topology names.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder of local states.")
@click.option("--worker-id", help="Names the worker's folder among them.")
@click.pass_context
def restore(
    ctx: click.Context,
    topology: str,
    copies: Path,
    source: str | None,
    partition: int | None,
    **given: Any,
) -> None:
    """Put backups back where a worker of TOPOLOGY, which is stopped, has no local state."""
    settings = Settings.load(**given)
    tasks = (source, partition)
    ctx.exit(asyncio.run(_restore(load_topology(topology), settings, tasks, copies)))


async def _restore(
    topology: Topology, settings: Settings, tasks: tuple[str | None, int | None], copies: Path
) -> int:
    app, refused = settings.names(topology.name).app, 0
    folder = settings.state_dir / app / settings.worker_id
    async with AppStates(topology, settings) as states:
        with closing(StateFolder(folder)):
            for place in await states.places(*tasks):
                of, bounds = await states.changelog(place)
                name, now = name_of(place.tp), SystemClock().now()
                try:
                    for line in restore_one(folder / name, copies / app / name, of, bounds, now):
                        click.echo(line)
                except StateRefused as error:
                    click.echo(str(error))
                    refused += 1
    return 1 if refused else 0
