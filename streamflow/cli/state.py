"""`streamflow state`: what the states of a topology's tasks are, and where they go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import orjson

from streamflow.cli.environment import warn_of_unknown_variables
from streamflow.cli.load import load_topology
from streamflow.cli.on_broker import run_on_broker
from streamflow.cli.said import naming
from streamflow.cli.state_backup import backup, restore
from streamflow.core.seal import from_micros
from streamflow.core.step import INFINITY
from streamflow.counted import counted
from streamflow.edges.local_state import LocalState, local_state
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError
from streamflow.state.on_kafka import AppStates
from streamflow.state.reset import PLACES, Reset, plan_reset
from streamflow.state.standing import Standing
from streamflow.topology import Topology

EPILOG = """\b
Examples:
    streamflow state show topologies.flights
    streamflow state reset topologies.flights --source flights --to changelog
    streamflow state backup topologies.flights --to /backups"""

SHOW = """Example: streamflow state show topologies.flights --json

The changelog of each task is read as a whole. The local state is that of --worker-id on this
machine."""

RESET = f"""\b
Examples:
    streamflow state reset topologies.flights --source flights --to changelog
    streamflow state reset topologies.flights --source flights --partition 3 --to 1200 --yes

--to is one of {", ".join(PLACES)}, or an offset. Without --yes it only says what would be done, and
ends with 1. All workers of the app have to be stopped."""


def _connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which app, and which of its tasks."""
    options = [
        click.argument("topology"),
        click.option("--source", metavar="TOPIC", help="Tasks of this source; all if left out."),
        click.option("--partition", type=click.IntRange(0), help="One task; all if left out."),
        click.option("--broker", help="Kafka's bootstrap servers, HOST:PORT, comma separated."),
        click.option("--app-id", help="Consumer group; the topology's name if unset."),
        click.option("--topic-prefix", help="Put before every topic that the topology names."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(epilog=EPILOG)
def command() -> None:
    """Look at the state of a topology's tasks, copy it, and settle where they go on."""
    # What the client would log is raised too, and said once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    warn_of_unknown_variables()


command.add_command(backup)
command.add_command(restore)


@command.command(epilog=SHOW)
@_connected
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder of local states.")
@click.option("--worker-id", help="Names the worker's folder among them.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON on stdout.")
def show(
    topology: str, source: str | None, partition: int | None, as_json: bool, **given: Any
) -> None:
    """Show where each task of TOPOLOGY stands, and what its state holds."""
    settings = Settings.load(**given)
    loaded = load_topology(topology)
    standings = run_on_broker(settings, lambda: _look(loaded, settings, source, partition))
    folder = settings.state_dir / (settings.app_id or loaded.name) / settings.worker_id
    shown = [
        (one, local_state(folder, f"{one.place.tp.topic}-{one.place.tp.partition}"))
        for one in standings
    ]
    if as_json:
        click.echo(orjson.dumps([_document(one, local) for one, local in shown]))
        return
    for one, local in shown:
        for line in _lines(one, local):
            click.echo(line)


@command.command(epilog=RESET)
@_connected
@click.option("--to", required=True, metavar="POSITION", help="Where the tasks go on.")
@click.option("--discard", is_flag=True, help="Forget the state of the tasks.")
@click.option("--yes", is_flag=True, help="Do it.")
@click.pass_context
def reset(
    ctx: click.Context,
    topology: str,
    source: str | None,
    partition: int | None,
    to: str,
    discard: bool,
    yes: bool,
    **given: Any,
) -> None:
    """Settle where tasks of TOPOLOGY go on, where changelog, group and topic disagree."""
    if to not in PLACES and not to.isdecimal():
        raise SettingsError(f"--to {to!r}: say {', '.join(PLACES)}, or an offset")
    loaded = load_topology(topology)
    if source is None and len(loaded.tasks) > 1:
        raise SettingsError("the topology has several sources; name one with --source")
    if to.isdecimal() and partition is None:
        raise SettingsError("an offset is one of a partition; name it with --partition")
    settings = Settings.load(**given)
    tasks = (source, partition)
    with naming(topology, given):
        done = run_on_broker(settings, lambda: _reset(loaded, settings, tasks, to, discard, yes))
    ctx.exit(done)


async def _look(
    topology: Topology, settings: Settings, source: str | None, partition: int | None
) -> list[Standing]:
    async with AppStates(topology, settings) as states:
        places = await states.places(source, partition)
        return [await states.look(place) for place in places]


async def _reset(
    topology: Topology,
    settings: Settings,
    tasks: tuple[str | None, int | None],
    to: str,
    discard: bool,
    yes: bool,
) -> int:
    async with AppStates(topology, settings) as states:
        await states.refuse_members()
        standings = [await states.look(place) for place in await states.places(*tasks)]
        resets = [plan_reset(standing, to, discard=discard) for standing in standings]
        for planned in resets:
            for line in planned.words():
                click.echo(line)
        needed = [planned for planned in resets if planned.needed]
        if needed and not yes:
            click.echo("nothing was changed; add --yes to do it")
            return 1
        await states.carry_out(needed)
        _say_done(needed)
    return 0


def _say_done(done: Sequence[Reset]) -> None:
    if done:
        click.echo(f"done: {counted(len(done), 'task')}; start the workers")


def _document(one: Standing, local: LocalState) -> dict[str, Any]:
    return {
        "topic": one.place.tp.topic,
        "partition": one.place.tp.partition,
        "changelog": str(one.place.changelog),
        "commit": one.commit,
        "position": one.position,
        "group_offset": one.group,
        "first": one.first,
        "stop": one.stop,
        "watermark": _watermark(one),
        "problem": one.problem,
        "entries": dict(one.entries),
        "bytes": dict(one.sizes),
        "local": local.as_json(),
    }


def _lines(one: Standing, local: LocalState) -> list[str]:
    state = "no state" if one.meta is None else f"commit {one.commit}"
    lines = [f"{one.place.tp}: {state}, position {one.position}, group offset {one.group}"]
    lines.append(f"  watermark {_watermark(one)}; the topic has {one.first} to {one.stop}")
    if one.problem is not None:
        lines.append(f"  cannot be used: {one.problem}")
    for kind, number in sorted(one.entries.items()):
        lines.append(f"  {kind:<8} {number:>12,} entries  {one.sizes[kind]:>15,} bytes")
    lines.append(f"  local    {local.words()}")
    return lines


def _watermark(one: Standing) -> str | None:
    mark = one.watermark
    if mark is None:
        return None
    return "the end of input" if mark == INFINITY else from_micros(mark).isoformat()
