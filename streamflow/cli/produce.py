"""`streamflow produce`: lines of JSON, CSV and Parquet to a topic."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import orjson
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streamflow.cli.environment import warn_of_unknown_variables
from streamflow.cli.load import load_topology
from streamflow.cli.on_broker import run_on_broker
from streamflow.clock import SystemClock
from streamflow.counted import counted
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError
from streamflow.produce.chunk import Input
from streamflow.produce.formats import FORMATS, STDIN, Format, open_input
from streamflow.produce.records import RecordRules, Records
from streamflow.produce.send import Tally, produce_chunks
from streamflow.produce.topics import existing_topic, made_topic
from streamflow.service import connection
from streamflow.sources import Source

EPILOG = """\b
Examples:
    streamflow produce orders orders.ndjson --key customer --create
    streamflow produce orders orders.csv.gz orders.parquet --key customer
    tail -f app.log | streamflow produce logs --keep-bad

Each line of JSON is one record, and its bytes go out as they are. Each row of a CSV with a header,
and of Parquet, becomes a JSON object. What a file is, its name says, or --format. Files that are
gzip or Zstandard are unpacked. CSV has no types: a cell becomes text as it is written, which a
model reads as its fields say, and an empty one null, unless it is quoted; with --types, numbers,
booleans and lists of that topology's fields go out as such, and records have the key that it
declares. CSV goes out in blocks of 4 MB.

--key takes text, numbers and booleans; said several times, the key is a JSON object of the fields.
--timestamp takes ISO 8601 text (UTC where it names no zone) or an epoch number: below 1e11 it
counts seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. Kafka refuses a
time more than an hour ahead. A line that is not JSON, a row that has not as many fields as the
header, or one that lacks a field ends the command, with what came before it sent."""


@click.command(epilog=EPILOG)
@click.argument("topic")
@click.argument(
    "files",
    nargs=-1,
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="[FILE]...",
)
@click.option(
    "--format", "as_format", type=click.Choice(FORMATS), help="Of all files; else by name."
)
@click.option(
    "--types", metavar="TOPOLOGY", help="Whose source of TOPIC has the types for CSV, and the key."
)
@click.option(
    "--key", metavar="FIELD", multiple=True, help="The field that is the record's key; or several."
)
@click.option("--timestamp", metavar="FIELD", help="The field with the record's time; else now.")
@click.option(
    "--keep-bad", is_flag=True, help="Send bad lines and rows too, to test your dead letters."
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Records per second.")
@click.option("--create", is_flag=True, help="Make the topic if it does not exist.")
@click.option("--partitions", type=click.IntRange(1), help="As --create, with this many.")
@click.option("--broker", help="Kafka's bootstrap servers, HOST:PORT, comma separated.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
def command(
    topic: str,
    files: Sequence[Path],
    as_format: Format | None,
    types: str | None,
    broker: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Send JSON lines, CSV or Parquet from files, or from standard input, to a topic."""
    # What the client would log is raised too, and said once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    warn_of_unknown_variables()
    settings = Settings.load(broker=broker)
    client = connection(settings)
    with ExitStack() as stack:
        source = None if types is None else _source(types, topic, settings.topic_prefix)
        columns = None if source is None else source.contract.json_types
        inputs = [_open(path, stack, as_format, columns) for path in files or (STDIN,)]
        rules, tally = _rules(options, source), Tally()
        try:
            summary = run_on_broker(
                settings,
                lambda: _produce(client, topic, inputs, rules, options, tally),
            )
        except KeyboardInterrupt:
            click.echo(interrupted(topic, tally), err=True)
            raise
    if as_json:
        click.echo(orjson.dumps(summary))
    else:
        click.echo(_sentence(summary))


async def _produce(
    client: dict[str, Any],
    topic: str,
    inputs: Sequence[Input],
    rules: RecordRules,
    options: dict[str, Any],
    tally: Tally,
) -> dict[str, Any]:
    if options["create"] or options["partitions"]:
        partitions, limits = await made_topic(client, topic, options["partitions"])
    else:
        partitions, limits = await existing_topic(client, topic)
    clock = SystemClock()
    records = Records(inputs, rules, limits, clock)
    started = clock.monotonic()
    with _progress(topic, inputs) as on_progress:
        count = await produce_chunks(
            client,
            topic,
            records.chunks(),
            partitions,
            on_progress,
            rate=options["rate"],
            clock=clock,
            tally=tally,
        )
    seconds = clock.monotonic() - started
    return {
        "topic": topic,
        "partitions": partitions,
        "records": count,
        "bad": records.bad,
        "bytes": records.nbytes,
        "seconds": round(seconds, 3),
        "records_per_second": round(count / seconds) if seconds > 0 else 0,
    }


def _source(target: str, topic: str, prefix: str) -> Source:
    """What a topology declares of the topic, before whose name its workers put the prefix."""
    topology = load_topology(target)
    plans = {prefix + plan.source.topic: plan for plan in topology.tasks}
    if topic not in plans:
        raise SettingsError(f"--types {target}: {topology.name} reads {list(plans)}, not {topic!r}")
    return plans[topic].source


def _rules(options: dict[str, Any], source: Source | None) -> RecordRules:
    """The key is that of the source, unless other fields are named."""
    keys: tuple[str, ...] = options["key"]
    twice = [name for name in keys if keys.count(name) > 1]
    if twice:
        raise SettingsError(f"--key {twice[0]} is there twice; leave one out")
    keyed = source if source is not None and keys in ((), source.keys) else None
    return RecordRules(keys, keyed, options["timestamp"], options["keep_bad"])


def _open(
    path: Path,
    stack: ExitStack,
    as_format: Format | None,
    types: Mapping[str, pa.DataType] | None,
) -> Input:
    if path == STDIN and sys.stdin.isatty():
        click.echo("reading lines from the terminal; Ctrl-D ends", err=True)
    return open_input(path, stack, format=as_format, types=types)


def _size(inputs: Sequence[Input]) -> int | None:
    """Bytes of all inputs, None if one has no size that is known before it ends."""
    paths = [Path(file.name) for file in inputs]
    return sum(path.stat().st_size for path in paths) if all(map(Path.is_file, paths)) else None


@contextmanager
def _progress(topic: str, inputs: Sequence[Input]) -> Generator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(topic, total=_size(inputs), records=0, rate=0.0)

        def show(count: int) -> None:
            elapsed = progress.tasks[task].elapsed
            rate = count / elapsed if elapsed else 0.0
            taken = sum(file.taken for file in inputs)
            progress.update(task, completed=taken, records=count, rate=rate)

        yield show


def interrupted(topic: str, tally: Tally) -> str:
    """What is in the topic, for whoever wants to go on from there."""
    line = (
        f"interrupted: {counted(tally.acknowledged, 'record is', 'records are')} in {topic},"
        " acknowledged"
    )
    open_ones = tally.sent - tally.acknowledged
    return f"{line}; of {open_ones:,} more that is not known" if open_ones else line


def _sentence(summary: dict[str, Any]) -> str:
    bad = f" ({counted(summary['bad'], 'bad one')} kept)" if summary["bad"] else ""
    return (
        f"{counted(summary['records'], 'record')}{bad}, {summary['bytes'] / 1e6:,.1f} MB in "
        f"{summary['seconds']:.1f} s, {summary['records_per_second']:,} records/s, "
        f"to {summary['topic']} ({counted(summary['partitions'], 'partition')})"
    )
