"""First stage: raw records to rows that keep to the contract, with key, event time and lineage.

Whatever does not make it leaves as a `Reject` that names field and reason; the records around it
are untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.core.halving import each_alone
from streamflow.core.plan import TaskPlan
from streamflow.core.step import Raw, Reject
from streamflow.epochs import Epoch, epoch_micros
from streamflow.event_time import (
    NO_TIMESTAMP,
    EventTime,
    Header,
    KafkaTimestamp,
    read_headers,
    years_around,
)
from streamflow.record_keys import text_of
from streamflow.rules import one_per_row
from streamflow.schema import EVENT_TIME, LINEAGE, TIMESTAMP
from streamflow.tombstones import unwrapped

#: Rows validated and turned into columns at a time: few enough that they stay in the cache and
#: out of the garbage collector's old generation.
CHUNK = 2_000
#: Beyond any year, and still a number of microseconds.
MOST_MILLIS = 2**63 // 1000


@dataclass(frozen=True)
class Decoded:
    """Rows and, for each, its place in the micro-batch; and what was refused.

    `deleted` says of each record of the micro-batch whether it deletes its key, where the source
    understands that; `empty` is how many records said nothing, and are dropped.
    """

    rows: pa.RecordBatch
    places: pa.Array
    rejects: list[Reject]
    deleted: pa.Array | None = None
    empty: int = 0


def decode(plan: TaskPlan, batch: MicroBatch) -> Decoded:
    """Validate a micro-batch and add what streamflow keeps of each record."""
    contract = plan.source.contract
    inner = unwrapped(plan.source, batch)
    at = range(len(batch)) if inner.places is None else inner.places
    rejects = [
        Reject(Raw.of(batch, place), "decode", reason, message)
        for place, (reason, message) in inner.refused.items()
    ]
    parts: list[pa.RecordBatch] = [contract.columns([])]
    places = [pa.array([], pa.int64())]
    for start in range(0, len(inner.values), CHUNK):
        decoding = contract.decode(inner.values[start : start + CHUNK])
        parts.append(decoding.batch)
        places.append(pc.add(pa.array(decoding.places, pa.int64()), start))
        for bad in decoding.refused:
            raw = Raw.of(batch, at[start + bad.index])
            plain = bad.says_no_value
            rejects.append(
                Reject(raw, "decode", bad.reason, bad.message, bad.field, says_no_value=plain)
            )
    places = pa.concat_arrays(places)
    if inner.places is not None:
        places = pa.array(inner.places, pa.int64()).take(places)
    decoded = Decoded(pa.concat_batches(parts), places, rejects, inner.deleted, inner.empty)
    decoded = _check_key(plan, batch, inner.keys, decoded)
    decoded = _check_timestamp(batch, _with_event_time(plan, batch, decoded))
    return _with_lineage(batch, decoded)


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
    rows, places = decoded.rows.filter(good), decoded.places.filter(good)
    return replace(decoded, rows=rows, places=places, rejects=rejects)


def _check_key(
    plan: TaskPlan, batch: MicroBatch, texts: Sequence[Sequence[bytes | None]], decoded: Decoded
) -> Decoded:
    """Refuse rows whose record key does not say what the declared fields do."""
    names = plan.source.keys
    if not names:
        return decoded
    fields = [text_of(decoded.rows.column(name)) for name in names]
    same = [
        pc.fill_null(pc.equal(field, pa.array(found, pa.binary()).take(decoded.places)), False)
        for field, found in zip(fields, texts, strict=True)
    ]

    def why(row: int, raw: Raw) -> Reject:
        text = (
            "the record has no key" if raw.key is None else f"the record's key is {raw.key[:80]!r}"
        )
        wanted = [_shown(field[row].as_py()) for field in fields]
        if len(names) == 1:
            message = f"{text}, but the topic is keyed by {names[0]}, here {wanted[0]}"
        else:
            here = ", ".join(f"{name} {one}" for name, one in zip(names, wanted, strict=True))
            message = f"{text}, but the topic is keyed by a JSON object, here of {here}"
        differs = next(name for name, is_same in zip(names, same, strict=True) if not is_same[row])
        return Reject(raw, "decode", "wrong-key", message, differs)

    return _keep(decoded, batch, reduce(pc.and_, same), why)


def _shown(text: bytes | None) -> str:
    return repr(text if text is None else text[:80])


def _with_event_time(plan: TaskPlan, batch: MicroBatch, decoded: Decoded) -> Decoded:
    """Add the event time; refuse rows that have none, one that windows cannot be computed with, or
    one too far in the future.
    """
    times, unreadable = _event_times(plan.source.event_time, batch, decoded)
    if decoded.deleted is not None:
        # A deletion seldom says when it happened; its record was written then.
        written, _ = _event_times(KafkaTimestamp(), batch, decoded)
        times = pc.if_else(decoded.deleted.take(decoded.places), pc.coalesce(times, written), times)
    if plan.source.missing_event_time == "ingest_time":
        times = pc.fill_null(times, batch.fetched * 1000)
    if unreadable:
        bad = pc.is_in(pa.array(range(len(times))), value_set=pa.array(list(unreadable)))
        times = pc.if_else(bad, pa.scalar(None, pa.int64()), times)
    years = plan.years

    def why(row: int, raw: Raw) -> Reject:
        message = f"the event time is not in {years}"
        if not times[row].is_valid:
            message = unreadable.get(row, "the record has no event time")
        return Reject(raw, "decode", "event-time", message)

    inside = pc.and_(pc.greater_equal(times, years.start), pc.less(times, years.stop))
    # What is outside leaves with the next line, before anyone reads its year.
    column = pc.cast(times, TIMESTAMP)
    rows = decoded.rows.append_column(pa.field(EVENT_TIME.name, TIMESTAMP), column)
    decoded = _keep(replace(decoded, rows=rows), batch, inside, why)
    return _check_future(plan, batch, decoded)


def _event_times(
    named: EventTime, batch: MicroBatch, decoded: Decoded
) -> tuple[pa.Array, dict[int, str]]:
    """Microseconds for each row, null without, and why those that are wrong cannot be read."""
    match named:
        case KafkaTimestamp():
            millis = pa.array(batch.timestamps, pa.int64()).take(decoded.places)
            millis = pc.if_else(pc.equal(millis, NO_TIMESTAMP), None, millis)
            limits = pa.scalar(-MOST_MILLIS), pa.scalar(MOST_MILLIS)
            clipped = pc.max_element_wise(limits[0], millis, skip_nulls=False)
            clipped = pc.min_element_wise(limits[1], clipped, skip_nulls=False)
            return pc.multiply(clipped, 1000), {}
        case Header():
            headers = (batch.headers[place] for place in decoded.places.to_pylist())
            times, unreadable = read_headers(named, headers)
            return pa.array(times, pa.int64()), unreadable
        case Epoch():
            numbers = decoded.rows.column(named.field)
            times, wild = epoch_micros(numbers, named.unit)
            rows = pc.indices_nonzero(wild).to_pylist()
            return times, {n: f"{named.field} is {numbers[n]}, no number of time" for n in rows}
        case str():
            return pc.cast(decoded.rows.column(named), pa.int64()), {}
        case _:

            def micros(rows: pa.RecordBatch) -> pa.Array:
                values = one_per_row(named(rows), rows)
                return pc.cast(pc.cast(values, TIMESTAMP), pa.int64())

            times, failed = each_alone(micros, decoded.rows, pa.int64())
            words = {row: f"no event time can be computed: {why}" for row, why in failed.items()}
            return times, words


def _check_future(plan: TaskPlan, batch: MicroBatch, decoded: Decoded) -> Decoded:
    """Refuse rows whose event time is further ahead of their fetch than the source allows."""
    ahead = plan.max_future
    if ahead is None:
        return decoded
    fetched = batch.fetched * 1000
    micros = pc.cast(decoded.rows.column(EVENT_TIME.name), pa.int64())

    def why(row: int, raw: Raw) -> Reject:
        by = timedelta(microseconds=micros[row].as_py() - fetched)
        message = f"the event time is {by} after the record was fetched; {ahead / 1e6:g} s are "
        return Reject(raw, "decode", "future", f"{message}allowed")

    return _keep(decoded, batch, pc.less_equal(micros, fetched + ahead), why)


def _check_timestamp(batch: MicroBatch, decoded: Decoded) -> Decoded:
    """Refuse rows whose Kafka timestamp fits no column; a producer may send any integer."""
    millis = pa.array(batch.timestamps, pa.int64()).take(decoded.places)
    years = years_around(timedelta(0))
    inside = pc.and_(
        pc.greater_equal(millis, years.start // 1000), pc.less(millis, years.stop // 1000)
    )

    def why(row: int, raw: Raw) -> Reject:
        message = f"Kafka's timestamp of the record, {raw.timestamp} ms, is not in {years}"
        return Reject(raw, "decode", "unstorable", message)

    return _keep(decoded, batch, inside, why)


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
    return replace(decoded, rows=rows)
