"""`streamflow run --local`: a topology over files, in one process, without Kafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click
import orjson
from rich.console import Console

from streamflow.batch import Record
from streamflow.cli.environment import warn_of_unknown_variables
from streamflow.cli.load import load_topology
from streamflow.clock import SystemClock
from streamflow.core.plan import TaskPlan
from streamflow.counted import counted
from streamflow.engine.settings import Settings
from streamflow.engine.status import conservation
from streamflow.errors import SettingsError
from streamflow.keying import keys_for
from streamflow.local import PARTITIONS, LocalResult, LocalRun
from streamflow.produce.file import why_not
from streamflow.produce.formats import FORMATS, Format, open_input
from streamflow.store_url import is_url
from streamflow.topology import Topology

EPILOG = """Example: streamflow run topologies.flights --local --input flights.ndjson

Inputs are JSON lines, CSV with a header or Parquet, as for `streamflow produce`; the topology has
the types of a CSV's fields. A line or row that is not a record of the topology's contract ends in
the file of its dead letters. All tables lie in the run's folder, those of object stores too. There
is no log to go on from, so a run is one attempt: its folder appears when the input is done. The end
of the files is that of the input, so all windows close there; rows that belong to them in a later
file come to results of their own in another run."""


@click.command(epilog=EPILOG)
@click.argument("topology")
@click.option("--local", is_flag=True, help="Over files; on Kafka it is `streamflow worker`.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[TOPIC=]FILE",
    help="Plain, gzip or zstd; name the topic where there are several. Repeatable.",
)
@click.option(
    "--format", "as_format", type=click.Choice(FORMATS), help="Of all files; else by name."
)
@click.option(
    "--output",
    help="Folder that the run makes; local-runs/NAME-TIME if left out.",
)
@click.option("--partitions", type=click.IntRange(1), default=PARTITIONS, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    topology: str,
    local: bool,
    inputs: tuple[str, ...],
    as_format: Format | None,
    output: str | None,
    partitions: int,
    as_json: bool,
) -> None:
    """Run TOPOLOGY, such as topologies.flights, over files until they end."""
    if not local:
        raise SettingsError("run needs --local; to run on Kafka use `streamflow worker`")
    if output is not None and is_url(output):
        raise SettingsError(f"--output {output}: a local run makes a folder on this machine")
    warn_of_unknown_variables()
    loaded = load_topology(topology)
    files = _files(loaded, inputs)
    clock = SystemClock()
    folder = (
        Path(output)
        if output
        else Path("local-runs") / f"{loaded.name}-{clock.now():%Y%m%d-%H%M%S}"
    )
    started = clock.monotonic()
    with Console(stderr=True).status(f"running {loaded.name}") as status:

        def progress(totals: Counter[str]) -> None:
            status.update(f"running {loaded.name}: {counted(totals['in'], 'record')}")

        plans = {plan.source.topic: plan for plan in loaded.tasks}
        records = {
            topic: _records(plans[topic], paths, as_format) for topic, paths in files.items()
        }
        run = LocalRun(loaded, folder, partitions=partitions, masks=Settings.load().masks)
        result = run.run(records, progress)
    _summary(result, clock.monotonic() - started, as_json=as_json)


def _summary(result: LocalResult, seconds: float, *, as_json: bool) -> None:
    if as_json:
        document = {
            "records": result.totals["in"],
            "seconds": seconds,
            "totals": dict(result.totals),
            "rules": dict(result.rules),
            "folder": str(result.folder),
            "files": result.files,
            "rows": result.rows,
        }
        click.echo(orjson.dumps(document))
        return
    for line in conservation(result.totals):
        click.echo(line)
    click.echo(
        f"{counted(result.files, 'Parquet file')}, {counted(result.rows, 'row')}, {seconds:.1f} s"
    )
    click.echo(f"all in {result.folder}")


def _files(topology: Topology, inputs: tuple[str, ...]) -> dict[str, list[Path]]:
    """The input files of each source topic.

    Raises:
        SettingsError: naming every file that is not there and every topic that is not read.
    """
    topics = [plan.source.topic for plan in topology.tasks]
    files: dict[str, list[Path]] = {}
    problems: list[str] = []
    for given in inputs:
        topic, named, path = given.partition("=")
        if not named:
            topic, path = topics[0], given
            if len(topics) > 1:
                problems.append(f"--input {given}: say for which topic, as one of {topics} and =")
        if topic not in topics:
            problems.append(f"--input {given}: {topology.name} reads {topics}, not {topic!r}")
        if refused := why_not(Path(path)):
            problems.append(f"--input {given}: {refused}")
        files.setdefault(topic, []).append(Path(path))
    if not inputs:
        problems.append("no --input; name at least one file of JSON lines")
    if problems:
        raise SettingsError("\n".join(problems))
    return files


def _records(plan: TaskPlan, paths: Iterable[Path], as_format: Format | None) -> Iterator[Record]:
    """Each line or row as a record, keyed as the source says; the bytes of a line unchanged."""
    types = plan.source.contract.json_types
    for path in paths:
        with ExitStack() as stack:
            for chunk in open_input(path, stack, format=as_format, types=types).chunks():
                values = [line.rstrip(b"\r") for line in chunk.values]
                yield from map(Record, keys_for(plan.source, values), values)
