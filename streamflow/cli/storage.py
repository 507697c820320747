"""`streamflow storage`: how tables are stored, and how other data could be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import orjson
import pyarrow as pa

from streamflow import store_url
from streamflow.cli.sample_files import Text, Unreadable
from streamflow.cli.sample_types import types_said
from streamflow.cli.samples import Sample, read_sample
from streamflow.cli.storage_analysis import analysis_of, of_table, taken
from streamflow.clock import cpu_seconds
from streamflow.edges.local_files import LocalFiles
from streamflow.engine.settings import Settings
from streamflow.engine.table_folders import known_folders
from streamflow.errors import SettingsError
from streamflow.ports import TableFiles
from streamflow.storage.folders import folder_lines
from streamflow.storage.plan import Plan, decode_plan, encode_plan, make_plan, plan_names
from streamflow.storage.queries import QueryLog, read_log
from streamflow.storage.report import plan_lines
from streamflow.table_files import table_files
from streamflow.writer_settings import AIMS, Aim

#: Rows of a sample: more than a sink takes, since nobody waits for this in a hurry.
SAMPLE_ROWS = 32_768

EPILOG = """Example: streamflow storage plan lake/flights"""

PLAN = """\b
Examples:
    streamflow storage plan lake/flights
    streamflow storage plan s3://bucket/lake/flights --json
    streamflow storage plan --aim smallest events.ndjson.gz more/*.parquet

For the folder of a table that a sink writes, it shows the plan that lies beside it: what each
column is written with, and the numbers that were measured. For any other files, and with --aim, it
measures one on a sample. Columns zstd and snappy compare with what pyarrow writes by itself when it
is told no more than that."""

ANALYZE = """\b
Examples:
    streamflow storage analyze lake/flights --filter carrier --filter time_hour
    streamflow storage analyze exports/ --query-log queries.sql

Looks at a sample of Parquet, CSV or lines of JSON, and says what the columns are like, what a plan
would save, and what would help queries: folders, an order of rows, Bloom filters. A query log has
SQL statements, one a line or ended by `;`: what their WHERE compares with values is looked for, of
the table that is called as the folder is, or as --table says. Columns of CSV are what their values
look like, or what --type says, as in --type price=decimal(9,2)."""


@click.group(epilog=EPILOG)
def command() -> None:
    """Look at how tables are stored, and how other data could be."""


def _given(function: Any) -> Any:
    function = click.option(
        "--type",
        "types",
        multiple=True,
        metavar="COLUMN=TYPE",
        help="Of CSV: text, int, float, bool, date, timestamp or decimal(9,2).",
    )(function)
    function = click.argument("paths", metavar="PATH...", nargs=-1, required=True)(function)
    function = click.option("--aim", type=click.Choice(AIMS), help="What files are to be.")(
        function
    )
    return click.option("--json", "as_json", is_flag=True, help="Print it as JSON on stdout.")(
        function
    )


@command.command(epilog=PLAN)
@_given
def plan(paths: tuple[str, ...], aim: Aim | None, as_json: bool, types: tuple[str, ...]) -> None:
    """Explain the storage plan of a table, or make one for files."""
    tables = {path: files for path in paths if (files := _beside(path)) is not None}
    known = {} if aim else {path: newest_plans(files) for path, files in tables.items()}
    folders = [found for files in tables.values() if (found := known_folders(files)) is not None]
    plans = [plan for found in known.values() for plan in found]
    files = tuple(path for path in paths if not known.get(path))
    notes: Sequence[str] = ()
    if types and not files:
        raise SettingsError(
            f"--type {types[0]}: types are said of columns of CSV, and {', '.join(paths)} has a"
            " plan already; leave it out"
        )
    if files:
        sample = _sample(files, types)
        notes = [*sample.notes, *taken(sample)]
        plans.append(_measure(sample, aim or "balanced"))
    if as_json:
        click.echo(b"[%s]" % b",".join(map(encode_plan, plans)))
        return
    for i, one in enumerate(plans):
        click.echo("\n" * bool(i) + "\n".join(plan_lines(one)))
    for line in [*notes, *(line for one in folders for line in folder_lines(one))]:
        click.echo(line)


@command.command(epilog=ANALYZE)
@_given
@click.option("--filter", "filters", multiple=True, help="A column that queries look for.")
@click.option(
    "--query-log", type=click.Path(path_type=Path), help="A file of the SQL that is asked."
)
@click.option("--table", help="What the query log calls the data; else the name of its folder.")
def analyze(
    paths: tuple[str, ...],
    aim: Aim | None,
    as_json: bool,
    types: tuple[str, ...],
    filters: tuple[str, ...],
    query_log: Path | None,
    table: str | None,
) -> None:
    """Say what data is like, and what storing it otherwise would help."""
    log = _logged(query_log)
    sample = _sample(paths, types)
    made = _measure(sample, aim or "balanced")
    name = _table_name(paths)
    logged, notes = of_table(log, table, name)
    analysis = analysis_of(sample, made, logged, filters, [*sample.notes, *notes], name)
    if as_json:
        click.echo(orjson.dumps(analysis.document()))
        return
    for line in analysis.lines():
        click.echo(line)


def _table_name(paths: tuple[str, ...]) -> str:
    """What to call a table of such files: by the folder they are in."""
    path = Path(paths[0])
    return (path if path.is_dir() else path.parent).resolve().name or "table"


def _beside(path: str) -> TableFiles | None:
    """What lies beside a table; None for any other path."""
    if store_url.is_url(path):
        problem = store_url.problem_of(path)
        if problem is not None:
            raise SettingsError(problem)
        return table_files(Settings.load(), path)
    try:
        folder = Path(path).resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise SettingsError(f"{path}: {error}") from None
    if not folder.with_name(f"{folder.name}.streamflow").is_dir():
        return None
    return LocalFiles(folder.parent, folder.name)


def newest_plans(files: TableFiles) -> list[Plan]:
    """The newest plan of each schema and aim of a table."""
    newest: dict[tuple[str, str], Plan] = {}
    for name in plan_names(files.names(private=True)):
        found = decode_plan(files.read(name, private=True), name)
        newest[found.schema_id, found.aim] = found
    return list(newest.values())


def _sample(paths: tuple[str, ...], types: tuple[str, ...]) -> Sample:
    for path in paths:
        if store_url.is_url(path):
            problem = store_url.problem_of(path)
            raise SettingsError(
                problem
                or f"{path}: there is no plan beside it, and only files on this machine are sampled"
            )
    return read_sample([Path(path) for path in paths], SAMPLE_ROWS, types_said(types))


def _measure(sample: Sample, aim: Aim) -> Plan:
    try:
        return make_plan(sample.table.combine_chunks(), aim, cpu_seconds, reason="asked for")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise SettingsError(f"no Parquet can be written of it: {error}") from None


def _logged(query_log: Path | None) -> QueryLog:
    if query_log is None:
        return QueryLog()
    # Of a statement that it does not know it warns: such a one has no WHERE that counts.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        text = Text(query_log.read_bytes(), whole=True)
        text.check_utf_8()
    except OSError as error:
        raise SettingsError(f"--query-log {query_log} cannot be read: {error.strerror}") from None
    except Unreadable as error:
        raise SettingsError(f"--query-log {query_log} cannot be read: {error}") from None
    log = read_log(text.data.decode("utf-8-sig"))
    if not log.queries and not log.unread:
        raise SettingsError(
            f"--query-log {query_log}: there is no query in it; give statements of SQL, one a line"
            " or ended by `;`, or leave it out"
        )
    return log
