"""What the end of a Parquet file says of the whole: footer, its length in four bytes, `PAR1`."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

MAGIC: Final = b"PAR1"
_ENDING: Final = 8


def footer_bytes(tail: bytes) -> int | None:
    """How many bytes from the end are needed to read the footer; None for what is no Parquet."""
    if len(tail) < _ENDING or tail[-4:] != MAGIC:
        return None
    return int.from_bytes(tail[-_ENDING:-4], "little") + _ENDING


def row_count(tail: bytes) -> int | None:
    """How many rows the file has that ends so; None where it is no whole Parquet file."""
    size = footer_bytes(tail)
    if size is None or size > len(tail):
        return None
    try:
        return pq.read_metadata(pa.BufferReader(MAGIC + tail[-size:])).num_rows
    except (pa.ArrowException, OSError):
        return None
