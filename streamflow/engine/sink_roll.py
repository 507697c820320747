"""Executes a cut: from the commits of its range to visible files, exactly as the cut says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from streamflow.core.cut import Cut, CutFile, check_rows, footer
from streamflow.core.file_layout import in_order
from streamflow.core.hive import Group, arrange
from streamflow.core.merging import Merging, newest
from streamflow.core.parquet import encode_parquet
from streamflow.core.parquet_tail import footer_bytes, row_count
from streamflow.core.rows import Layout
from streamflow.engine.sink_buffer import Commits
from streamflow.errors import SinkRefused
from streamflow.ports import TableFiles
from streamflow.schema import schema_id

#: Read of a file that is there; most footers are smaller.
FOOTER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of some commits, unpacked and arranged by folder. Where they are merged each is the
    newest of its key.
    """

    table: pa.Table
    groups: list[Group]
    merging: Merging | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What this process made visible."""

    files: int = 0
    rows: int = 0
    bytes: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.files + other.files, self.rows + other.rows, self.bytes + other.bytes)


def unpack(commits: Commits, partition_by: tuple[str, ...], sort: tuple[str, ...]) -> Rows:
    """The rows of `commits` by the values of `partition_by`, those of each file sorted by `sort`.

    A file is sorted as a whole, by the places of its rows: nothing is copied but those columns.
    """
    tables = commits.tables()
    for offset, rows in tables.items():
        missing = {*partition_by, *sort} - set(rows.column_names)
        if missing:
            raise SinkRefused(
                f"the rows at offset {offset} have no column {min(missing)!r} to partition or sort"
                " by"
            )
    merging = commits.merging
    if merging is not None:
        tables = newest(tables, merging.by)
    table = pa.concat_tables(tables.values()) if tables else pa.table({})
    groups = [in_order(table, group, sort) for group in arrange(tables, partition_by)]
    return Rows(table, groups, merging)


def check_schema(commits: Commits, layout: Layout) -> None:
    """Raise `SinkRefused` unless all rows have the schema that their trailers name."""
    for offset, chunk in commits.chunks.items():
        found = schema_id(chunk.schema)
        if found != layout.schema_id:
            raise SinkRefused(
                f"the rows of commit {chunk.commit} at offset {offset} have schema {found}, and"
                f" its trailer says {layout.schema_id}: the rows topic was written by something"
                " else, or is damaged"
            )


def check_commits(cut: Cut, commits: Commits) -> None:
    """Raise `SinkRefused` unless the range ends just after the trailer that the cut names."""
    last = commits.trailers.get(cut.next - 1)
    found = "no trailer" if last is None else f"the trailer of commit {last.commit}"
    if last is None or last.commit != cut.trailer or len(commits.trailers) != cut.commits:
        raise SinkRefused(
            f"{cut} ends after the trailer of commit {cut.trailer}, its {cut.commits}th, but the"
            f" topic has {found} there, its {len(commits.trailers)}th: was the topic made anew?"
        )


def write_files(cut: Cut, rows: Rows, files: TableFiles, faults: Callable[[str], None]) -> Written:
    """Make every file of the cut visible; one that exists is done when it has the cut's rows.

    Depends on the cut and the rows only, never on present settings.
    """
    written = Written()

    def missing(file: CutFile) -> bool:
        if not files.exists(file.name):
            return True
        _see_that_it_is_that(cut, file, files)
        return False

    for file, data in encoded(cut, rows, missing):
        faults("files-written")
        if files.create(file.name, memoryview(data)):
            written += Written(1, file.rows, data.size)
        else:
            _see_that_it_is_that(cut, file, files)
    faults("files-linked")
    return written


def encoded(
    cut: Cut, rows: Rows, wanted: Callable[[CutFile], bool] = lambda file: True
) -> Iterator[tuple[CutFile, pa.Buffer]]:
    """The bytes of the cut's files that are wanted, one after the other, so that one at a time is
    held in memory. Raises `SinkRefused` unless the rows are those of the cut.
    """
    check_rows(cut, rows.groups)
    kept = rows.table.drop_columns(list(cut.partition_by)) if cut.files else rows.table
    for file, group in zip(cut.files, rows.groups, strict=True):
        if wanted(file):
            chosen = kept if group.rows is None else kept.take(group.rows)
            yield file, encode_parquet(chosen, file.writer, footer(cut, file), file.sort)


def _see_that_it_is_that(cut: Cut, file: CutFile, files: TableFiles) -> None:
    """Raise `SinkRefused` unless the file that is there has as many rows as the cut says.

    Its bytes may differ from what would be written today, by another version of the writer.
    """
    tail = files.tail(file.name, FOOTER_BYTES)
    size = footer_bytes(tail)
    if size is not None and size > len(tail):
        tail = files.tail(file.name, size)
    found = row_count(tail)
    if found != file.rows:
        what = "is no Parquet file" if found is None else f"has {found} rows"
        raise SinkRefused(
            f"{file.name} is there and {what}, and {cut} says {file.rows}: something else wrote"
            " it; take it away, and the sink writes the rows of the cut"
        )
