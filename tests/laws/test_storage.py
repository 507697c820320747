"""Whatever the plan, the rows are the same, and it is never larger than pyarrow's zstd."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.parquet import encode_parquet, leaf_columns, why_not
from streamflow.storage.plan import decode_plan, encode_plan, make_plan
from streamflow.writer_settings import AIMS, Aim, ColumnSettings, Encoding, WriterSettings
from tests.examples import law
from tests.unit.storage_tables import read_by_arrow, read_by_duckdb, tables

ENCODINGS: dict[str, list[Encoding]] = {
    "INT32": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "DICTIONARY"],
    "INT64": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "DICTIONARY"],
    "FLOAT": ["PLAIN", "BYTE_STREAM_SPLIT", "DICTIONARY"],
    "DOUBLE": ["PLAIN", "BYTE_STREAM_SPLIT", "DICTIONARY"],
    "BOOLEAN": ["PLAIN", "DICTIONARY"],
    "BYTE_ARRAY": ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "DICTIONARY"],
    "FIXED_LEN_BYTE_ARRAY": ["PLAIN", "DICTIONARY"],
}
CODECS: list[tuple[Any, int | None]] = [
    ("zstd", 1),
    ("zstd", 9),
    ("zstd", None),
    ("lz4", None),
    ("snappy", None),
    ("none", None),
]


def zstd_bytes(table: pa.Table) -> int:
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return len(stream.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


def decoded(table: pa.Table) -> pa.Table:
    """Values in place of dictionaries: each row group has one of its own, and to Arrow columns with
    other dictionaries are not equal.
    """
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def check_same(table: pa.Table, data: pa.Buffer, folder: Path) -> None:
    found = read_by_arrow(data)
    assert found.schema.equals(table.schema)
    assert decoded(found).equals(decoded(table))
    other = read_by_duckdb(data, folder)
    assert other.column_names == table.column_names
    assert other.to_pylist() == table.to_pylist()


@law(cases=4)
@pytest.mark.parametrize("aim", AIMS)
@given(data=st.data())
def test_a_planned_file_has_the_same_rows_and_is_not_larger_than_the_default(
    aim: Aim, folder: Path, data: st.DataObject
) -> None:
    table = data.draw(tables())
    ticks = data.draw(st.lists(st.floats(0, 1e-3), min_size=1, max_size=7))
    now = [0.0, 0.0]

    def timer() -> float:
        now[0] += ticks[int(now[1]) % len(ticks)]
        now[1] += 1
        return now[0]

    plan = make_plan(table, aim, timer, "abc")
    written = encode_parquet(table, plan.settings, {})
    assert written.size == plan.bytes <= zstd_bytes(table) == plan.zstd_bytes
    assert [column.path for column in plan.columns] == [
        leaf.path for leaf in leaf_columns(table.schema)
    ]
    assert all(column.chosen.bytes <= column.trials[0].bytes for column in plan.columns)
    assert decode_plan(encode_plan(plan), plan.name) == plan
    check_same(table, written, folder)


@law()
@given(data=st.data())
def test_whatever_the_settings_the_rows_are_the_same_and_so_are_the_bytes(
    folder: Path, data: st.DataObject
) -> None:
    table = data.draw(tables())
    leaves = leaf_columns(table.schema)
    columns = [
        ColumnSettings(
            leaf.path,
            data.draw(st.sampled_from(ENCODINGS[leaf.physical])),
            *data.draw(st.sampled_from(CODECS)),
        )
        for leaf in data.draw(st.lists(st.sampled_from(leaves), unique=True))
    ]
    settings = WriterSettings(
        compression=data.draw(st.sampled_from(["zstd", "snappy", "none", "lz4"])),
        row_group_rows=data.draw(st.sampled_from([1, 5, 1 << 18])),
        page_index=data.draw(st.booleans()),
        columns=(*columns, ColumnSettings("not.there", "DELTA_BYTE_ARRAY")),
    )
    if why_not(table.schema, settings) is not None:  # Arrow reads its dictionaries from few
        assert "code" in {column.path for column in columns}
        return
    written = encode_parquet(table, settings, {"topology": "t"})
    check_same(table, written, folder)
    assert encode_parquet(table, settings, {"topology": "t"}).equals(written)
