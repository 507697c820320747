"""The format of a rows topic: Arrow chunks of a commit's rows, and the trailer that ends a commit.

A commit is any number of chunk records and then exactly one trailer, also when it has no rows. It
counts when it is there, if it was written in a transaction. Else it is provisional: it counts when
a later record of its task, a naming, says that it was committed, and is void when that names the
commit before. Namings and provisional records carry the epoch of their owner; a higher epoch takes
over with a naming, and whatever a lower one writes after that is void.

A
chunk is a whole Arrow IPC stream, schema included, so that rows can be read without knowing which
version of a topology wrote them. Bodies are compressed with zstd at level 1: on flights rows 35 B a
row for 0.12 us, where lz4 takes 58 B for 0.07 us, and every byte is replicated, stored and fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import orjson
import pyarrow as pa

from streamflow.batch import Headers, Record
from streamflow.core.hive import Position
from streamflow.core.merging import Merging
from streamflow.errors import SinkRefused

CHUNK_BYTES = 900_000
#: Rows of a chunk take about this when they are unpacked, so that a reader can do with little room.
UNPACKED_BYTES = 4 * 1024 * 1024
#: So many times their encoded size do rows take of which nothing is said.
UNPACKED_RATIO = 8
FORMAT = 1

_ROWS, _TRAILER = b"rows", b"trailer"


def _no_sources() -> dict[str, tuple[int, int, int]]:
    return {}


def _no_counts() -> dict[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a commit are laid out, and by which version of the topology.

    It travels with the rows, so that they become files as they were meant to when they were
    committed, whatever the topology says by then. `partition_by` names columns of the rows, and so
    does `merge_by`, where rows take the place of earlier ones; see `Merging`.
    """

    schema_id: str
    partition_by: tuple[str, ...]
    topology_version: str
    merge_by: tuple[str, ...] = ()
    merge_early: bool = False

    @property
    def merging(self) -> Merging | None:
        """Which rows take the place of earlier ones; None where all are new."""
        return Merging(self.merge_by, self.merge_early) if self.merge_by else None


@dataclass(frozen=True, slots=True)
class Trailer:
    """What a commit says of itself, after its rows.

    `previous` is the number of the task's previous commit. `watermark` is in microseconds since the
    epoch, None while there is none, and without meaning at `end_of_input`, where it is infinite.
    `epoch` is the owner's, and `provisional` says that the commit still has to be named.
    `sources` holds `topic -> (partition, first, next)`, the offsets this commit covers; `counts`
    holds records by exit; `gates` holds the records each rule flagged or rejected.
    """

    commit: int
    previous: int | None
    chunks: int
    layout: Layout
    watermark: int | None = None
    end_of_input: bool = False
    sources: Mapping[str, tuple[int, int, int]] = field(default_factory=_no_sources)
    counts: Mapping[str, int] = field(default_factory=_no_counts)
    gates: Mapping[str, int] = field(default_factory=_no_counts)
    epoch: int = 0
    provisional: bool = False

    @property
    def is_naming(self) -> bool:
        """Does it end no commit of its own, but name the last one that was committed?"""
        return self.commit == (self.previous or 0)


@dataclass(frozen=True, slots=True, eq=False)
class RowsChunk:
    """Some of the rows of a commit, still as encoded; chunks are numbered from 0 in a commit.

    `epoch` is its owner's where the commit is provisional, else None. `unpacked` is how many bytes
    the rows take in memory: as their writer says, or estimated.
    """

    commit: int
    number: int
    schema: pa.Schema
    payload: bytes
    epoch: int | None = None
    unpacked: int = 0

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows, of these columns only, in the order of the schema, or of all.

        Raises `SinkRefused` when the payload is damaged.
        """
        # Handing each buffer to a thread costs a chunk of a few rows as much as its decoding.
        options = pa.ipc.IpcReadOptions(use_threads=False)
        if columns is not None:
            options.included_fields = [self.schema.get_field_index(name) for name in columns]
        try:
            return pa.ipc.open_stream(self.payload, options=options).read_all()
        except (pa.ArrowException, OSError) as error:
            raise _malformed(f"rows chunk {self.number} of commit {self.commit}", error) from None

    def place(self, at: Position) -> Position:
        """Where a row of the chunk lies that is found at this offset, and number in the chunk."""
        return at


def encode_rows(
    batches: Sequence[pa.RecordBatch],
    commit: int,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    epoch: int | None = None,
) -> list[Record]:
    """All rows of one commit as records for the rows topic; no record when there is no row.

    Batches must share one schema. No record's value is above `chunk_bytes`, except that a larger
    single row travels alone. `epoch` is the owner's where the commit is provisional.
    """
    filled = [batch for batch in batches if batch.num_rows]
    if not filled:
        return []
    rows = pa.Table.from_batches(filled).combine_chunks()
    owner: Headers = () if epoch is None else (("sf-epoch", str(epoch).encode()),)
    return [
        Record(
            None,
            payload,
            headers=(
                ("sf-kind", _ROWS),
                ("sf-commit", str(commit).encode()),
                ("sf-chunk", str(number).encode()),
                ("sf-unpacked", str(unpacked).encode()),
                *owner,
            ),
        )
        for number, (payload, unpacked, _) in enumerate(encoded_chunks(rows, chunk_bytes))
    ]


def encode_trailer(trailer: Trailer) -> Record:
    """The record that ends a commit. Equal trailers give equal bytes."""
    document = {
        "format": FORMAT,
        "commit": trailer.commit,
        "previous": trailer.previous,
        "chunks": trailer.chunks,
        "layout": _layout(trailer.layout),
        "watermark": trailer.watermark,
        "end_of_input": trailer.end_of_input,
        "sources": dict(trailer.sources),
        "counts": dict(trailer.counts),
        "gates": dict(trailer.gates),
    }
    if trailer.epoch:  # else it is as versions have it that know only transactions
        document |= {"epoch": trailer.epoch, "provisional": trailer.provisional}
    value = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    headers = (("sf-kind", _TRAILER), ("sf-commit", str(trailer.commit).encode()))
    return Record(None, value, headers=headers)


def decode(value: bytes | None, headers: Headers) -> RowsChunk | Trailer:
    """What a record of a rows topic holds. Raises `SinkRefused` when it is neither of the two.

    The rows of a chunk are not unpacked here: a sink keeps them compressed until it rolls.
    """
    named = dict(headers)
    kind = named.get("sf-kind")
    if value is None or kind not in {_ROWS, _TRAILER}:
        raise SinkRefused(
            f"not a record of a rows topic: header sf-kind is {kind!r}"
            + (", the value is null" if value is None else "")
            + "; has something else written to this topic?"
        )
    return _trailer(value) if kind == _TRAILER else _chunk(value, named)


def settled_trailer(value: bytes | None) -> Trailer | None:
    """The trailer in a value, or the naming; chunks are no JSON, and what a provisional one ends
    may be void.
    """
    if not (value or b"").startswith(b"{"):
        return None
    trailer = decode(value, (("sf-kind", _TRAILER),))
    assert isinstance(trailer, Trailer)
    return None if trailer.provisional and not trailer.is_naming else trailer


def record_name(record: Record) -> str:
    """What to call a record of a rows topic in words: of rows, the first by its origin."""
    held = decode(record.value, record.headers)
    if isinstance(held, Trailer):
        return f"the trailer of commit {held.commit}"
    table = held.table()
    origin = ("_topic", "_partition", "_offset", "_offset_first", "_offset_next")
    found = table.slice(0, 1).select([name for name in origin if name in table.column_names])
    return f"the row of {found.to_pylist()[0]} in commit {held.commit}"


def encoded_chunks(rows: pa.Table, chunk_bytes: int) -> list[tuple[bytes, int, int]]:
    """Encoded slices of the rows, what each takes unpacked, and how many rows it has. Each is sized
    by the one before it, so that rows are seldom encoded twice; the first by its size uncompressed.
    """
    payloads: list[tuple[bytes, int, int]] = []
    start, step = 0, max(1, rows.num_rows * chunk_bytes // max(rows.nbytes, 1))
    while start < rows.num_rows:
        part = rows.slice(start, step)
        if part.nbytes > 2 * UNPACKED_BYTES and part.num_rows > 1:
            step = max(1, part.num_rows * UNPACKED_BYTES // part.nbytes)
            continue
        payload = encode_table(part)
        if len(payload) > chunk_bytes and part.num_rows > 1:
            step = part.num_rows // 2
            continue
        payloads.append((payload, part.nbytes, part.num_rows))
        start += part.num_rows
        step = max(1, part.num_rows * chunk_bytes * 9 // (10 * len(payload)))
    return payloads


def encode_table(rows: pa.Table) -> bytes:
    """Rows as they are held: a whole Arrow IPC stream."""
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, rows.schema, options=options) as writer:
        writer.write_table(rows)
    return stream.getvalue().to_pybytes()


def _chunk(value: bytes, named: Mapping[str, bytes | None]) -> RowsChunk:
    try:
        commit, number = (int(named[name] or b"") for name in ("sf-commit", "sf-chunk"))
        epoch = int(named["sf-epoch"] or b"") if "sf-epoch" in named else None
        unpacked = int(named.get("sf-unpacked") or UNPACKED_RATIO * len(value))
        schema = pa.ipc.open_stream(value).schema
    except (KeyError, ValueError, OSError) as error:
        raise _malformed("rows chunk", error) from None
    return RowsChunk(commit, number, schema, value, epoch, unpacked)


def _trailer(value: bytes) -> Trailer:
    try:
        document = orjson.loads(value)
        if not isinstance(document, dict):
            raise TypeError("not an object")
        fields = cast("dict[str, Any]", document)
        if fields.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT}: was it written by a newer version?")
        sources = {topic: tuple(span) for topic, span in fields.pop("sources").items()}
        layout = fields.pop("layout")
        for name in ("partition_by", "merge_by"):
            layout[name] = tuple(layout.get(name, ()))
        trailer = Trailer(**fields, sources=sources, layout=Layout(**layout))
        _check(trailer)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _malformed("trailer", error) from None
    return trailer


def _layout(layout: Layout) -> dict[str, Any]:
    document = asdict(layout)
    if not layout.merge_by:  # as versions have it that know nothing of it
        del document["merge_by"], document["merge_early"]
    return document


def _check(trailer: Trailer) -> None:
    whole = [
        trailer.commit,
        trailer.chunks,
        trailer.epoch,
        *trailer.counts.values(),
        *trailer.gates.values(),
    ]
    whole += [number for number in (trailer.previous, trailer.watermark) if number is not None]
    for span in trailer.sources.values():
        if len(span) != 3:
            raise ValueError(f"a source range has three numbers, not {span!r}")
        whole += span
    layout = trailer.layout
    words = [layout.schema_id, layout.topology_version, *layout.partition_by, *layout.merge_by]
    wrong = [number for number in whole if type(number) is not int]
    wrong += [word for word in words if type(word) is not str]
    flags = (trailer.end_of_input, trailer.provisional, layout.merge_early)
    if wrong or {type(flag) for flag in flags} != {bool}:
        raise ValueError(f"wrong type of value: {wrong or flags!r}")


def _malformed(what: str, error: Exception) -> SinkRefused:
    detail = f"lacks {error}" if isinstance(error, KeyError) else str(error)
    return SinkRefused(
        f"malformed {what}: {detail}; the rows topic holds something this version cannot read"
    )
