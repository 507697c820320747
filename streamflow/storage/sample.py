"""The rows of a roll that a plan is made of, or held against."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

#: More rows make no better plan of the flights, of weather or of logs, and fewer do.
SAMPLE_ROWS: Final = 8_192
#: Runs of rows that follow each other, so that differences between neighbours are what they are.
RUNS: Final = 4


def take_sample(table: pa.Table, places: pa.Array | None = None) -> pa.Table:
    """Up to so many rows of a file to be, spread over it: those at `places`, all without."""
    count = table.num_rows if places is None else len(places)
    if count <= SAMPLE_ROWS:
        spans = [(0, count)]
    else:
        length = SAMPLE_ROWS // RUNS
        spans = [(i * (count - length) // (RUNS - 1), length) for i in range(RUNS)]
    parts = [
        table.slice(start, length) if places is None else table.take(places.slice(start, length))
        for start, length in spans
    ]
    return pa.concat_tables(parts).combine_chunks()
