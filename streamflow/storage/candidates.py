"""Which ways of writing a column are worth a trial.

Encodings are those of the Parquet format that pyarrow writes and DuckDB, polars, Spark 3.4, Trino
and Athena 3 read. `BYTE_STREAM_SPLIT` is one only for the aim `smallest`: Spark reads it from
version 5 on, and next to the others it takes 2 % off the flights. The same goes for `lz4`, which is
for who wants speed.
"""

from __future__ import annotations

from typing import Final

from streamflow.storage.profile import ColumnProfile
from streamflow.writer_settings import Aim, Compression, Encoding

Codec = tuple[Compression, int | None]

#: What pyarrow does by itself when it is told "zstd": what a plan is held against.
REFERENCE: Final[tuple[Encoding, Compression, int]] = ("DICTIONARY", "zstd", 1)

#: The codec that encodings are compared under, and those that the best ones are tried with then.
BASE: Final[Codec] = ("zstd", 3)
_FAST: tuple[Codec, ...] = (("zstd", 1), ("lz4", None), ("snappy", None), ("none", None))
FURTHER: Final[dict[Aim, tuple[Codec, ...]]] = {
    "balanced": (("zstd", 1), ("zstd", 6)),
    "smallest": (("zstd", 1), ("zstd", 6), ("zstd", 9), ("zstd", 15)),
    "fastest-read": _FAST,
    "fastest-write": _FAST,
}

_OF_TYPE: dict[str, tuple[Encoding, ...]] = {
    "BOOLEAN": (),
    "INT32": ("PLAIN", "DELTA_BINARY_PACKED"),
    "INT64": ("PLAIN", "DELTA_BINARY_PACKED"),
    "FLOAT": ("PLAIN",),
    "DOUBLE": ("PLAIN",),
    "BYTE_ARRAY": ("PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"),
    "FIXED_LEN_BYTE_ARRAY": ("PLAIN",),
}
#: DuckDB does not read it of the fourth type that the format has it for.
_SPLIT = {"INT32", "INT64", "FLOAT", "DOUBLE"}


def encodings(column: ColumnProfile, aim: Aim) -> list[Encoding]:
    """The encodings to try, the reference first; of a constant column no other one."""
    found: list[Encoding] = ["DICTIONARY"]
    if column.coded:
        found.append("PLAIN")
    elif not column.constant:
        found += _OF_TYPE.get(column.physical, ())
        if aim == "smallest" and column.physical in _SPLIT:
            found.append("BYTE_STREAM_SPLIT")
    return found


def codecs(column: ColumnProfile, aim: Aim) -> tuple[Codec, ...]:
    """The codecs to try the best encodings with, after the base one."""
    return () if column.constant else FURTHER[aim]
