"""Rows of Parquet become JSON that the contract reads back as they were."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import cli
from streamflow.clock import SimulatedClock
from streamflow.errors import SettingsError, StreamflowError
from streamflow.produce import parquet_input
from streamflow.produce.formats import Format, format_of, open_input
from streamflow.produce.limits import Limits
from streamflow.produce.parquet_input import ParquetInput, json_column
from streamflow.produce.records import RecordRules, Records
from streamflow.schema import Contract


class Everything(BaseModel):
    on: bool | None
    n: int | None
    x: float | None
    s: str | None
    b: bytes | None
    d: Annotated[Decimal, Field(max_digits=20, decimal_places=4)] | None
    day: date | None
    at: AwareDatetime | None
    many: list[float | None] | None
    times: list[AwareDatetime]


CONTRACT = Contract(Everything)
TIMES = st.datetimes(timezones=st.just(UTC))
ROWS = st.fixed_dictionaries(
    {
        "on": st.none() | st.booleans(),
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "x": st.none() | st.floats(),
        "s": st.none() | st.text(max_size=5),
        "b": st.none() | st.text(max_size=5).map(str.encode),
        "d": st.none() | st.decimals(-(10**15), 10**15, places=4),
        "day": st.none() | st.dates(),
        "at": st.none() | TIMES,
        "many": st.none() | st.lists(st.none() | st.floats(), max_size=3),
        "times": st.lists(TIMES, max_size=3),
    }
)


@given(st.lists(ROWS, min_size=1, max_size=5))
def test_the_contract_reads_back_what_the_columns_held(rows: list[dict[str, Any]]) -> None:
    batch = pa.RecordBatch.from_pylist(rows, schema=CONTRACT.schema)
    columns = [json_column(column) for column in batch.columns]
    texts = [
        json.dumps(dict(zip(batch.schema.names, row, strict=True))).encode()
        for row in zip(*columns, strict=True)
    ]
    decoded = CONTRACT.decode(texts)
    assert not decoded.refused
    assert str(decoded.batch.to_pylist()) == str(batch.to_pylist())


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([0, -1, 1_500_000_000], pa.timestamp("ns")), ["T00:00:00", None, "T00:00:01.5"]),
        (pa.array([10], pa.timestamp("s", "Europe/Berlin")), ["T00:00:10Z"]),
        (pa.array([120], pa.timestamp("ms", "UTC")), ["T00:00:00.12Z"]),
        (pa.array([123_456_700], pa.timestamp("ns", "UTC")), ["T00:00:00.1234567Z"]),
    ],
)
def test_times_keep_every_digit_and_their_zone(
    column: pa.Array, expected: list[str | None]
) -> None:
    found = json_column(column)
    wanted = [None if e is None else f"1970-01-01{e}" for e in expected]
    assert [f if w else None for f, w in zip(found, wanted, strict=True)] == wanted


def test_nested_dictionary_and_rare_columns_have_a_form_too() -> None:
    kind = pa.struct([("a", pa.list_(pa.timestamp("s", "UTC"), 1)), ("b", pa.decimal128(5, 2))])
    rows = [{"a": [datetime(1960, 1, 1, tzinfo=UTC)], "b": Decimal("1.50")}, None]
    assert json_column(pa.array(rows, kind)) == [{"a": ["1960-01-01T00:00:00Z"], "b": "1.50"}, None]
    assert json_column(pa.array(["x", None, "x"]).dictionary_encode()) == ["x", None, "x"]
    assert json_column(pa.array([0.5, float("inf")], pa.float16())) == [0.5, "Infinity"]
    assert json_column(pa.array([61_000], pa.time32("ms"))) == ["00:01:01.000"]
    assert json_column(pa.nulls(2)) == [None, None]
    assert json_column(pa.array([2**64 - 1], pa.uint64())) == [2**64 - 1]


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def test_row_groups_are_read_one_after_the_other(tmp_path: Path) -> None:
    table = pa.table({"n": range(10_000)})
    source = ParquetInput(write(tmp_path / "x.parquet", table, row_group_size=3_000))
    assert source.taken == 0
    chunks = source.chunks()
    first = next(chunks)
    assert first.values[:2] == [b'{"n":0}', b'{"n":1}']
    assert first.places[:2] == [1, 2]
    assert len(first.values) <= parquet_input.BATCH_ROWS
    assert 0 < source.taken < (tmp_path / "x.parquet").stat().st_size
    rest = [value for chunk in chunks for value in chunk.values]
    assert first.values + rest == [b'{"n":%d}' % n for n in range(10_000)]
    assert source.taken == (tmp_path / "x.parquet").stat().st_size
    source.close()


def test_memory_is_bounded_by_the_rows_that_are_taken_at_once(tmp_path: Path) -> None:
    texts = pa.array([f"{n:0500}" for n in range(100_000)])
    path = write(tmp_path / "x.parquet", pa.table({"s": texts}), use_dictionary=False)
    del texts
    before, largest = pa.total_allocated_bytes(), 0
    for _ in ParquetInput(path).chunks():
        largest = max(largest, pa.total_allocated_bytes() - before)
    assert path.stat().st_size > 2_000_000
    assert largest < 20_000_000  # of 50,000,000 bytes of text


def records(source: ParquetInput, rules: RecordRules) -> Iterator[list[Any]]:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    limits = Limits.of({"max.message.bytes": "1000000"})
    return Records([source], rules, limits, clock).chunks()


def test_a_row_without_a_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", pa.table({"k": ["a", None]}))
    with pytest.raises(StreamflowError, match=r"x\.parquet: row 2: field 'k' is NoneType"):
        list(records(ParquetInput(path), RecordRules(("k",))))


NOT_UTF8 = {
    "bytes": pa.array([b"a", b"\xff\xe9", b"c"]),
    "text": pa.array([b"a", b"\xff\xe9", b"c"]).view(pa.string()),
    "list": pa.array([[b"a"], [None, b"\xff\xe9"], None]),
    "struct": pa.array([{"b": b"a"}, {"b": b"\xff\xe9"}, None]),
    "dictionary": pa.array([b"a", b"\xff\xe9", b"c"]).dictionary_encode(),
}


@pytest.mark.parametrize("name", NOT_UTF8)
def test_a_row_that_is_not_utf8_is_named_and_what_is_before_it_is_sent(
    tmp_path: Path, name: str
) -> None:
    table = pa.table({"n": [1, 2, 3], name: NOT_UTF8[name]})
    source = ParquetInput(write(tmp_path / "x.parquet", table))
    read = records(source, RecordRules())
    assert [record.value for record in next(read)] == [orjson.dumps(row_of(table, 0))]
    with pytest.raises(
        StreamflowError,
        match=rf"x\.parquet: row 2: column '{name}' holds bytes that are not UTF-8, which JSON "
        "cannot hold; --keep-bad .* was sent",
    ):
        next(read)


@pytest.mark.parametrize("name", NOT_UTF8)
def test_with_keep_bad_only_that_row_is_bad_and_its_bytes_stay(tmp_path: Path, name: str) -> None:
    table = pa.table({"n": [1, 2, 3], name: NOT_UTF8[name]})
    source = ParquetInput(write(tmp_path / "x.parquet", table))
    (sent,) = records(source, RecordRules(keep_bad=True))
    first, second, third = (record.value for record in sent)
    assert (first, third) == tuple(orjson.dumps(row_of(table, at)) for at in (0, 2))
    assert second.startswith(b'{"n":2,"%s":' % name.encode())
    assert b'"\xff\xe9"' in second


def row_of(table: pa.Table, at: int) -> dict[str, Any]:
    """As a good row of these tables is written."""
    row = table.slice(at, 1).to_pylist()[0]
    return orjson.loads(json.dumps(row, default=bytes.decode))


@pytest.mark.parametrize(
    "kind", [pa.duration("s"), pa.map_(pa.string(), pa.int64()), pa.list_(pa.duration("us"))]
)
def test_a_type_without_a_form_in_json_is_refused_when_it_is_opened(
    tmp_path: Path, kind: pa.DataType
) -> None:
    path = write(tmp_path / "x.parquet", pa.table({"c": pa.nulls(1, kind)}))
    with pytest.raises(SettingsError, match=r"column 'c' is .*, which has no form in JSON"):
        ParquetInput(path)


def test_what_is_no_parquet_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b'{"n":1}\n')
    with pytest.raises(SettingsError, match=r"x\.parquet: no Parquet that can be read: "):
        ParquetInput(path)
    with ExitStack() as stack, pytest.raises(SettingsError, match="Parquet is read from its end"):
        open_input(Path("-"), stack, format="parquet")


def test_a_damaged_page_is_named_after_the_rows_before_it(tmp_path: Path) -> None:
    table = pa.table({"n": range(20_000)})
    options: dict[str, Any] = {"use_dictionary": False, "compression": "zstd"}
    path = write(tmp_path / "x.parquet", table, row_group_size=10_000, **options)
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = second.data_page_offset
    data[start + 40 : start + 2000] = bytes(1960)
    path.write_bytes(data)
    taken = 0

    def take() -> None:
        nonlocal taken
        for chunk in records(ParquetInput(path), RecordRules()):
            taken += len(chunk)

    with pytest.raises(StreamflowError, match=r"x\.parquet: row \d+: damaged: "):
        take()
    assert 8_000 <= taken <= 10_000


def test_columns_of_one_name_are_refused_for_an_object_would_have_only_one(
    tmp_path: Path,
) -> None:
    pair = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    lists = pa.ListArray.from_arrays([0, 1], pair)
    columns = [pa.array([n]) for n in range(3)]
    names = ["n", "m", "n", "s", "l"]
    table = pa.Table.from_arrays([*columns, pair, lists], names=names)
    path = write(tmp_path / "x.parquet", table)
    words = r"x\.parquet: more than one column is named 'n' and 's\.x' and 'l\.x', and"
    with pytest.raises(SettingsError, match=words):
        ParquetInput(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.csv", "csv"),
        ("x.CSV.gz", "csv"),
        ("a.b.tsv.zst", "tsv"),
        ("x.parquet", "parquet"),
        ("x.pq", "parquet"),
        ("x.ndjson.gz", "lines"),
        ("x.gz", "lines"),
        ("csv", "lines"),
        ("-", "lines"),
    ],
)
def test_the_name_says_the_format(name: str, expected: Format) -> None:
    assert format_of(Path(name)) == expected


def test_a_local_run_takes_parquet_of_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "numbers_pq.py").write_text(
        "from pydantic import AwareDatetime, BaseModel\n"
        "from streamflow import Topology, source, topic\n\n"
        "class Number(BaseModel):\n    n: int\n    at: AwareDatetime\n\n"
        'numbers = source(topic("numbers"), Number, event_time="at")\n'
        'topology = Topology("numbers", numbers.to(topic("out")), '
        'numbers.rejected.to(topic("dlq")))\n'
    )
    start = datetime(2024, 5, 1, tzinfo=UTC)
    table = pa.table({"n": range(5), "at": [start + timedelta(seconds=n) for n in range(5)]})
    path = write(tmp_path / "data", table)
    done = CliRunner().invoke(
        cli.main,
        [
            *("run", str(tmp_path / "numbers_pq.py"), "--local", "--format", "parquet"),
            *("--input", str(path), "--output", str(tmp_path / "out")),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "5 in = 5 passed + 0 rejected" in done.stdout
