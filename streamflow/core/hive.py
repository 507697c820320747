"""Which rows lie in which Hive-style folder."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.folder_name import DEFAULT_PARTITION, component

Position = tuple[int, int]
"""Where a row lies in a rows topic: the offset of its chunk, and its number in the chunk."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one folder: how many, and where the first and the last of them lie."""

    folder: str
    values: tuple[str | None, ...]
    count: int
    first: Position
    last: Position

    def joined(self, later: Group) -> Group:
        """With those of the same folder that lie in later chunks."""
        count = self.count + later.count
        return Group(self.folder, self.values, count, self.first, later.last)


@dataclass(frozen=True, slots=True, eq=False)
class Arranged:
    """Rows by folder, folders in the order of names.

    `order` numbers the rows as they follow each other then, those of a folder in the order of the
    rows topic; None when they do so already.
    """

    groups: list[Group]
    order: pa.Array | None


def arrange(chunks: Mapping[int, pa.Table], partition_by: Sequence[str]) -> Arranged:
    """The rows of `chunks` (offset -> rows, ascending) by folder."""
    filled = {offset: rows for offset, rows in chunks.items() if rows.num_rows}
    if not filled:
        return Arranged([], None)
    starts = [0]
    for rows in filled.values():
        starts.append(starts[-1] + rows.num_rows)
    where = _Positions(list(filled), starts)
    if not partition_by:
        return Arranged([Group("", (), starts[-1], where[0], where[starts[-1] - 1])], None)
    columns = pa.concat_tables([rows.select(partition_by) for rows in filled.values()])
    folders, ranks = _ranks(columns)
    order = pc.sort_indices(ranks)  # stable: rows of one folder stay in the topic's order
    bounds = pc.run_end_encode(ranks.take(order), run_end_type=pa.int64()).run_ends.to_pylist()
    begins = [0, *bounds[:-1]]
    firsts = order.take(pa.array(begins, pa.int64())).to_pylist()
    lasts = order.take(pa.array([stop - 1 for stop in bounds], pa.int64())).to_pylist()
    groups = [
        Group(*folder, stop - start, where[first], where[last])
        for folder, start, stop, first, last in zip(
            folders, begins, bounds, firsts, lasts, strict=True
        )
    ]
    return Arranged(groups, order if len(groups) > 1 else None)


def in_folders(
    rows: pa.Table, partition_by: Sequence[str], folders: Container[str]
) -> pa.Array | None:
    """Is each row in one of these folders? None where all are."""
    known, ranks = _ranks(rows.select(partition_by))
    wanted = [rank for rank, (folder, _) in enumerate(known) if folder in folders]
    if len(wanted) == len(known):
        return None
    return pc.is_in(ranks, value_set=pa.array(wanted, pa.int64()))


@dataclass(frozen=True, slots=True)
class _Positions:
    """From the number of a row among all rows to its position."""

    offsets: list[int]
    starts: list[int]

    def __getitem__(self, row: int) -> Position:
        chunk = bisect_right(self.starts, row) - 1
        return self.offsets[chunk], row - self.starts[chunk]


_Folder = tuple[str, tuple[str | None, ...]]


def _ranks(columns: pa.Table) -> tuple[list[_Folder], pa.Array]:
    """The distinct folders in order, and for every row the place of its folder among them."""
    codes = pa.repeat(pa.scalar(0, pa.int64()), columns.num_rows)
    known: list[_Folder] = [("", ())]
    for name in columns.column_names:
        texts = columns[name].cast(pa.large_string()).combine_chunks()
        coded = texts.dictionary_encode(null_encoding="encode")
        values: list[str | None] = [
            None if value in {"", DEFAULT_PARTITION} else value
            for value in coded.dictionary.to_pylist()
        ]
        parts = [component(name, value) for value in values]
        indices = coded.indices.cast(pa.int64())
        pairs = pc.add(pc.multiply(codes, len(values)), indices).dictionary_encode()
        codes = pairs.indices.cast(pa.int64())
        found: list[_Folder] = []
        for pair in pairs.dictionary.to_pylist():
            (folder, before), i = known[pair // len(values)], pair % len(values)
            found.append((f"{folder}{parts[i]}/", (*before, values[i])))
        known = found
    ordered = sorted(set(known))  # by folder, which is unique: values are never compared
    place = {folder: rank for rank, (folder, _) in enumerate(ordered)}
    return ordered, pa.array([place[folder] for folder, _ in known], pa.int64()).take(codes)
