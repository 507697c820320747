"""Tries ways of writing a column for real: writes, reads back, and says what that took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.clock import Timer
from streamflow.core.parquet import encode_parquet
from streamflow.storage.candidates import BASE, REFERENCE, codecs, encodings
from streamflow.storage.profile import ColumnProfile
from streamflow.writer_settings import Aim, ColumnSettings, Compression, Encoding, WriterSettings

#: How many encodings are tried with every codec: the best, and another that is hardly larger.
FINALISTS = 2
HARDLY_LARGER = 1.1


@dataclass(frozen=True, slots=True)
class Trial:
    """A way of writing a column, and what it took on the sample: bytes of its column chunk, and
    seconds. A column of several leaves is written as one; each has its share of the time by bytes.
    """

    encoding: Encoding
    compression: Compression
    level: int | None
    bytes: int
    write_seconds: float
    read_seconds: float

    @property
    def seconds(self) -> float:
        """To write it once and to read it once."""
        return self.write_seconds + self.read_seconds

    def settings(self, path: str) -> ColumnSettings:
        """This way, for the column at `path`."""
        return ColumnSettings(path, self.encoding, self.compression, self.level)


Ways = dict[str, tuple[Encoding, Compression, int | None]]
"""A way of writing by path."""

Trials = dict[str, list[Trial]]
"""By path; the first is the reference."""


def try_column(sample: pa.Table, leaves: Sequence[ColumnProfile], aim: Aim, timer: Timer) -> Trials:
    """Every trial of a column; `sample` holds only that, and `leaves` are what it is made of.

    First all encodings under one codec, then the best of them under the others.
    """
    found: Trials = {leaf.path: [] for leaf in leaves}
    _try(sample, {leaf.path: REFERENCE for leaf in leaves}, found, timer)
    known = {leaf.path: encodings(leaf, aim) for leaf in leaves}
    for turn in range(max(len(some) for some in known.values())):
        ways: Ways = {path: (some[min(turn, len(some) - 1)], *BASE) for path, some in known.items()}
        _try(sample, ways, found, timer)
    best = {path: _finalists(trials[1:]) for path, trials in found.items()}
    further = {leaf.path: codecs(leaf, aim) for leaf in leaves}
    for turn in range(max(len(some) for some in further.values())):
        for rank in range(FINALISTS):
            ways: Ways = {
                path: (best[path][min(rank, len(best[path]) - 1)], *some[turn])
                for path, some in further.items()
                if turn < len(some)
            }
            _try(sample, ways, found, timer)
    return found


def _finalists(trials: Sequence[Trial]) -> list[Encoding]:
    ranked = sorted(trials, key=lambda trial: trial.bytes)
    ranked = [trial for trial in ranked if trial.bytes <= ranked[0].bytes * HARDLY_LARGER]
    found: dict[Encoding, None] = {trial.encoding: None for trial in ranked}
    return list(found)[:FINALISTS]


def _try(
    sample: pa.Table,
    ways: Ways,
    found: Trials,
    timer: Timer,
) -> None:
    """One trial, unless each of these ways has been tried; what has been is not noted twice."""
    new = {
        path: way
        for path, way in ways.items()
        if way not in [(t.encoding, t.compression, t.level) for t in found[path]]
    }
    if not new:
        return
    columns = tuple(ColumnSettings(path, *way) for path, way in ways.items())
    settings = WriterSettings(page_index=False, row_group_rows=1 << 20, columns=columns)
    started = timer()
    data = encode_parquet(sample, settings, {})
    written = timer()
    pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    read = timer()
    sizes = chunk_bytes(data)
    total = max(sum(sizes.values()), 1)
    for path, way in new.items():
        share = sizes[path] / total
        took = [round(share * seconds, 7) for seconds in (written - started, read - written)]
        found[path].append(Trial(*way, sizes[path], *took))


def chunk_bytes(data: pa.Buffer) -> dict[str, int]:
    """The bytes of each column in a file, by path."""
    metadata: Any = pq.read_metadata(pa.BufferReader(data))
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for i in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(i)
            size = chunk.total_compressed_size
            sizes[chunk.path_in_schema] = sizes.get(chunk.path_in_schema, 0) + size
    return sizes
