"""`streamflow check`: everything that would stop a worker, before one is started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson

from streamflow.check import Finding, check
from streamflow.cli.environment import warn_of_unknown_variables
from streamflow.cli.load import load_topology
from streamflow.counted import counted
from streamflow.engine.settings import Settings
from streamflow.errors import StreamflowError
from streamflow.produce.topics import PARTITIONS
from streamflow.topology import Topology

EPILOG = """\b
Example:
    streamflow check topologies.flights --broker 127.0.0.1:9092 --create-topics

TOPOLOGY is a module or a file, with :NAME where its attribute is not called topology. Exit code 0
means that a worker with the same options can start, 1 that there are problems; all are listed."""


@click.command(epilog=EPILOG)
@click.argument("topology")
@click.option("--create-topics", is_flag=True, help="Make the topics that are missing.")
@click.option(
    "--partitions",
    type=click.IntRange(1),
    default=PARTITIONS,
    show_default=True,
    help="Partitions of source topics that are made.",
)
@click.option("--broker", help="Kafka's bootstrap servers, HOST:PORT, comma separated.")
@click.option("--app-id", help="Consumer group and internal topics; the topology's name if unset.")
@click.option("--topic-prefix", help="Put before every topic that the topology names.")
@click.option("--lake", help="Folder below which tables lie, or an address: s3://bucket/lake.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder of local states.")
@click.option("--worker-id", help="Names this worker's state folder; one per worker and machine.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    topology: str,
    create_topics: bool,
    partitions: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Check TOPOLOGY, a module such as topologies.flights, and all that it needs to run."""
    # What the client would log is raised too, and said once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    warn_of_unknown_variables()
    settings = Settings.load(**given)
    findings = asyncio.run(check(_load(topology), settings, partitions if create_topics else None))
    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        document = {"ok": not problems, "findings": [asdict(finding) for finding in findings]}
        click.echo(orjson.dumps(document))
    else:
        for line in listing(findings):
            click.echo(line)
    ctx.exit(1 if problems else 0)


def listing(findings: Sequence[Finding]) -> list[str]:
    """A line for each thing that was looked at, and one below it for what to do."""
    lines: list[str] = []
    for finding in findings:
        what = finding.what.replace("\n", f"\n{'':<9}")
        lines.append(f"{finding.level:<7}  {what}")
        if finding.fix:
            lines.append(f"{'':<7}  -> {finding.fix}")
    problems = sum(finding.level == "problem" for finding in findings)
    if problems:
        lines.append(counted(problems, "problem"))
    return lines


def _load(topology: str) -> Topology | StreamflowError:
    try:
        return load_topology(topology)
    except StreamflowError as error:
        return error
