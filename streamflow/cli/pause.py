"""`streamflow pause`: let partitions stand, whatever worker has them."""

from __future__ import annotations

from typing import Any

import click

from streamflow.cli.control import options, say

EPILOG = """\b
Example:
    streamflow pause topologies.flights --partition 3 --why "the registry is being moved"

What is in hand is committed, then nothing more of these partitions is processed: by running workers
within about a second, by all others when they start, until `streamflow resume`. Workers stay in
their group."""


@click.command(epilog=EPILOG)
@options
def command(
    topology: str, topic: str | None, partitions: tuple[int, ...], why: str, **given: Any
) -> None:
    """Pause partitions of the sources of TOPOLOGY, a module such as topologies.flights."""
    for tp in say(True, topology, topic, partitions, why, given):
        click.echo(f"paused {tp}")
