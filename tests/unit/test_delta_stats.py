"""What a Delta log says of a file's columns, and that whoever goes by it finds every row."""

import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import Topology, delta, parquet, source, topic
from streamflow.batch import Record
from streamflow.core.delta_stats import stats_of
from streamflow.local import LocalRun

TIMES = pa.timestamp("us", "UTC")
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


def said_of(table: pa.Table, *columns: str) -> dict[str, Any]:
    data = pa.BufferOutputStream()
    pq.write_table(table, data, row_group_size=2)
    said = stats_of(pq.read_metadata(pa.BufferReader(data.getvalue())), columns)
    return json.loads(said, parse_float=Decimal)


def test_statistics_are_said_exactly_or_not_tighter() -> None:
    noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    exact = Decimal("12345678901234567890123456789.123456789")
    table = pa.table(
        {
            "whole": pa.array([3, None, 1], pa.int32()),
            "real": pa.array([1.5, 2.5, None], pa.float64()),
            "text": pa.array(["b", "a", "ü"]),
            "long": pa.array(["z" * 65, "a" * 70, "c"]),
            "at": pa.array([noon, noon + timedelta(microseconds=1), None], TIMES),
            "day": pa.array([noon.date()] * 3, pa.date32()),
            "nothing": pa.nulls(3, pa.int64()),
            "truth": pa.array([True, False, None]),
            "money": pa.array([None, exact, -2], pa.decimal128(38, 9)),
            "list": pa.array([[1], None, []], pa.list_(pa.int64())),
            "bytes": pa.array([b"a", None, b""]),
        }
    )
    found = said_of(table, "whole", "later")
    assert found["numRecords"] == 3
    assert found["minValues"] == {
        "whole": 1,
        "real": Decimal("1.5"),
        "text": "a",
        "long": "a" * 64,
        "truth": False,
        "money": Decimal("-2.000000000"),
        "at": "2013-01-01T12:00:00.000000Z",
        "day": "2013-01-01",
    }
    assert found["maxValues"] == {
        "whole": 3,
        "real": Decimal("2.5"),
        "text": "ü",
        "long": "z" * 64 + "\U0010ffff",
        "truth": True,
        "money": exact,
        "at": "2013-01-01T12:00:00.000001Z",
        "day": "2013-01-01",
    }
    assert found["nullCount"]["whole"] == found["nullCount"]["real"] == 1
    assert found["nullCount"]["nothing"] == found["nullCount"]["later"] == 3


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.0, float("inf")]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array(["a", "z" * 64 + "\U0010ffff" * 2]),
        pa.array(["a", "z" * 5_000]),  # beyond what Parquet keeps of a text
    ],
)
def test_where_the_bounds_of_a_column_cannot_be_said_no_column_has_any(column: pa.Array) -> None:
    assert said_of(pa.table({"whole": [1, 2], "other": column})) == {"numRecords": 2}


class Inner(BaseModel):
    a: int


class Every(BaseModel):
    at: AwareDatetime
    money: Decimal = Field(decimal_places=2)
    good: bool
    text: str
    real: float
    inner: Inner | None
    note: str | None


@pytest.mark.parametrize("wild", [1.5, math.inf, math.nan])
def test_what_is_looked_for_is_found_by_whoever_passes_files_over(
    wild: float, tmp_path: Path
) -> None:
    rows = source(topic("rows"), Every, event_time="at")
    built = Topology("t", rows.to(delta("t")), rows.rejected.drop())
    given = [
        {
            "at": NOON,
            "money": "1.50",
            "good": False,
            "text": "x" * 70 + str(number),
            "real": wild if number == 3 else number,
            "inner": None if number % 2 else {"a": number},
            "note": None,
        }
        for number in range(4)
    ]
    values = [Every.model_validate(one).model_dump_json().encode() for one in given]
    values = [
        value.replace(b'"real":null', b'"real":"%s"' % str(wild).encode()) for value in values
    ]
    LocalRun(built, tmp_path / "lake", partitions=1).run(
        {"rows": [Record(None, value) for value in values]}
    )
    table = DeltaTable(str(tmp_path / "lake" / "t"))
    files, whole = table.to_pyarrow_dataset(), table.to_pyarrow_table()
    field = ds.field
    for filtered in (
        field("money") == Decimal("1.50"),
        field("money") > pa.scalar(Decimal("0.00"), whole["money"].type),
        field("good") == pa.scalar(False),
        field("text") == "x" * 70 + "2",
        field("real") == 2.0,
        ~(field("real") < 100.0),
        field("inner").is_null(),
        field("inner").is_valid(),
        field("note").is_null(),
    ):
        assert files.to_table(filter=filtered).num_rows == whole.filter(filtered).num_rows
    frame = pl.scan_delta(str(tmp_path / "lake" / "t"))
    assert frame.filter(pl.col("money") == Decimal("1.50")).collect().height == 4
    assert frame.filter(~pl.col("good")).collect().height == 4


@pytest.mark.parametrize("nested", [False, True])
def test_rows_that_are_no_number_are_found_in_a_plain_table(nested: bool, tmp_path: Path) -> None:
    class Real(BaseModel):
        x: float

    class Row(BaseModel):
        at: AwareDatetime
        x: float
        deep: Real

    rows = source(topic("rows"), Row, event_time="at")
    built = Topology("t", rows.to(parquet("t")), rows.rejected.drop())
    text = b'{"at":"2013-01-01T12:00:00Z","x":%s,"deep":{"x":%s}}'
    given = [text % (x, x) for x in (b"1", b'"NaN"', b"2")]
    LocalRun(built, tmp_path / "lake", partitions=1).run(
        {"rows": [Record(None, value) for value in given]}
    )
    files = f"{tmp_path}/lake/t/**/*.parquet"
    name = "deep.x" if nested else "x"
    with duckdb.connect() as connection:
        for where in (f"isnan({name})", f"{name} > 1000", f"{name} = 'nan'"):
            query = f"SELECT count(*) FROM read_parquet('{files}') WHERE {where}"
            assert connection.execute(query).fetchone() == (1,), where
    found = ds.dataset(str(tmp_path / "lake" / "t"), ignore_prefixes=["."])
    column = ds.field("deep", "x") if nested else ds.field("x")
    assert found.to_table(filter=~(column < 100.0)).num_rows == 1
