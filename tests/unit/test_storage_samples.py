"""`streamflow storage` on data sets that are odd: what can be read is, and the rest is said."""

import datetime as dt
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamflow.cli.sample_types import types_said
from streamflow.cli.samples import read_sample
from streamflow.errors import SettingsError

from .test_storage_command import flat, refused, said


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def csv_column(tmp_path: Path, *values: str) -> pa.Table:
    path = write(tmp_path / "t.csv", "\n".join(["v,other", *(f"{value},x" for value in values)]))
    return read_sample([path], 100).table


@pytest.mark.parametrize(
    ("values", "kind", "first"),
    [
        (["1", "-2", ""], "int64", 1),
        (["12.50", "3.75", "-0.10"], "decimal128(9, 2)", Decimal("12.50")),
        (["12345678.25", "3.75"], "decimal128(18, 2)", Decimal("12345678.25")),
        (["1.5", "2", "NaN"], "double", 1.5),
        (["1.5", "2.25"], "double", 1.5),
        (["1e9", "2.5"], "double", 1e9),
        (["true", "False"], "bool", True),
        (["2013-01-01", "2026-11-21"], "date32[day]", dt.date(2013, 1, 1)),
        (
            ["2013-01-01 05:00:00", "2013-01-01 06:00:00"],
            "timestamp[us, tz=UTC]",
            dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC),
        ),
        (
            ["2013-01-01T05:00:00.25+02:00"],
            "timestamp[us, tz=UTC]",
            dt.datetime(2013, 1, 1, 3, 0, 0, 250_000, dt.UTC),
        ),
        (["00501", "94016"], "string", "00501"),
        (["1", "x"], "string", "1"),
        (["", ""], "string", None),
        (["99999999999999999999"], "double", 1e20),
    ],
)
def test_columns_of_csv_are_what_all_of_their_values_look_like(
    tmp_path: Path, values: list[str], kind: str, first: Any
) -> None:
    table = csv_column(tmp_path, *values)
    assert str(table.schema.field("v").type) == kind
    assert table["v"][0].as_py() == first


def test_types_are_shown_and_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "price,zip\n12.50,94016\n1.25,10001\n")
    taken = "taken for, by their values: price decimal128(9, 2), zip int64; say another with --type"
    assert taken in said("plan", path)
    assert taken in said("analyze", path)
    words = ("--type", "price=float", "--type", "zip=text")
    document = orjson.loads(said("plan", path, *words, "--json"))
    assert [one["profile"]["type"] for one in document[0]["columns"]] == ["double", "string"]
    assert "taken for" not in said("plan", path, *words)
    assert "--type price=int64: " in refused("plan", path, "--type", "price=int")
    assert "--type nr: the columns are price, zip" in refused("plan", path, "--type", "nr=int")


@pytest.mark.parametrize("word", ["price", "=int", "a=money", "a=decimal(99,2)", "a=decimal(9)"])
def test_a_type_that_is_none_is_named(word: str) -> None:
    with pytest.raises(SettingsError, match=r"^--type "):
        types_said((word,))


def test_a_type_is_that_of_all_files_and_not_of_the_first(tmp_path: Path) -> None:
    for i, value in enumerate(["1", "2.5", "none of these"]):
        write(tmp_path / f"{i}.csv", f"v,w\n{value},1\n")
    assert read_sample([tmp_path], 100).table["v"].to_pylist() == ["1", "2.5", "none of these"]


def test_files_that_are_empty_or_damaged_are_passed_by_and_named(tmp_path: Path) -> None:
    table = flat(40)
    for name in ("a", "c", "e"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    write(tmp_path / "b.parquet", b"")
    write(tmp_path / "d.parquet", (tmp_path / "a.parquet").read_bytes()[:-300])
    sample = read_sample([tmp_path], 1000)
    assert (sample.files, sample.rows, sample.table.num_rows) == (5, 120, 120)
    assert [note.split(" ")[0].rpartition("/")[2] for note in sample.notes] == [
        "b.parquet",
        "d.parquet",
    ]
    for verb in ("plan", "analyze"):
        assert "d.parquet cannot be read: " in said(verb, tmp_path)
        assert "d.parquet cannot be read: " in refused(verb, tmp_path / "d.parquet")
    for i in range(9):
        write(tmp_path / f"x{i}.parquet", b"PAR1")
    notes = read_sample([tmp_path], 1000).notes
    assert len(notes) == 4
    assert notes[-1] == "8 more files cannot be read; passed by"
    assert read_sample([tmp_path], 1000).rows == 120


def test_folders_name_columns_whose_values_may_be_null_or_escaped(tmp_path: Path) -> None:
    table = flat(40).drop_columns(["host"])
    for i, value in enumerate(["web-1", "a%2Fb", "__HIVE_DEFAULT_PARTITION__"]):
        folder = tmp_path / f"month={i}" / f"host={value}"
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "t.parquet")
    sample = read_sample([tmp_path], 1000)
    assert sample.folders == {"month": ["0", "1", "2"], "host": ["web-1", "a/b", None]}
    assert "host" not in sample.table.column_names
    log = write(tmp_path / "log.sql", "SELECT 1 FROM x WHERE HOST = 'web-1' AND id = 'x'")
    words = "host: it names folders already; a query for one value opens 1 of 3"
    assert words in said("analyze", tmp_path, "--filter", "host")
    shown = said("analyze", tmp_path, "--query-log", log)
    assert words in shown
    assert "sort by id" in shown
    found = json.loads(said("analyze", tmp_path, "--filter", "host", "--json"))
    assert found["folders"]["host"] == ["web-1", "a/b", None]
    assert found["access"]["equal"] == {"host": 1}
    assert found["remarks"] == [words]
    one = tmp_path / "month=0" / "host=web-1" / "t.parquet"
    assert read_sample([one], 10).folders["host"] == ["web-1"]


def test_lines_with_values_of_several_types_are_taken_as_text(tmp_path: Path) -> None:
    lines = ['{"a": 1, "b": 1}', '{"a": "x", "b": 2}', '{"a": [true]}', '"no"', "{oops", ""]
    sample = read_sample([write(tmp_path / "t.ndjson", "\n".join(lines))], 100)
    assert sample.table.to_pylist() == [
        {"a": "1", "b": 1},
        {"a": "x", "b": 2},
        {"a": "[true]", "b": None},
    ]
    assert sample.notes == [
        "t.ndjson: 2 of 5 lines are no JSON object; passed by",
        "t.ndjson: a holds numbers, texts, lists: taken as text",
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    lines = read_sample([write(tmp_path / "t.ndjson", mark + b'{"a": 1}\n')], 9)
    cells = read_sample([write(tmp_path / "t.csv", mark + b"a,b\n1,2\n")], 9)
    assert lines.table.column_names == ["a"]
    assert cells.table.column_names == ["a", "b"]


@pytest.mark.parametrize("packed", [False, True])
def test_long_texts_lines_within_cells_and_one_column(tmp_path: Path, packed: bool) -> None:
    long, name = "x" * 6_000_000, "t.csv.gz" if packed else "t.csv"
    data = f'v\n"a\nb"\n{long}\n'.encode()
    sample = read_sample([write(tmp_path / name, gzip.compress(data) if packed else data)], 9)
    assert sample.table["v"].to_pylist() == ["a\nb", long]


def test_nested_and_all_null_columns_are_analysed(tmp_path: Path) -> None:
    rows = [{"a": {"b": [{"c": i}]}, "n": None, "tags": ["x"], "e": {}} for i in range(50)]
    path = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    shown = said("analyze", path, "--filter", "tags", "--filter", "n")
    assert "a.b.list.element.c" in shown
    assert "tags: it is list<item: string>, by which readers pass nothing by" in shown
    assert "n: null in all rows of the sample, so nothing can be said of it" in shown
    assert "e hold objects without fields, which Parquet cannot have; passed by" in shown


def test_csv_of_other_separators_and_with_rows_that_do_not_fit_is_read(tmp_path: Path) -> None:
    for mark in ";\t|":
        path = write(tmp_path / "t.csv", f"a{mark}b\n1{mark}2,5\n")
        assert read_sample([path], 9).table.to_pylist() == [{"a": 1, "b": "2,5"}]
    sample = read_sample([write(tmp_path / "r.csv", "a,b\n1,2\n3\n4,5,6\n7,8\n")], 9)
    assert sample.table["a"].to_pylist() == [1, 7]
    assert sample.notes == ["r.csv: 2 rows have another number of cells than the header; passed by"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.csv", "a,a\n1,2\n", "two of its columns are named 'a'"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), "it is UTF-16, and UTF-8 is read"),
        ("t.ndjson", '{"a": 1}\n'.encode("utf-16"), "it is UTF-16, and UTF-8 is read"),
        ("t.csv", "a,b\nM\u00fcller,2\n".encode("latin-1"), "invalid UTF8 data"),
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 99)[:-9], "Truncated"),
        ("t.json", b"[1, 2]", "JSON parse error"),
        ("t.json", b"[", "JSON parse error"),
    ],
)
def test_what_is_no_table_is_said_in_words(
    tmp_path: Path, name: str, data: bytes | str, words: str
) -> None:
    assert words in refused("plan", write(tmp_path / name, data))


def test_a_document_that_is_an_array_is_read_as_its_elements(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", '\n[{"a": 1},\n {"a": 2}]\n')
    assert read_sample([path], 9).table.to_pylist() == [{"a": 1}, {"a": 2}]
