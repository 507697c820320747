"""Executes a cut: from the commits of its range to visible files, exactly as the cut says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.core.cut import Cut, CutFile, check_rows, footer
from streamflow.core.origins import is_emptied
from streamflow.core.parquet import Inside, looked_into, write_parquet
from streamflow.core.parquet_tail import footer_bytes, row_count
from streamflow.core.rows import Layout
from streamflow.counted import counted
from streamflow.engine.sink_buffer import Commits
from streamflow.engine.sink_parts import Parts, row_groups
from streamflow.engine.sink_rows import Rows
from streamflow.errors import SinkRefused
from streamflow.ports import NewFile, TableFiles
from streamflow.schema import schema_id

#: Read of a file that is there; most footers are smaller.
FOOTER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Written:
    """What this process made visible."""

    files: int = 0
    rows: int = 0
    bytes: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.files + other.files, self.rows + other.rows, self.bytes + other.bytes)


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

    for file in encoded(cut, rows, files, missing):
        faults("files-written")
        if file.new.create():
            written += Written(1, file.cut.rows, file.size)
        else:
            _see_that_it_is_that(cut, file.cut, files)
    faults("files-linked")
    return written


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A file that is written and not visible yet: `name` is the one that it was begun under."""

    cut: CutFile
    name: str
    new: NewFile
    size: int
    metadata: pq.FileMetaData


def encoded(
    cut: Cut,
    rows: Rows,
    files: TableFiles,
    wanted: Callable[[CutFile], bool] = lambda file: True,
    named: Callable[[str], str] = lambda name: name,
) -> Iterator[Encoded]:
    """The cut's files that are wanted, written one after the other, row group by row group.

    Each is forgotten when the next is asked for, or this is closed. Raises `SinkRefused` unless the
    rows are those of the cut.
    """
    check_rows(cut, rows.groups)
    pairs = zip(cut.files, rows.groups, strict=True)
    chosen = {group.folder: file for file, group in pairs if wanted(file)}
    for folder, parts in rows.by_file(list(chosen)):
        file = chosen[folder]
        name = named(file.name)
        new = files.begin(name)
        try:
            stream = FileStream(new)
            inside = _inside(file, parts, rows.schema)
            groups = _counted(row_groups(parts.tables(), file.writer.row_group_rows), cut, file)
            to = pa.PythonFile(stream, mode="w")
            metadata = write_parquet(to, inside, groups, footer(cut, file))
            yield Encoded(file, name, new, stream.size, metadata)
        finally:
            new.drop()
        del parts  # while the rows of the next ones are unpacked


def _inside(file: CutFile, parts: Parts, schema: pa.Schema) -> Inside:
    """How the file is made, which some of its columns are looked at first for."""
    size = file.writer.row_group_rows
    inside = Inside(schema, file.writer, file.sort)
    return looked_into(inside, lambda names: row_groups(parts.tables(names), size))


def _counted(tables: Iterable[pa.Table], cut: Cut, file: CutFile) -> Iterator[pa.Table]:
    """See that they are as many rows as the cut says."""
    count = 0
    for table in tables:
        count += table.num_rows
        yield table
        del table  # while the next one is made
    if count != file.rows:
        raise SinkRefused(
            f"{cut}: {file.name} came out with {counted(count, 'row')} instead of {file.rows}"
        )


class FileStream:
    """A new file, as Arrow takes what it writes to."""

    closed = False

    def __init__(self, new: NewFile) -> None:
        self._new = new
        self.size = 0

    def write(self, data: bytes) -> None:
        self._new.write(data)
        self.size += len(data)

    def flush(self) -> None:
        """There is nothing to wait for before `NewFile.create`."""

    def close(self) -> None:
        self.closed = True


def _see_that_it_is_that(cut: Cut, file: CutFile, files: TableFiles) -> None:
    """Raise `SinkRefused` unless the file that is there has as many rows as the cut says.

    Its bytes may differ from what would be written today, by another version of the writer.
    """
    tail = files.tail(file.name, FOOTER_BYTES)
    size = footer_bytes(tail)
    if size is not None and size > len(tail):
        tail = files.tail(file.name, size)
    found = row_count(tail)
    if found != file.rows and not (found == 0 and is_emptied(tail)):
        what = "is no Parquet file" if found is None else f"has {counted(found, 'row')}"
        raise SinkRefused(
            f"{file.name} is there and {what}, and {cut} says {file.rows}: something else wrote"
            " it; take it away, and the sink writes the rows of the cut"
        )
