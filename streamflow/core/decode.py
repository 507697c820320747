"""First stage: raw records to rows that keep to the contract, with key, event time and lineage.

Whatever does not make it leaves as a `Reject` that names field and reason; the records around it
are untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.core.plan import TaskPlan
from streamflow.core.step import Raw, Reject
from streamflow.schema import EVENT_TIME, LINEAGE, TIMESTAMP

#: Rows validated and turned into columns at a time: few enough that they stay in the cache and
#: out of the garbage collector's old generation.
CHUNK = 2_000
#: Event times that windows can be computed with, in microseconds: the years 2 to 9997. A calendar
#: knows no years outside 1 to 9999, and sums of times and durations must not overflow.
EARLIEST, LATEST = -62_104_060_800_000_000, 253_339_228_800_000_000


@dataclass(frozen=True)
class Decoded:
    """Rows and, for each, its place in the micro-batch; and what was refused."""

    rows: pa.RecordBatch
    places: pa.Array
    rejects: list[Reject]


def decode(plan: TaskPlan, batch: MicroBatch) -> Decoded:
    """Validate a micro-batch and add what streamflow keeps of each record."""
    contract = plan.source.contract
    rejects: list[Reject] = []
    parts: list[pa.RecordBatch] = [contract.columns([])]
    places = [pa.array([], pa.int64())]
    for start in range(0, len(batch), CHUNK):
        decoding = contract.decode(batch.values[start : start + CHUNK])
        parts.append(decoding.batch)
        places.append(pc.add(pa.array(decoding.places, pa.int64()), start))
        for bad in decoding.refused:
            raw = Raw.of(batch, start + bad.index)
            rejects.append(Reject(raw, "decode", bad.reason, bad.message, bad.field))
    decoded = Decoded(pa.concat_batches(parts), pa.concat_arrays(places), rejects)
    decoded = _check_key(plan, batch, decoded)
    return _with_lineage(batch, _with_event_time(plan, batch, decoded))


def _keep(
    decoded: Decoded,
    batch: MicroBatch,
    good: pa.Array,
    why: Callable[[int, Raw], Reject],
) -> Decoded:
    """Only the rows where `good` is true; `why` makes the reject of any other."""
    if good.false_count == 0 and good.null_count == 0:
        return decoded
    good = pc.fill_null(good, False)
    rejects = list(decoded.rejects)
    bad = pc.indices_nonzero(pc.invert(good)).to_pylist()
    rejects += [why(row, Raw.of(batch, decoded.places[row].as_py())) for row in bad]
    return Decoded(decoded.rows.filter(good), decoded.places.filter(good), rejects)


def _check_key(plan: TaskPlan, batch: MicroBatch, decoded: Decoded) -> Decoded:
    """Refuse rows whose record key is not the declared field as UTF-8 text."""
    name = plan.source.key
    if name is None:
        return decoded
    field = pc.cast(pc.cast(decoded.rows.column(name), pa.string()), pa.binary())
    keys = pa.array(batch.keys, pa.binary()).take(decoded.places)

    def why(row: int, raw: Raw) -> Reject:
        text = (
            "the record has no key" if raw.key is None else f"the record's key is {raw.key[:80]!r}"
        )
        wanted = field[row].as_py()
        message = f"{text}, but the topic is keyed by {name}, here {wanted!r}"
        return Reject(raw, "decode", "wrong-key", message, name)

    return _keep(decoded, batch, pc.equal(field, keys), why)


def _with_event_time(plan: TaskPlan, batch: MicroBatch, decoded: Decoded) -> Decoded:
    """Add the event time; refuse rows that have none, one that windows cannot be computed with, or
    one too far in the future.
    """
    named = plan.source.event_time

    def of(rows: pa.RecordBatch) -> Any:
        column = rows.column(named) if isinstance(named, str) else named(rows)
        return pc.cast(column, TIMESTAMP)

    times = row_by_row(of, decoded.rows, TIMESTAMP)
    rows = decoded.rows.append_column(pa.field(EVENT_TIME.name, TIMESTAMP), times)

    def none(_row: int, raw: Raw) -> Reject:
        return Reject(raw, "decode", "event-time", "the record has no event time")

    def outside(_row: int, raw: Raw) -> Reject:
        message = "the event time is not in the years 2 to 9997"
        return Reject(raw, "decode", "event-time", message)

    decoded = _keep(Decoded(rows, decoded.places, decoded.rejects), batch, pc.is_valid(times), none)
    micros = pc.cast(decoded.rows.column(EVENT_TIME.name), pa.int64())
    inside = pc.and_(pc.greater_equal(micros, EARLIEST), pc.less(micros, LATEST))
    return _check_future(plan, batch, _keep(decoded, batch, inside, outside))


def _check_future(plan: TaskPlan, batch: MicroBatch, decoded: Decoded) -> Decoded:
    """Refuse rows whose event time is further ahead of their fetch than the source allows."""
    ahead = plan.max_future
    if ahead is None:
        return decoded
    bound = batch.fetched * 1000 + ahead
    micros = pc.cast(decoded.rows.column(EVENT_TIME.name), pa.int64())

    def why(row: int, raw: Raw) -> Reject:
        by = timedelta(microseconds=micros[row].as_py() - batch.fetched * 1000)
        message = f"the event time is {by} after the record was fetched; {ahead / 1e6:g} s are "
        return Reject(raw, "decode", "future", f"{message}allowed")

    return _keep(decoded, batch, pc.less_equal(micros, bound), why)


def row_by_row(function: Callable[[pa.RecordBatch], Any], rows: pa.RecordBatch, kind: Any) -> Any:
    """`function(rows)`; if it raises on some rows, null for those and its value for the others."""
    try:
        return function(rows)
    except MemoryError:  # which is not the rows' fault
        raise
    except Exception:  # a user's function may raise anything
        return _each_row(function, rows, kind)


def _each_row(function: Callable[[pa.RecordBatch], Any], rows: pa.RecordBatch, kind: Any) -> Any:
    values: list[Any] = []
    for row in range(rows.num_rows):
        try:
            values += function(rows.slice(row, 1)).to_pylist()
        except MemoryError:
            raise
        except Exception:
            values.append(None)
    return pa.array(values, kind)


def _with_lineage(batch: MicroBatch, decoded: Decoded) -> Decoded:
    """Put the columns of `LINEAGE` before the event time, as sinks expect them."""
    n = decoded.rows.num_rows
    millis = pa.array(batch.timestamps, pa.timestamp("ms", tz="UTC")).take(decoded.places)
    lineage = [
        pa.repeat(pa.scalar(batch.tp.topic, pa.string()), n),
        pa.repeat(pa.scalar(batch.tp.partition, pa.int32()), n),
        pa.array(batch.offsets, pa.int64()).take(decoded.places),
        pa.repeat(pa.scalar(0, pa.int32()), n),
        pc.cast(millis, TIMESTAMP),
    ]
    columns = decoded.rows.columns
    fields = [decoded.rows.schema.field(i) for i in range(len(columns) - 1)]
    schema = pa.schema([*fields, *LINEAGE, EVENT_TIME])
    rows = pa.RecordBatch.from_arrays([*columns[:-1], *lineage, columns[-1]], schema=schema)
    return Decoded(rows, decoded.places, decoded.rejects)
