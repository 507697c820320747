"""`streamflow storage`: how tables are stored, and how other data could be."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson
import pyarrow as pa

from streamflow import store_url
from streamflow.cli.samples import Sample, read_sample
from streamflow.clock import cpu_seconds
from streamflow.edges.local_files import LocalFiles
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError
from streamflow.ports import TableFiles
from streamflow.storage.advice import Suggestion, advise, as_code
from streamflow.storage.plan import Plan, decode_plan, encode_plan, make_plan, plan_names
from streamflow.storage.queries import Access, filtered, read_log
from streamflow.storage.report import describe_values, plan_lines, table_lines
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
SQL statements, one a line or ended by `;`: what their WHERE compares with values is looked for."""


@click.group(epilog=EPILOG)
def command() -> None:
    """Look at how tables are stored, and how other data could be."""


def _given(function: Any) -> Any:
    function = click.argument("paths", metavar="PATH...", nargs=-1, required=True)(function)
    function = click.option("--aim", type=click.Choice(AIMS), help="What files are to be.")(
        function
    )
    return click.option("--json", "as_json", is_flag=True, help="Print it as JSON on stdout.")(
        function
    )


@command.command(epilog=PLAN)
@_given
def plan(paths: tuple[str, ...], aim: Aim | None, as_json: bool) -> None:
    """Explain the storage plan of a table, or make one for files."""
    known = {} if aim else {path: _known(path) for path in paths}
    plans = [plan for found in known.values() for plan in found]
    files = tuple(path for path in paths if not known.get(path))
    if files:
        plans.append(_measure(_sample(files), aim or "balanced"))
    if as_json:
        click.echo(b"[%s]" % b",".join(map(encode_plan, plans)))
        return
    for i, one in enumerate(plans):
        click.echo("\n" * bool(i) + "\n".join(plan_lines(one)))


@command.command(epilog=ANALYZE)
@_given
@click.option("--filter", "filters", multiple=True, help="A column that queries look for.")
@click.option(
    "--query-log", type=click.Path(path_type=Path), help="A file of the SQL that is asked."
)
def analyze(
    paths: tuple[str, ...],
    aim: Aim | None,
    as_json: bool,
    filters: tuple[str, ...],
    query_log: Path | None,
) -> None:
    """Say what data is like, and what storing it otherwise would help."""
    logged = _logged(query_log)
    sample = _sample(paths)
    made = _measure(sample, aim or "balanced")
    access = _joined(logged, filtered(filters), sample.table.column_names)
    try:
        suggestions = advise(sample.table, made.profile, access, sample.bytes)
    except KeyError as error:
        names = ", ".join(sample.table.column_names)
        raise SettingsError(f"--filter {error.args[0]}: the columns are {names}") from None
    code = as_code(_table_name(paths), suggestions) if suggestions else None
    if as_json:
        click.echo(orjson.dumps(_document(sample, made, access, suggestions) | {"code": code}))
        return
    for line in _analysis(sample, made, access, suggestions):
        click.echo(line)
    if code:
        click.echo(f"as a table of a topology: {code}")


def _table_name(paths: tuple[str, ...]) -> str:
    """What to call a table of such files: by the folder they are in."""
    path = Path(paths[0])
    return (path if path.is_dir() else path.parent).resolve().name or "table"


def _known(path: str) -> list[Plan]:
    """The newest plan of each schema and aim beside a table; none beside any other path."""
    if store_url.is_url(path):
        problem = store_url.problem_of(path)
        if problem is not None:
            raise SettingsError(problem)
        return newest_plans(table_files(Settings.load(), path))
    try:
        folder = Path(path).resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise SettingsError(f"{path}: {error}") from None
    if not folder.with_name(f"{folder.name}.streamflow").is_dir():
        return []
    return newest_plans(LocalFiles(folder.parent, folder.name))


def newest_plans(files: TableFiles) -> list[Plan]:
    """The newest plan of each schema and aim of a table."""
    newest: dict[tuple[str, str], Plan] = {}
    for name in plan_names(files.names(private=True)):
        found = decode_plan(files.read(name, private=True), name)
        newest[found.schema_id, found.aim] = found
    return list(newest.values())


def _sample(paths: tuple[str, ...]) -> Sample:
    for path in paths:
        if store_url.is_url(path):
            raise SettingsError(
                f"{path}: there is no plan beside it, and only files on this machine are sampled"
            )
    return read_sample([Path(path) for path in paths], SAMPLE_ROWS)


def _measure(sample: Sample, aim: Aim) -> Plan:
    try:
        return make_plan(sample.table.combine_chunks(), aim, cpu_seconds, reason="asked for")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise SettingsError(f"no Parquet can be written of it: {error}") from None


def _logged(query_log: Path | None) -> Access:
    if query_log is None:
        return Access()
    try:
        return read_log(query_log.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--query-log {query_log} cannot be read: {error}") from None


def _joined(logged: Access, said: Access, columns: list[str]) -> Access:
    """Both, without what a log says of other tables; SQL does not tell letters by their case."""
    names = {name.lower(): name for name in columns}

    def here(found: Counter[str]) -> Counter[str]:
        return Counter({names[n.lower()]: c for n, c in found.items() if n.lower() in names})

    equal, ranges = here(logged.equal) + said.equal, here(logged.range) + said.range
    return Access(equal, ranges, logged.queries, logged.unread)


def _document(
    sample: Sample, made: Plan, access: Access, suggestions: list[Suggestion]
) -> dict[str, Any]:
    return {
        "files": sample.files,
        "bytes": sample.bytes,
        "rows": sample.rows,
        "sampled_rows": sample.table.num_rows,
        "columns": [asdict(profile) for profile in made.profile],
        "access": {"equal": access.equal, "range": access.range, "unread": access.unread},
        "sample_bytes": {
            "plan": made.bytes,
            "zstd": made.zstd_bytes,
            "snappy": made.snappy_bytes,
        },
        "suggestions": [asdict(suggestion) for suggestion in suggestions],
    }


def _analysis(
    sample: Sample, made: Plan, access: Access, suggestions: list[Suggestion]
) -> list[str]:
    rows = "" if sample.rows is None else f", {sample.rows:,} rows"
    cells = [(p.path, p.type, describe_values(p), _asked(access, p.path)) for p in made.profile]
    size = f"{sample.files:,} files, {sample.bytes:,} bytes{rows}"
    gain = f"{made.bytes:,} bytes, pyarrow's zstd {made.zstd_bytes:,}, snappy {made.snappy_bytes:,}"
    lines = [
        f"{size}; sampled {sample.table.num_rows:,} rows",
        *table_lines([("column", "type", "values", "asked for"), *cells], right=set()),
        f"a plan for {made.aim} files makes of the sample {gain}: see `streamflow storage plan`",
    ]
    lines += [f"{one.kind} by {', '.join(one.columns)}: {one.evidence}" for one in suggestions]
    if access.unread:
        lines.append(f"{access.unread:,} statements of the query log are no SQL that is known here")
    if not access.columns:
        lines.append("say what queries look for, with --filter or --query-log, for more")
    elif not suggestions:
        lines.append("nothing else would help: what is looked for is found well as it lies")
    return lines


def _asked(access: Access, path: str) -> str:
    kinds = [f"= {access.equal[path]}"] if access.equal[path] else []
    kinds += [f"range {access.range[path]}"] if access.range[path] else []
    return ", ".join(kinds)
