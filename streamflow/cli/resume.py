"""`streamflow resume`: let partitions go on that an operator, or a gate, has paused."""

from __future__ import annotations

from typing import Any

import click

from streamflow.cli.control import options, say

EPILOG = """\b
Example:
    streamflow resume topologies.flights --partition 3

Running workers go on within about a second. Where a gate has stopped a partition, or halted its
task, before now, it goes on on trial, as with `streamflow worker --resume`."""


@click.command(epilog=EPILOG)
@options
def command(
    topology: str, topic: str | None, partitions: tuple[int, ...], why: str, **given: Any
) -> None:
    """Let partitions of the sources of TOPOLOGY go on."""
    for tp in say(False, topology, topic, partitions, why, given):
        click.echo(f"resumed {tp}")
