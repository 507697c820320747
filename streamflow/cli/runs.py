"""`streamflow runs`: what the workers of an app have done, from its run journal."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, get_args

import click
import orjson

from streamflow.cli.environment import warn_of_unknown_variables
from streamflow.cli.load import load_topology
from streamflow.cli.on_broker import run_on_broker
from streamflow.cli.said import filled
from streamflow.clock import SystemClock
from streamflow.core.journal import Execution, Run, State
from streamflow.counted import counted
from streamflow.edges.kafka_runs import written_runs
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError
from streamflow.service import connection

EPILOG = """\b
Examples:
    streamflow runs topologies.flights
    streamflow runs topologies.flights may --json
    streamflow runs topologies.flights --state failed --state lost

A run is the live app, or a part of its sources under a --run-id. A worker writes down how far it is
every 15 seconds and when it ends; one that has been silent for three minutes is lost: killed,
frozen or without a broker. Records are those of the partitions, since the run began."""

#: Where a run was without a process for longer, altogether, the time with one is told too.
GAP = timedelta(minutes=1)


@click.command(epilog=EPILOG)
@click.argument("topology")
@click.argument("run", required=False)
@click.option(
    "--state", "states", type=click.Choice(get_args(State)), multiple=True, help="Only such runs."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The last N.")
@click.option("--broker", help="Kafka's bootstrap servers, HOST:PORT, comma separated.")
@click.option("--app-id", help="The app; the topology's name if unset.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON on stdout.")
def command(
    topology: str,
    run: str | None,
    states: tuple[State, ...],
    limit: int,
    as_json: bool,
    **given: Any,
) -> None:
    """List the runs of TOPOLOGY, oldest first; one RUN with every process that worked on it."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    warn_of_unknown_variables()
    settings = Settings.load(**given)
    names = settings.names(load_topology(topology).name).live
    found = run_on_broker(settings, lambda: written_runs(connection(settings), names))
    now = SystemClock().now()
    shown = [one for one in found if run in (None, one.id)]
    if run is not None and not shown:
        known = ", ".join(one.id for one in found) or "none"
        raise SettingsError(f"the app {names.app!r} has no run {run!r}; it has {known}")
    shown = [one for one in shown if not states or one.state(now) in states][-limit:]
    if as_json:
        click.echo(orjson.dumps([one.as_json(now) for one in shown]))
        return
    if not shown:
        click.echo(f"no {' or '.join(states)} run of {names.app!r}".replace("no  run", "no run"))
    for one in shown:
        for line in lines_of(one, now, whole=run is not None):
            click.echo(filled(line, topology, given))


def lines_of(run: Run, now: datetime, whole: bool) -> list[str]:
    """A run in words; the `whole` of it with every process that worked on it."""
    lines = [
        f"{run.id}: {run.state(now)}{_when(run.started, run.ended(now), now, run.worked(now))}"
    ]
    if run.ranges is not None:
        lines.append(f"  reads from {run.ranges.start} to {run.ranges.stop}")
    if run.executions and not run.tasks:
        lines.append("  nothing is said of its partitions yet")
    elif run.executions and not run.totals:  # archives count none
        lines.append(f"  nothing is counted of its {counted(len(run.tasks), 'partition')}")
    elif run.executions:
        totals = run.totals
        lines.append(
            f"  {counted(totals['in'], 'record')} of {counted(len(run.tasks), 'partition')},"
            f" {counted(totals['rejected'], 'dead letter')}, quality {run.score:.1f} of 100"
        )
    if whole:
        lines += [line for one in run.executions for line in _of_process(one, now)]
    elif run.error:
        lines.append(f"  {run.error}")
    return lines


def _of_process(one: Execution, now: datetime) -> list[str]:
    state = one.seen(now)
    ended = None if state == "running" else one.ended or one.heard
    said = f"  {one.id}: {state}{_when(one.started, ended, now)}, worker {one.worker!r} of {one.by}"
    if state == "running":
        said += f", heard of {(now - one.heard).total_seconds():.0f} s ago"
    about = f"    topology {one.topology} {one.version}, delivery {one.delivery}"
    how_far = [f"    {tp} to {progress.position:,}" for tp, progress in sorted(one.tasks.items())]
    return [said, about, *how_far, *([f"    {one.error}"] if one.error else [])]


def _when(
    started: datetime | None, ended: datetime | None, now: datetime, worked: timedelta | None = None
) -> str:
    if started is None:
        return ""
    took = (ended or now) - started
    word = "for" if ended is None else "after"
    gaps = worked is not None and took - worked > GAP
    at_work = f", at work for {_seconds(worked)} of it" if worked is not None and gaps else ""
    return f" {word} {_seconds(took)}{at_work}, began {started:%Y-%m-%d %H:%M:%S}Z"


def _seconds(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds()))
