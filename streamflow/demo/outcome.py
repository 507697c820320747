"""What a demonstration run gives, wherever it ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet

from streamflow.batch import Record
from streamflow.lineage.trace import RowOrigin, row_origin

#: Dead letters that are shown.
LETTERS = 3


@dataclass(frozen=True)
class TableSize:
    """A table on disk."""

    name: str
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Outcome:
    """One run: the balance of its records, its tables, some dead letters, and one row traced."""

    totals: Counter[str]
    tables: Sequence[TableSize]
    letters: Sequence[Record]
    traced: RowOrigin
    original: Record
    seconds: float
    lake: Path


def table_size(lake: Path, name: str) -> TableSize:
    """Files, rows and bytes of a table."""
    files = sorted((lake / name).rglob("*.parquet"))
    rows = sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)
    return TableSize(name, len(files), rows, sum(file.stat().st_size for file in files))


def some_row(lake: Path, name: str) -> RowOrigin:
    """The middle row of the file of a table that has the most rows, and its origin."""
    files = sorted((lake / name).rglob("*.parquet"))
    rows = {file: pyarrow.parquet.read_metadata(file).num_rows for file in files}
    file = max(files, key=lambda one: rows[one])
    return row_origin(file, rows[file] // 2)
