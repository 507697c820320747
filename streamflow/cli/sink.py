"""`streamflow sink`: what a topology's tables still owe their readers."""

from __future__ import annotations

import logging
from typing import Any

import click
import orjson

from streamflow.batch import TopicPartition
from streamflow.cli.environment import warn_of_unknown_variables
from streamflow.cli.load import load_topology
from streamflow.cli.on_broker import run_on_broker
from streamflow.counted import counted
from streamflow.drain import drain as drain_sink
from streamflow.engine.settings import Settings
from streamflow.engine.sink_roll import Written

EPILOG = """Example: streamflow sink drain topologies.flights hourly"""

DRAIN = """\b
Example:
    streamflow sink drain topologies.flights old-table --table old/table

SINK is the table's path with - for /. Workers may go on meanwhile: whoever takes a cut first
decides it, and nothing is written twice."""


@click.group(epilog=EPILOG)
def command() -> None:
    """Make files of what is committed for a table."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    warn_of_unknown_variables()


@command.command(epilog=DRAIN)
@click.argument("topology")
@click.argument("sink")
@click.option("--table", help="Its path below the lake, where that is not its name.")
@click.option("--lake", help="Folder below which tables lie, or an address: s3://bucket/lake.")
@click.option("--broker", help="Kafka's bootstrap servers, HOST:PORT, comma separated.")
@click.option("--app-id", help="Consumer group; the topology's name if unset.")
@click.option("--topic-prefix", help="Put before every topic that the topology names.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON on stdout.")
def drain(topology: str, sink: str, table: str | None, as_json: bool, **given: Any) -> None:
    """Make files of all that is committed for SINK, which TOPOLOGY may have no more."""
    settings = Settings.load(**given)
    loaded = load_topology(topology)

    def done(tp: TopicPartition, written: Written) -> None:
        if not as_json:
            click.echo(
                f"{tp}: {counted(written.files, 'file')}, {counted(written.rows, 'row')}", err=True
            )

    written = run_on_broker(
        settings, lambda: drain_sink(loaded, settings, sink, table or sink, done)
    )
    if as_json:
        click.echo(orjson.dumps({"files": written.files, "rows": written.rows}))
    else:
        click.echo(
            f"{sink}: {counted(written.files, 'file')}, {counted(written.rows, 'row')}; nothing"
            " is left"
        )
