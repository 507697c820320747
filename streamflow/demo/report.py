"""The summary of a demonstration run, in one screen."""

from __future__ import annotations

from streamflow.batch import Record
from streamflow.counted import counted
from streamflow.demo.outcome import Outcome
from streamflow.engine.status import conservation

#: Values are shown up to this many characters.
SHOWN = 68


def report(outcome: Outcome) -> list[str]:
    """The lines of the summary."""
    totals = outcome.totals
    lines = ["", "every record accounted for"]
    lines += [f"  {line}" for line in conservation(totals)]
    lines += ["", f"results: {counted(totals['results'], 'window')} emitted"]
    for table in outcome.tables:
        size = f"{table.bytes / 1e6:.1f} MB"
        lines.append(
            f"  {table.name}: {counted(table.rows, 'row')} in"
            f" {counted(table.files, 'Parquet file')}, {size}"
        )
    lines += ["", f"dead letters: {totals['rejected']:,}, for example"]
    for letter in outcome.letters:
        lines += _letter(letter)
    traced = outcome.traced
    lines += ["", "one Parquet row, traced"]
    lines.append(f"  {traced.file.relative_to(outcome.lake.parent)} row {traced.row}")
    lines.append(f"  is {traced}, whose bytes are")
    lines.append(f"  {_short(outcome.original.value)}")
    rate = totals["in"] / outcome.seconds
    lines += [
        "",
        f"{counted(totals['in'], 'record')} in {outcome.seconds:.1f} s: {rate:,.0f} records/s",
    ]
    lines += ["", "query it:", f"  {query(outcome)}"]
    return lines


def query(outcome: Outcome) -> str:
    """The one-liner that queries the result."""
    pattern = f"{outcome.lake}/hourly/**/*.parquet"
    # Shown to a person, who wrote the path; nothing runs it here.
    sql = f"SELECT origin, sum(flights), max(max_delay) FROM '{pattern}' GROUP BY ALL ORDER BY 1"  # noqa: S608
    return f'.venv/bin/python -c "import duckdb; print(duckdb.sql(\\"{sql}\\"))"'


def _letter(letter: Record) -> list[str]:
    context = {name: (value or b"").decode() for name, value in letter.headers if "error" in name}
    where = "{}[{}]@{}".format(
        *(context[f"__connect.errors.{part}"] for part in ("topic", "partition", "offset"))
    )
    why = context["__connect.errors.exception.message"]
    return [f"  {where}: {why}", f"    {_short(letter.value)}"]


def _short(value: bytes | None) -> str:
    text = (value or b"").decode(errors="replace")
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
