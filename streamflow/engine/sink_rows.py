"""The rows of a roll, by file, of which no more is unpacked at once than there is room for.

They are held as they came, encoded in chunks. First they are looked at for what lies where, for
which only the columns that name folders are unpacked, piece by piece. Then files are written one
after the other: as many small ones as fit are unpacked together, a large one while it is written.
Each time only the pieces are unpacked that may have rows of them; rows that come in the order of
their folders, as those of days do, are unpacked once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from streamflow.core.hive import Group, arrange, in_folders
from streamflow.core.merging import Merging, newest
from streamflow.core.rows import RowsChunk
from streamflow.engine.roll_memory import RollMemory
from streamflow.engine.sink_parts import AsTheyCome, Held, Parts, Sorted, joined
from streamflow.errors import SinkRefused
from streamflow.storage.sample import RUNS, SAMPLE_ROWS, runs
from streamflow.writer_settings import WriterSettings


@dataclass(frozen=True, slots=True)
class Form:
    """What becomes of rows: the columns whose values name folders, and which files do not have;
    those that the rows of a file are sorted by; and which rows take the place of earlier ones.
    """

    partition_by: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    merging: Merging | None = None


@dataclass(slots=True, eq=False)
class Piece:
    """Chunks that are unpacked together. `folders` are the first and the last of their rows, and
    `kept` tells of chunks which of their rows come out, where not all do. Columns that are `absent`
    from the chunks are null in the rows.
    """

    kept: Mapping[int, pa.Array]
    absent: tuple[str, ...] = ()
    chunks: dict[int, RowsChunk] = field(default_factory=dict[int, RowsChunk])
    nbytes: int = 0
    rows: int = 0
    folders: tuple[str, str] = ("", "")

    def tables(self, columns: Sequence[str] | None = None) -> dict[int, pa.Table]:
        """Their rows. Raises `SinkRefused` for a damaged chunk."""
        known = columns and [name for name in columns if name not in self.absent]
        found = {offset: chunk.table(known) for offset, chunk in self.chunks.items()}
        wanted = [name for name in self.absent if columns is None or name in columns]
        for name in wanted:
            found = {offset: _with_null(rows, name) for offset, rows in found.items()}
        return {
            offset: rows.filter(self.kept[offset]) if offset in self.kept else rows
            for offset, rows in found.items()
        }

    def has(self, first: str, last: str) -> bool:
        """May there be rows of the folders between these two?"""
        return self.rows > 0 and self.folders[0] <= last and first <= self.folders[1]


class Rows:
    """The rows of some commits, as they come out by file.

    Args:
        chunks: What holds them, by offset.
        form: What becomes of the rows. What names folders and is no column of theirs is null: the
            choice of folders (`table_folders`) may come from a later version of the topology.
        room: Bytes of rows that may be unpacked at once.
        memory: What bounds all rolls.

    Raises:
        SinkRefused: a chunk is damaged, or lacks a column.
    """

    def __init__(
        self,
        chunks: Mapping[int, RowsChunk],
        form: Form,
        room: int,
        memory: RollMemory,
    ) -> None:
        self.form = form
        self._by = by = form.partition_by
        #: The bytes of rows that may be unpacked at once, and what bounds those of all.
        self.room = room
        self.memory = memory
        self._chunks = chunks
        _check(chunks, form.sort)
        whole = next((chunk.schema.names for chunk in chunks.values()), [])
        absent = tuple(name for name in by if name not in whole)
        #: What is looked at first; where nothing names folders, a column to count rows by.
        self._names = by if len(absent) < len(by) else (*whole[:1], *by)
        #: The columns that come out.
        self.schema = _schema(chunks, by)
        self._pieces = list(_pieces(chunks, Piece(_newest(chunks, form), absent), memory.piece))
        #: What comes out of them: one file each.
        self.groups: list[Group] = []
        self._sizes: dict[str, int] = {}
        self._look()

    @property
    def largest(self) -> Group:
        """The file with the most rows."""
        return max(self.groups, key=lambda group: group.count)

    def fitted(self, writer: WriterSettings) -> WriterSettings:
        """The same settings, with row groups that any roll has room for."""
        if not self.groups:
            return writer
        most = max(self.memory.room // self._row_bytes(), 1)
        if min(writer.row_group_rows, self.largest.count) <= most:
            return writer
        return replace(writer, row_group_rows=most)

    def sample(self) -> pa.Table:
        """Rows of the largest file, spread over it: what a plan is made of."""
        group = self.largest
        most = min(SAMPLE_ROWS, max(self.room // self._row_bytes(), RUNS))
        wanted = runs(group.count, most)
        start, found = 0, [self.schema.empty_table()]
        for piece in self.having([group.folder]):
            count = sum(one.count for one in self._groups(piece) if one.folder == group.folder)
            inside = [
                (max(first, start) - start, min(first + length, start + count) - start)
                for first, length in wanted
                if first < start + count and start < first + length
            ]
            if inside:
                rows = self.of(piece, {group.folder})
                found += [rows.slice(first, stop - first) for first, stop in inside]
            start += count
        return pa.concat_tables(found).combine_chunks()

    def columns(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """These columns of all rows, as many of them as there are, piece by piece."""
        whole = next(iter(self._pieces[0].chunks.values())).schema.names
        known = [name for name in dict.fromkeys(names) if name in whole]
        return (pa.concat_tables(piece.tables(known).values()) for piece in self._pieces)

    def by_file(self, folders: Sequence[str]) -> Iterator[tuple[str, Parts]]:
        """The rows of each of these folders, in the order of names. Let go of those of one before
        the next.
        """
        for some in self._packed(folders):
            fits = sum(self._sizes[folder] for folder in some) <= self.room
            if len(some) > 1 or (self.form.sort and fits):
                yield from self._together(some)
            elif self.form.sort:
                most = max(self.room // (2 * self._row_bytes()), 1)
                yield some[0], Sorted(self, some[0], self.form.sort, most)
            else:
                yield some[0], AsTheyCome(self, some[0])

    def _look(self) -> None:
        """See which folders there are, and how many rows of each."""
        found: dict[str, Group] = {}
        sizes: dict[str, int] = {}
        for piece in self._pieces:
            groups = self._groups(piece)
            if not groups:
                continue
            piece.rows = sum(group.count for group in groups)
            piece.folders = groups[0].folder, groups[-1].folder
            for group in groups:
                known = found.get(group.folder)
                found[group.folder] = group if known is None else known.joined(group)
                size = group.count * piece.nbytes // piece.rows
                sizes[group.folder] = sizes.get(group.folder, 0) + size
        self.groups = [self._placed(found[folder]) for folder in sorted(found)]
        self._sizes = sizes

    def _placed(self, group: Group) -> Group:
        first, last = (self._chunks[at[0]].place(at) for at in (group.first, group.last))
        return replace(group, first=first, last=last)

    def _groups(self, piece: Piece) -> list[Group]:
        return arrange(piece.tables(self._names), self._by).groups

    def _row_bytes(self) -> int:
        """About how much a row takes where rows are largest, over a part of a row group."""
        found = [1.0]
        nbytes = rows = all_bytes = all_rows = 0
        for piece in self._pieces:
            nbytes, rows = nbytes + piece.nbytes, rows + piece.rows
            all_bytes, all_rows = all_bytes + piece.nbytes, all_rows + piece.rows
            if rows and 4 * nbytes >= self.memory.room:
                found.append(nbytes / rows)
                nbytes = rows = 0
        return round(max(*found, all_bytes / max(all_rows, 1)))

    def _packed(self, folders: Sequence[str]) -> Iterator[list[str]]:
        """Folders that there is room for together; one that there is none for is alone."""
        some: list[str] = []
        held = 0
        for folder in folders:
            if some and held + self._sizes[folder] > self.room:
                yield some
                some, held = [], 0
            some.append(folder)
            held += self._sizes[folder]
        if some:
            yield some

    def _together(self, folders: Sequence[str]) -> Iterator[tuple[str, Parts]]:
        wanted = set(folders)
        pieces = self.having(folders)
        rows = joined([self.of(piece, wanted, keep=self._by) for piece in pieces])
        arranged = arrange({0: rows}, self._by)
        rows = rows.drop_columns(list(self._by))
        if arranged.order is not None:
            rows = rows.take(arranged.order)
        start = 0
        for group in arranged.groups:
            yield group.folder, Held(rows.slice(start, group.count), self.form.sort)
            start += group.count

    def having(self, folders: Sequence[str]) -> Iterator[Piece]:
        """The pieces that may have rows of these folders."""
        first, last = min(folders), max(folders)
        return (piece for piece in self._pieces if piece.has(first, last))

    def of(
        self,
        piece: Piece,
        folders: Collection[str],
        columns: Sequence[str] | None = None,
        keep: Sequence[str] = (),
    ) -> pa.Table:
        """The rows of a piece that lie in these folders: some columns or all of the files, and
        those to `keep`.
        """
        names = None if columns is None else list(dict.fromkeys((*self._by, *columns)))
        rows = pa.concat_tables(piece.tables(names).values())
        mask = in_folders(rows, self._by, folders) if self._by else None
        rows = rows.drop_columns([name for name in self._by if name not in keep])
        return rows if mask is None else rows.filter(mask)


def _newest(chunks: Mapping[int, RowsChunk], form: Form) -> dict[int, pa.Array]:
    """Which rows of each chunk are the newest of their key; nothing where rows have no keys."""
    if form.merging is None:
        return {}
    by = form.merging.by
    return newest({offset: chunk.table(by) for offset, chunk in chunks.items()}, by)


def _pieces(chunks: Mapping[int, RowsChunk], empty: Piece, nbytes: int) -> Iterator[Piece]:
    """Chunks that follow each other, of about so many bytes together when they are unpacked."""
    piece = Piece(empty.kept, empty.absent)
    for offset, chunk in chunks.items():
        if piece.chunks and piece.nbytes + chunk.unpacked > nbytes:
            yield piece
            piece = Piece(empty.kept, empty.absent)
        piece.chunks[offset] = chunk
        piece.nbytes += chunk.unpacked
    if piece.chunks:
        yield piece


def _with_null(rows: pa.Table, name: str) -> pa.Table:
    """The rows with a column that they do not have; texts, as names of folders are."""
    return rows.append_column(name, pa.nulls(rows.num_rows, pa.string()))


def _schema(chunks: Mapping[int, RowsChunk], partition_by: tuple[str, ...]) -> pa.Schema:
    """The columns of the rows without those of `partition_by`; none where there are no rows."""
    whole = next((chunk.schema for chunk in chunks.values()), pa.schema([]))
    return pa.schema([f for f in whole if f.name not in partition_by], whole.metadata)


def _check(chunks: Mapping[int, RowsChunk], names: Collection[str]) -> None:
    """Raise `SinkRefused` where a chunk lacks one of these columns."""
    for offset, chunk in chunks.items():
        missing = set(names) - set(chunk.schema.names)
        if missing:
            raise SinkRefused(
                f"the rows at offset {offset} have no column {min(missing)!r} to sort by"
            )
