"""`streamflow demo`: the main job on real data, from an empty machine to a queried table."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from streamflow.broker import BrokerError
from streamflow.clock import SystemClock
from streamflow.demo.embedded import demo_embedded
from streamflow.demo.on_kafka import Run, demo_on_kafka
from streamflow.demo.outcome import Outcome
from streamflow.demo.report import report

EPILOG = """Example: streamflow demo

Each run writes a folder of its own below --folder; nothing is left running."""


@click.command(epilog=EPILOG)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-runs"),
    show_default=True,
    help="Where the runs' tables go.",
)
@click.option("--embedded", is_flag=True, help="Use the embedded mode, without a Kafka.")
def command(folder: Path, embedded: bool) -> None:
    """Send real flights through Kafka into Parquet, and look at the result."""
    signal.signal(signal.SIGTERM, _leave)
    console = Console(stderr=True)
    clock = SystemClock()
    name = f"flights-{clock.now():%Y%m%d-%H%M%S}"
    run = Run(name, folder / name)
    outcome = _embedded(run, console) if embedded else _run(run, console)
    for line in report(outcome):
        click.echo(line)


def _run(run: Run, console: Console) -> Outcome:
    try:
        return demo_on_kafka(run, console, SystemClock())
    except BrokerError as error:
        console.print(f"no Kafka: {error}", style="yellow", highlight=False)
        console.print("going on without one, in the embedded mode", style="yellow")
        return _embedded(run, console)


def _embedded(run: Run, console: Console) -> Outcome:
    return demo_embedded(run.folder, console, SystemClock())


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave through every `finally`, so that nothing stays running."""
    sys.exit(128 + number)
