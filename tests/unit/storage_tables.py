"""Tables of every kind of column, for the tests of storage plans."""

import datetime as dt
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

TIMESTAMP = pa.timestamp("us", "UTC")
ITEM = pa.struct([("size", pa.int32()), ("names", pa.list_(pa.string()))])
TIMES = st.integers(0, 2**52).map(lambda us: dt.datetime.fromtimestamp(us / 1e6, dt.UTC))
TEXTS = st.text(max_size=12) | st.sampled_from(["JFK", "LGA", "EWR"])
WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9)
SMALL = st.integers(-(2**31), 2**31 - 1)

#: A type of column, and its values; each may be null too.
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "whole": (pa.int64(), WHOLE),
    "small": (pa.int32(), SMALL),
    "tiny": (pa.int8(), st.integers(-128, 127)),
    "unsigned": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "real": (pa.float64(), st.floats(allow_nan=False)),
    "single": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "truth": (pa.bool_(), st.booleans()),
    "text": (pa.string(), TEXTS),
    "wide": (pa.large_string(), TEXTS),
    "bytes": (pa.binary(), st.binary(max_size=9)),
    "fixed": (pa.binary(4), st.binary(min_size=4, max_size=4)),
    "price": (pa.decimal128(38, 9), st.decimals(-(10**15), 10**15, places=9)),
    "cents": (pa.decimal128(9, 2), st.decimals(-(10**6), 10**6, places=2)),
    "day": (pa.date32(), st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))),
    "at": (TIMESTAMP, TIMES),
    "clock": (pa.time64("us"), st.times()),
    "nothing": (pa.null(), st.none()),
    "code": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", "c"])),
    "tags": (pa.list_(pa.string()), st.lists(st.none() | TEXTS, max_size=3)),
    "pair": (pa.list_(pa.int32(), 2), st.lists(SMALL, min_size=2, max_size=2)),
    "item": (
        ITEM,
        st.fixed_dictionaries({"size": SMALL, "names": st.lists(TEXTS, max_size=2)}),
    ),
    "items": (
        pa.list_(ITEM),
        st.lists(st.fixed_dictionaries({"size": SMALL, "names": st.none()}), max_size=2),
    ),
    "counts": (
        pa.map_(pa.string(), pa.int64()),
        st.dictionaries(TEXTS, WHOLE, max_size=3).map(lambda found: list(found.items())),
    ),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table of a few columns, of which some are all null, with its rows some times over."""
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5, unique=True))
    rows = draw(st.integers(0, 12))
    columns: list[pa.Array] = []
    for kind in kinds:
        type_, values = KINDS[kind]
        able = st.none() if draw(st.integers(0, 9)) == 0 else st.none() | values
        found = draw(st.lists(able, min_size=rows, max_size=rows))
        if kind == "pair":  # Parquet readers do not agree on lists of a fixed size that are null
            found = [one or [0, 0] for one in found]
        columns.append(_array(found, type_))
    table = pa.table(columns, kinds)
    return pa.concat_tables([table] * draw(st.sampled_from([1, 1, 7, 60]))).combine_chunks()


def _array(values: list[Any], type_: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(type_):
        step = Decimal(1).scaleb(-type_.scale)
        values = [None if value is None else value.quantize(step) for value in values]
    if pa.types.is_dictionary(type_):
        return pa.array(values, type_.value_type).dictionary_encode()
    return pa.array(values, type_)


def read_by_arrow(data: pa.Buffer) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


def read_by_duckdb(data: pa.Buffer, folder: Path) -> pa.Table:
    path = folder / "t.parquet"
    path.write_bytes(data)
    return _duckdb().sql(f"SELECT * FROM read_parquet('{path}')").to_arrow_table()


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection
