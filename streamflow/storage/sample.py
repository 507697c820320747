"""The rows of a roll that a plan is made of, or held against."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

#: More rows make no better plan of the flights, of weather or of logs, and fewer do.
SAMPLE_ROWS: Final = 8_192
#: Runs of rows that follow each other, so that differences between neighbours are what they are.
RUNS: Final = 4


def take_sample(table: pa.Table) -> pa.Table:
    """Up to so many rows of a file to be, spread over it."""
    parts = [table.slice(*run) for run in runs(table.num_rows, SAMPLE_ROWS)]
    return pa.concat_tables(parts).combine_chunks()


def runs(count: int, most: int) -> list[tuple[int, int]]:
    """The start and length of each run of the at most `most` rows to look at, of so many."""
    if count <= most:
        return [(0, count)]
    length = -(-most // RUNS)
    return [(i * (count - length) // (RUNS - 1), length) for i in range(RUNS)]
