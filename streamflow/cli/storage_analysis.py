"""What `streamflow storage analyze` says: of the data, of who asks for it, and what would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from streamflow.cli.samples import Sample
from streamflow.counted import counted
from streamflow.errors import SettingsError
from streamflow.storage.advice import Suggestion, advise, as_code, remarks
from streamflow.storage.plan import Plan
from streamflow.storage.queries import Access, QueryLog, filtered
from streamflow.storage.report import describe_values, table_lines


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that is known of a data set; `in_folders` is asked for, and names folders already."""

    sample: Sample
    plan: Plan
    access: Access
    in_folders: Access
    suggestions: Sequence[Suggestion]
    remarks: Sequence[str]
    notes: Sequence[str]
    code: str | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        asked = self.access.equal + self.in_folders.equal
        ranges = self.access.range + self.in_folders.range
        return {
            "files": self.sample.files,
            "bytes": self.sample.bytes,
            "rows": self.sample.rows,
            "sampled_rows": self.sample.table.num_rows,
            "folders": self.sample.folders,
            "columns": [asdict(profile) for profile in self.plan.profile],
            "access": {"equal": asked, "range": ranges, "unread": self.access.unread},
            "sample_bytes": {
                "plan": self.plan.bytes,
                "zstd": self.plan.zstd_bytes,
                "snappy": self.plan.snappy_bytes,
            },
            "suggestions": [asdict(suggestion) for suggestion in self.suggestions],
            "remarks": [*self.remarks, *self._folders()],
            "notes": list(self.notes),
            "code": self.code,
        }

    def lines(self) -> Iterator[str]:
        """In words."""
        sample, made = self.sample, self.plan
        rows = "" if sample.rows is None else f", {counted(sample.rows, 'row')}"
        yield (
            f"{counted(sample.files, 'file')}, {counted(sample.bytes, 'byte')}{rows}; sampled"
            f" {counted(sample.table.num_rows, 'row')}"
        )
        cells = [
            (p.path, p.type, describe_values(p), _asked(self.access, p.path)) for p in made.profile
        ]
        cells += [
            (name, "folder", f"{len(values):,} distinct", _asked(self.in_folders, name))
            for name, values in sample.folders.items()
        ]
        yield from table_lines([("column", "type", "values", "asked for"), *cells], right=set())
        yield from taken(sample)
        yield (
            f"a plan for {made.aim} files makes of the sample {made.bytes:,} bytes, pyarrow's zstd"
            f" {made.zstd_bytes:,}, snappy {made.snappy_bytes:,}: see `streamflow storage plan`"
        )
        yield from self.notes
        yield from self._folders()
        for one in self.suggestions:
            yield f"{one.kind} by {', '.join(one.columns)}: {one.evidence}"
        yield from self.remarks
        if not self.access.columns and not self.in_folders.columns:
            yield "say what queries look for, with --filter or --query-log, for more"
        if self.code:
            yield f"as a table of a topology: {self.code}"

    def _folders(self) -> Iterator[str]:
        for name in self.in_folders.columns:
            count = len(self.sample.folders[name])
            yield f"{name}: it names folders already; a query for one value opens 1 of {count:,}"


def analysis_of(
    sample: Sample,
    made: Plan,
    logged: Access,
    filters: tuple[str, ...],
    notes: Sequence[str],
    table: str,
) -> Analysis:
    """Raises `SettingsError` for a filter on a column that is not there."""
    columns = [*sample.folders, *(n for n in sample.table.column_names if n not in sample.folders)]
    missing = [name for name in filters if name not in columns]
    if missing:
        raise SettingsError(f"--filter {missing[0]}: the columns are {', '.join(columns)}")
    asked = _joined(logged, filtered(filters), columns)
    inside = _part(asked, [name for name in columns if name not in sample.folders])
    suggestions = advise(sample.table, made.profile, inside, sample.bytes)
    return Analysis(
        sample,
        made,
        inside,
        _part(asked, list(sample.folders)),
        suggestions,
        remarks(sample.table, made.profile, inside, suggestions),
        notes,
        as_code(table, suggestions) if suggestions else None,
    )


def of_table(log: QueryLog, said: str | None, name: str) -> tuple[Access, list[str]]:
    """What a log looks for of a table, and what is to be said of that.

    Raises:
        SettingsError: the log does not know the table that a person has said.
    """
    notes = [
        f"of the query log {counted(len(log.unread), 'statement is', 'statements are')} no SQL that"
        " is known here, the first:"
        f" {' '.join(one.text.split())[:60]!r} ({one.why})"
        for one in log.unread[:1]
    ]
    others = ", ".join(sorted(log.tables))
    if said is not None:
        if said.lower() not in log.tables:
            raise SettingsError(
                f"--table {said}: the query log looks for columns of {others or 'no table'}"
            )
        return log.of(said.lower()), notes
    if name.lower() in log.tables:
        return log.of(name.lower()), notes
    if len(log.tables) > 1:
        notes.append(
            f"the query log looks for columns of {others}, and none is called {name!r}: all of them"
            " are taken for this one; say which it is with --table"
        )
    return log.of(None), notes


def taken(sample: Sample) -> list[str]:
    """What columns of CSV are taken for."""
    if not sample.guessed:
        return []
    found = ", ".join(f"{name} {kind}" for name, kind in sample.guessed.items())
    return [f"taken for, by their values: {found}; say another with --type COLUMN=TYPE"]


def _joined(logged: Access, said: Access, columns: Sequence[str]) -> Access:
    """Both, without what a log says of other tables; SQL does not tell letters by their case."""
    names = {name.lower(): name for name in columns}

    def here(found: Counter[str]) -> Counter[str]:
        return Counter({names[n.lower()]: c for n, c in found.items() if n.lower() in names})

    equal, ranges = here(logged.equal) + said.equal, here(logged.range) + said.range
    return Access(equal, ranges, logged.queries, logged.unread)


def _part(access: Access, columns: Sequence[str]) -> Access:
    """What is looked for of these columns."""
    equal, ranges = (
        Counter({name: times for name, times in found.items() if name in columns})
        for found in (access.equal, access.range)
    )
    return Access(equal, ranges, access.queries, access.unread)


def _asked(access: Access, path: str) -> str:
    kinds = [f"= {access.equal[path]}"] if access.equal[path] else []
    kinds += [f"range {access.range[path]}"] if access.range[path] else []
    return ", ".join(kinds)
