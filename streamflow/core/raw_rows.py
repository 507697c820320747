"""Records as rows, as they are: the columns of a batch, and the chunks that a sink holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate, chain

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.archives import ARCHIVED
from streamflow.batch import Headers, MicroBatch
from streamflow.core.hive import Position
from streamflow.core.rows import CHUNK_BYTES, RowsChunk, encode_table, encoded_chunks
from streamflow.event_time import years_around

#: Kafka's timestamp of a record that has none.
NO_TIME = -1
_YEARS = years_around(timedelta(0))
_HEADERS = ARCHIVED.field("headers").type
_HEADER = _HEADERS.value_type


@dataclass(frozen=True, slots=True, eq=False)
class RawChunk(RowsChunk):
    """Rows of records that follow each other; the last one lies at the offset `last`.

    They are held in chunks of any size: where a row lies is told by its record alone.
    """

    first: int = 0
    last: int = 0
    rows: int = 0

    def place(self, at: Position) -> Position:
        """See `RowsChunk.place`."""
        return self.table(["_offset"])["_offset"][at[1]].as_py(), 0

    def between(self, start: int, stop: int) -> RawChunk | None:
        """Its rows whose offsets lie in `[start, stop)`, if there are some."""
        if start <= self.first and self.last < stop:
            return self
        rows = self.table()
        offsets = rows["_offset"]
        kept = rows.filter(pc.and_(pc.greater_equal(offsets, start), pc.less(offsets, stop)))
        return _chunk(kept, encode_table(kept), kept.nbytes) if kept.num_rows else None


def raw_rows(batch: MicroBatch) -> pa.RecordBatch:
    """All records of a batch, in the schema `ARCHIVED`."""
    n, offsets = len(batch), pa.array(batch.offsets, pa.int64())
    millis = pa.array(batch.timestamps, pa.int64())
    first, stop = _YEARS.start // 1000, _YEARS.stop // 1000
    known = pc.and_(pc.greater_equal(millis, first), pc.less(millis, stop))
    known = pc.and_(known, pc.not_equal(millis, NO_TIME))
    stamps = pc.if_else(known, millis, None).cast(pa.timestamp("ms", tz="UTC"))
    columns = [
        pa.array(batch.keys, pa.binary()),
        pa.array(batch.values, pa.binary()),
        _headers(batch.headers),
        pa.repeat(pa.scalar(batch.tp.topic, pa.string()), n),
        pa.repeat(pa.scalar(batch.tp.partition, pa.int32()), n),
        offsets,
        stamps.cast(ARCHIVED.field("_timestamp").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ARCHIVED)


def raw_chunks(rows: pa.Table, chunk_bytes: int = CHUNK_BYTES) -> Iterator[RawChunk]:
    """Rows of records, encoded, in chunks of about so many bytes."""
    if not rows.num_rows:
        return
    start = 0
    for payload, unpacked, count in encoded_chunks(rows.combine_chunks(), chunk_bytes):
        yield _chunk(rows.slice(start, count), payload, unpacked)
        start += count


def _chunk(rows: pa.Table, payload: bytes, unpacked: int) -> RawChunk:
    offsets, count = rows["_offset"], rows.num_rows
    first, last = offsets[0].as_py(), offsets[count - 1].as_py()
    return RawChunk(0, 0, rows.schema, payload, None, unpacked, first, last, count)


def _headers(headers: Sequence[Headers]) -> pa.Array:
    if not any(headers):
        none = pa.repeat(pa.scalar(0, pa.int32()), len(headers) + 1)
        return pa.ListArray.from_arrays(none, pa.array([], _HEADER), type=_HEADERS)
    ends = pa.array(accumulate(map(len, headers), initial=0), pa.int32())
    names, values = zip(*chain.from_iterable(headers), strict=True)
    fields = [_HEADER.field(0), _HEADER.field(1)]
    columns = [pa.array(names, pa.string()), pa.array(values, pa.binary())]
    return pa.ListArray.from_arrays(
        ends, pa.StructArray.from_arrays(columns, fields=fields), type=_HEADERS
    )
