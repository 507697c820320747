"""What `streamflow pause` and `streamflow resume` share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import click

from streamflow.batch import TopicPartition
from streamflow.cli.environment import warn_of_unknown_variables
from streamflow.cli.load import load_topology
from streamflow.cli.on_broker import run_on_broker
from streamflow.clock import SystemClock
from streamflow.control import tell
from streamflow.engine.directives import Directive
from streamflow.engine.settings import Settings
from streamflow.service import connection
from streamflow.whoever import whoever

Command = Callable[..., None]


def options(command: Command) -> Command:
    """The arguments of both."""
    for add in reversed(
        [
            click.argument("topology"),
            click.option("--topic", help="One source of the topology; without it all."),
            click.option(
                "--partition",
                "partitions",
                type=click.IntRange(0),
                multiple=True,
                help="One partition, and more when given again; without it all.",
            ),
            click.option("--why", default="", help="For whoever looks at the status."),
            click.option("--broker", help="Kafka's bootstrap servers, HOST:PORT, comma separated."),
            click.option("--app-id", help="The app; the topology's name if unset."),
            click.option("--topic-prefix", help="Put before every topic that the topology names."),
        ]
    ):
        command = add(command)
    return command


def say(
    paused: bool,
    topology: str,
    topic: str | None,
    partitions: tuple[int, ...],
    why: str,
    given: dict[str, Any],
) -> list[TopicPartition]:
    """Say it; returns the partitions it was said of."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    warn_of_unknown_variables()
    settings = Settings.load(**given)
    loaded = load_topology(topology)
    names = settings.names(loaded.name)
    said = Directive(paused, SystemClock().now(), whoever(), " ".join(why.split()))
    client = connection(settings)
    return run_on_broker(
        settings, lambda: tell(client, loaded, names, said, source=topic, partitions=partitions)
    )
