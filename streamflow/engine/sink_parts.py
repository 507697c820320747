"""The rows of one file, as they come to be written: in one piece, or in parts where there is no
room for all of them.

A large file that is sorted is written in parts of its order. The columns that it is sorted by are
unpacked first; they tell the place of each row, which takes four bytes of it. Then for one part
after the other the rows are collected that belong there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.file_layout import in_order

Piece = TypeVar("Piece")


class Parts(Protocol):
    """The rows of one file, in order. Can be had more than once."""

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All of them, of these columns or all."""
        ...


class Unpacked(Protocol[Piece]):
    """The rows of many files, in pieces."""

    def having(self, folders: Sequence[str]) -> Iterator[Piece]:
        """The pieces that may have rows of one of these folders, or of what is between them."""
        ...

    def of(
        self, piece: Piece, folders: Collection[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows of a piece that lie in these folders: some columns or all."""
        ...


class Held:
    """Rows that are unpacked."""

    def __init__(self, rows: pa.Table, sort: Sequence[str]) -> None:
        self._rows = rows.take(in_order(rows, sort)) if sort else rows

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """See `Parts.tables`."""
        return iter([self._rows if columns is None else self._rows.select(columns)])


class AsTheyCome(Generic[Piece]):
    """Rows in the order of their topic."""

    def __init__(self, rows: Unpacked[Piece], folder: str) -> None:
        self._rows = rows
        self._folder = folder

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """See `Parts.tables`."""
        for piece in self._rows.having([self._folder]):
            yield self._rows.of(piece, {self._folder}, columns)


class Sorted(Generic[Piece]):
    """Rows that are sorted, of which there is room for `most` at a time."""

    def __init__(self, rows: Unpacked[Piece], folder: str, sort: Sequence[str], most: int) -> None:
        self._rows = rows
        self._folder = folder
        self._sort = sort
        self._most = most

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """See `Parts.tables`."""
        count = sum(len(places) for _, places in self._places)
        for start in range(0, count, self._most):
            yield self._between(start, start + self._most, columns)

    @cached_property
    def _places(self) -> list[tuple[Piece, pa.Array]]:
        """Of each piece where its rows come to lie."""
        pieces = list(self._rows.having([self._folder]))
        keys = [self._rows.of(piece, {self._folder}, self._sort) for piece in pieces]
        counts = [len(some) for some in keys]
        order = in_order(joined(keys), self._sort)
        places: Any = pc.sort_indices(order)  # of a permutation this is the inverse
        places = places.cast(pa.uint32())
        found: list[tuple[Piece, pa.Array]] = []
        start = 0
        for piece, count in zip(pieces, counts, strict=True):
            found.append((piece, places.slice(start, count)))
            start += count
        return found

    def _between(self, first: int, stop: int, columns: Sequence[str] | None) -> pa.Table:
        """The rows of these places."""
        found: list[pa.Table] = []
        where: list[pa.Array] = []
        for piece, places in self._places:
            here = pc.and_(pc.greater_equal(places, first), pc.less(places, stop))
            if here.true_count:
                rows = self._rows.of(piece, {self._folder}, columns)
                found.append(rows.filter(here))
                where.append(places.filter(here))
        rows = joined(found)
        return rows.take(pc.sort_indices(pa.concat_arrays(where)))


def row_groups(
    tables: Iterable[pa.Table], size: int, room: int | None = None
) -> Iterator[pa.Table]:
    """The same rows in tables of `size` rows; the last one may have fewer, and with a `room` any
    that would have more bytes than that together with the next rows.
    """
    held: list[pa.Table] = []
    count = nbytes = 0
    for table in tables:
        if held and room is not None and nbytes + table.nbytes > room:
            count = nbytes = 0
            yield joined(held)
        start = 0
        while count + table.num_rows - start >= size:
            held.append(table.slice(start, size - count))
            start, count, nbytes = start + size - count, 0, 0
            yield joined(held)
        if start < table.num_rows:
            held.append(table.slice(start))
            count += table.num_rows - start
            nbytes += held[-1].nbytes
        del table  # while the next one is made
    if held:
        yield joined(held)


def joined(held: list[pa.Table]) -> pa.Table:
    """The rows of all of them in one piece; they are held no more."""
    rows = pa.concat_tables(held).combine_chunks()
    held.clear()
    return rows
