"""Reads back what the sink stage writes into the footer of a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_PREFIX = b"streamflow."


def read_footer(source: bytes | Path) -> dict[str, str]:
    """The `streamflow.*` metadata of a file, without that prefix; empty for any other file."""
    opened = pa.BufferReader(source) if isinstance(source, bytes) else source
    metadata: dict[bytes, bytes] = pq.read_metadata(opened).metadata or {}
    return {
        key.removeprefix(_PREFIX).decode(): value.decode()
        for key, value in metadata.items()
        if key.startswith(_PREFIX)
    }
