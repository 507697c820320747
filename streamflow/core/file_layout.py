"""How rows lie in a file of a table: in which order, and with which Bloom filters.

The order is a function of the rows of a cut in the order of their topic, and the cut names it. So
it is the same whoever writes the file, and however often.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamflow.writer_settings import ROW_GROUP_ROWS, FileLayout, WriterSettings

#: Rows of a row group where readers are to pass some by: of the flights, sorted by plane, files are
#: 0.4 % larger than with four times the rows, and looking for one takes half the time.
SKIPPED_ROWS: Final = 1 << 16


def layout_problems(
    layout: FileLayout, schema: pa.Schema, partition_by: Collection[str]
) -> Iterator[str]:
    """Why files of rows of this schema cannot have this layout, in words."""
    for what, names, able, words in (
        ("sort_by", layout.sort_by, can_sort, "which has no order here"),
        ("bloom_by", layout.bloom_by, can_bloom, "of which no filter is made"),
    ):
        for name in names:
            if name not in schema.names:
                yield f"{what} names {name!r}, the rows have {', '.join(schema.names)}"
            elif name in partition_by:
                yield f"{what} names {name!r}, which names folders: files do not have it"
            elif not able(schema.field(name).type):
                yield f"{what} column {name!r} is {schema.field(name).type}, {words}"
        if len(set(names)) != len(names):
            yield f"{what} repeats a column: {', '.join(names)}"
    if layout.bloom_by and not _writes_bloom():
        yield f"bloom_by needs a later pyarrow, {pa.__version__} writes no Bloom filters"


def can_sort(kind: pa.DataType) -> bool:
    """Can files be sorted by a column of this type?"""
    return can_bloom(kind) or pa.types.is_boolean(kind)


def can_bloom(kind: pa.DataType) -> bool:
    """Can a column of this type have a Bloom filter?"""
    tests = (
        pa.types.is_nested,
        pa.types.is_dictionary,
        pa.types.is_boolean,
        pa.types.is_null,
        pa.types.is_string_view,
        pa.types.is_binary_view,
    )
    return not any(test(kind) for test in tests) and not isinstance(kind, pa.BaseExtensionType)


def sort_of(layout: FileLayout, columns: pa.Schema) -> tuple[str, ...]:
    """What rows of these columns are sorted by: rows from before a column was added lack it, and
    those from before it was of another type may have no order.
    """
    return _able(layout.sort_by, columns, can_sort)


def settings_of(layout: FileLayout, settings: WriterSettings, columns: pa.Schema) -> WriterSettings:
    """The settings of files of these columns, with what the table declares of them."""
    bloom = _able(layout.bloom_by, columns, can_bloom)
    is_laid = bool(bloom or sort_of(layout, columns))
    rows = settings.row_group_rows
    if is_laid and rows == ROW_GROUP_ROWS:  # nobody has said another number
        rows = SKIPPED_ROWS
    found = replace(settings, row_group_rows=layout.row_group_rows or rows)
    if not is_laid:
        return found
    both = tuple(dict.fromkeys((*settings.bloom, *bloom)))
    return replace(found, writer="pyarrow-3", bloom=both)


def _able(
    names: Iterable[str], columns: pa.Schema, able: Callable[[pa.DataType], bool]
) -> tuple[str, ...]:
    there = (name for name in names if name in columns.names)
    return tuple(name for name in there if able(columns.field(name).type))


def in_order(rows: pa.Table, sort: Sequence[str]) -> pa.Array:
    """The numbers of the rows of a file sorted by these columns, at least one; the sort is
    stable.
    """
    keys: Any = [(name, "ascending") for name in sort]
    return pc.sort_indices(rows.select(sort), keys)


def _writes_bloom() -> bool:
    return "bloom_filter_options" in inspect.signature(pq.ParquetWriter.__init__).parameters
