"""From rows to the bytes of a Parquet file, as a function of the rows and written-down settings.

Settings travel in the cut, so that a file can be written again after a crash whatever the settings
are by then. Timestamps stay in microseconds, adjusted to UTC, which Spark, DuckDB and Athena read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

FOOTER_PREFIX = "streamflow."


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How a file is written. `writer` names the meaning of the rest; another is not executed."""

    writer: Literal["pyarrow-1"] = "pyarrow-1"
    compression: Literal["zstd", "snappy"] = "zstd"
    level: int | None = 3
    row_group_rows: int = 1 << 18


def encode_parquet(
    rows: pa.Table, settings: WriterSettings, footer: Mapping[str, str]
) -> pa.Buffer:
    """The bytes of a file of these rows, with `footer` as key/value metadata `streamflow.*`."""
    metadata = {FOOTER_PREFIX + key: value for key, value in footer.items()}
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(
        stream,
        rows.schema,
        version="2.6",
        compression=settings.compression,
        compression_level=settings.level,
        use_dictionary=True,
        write_statistics=True,
        write_page_index=True,
    ) as writer:
        writer.write_table(rows, row_group_size=settings.row_group_rows)
        writer.add_key_value_metadata(metadata)
    return stream.getvalue()
