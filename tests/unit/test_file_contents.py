"""What a file of a table says of itself: a test for each sentence of docs/tables.md."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import duckdb
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import Rule, Topology, TopologyError, parquet, source, topic
from streamflow.core.cut import decode_cut, encode_cut
from streamflow.core.names import Names
from streamflow.core.parquet import encode_parquet, leaf_columns
from streamflow.edges.memory_files import MemoryFiles
from streamflow.edges.parquet import read_footer
from streamflow.engine.table_spec import table_spec
from streamflow.testing import TopologyDriver
from streamflow.writer_settings import UNPLANNED, ColumnSettings, Encoding, WriterSettings
from tests.unit.sink_log import Log, content, drain, partition, spec

NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


class Sale(BaseModel):
    shop: Literal["a", "b"] = Field(description="where it was sold")
    cents: int = Field(description="what was paid, in cents: «brutto»")
    at: AwareDatetime
    sku: str | None = None


class Net(BaseModel):
    shop: str = Field(description="the shop")
    net: int


def topology(**options: Any) -> Topology:
    sales = source(topic("sales"), Sale, event_time="at")
    rules = (Rule("paid", "cents > 0"), Rule("cheap", "cents < 100", severity="warning"))
    kept = sales.gate(*rules)
    table = parquet("sales", roll_interval=MINUTE, **options)
    return Topology("sales", kept.to(table), sales.rejected.to(topic("dlq")))


def sale(cents: int, shop: str = "a") -> dict[str, Any]:
    return {"shop": shop, "cents": cents, "at": "2026-05-01T12:00:00Z"}


def footers(driver: TopologyDriver) -> list[dict[str, str]]:
    files = driver._tables.files["sales"]
    return [read_footer(files.read(name)) for name in files.names()]


def test_the_footer_says_topology_offsets_exits_and_verdicts() -> None:
    made = topology(partition_by="shop")
    driver = TopologyDriver(made, NOON, commit_records=100)
    driver.send("sales", sale(1), sale(500, "b"), sale(-1), sale(0, "b"), b"{oops")
    driver.advance(2 * MINUTE)
    first, second = footers(driver)
    assert first == second
    counts, gates, sources = (
        orjson.loads(first.pop(key)) for key in ("counts", "gates", "sources")
    )
    assert sources == {"sales": [[0, 0, 5]]}
    exits = {name: counts.get(name, 0) for name in ("in", "passed", "rejected", "dropped")}
    assert exits == {"in": 5, "passed": 2, "rejected": 3, "dropped": 0}
    assert gates == {"paid": 2, "cheap": 1}
    [sink] = made.tasks[0].all_sinks
    assert first == {
        "topology": "sales",
        "topology_version": made.version,
        "schema_id": sink.schema_id,
        "schema_version": "0",
        "rows_topic": "sales-sales-rows",
        "rows_partition": "0",
        "rows_range": first["rows_range"],
        "cut": "1",
    }


def test_each_roll_counted_once_gives_the_exits_of_all_records() -> None:
    driver = TopologyDriver(topology(partition_by="shop"), NOON, partitions=2)
    for _ in range(3):
        driver.send("sales", sale(1), sale(500, "b"), sale(-1), b"{oops")
        driver.advance(2 * MINUTE)
    rolls = {(f["rows_topic"], f["rows_partition"], f["cut"]): f["counts"] for f in footers(driver)}
    assert len(rolls) < len(footers(driver))
    total = sum((Counter(orjson.loads(counts)) for counts in rolls.values()), Counter[str]())
    assert {name: total[name] for name in ("in", "passed", "rejected")} == {
        "in": 12,
        "passed": 6,
        "rejected": 6,
    }


def test_a_run_is_named_in_its_files_and_cuts() -> None:
    [sink] = topology().tasks[0].all_sinks
    assert table_spec(topology(), Names("sales"), sink).run is None
    assert table_spec(topology(), Names("sales").of_run("may"), sink).run == "may"
    for run in ("may", None):
        files, log = MemoryFiles(), Log()
        log.commit(3, end_of_input=True)
        drain(partition(files, replace(spec(), run=run)), log)
        assert {read_footer(data).get("run") for data in content(files).values()} == {run}
        for name in files.names(private=True):
            if name.endswith("1.json"):
                cut = decode_cut(files.read(name, private=True), name)
                assert (cut.run, encode_cut(cut)) == (run, files.read(name, private=True))


def test_columns_have_the_descriptions_of_their_model_also_after_a_map() -> None:
    sales = source(topic("sales"), Sale, event_time="at")
    net = sales.map(Net, shop="shop", net="cents - 10")
    edges = [stream.to(parquet(name)) for stream, name in ((sales, "sales"), (net, "net"))]
    driver = TopologyDriver(Topology("sales", *edges, sales.rejected.drop()), NOON)
    driver.send("sales", sale(1))
    driver.end_of_input()
    for table, expected in (
        ("sales", {"shop": "where it was sold", "cents": "what was paid, in cents: «brutto»"}),
        ("net", {"shop": "the shop"}),
    ):
        [found] = driver.tables(table)
        told = {f.name: f.metadata[b"description"].decode() for f in found.schema if f.metadata}
        assert told == expected


EARLY, LATE = (
    dt.datetime(1, 1, 1, tzinfo=dt.UTC),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999999, dt.UTC),
)
LONG = "x" * 10_000
#: A column of each type: its values, and the smallest and largest of them.
COLUMNS: list[tuple[str, pa.DataType, list[Any], Any, Any]] = [
    ("truth", pa.bool_(), [True, False], False, True),
    ("whole", pa.int64(), [2**63 - 1, -(2**63)], -(2**63), 2**63 - 1),
    ("small", pa.int32(), [3, -1], -1, 3),
    ("real", pa.float64(), [1.5, float("inf"), -1e300], -1e300, float("inf")),
    ("text", pa.string(), ["ü", "a"], "a", "ü"),
    ("long", pa.string(), [LONG, LONG], None, None),
    ("bytes", pa.binary(), [b"\xff", b"a"], b"a", b"\xff"),
    ("money", pa.decimal128(38, 9), [Decimal(-2), Decimal("1.5")], Decimal(-2), Decimal("1.5")),
    ("day", pa.date32(), [NOON.date(), EARLY.date()], EARLY.date(), NOON.date()),
    ("time", pa.timestamp("us", "UTC"), [LATE, EARLY], EARLY, LATE),
    ("empty", pa.int64(), [], None, None),
    ("list", pa.list_(pa.int64()), [[1, 5], [], [-3]], -3, 5),
    ("struct", pa.struct([("in", pa.string())]), [{"in": "b"}, {"in": "a"}], "a", "b"),
    ("lists", pa.list_(pa.struct([("x", pa.float64())])), [[{"x": 1.0}, {"x": 2.0}]], 1.0, 2.0),
]
ROWS = 4


def table_of_all() -> pa.Table:
    arrays = [pa.array([*v, *[None] * (ROWS - len(v))], kind) for _, kind, v, _, _ in COLUMNS]
    return pa.table(arrays, [name for name, *_ in COLUMNS])


def settings() -> list[WriterSettings]:
    """All alike, and each encoding on every column that can have it."""
    found = [UNPLANNED]
    encodings: list[tuple[Encoding, set[str] | None]] = [
        ("PLAIN", None),
        ("DELTA_BINARY_PACKED", {"INT32", "INT64"}),
        ("DELTA_BYTE_ARRAY", {"BYTE_ARRAY"}),
        ("DELTA_LENGTH_BYTE_ARRAY", {"BYTE_ARRAY"}),
        ("BYTE_STREAM_SPLIT", {"DOUBLE"}),
    ]
    for encoding, kinds in encodings:
        leaves = [leaf for leaf in leaf_columns(table_of_all().schema) if leaf.named]
        able = [leaf.path for leaf in leaves if kinds is None or leaf.physical in kinds]
        found.append(
            WriterSettings(columns=tuple(ColumnSettings(p, encoding, "zstd", 1) for p in able))
        )
    return found


@pytest.mark.parametrize(
    "how", settings(), ids=lambda how: how.columns[0].encoding if how.columns else ""
)
def test_every_column_has_statistics_however_it_is_written(how: WriterSettings) -> None:
    metadata = pq.read_metadata(pa.BufferReader(encode_parquet(table_of_all(), how, {})))
    assert metadata.num_columns == len(COLUMNS)
    for number, (name, _, values, smallest, largest) in enumerate(COLUMNS):
        column = metadata.row_group(0).column(number)
        found = column.statistics
        assert found.has_null_count, name
        assert found.null_count >= ROWS - len(values), name
        assert found.has_min_max == (smallest is not None), name
        assert column.has_offset_index, name
        assert column.has_column_index == (name != "long"), name
        if smallest is not None:
            assert (found.min, found.max) == (smallest, largest), name


class Typed(BaseModel):
    at: AwareDatetime
    day: dt.date
    whole: int
    real: float
    truth: bool
    text: str
    raw: bytes
    money: Decimal
    price: Decimal = Field(decimal_places=2)
    items: list[int]


def test_types_are_those_that_engines_read_alike(tmp_path: Path) -> None:
    typed = source(topic("typed"), Typed, event_time="at")
    made = Topology("typed", typed.to(parquet("typed")), typed.rejected.to(topic("dlq")))
    driver = TopologyDriver(made, NOON)
    row = {"at": "2026-05-01T14:00:00.123456+02:00", "day": "2026-05-01", "whole": 1, "real": 0.5}
    row |= {"truth": True, "text": "t", "raw": "r", "money": "1.5", "price": "2.25", "items": [1]}
    driver.send("typed", row)
    driver.end_of_input()
    assert driver.read("dlq") == []
    files = driver._tables.files["typed"]
    [name] = files.names()
    path = tmp_path / "typed.parquet"
    path.write_bytes(files.read(name))
    schema = pq.read_metadata(path).schema
    leaves = {schema.column(i).path: schema.column(i) for i in range(len(schema))}
    physical = {path: leaf.physical_type for path, leaf in leaves.items() if path[0] != "_"}
    assert physical == {
        "at": "INT64",
        "day": "INT32",
        "whole": "INT64",
        "real": "DOUBLE",
        "truth": "BOOLEAN",
        "text": "BYTE_ARRAY",
        "raw": "BYTE_ARRAY",
        "money": "FIXED_LEN_BYTE_ARRAY",
        "price": "FIXED_LEN_BYTE_ARRAY",
        "items.list.element": "INT64",
    }
    for time in ("at", "_event_time", "_timestamp"):
        assert leaves[time].converted_type == "TIMESTAMP_MICROS"
        logical = orjson.loads(leaves[time].logical_type.to_json())
        assert (logical["isAdjustedToUTC"], logical["timeUnit"]) == (True, "microseconds")
    at = NOON.replace(microsecond=123456)
    expected = (at, NOON.date(), 1, 0.5, True, "t", b"r", Decimal("1.5"), Decimal("2.25"), [1])
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        found = connection.read_parquet(str(path)).select(*Typed.model_fields)
        assert str(found.types[0]) == "TIMESTAMP WITH TIME ZONE"
        assert found.to_arrow_table().to_pylist() == [
            dict(zip(Typed.model_fields, expected, strict=True))
        ]
    frame = pl.read_parquet(path).select(list(Typed.model_fields))
    assert frame.schema["at"] == pl.Datetime("us", "UTC")
    assert frame.rows() == [expected]


def test_nanoseconds_are_refused_wherever_they_are() -> None:
    for kind in (pa.timestamp("ns"), pa.list_(pa.struct([("at", pa.timestamp("ns", "UTC"))]))):
        with pytest.raises(TopologyError, match="holds nanoseconds, which Spark does not read"):
            spec(schema=pa.schema([("origin", pa.string()), ("at", kind)]))
