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
    words = "--type price=int: " + str(path) + ": line 2: '12.50' is no int, as -12 is"
    assert words in refused("plan", path, "--type", "price=int")
    words = "--type nr: the columns of CSV are price, zip"
    assert words in refused("plan", path, "--type", "nr=int")


@pytest.mark.parametrize(
    ("kind", "good", "bad", "words"),
    [
        ("int", "1", "x", "'x' is no int, as -12 is"),
        ("float", "1", "1,5", "'1,5' is no float, as 1.5e3 is"),
        ("bool", "false", "maybe", "'maybe' is no bool, as true is"),
        ("date", "2020-01-01", "1.2.2020", "'1.2.2020' is no date, as 2013-01-31 is"),
        (
            "timestamp",
            "2020-01-01T00:00:00Z",
            "noon",
            "'noon' is no timestamp, as 2013-01-31T05:00:00Z is",
        ),
        ("decimal(5,1)", "1.5", "12345.5", "'12345.5' is no decimal(5,1), as 12.5 is"),
    ],
)
def test_a_value_that_is_not_of_the_type_said_is_named_with_its_line(
    tmp_path: Path, kind: str, good: str, bad: str, words: str
) -> None:
    rows = [f'"a\nb",{good}', "", "ragged", f'x,"{good}"', "ragged", f'y,"{bad}"', f"z,{bad}"]
    path = write(tmp_path / "t.csv", "n,v\n" + "\n".join(rows))
    line = refused("plan", path, "--type", f"v={kind}")
    assert line == f"error: --type v={kind}: {path}: line 8: {words}"


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
        "t.ndjson: 2 of 5 lines are no JSON object (the first, line 4 is a text); passed by",
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
    sample = read_sample(
        [write(tmp_path / name, gzip.compress(data, mtime=0) if packed else data)], 9
    )
    assert sample.table["v"].to_pylist() == ["a\nb", long]


def test_nested_and_all_null_columns_are_analysed(tmp_path: Path) -> None:
    rows = [{"a": {"b": [{"c": i}]}, "n": None, "tags": ["x"], "e": {}} for i in range(50)]
    path = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    shown = said("analyze", path, "--filter", "tags", "--filter", "n")
    assert "a.b.list.element.c" in shown
    assert "tags: it is list<item: string>, by which readers pass nothing by" in shown
    assert "n: null in all rows of the sample, so nothing can be said of it" in shown
    assert "e holds objects without fields, which Parquet cannot have; passed by" in shown


def test_csv_of_other_separators_and_with_rows_that_do_not_fit_is_read(tmp_path: Path) -> None:
    for mark in ";\t|":
        path = write(tmp_path / "t.csv", f"a{mark}b\n1{mark}2,5\n")
        assert read_sample([path], 9).table.to_pylist() == [{"a": 1, "b": "2,5"}]
    sample = read_sample([write(tmp_path / "r.csv", "a,b\n1,2\n3\n4,5,6\n7,8\n")], 9)
    assert sample.table["a"].to_pylist() == [1, 7]
    words = "another number of cells than the header, which has 2: line 3 has 1 cell; passed by"
    assert sample.notes == [f"r.csv: 2 of 4 rows have {words}"]
    assert read_sample([tmp_path / "r.csv"], 1).notes == []


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.csv", "a,a\n1,2\n", "two of its columns are named 'a'"),
        ("t.csv", b"a,b\n3\n4,5,6\n", "no row to measure: of 2 rows each has another number of"),
        ("t.csv", b"a,b\n3\n4,5,6\n", "line 2 has 1 cell; cells are taken to be separated by ','"),
        ("t.csv", b'a,b\n1,2\n3,"x\n4,5\n', "line 3, column 3: a quote is opened here and never"),
        ("t.csv", b'a,b\n"","x""y"\n"1,2\n3,4\n', "line 3, column 1: a quote is opened here"),
        ("t.csv", 'a,b\n\u00fc\u00fc,"x\n', "line 2, column 4: a quote is opened here"),
        ("t.csv", b"\x00\xfe\x80,b\n", "it is no text: it has bytes that are zero"),
        ("t.csv", b"PAR1....PAR1", "it is a Parquet file"),
        (
            "t.csv",
            gzip.compress(b"a,b\n1,2\n", mtime=0),
            "it is packed by gzip, which the end of its name",
        ),
        ("t.csv", b"PK\x03\x04....", "it is a ZIP archive"),
        ("t.csv.gz", b"a,b\n1,2\n", "it cannot be unpacked as gzip, as its name says"),
        ("t.parquet", b"a,b\n1,2\n", "it is no Parquet file: it does not begin with PAR1"),
        ("t.parquet", b"PAR1" + b"x" * 99, "it begins as Parquet and does not end so"),
        ("t.parquet", b"PAR1" + b"x" * 99 + b"PAR1", "and is damaged between: "),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), "it is UTF-16, and UTF-8 is read"),
        ("t.ndjson", '{"a": 1}\n'.encode("utf-16"), "it is UTF-16, and UTF-8 is read"),
        ("t.csv", "a,b\nM\u00fcller,2\n".encode("latin-1"), "line 2, column 2: the byte 0xfc"),
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 99, mtime=0)[:-9], "is it whole?"),
        ("t.json", b"[1, 2]", "can be read of it: element 1 is a number"),
        ("t.json", b"[", "line 1, column 2 of an array: expecting value; does it end too early?"),
        ("t.json", b'[{"a": 1}\n{"a": 2}]', "line 2, column 1 of an array: no comma follows, and"),
        ("t.json", b" [ ] ", "there is no object to measure"),
        ("t.json", b"\n\n", "there is no object to measure"),
        ("t.ndjson", b"[1]\n[2]\n", "can be read of it: line 1 is a list"),
        ("t.ndjson", b"null\n", "can be read of it: line 1 is null"),
        ("t.json", b'{\n"a": 1\n,}', "can be read of it: line 1, column 2: "),
        ("t.ndjson", b"\n{} x\n", "line 2, column 4: unexpected content after document"),
        ("t.ndjson", b'{"a": -1e400}\n', "line 1, column 7: -1e400 is beyond a double"),
        ("t.ndjson", b"{}\n{}\n", "there is no column to measure, in 2 objects without a field"),
        ("t.ndjson", b"\xe5\x00\xff", "it is no text: it has bytes that are zero"),
    ],
)
def test_what_is_no_table_is_said_in_words(
    tmp_path: Path, name: str, data: bytes | str, words: str
) -> None:
    assert words in refused("plan", write(tmp_path / name, data))


def test_a_document_that_is_an_array_is_read_as_its_elements(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", '\n[{"a": 1},\n {"a": 2}]\n')
    assert read_sample([path], 9).table.to_pylist() == [{"a": 1}, {"a": 2}]


def test_objects_that_take_several_lines_each_are_read(tmp_path: Path) -> None:
    documents = [{"a": 1, "b": {"c": "x"}}, {"a": 2**64, "b": {"c": "y"}}]
    path = write(tmp_path / "t.json", "\n".join(json.dumps(one, indent=2) for one in documents))
    assert read_sample([path], 9).table.to_pylist() == documents
    assert read_sample([path], 1).table.to_pylist() == documents[:1]


def test_of_a_broken_array_that_is_larger_than_what_is_read_the_first_elements_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamflow.cli.sample_lines.READ_BYTES", 30)
    path = write(tmp_path / "t.json", '[{"a": "\u00fc"}, {"a": 2}, {"a": 3}, {"a": 4}]')
    assert read_sample([path], 9).table["a"].to_pylist() == ["\u00fc", "2"]


def test_of_a_text_that_is_larger_than_what_is_read_at_once_whole_rows_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.csv", "a,b\n" + "\u00fc1,22\n" * 40)
    for more in range(8):
        monkeypatch.setattr("streamflow.cli.sample_csv.FIRST_BYTES", 20 + more)
        monkeypatch.setattr("streamflow.cli.sample_csv.READ_BYTES", 60 + more)
        for rows in (1, 2, 3, 99):
            table = read_sample([path], rows).table
            found = len(table)  # without the last one, which may go on
            assert found == rows if rows < 99 else 7 <= found <= 8
            assert table.to_pydict() == {"a": ["\u00fc1"] * found, "b": [22] * found}
    monkeypatch.setattr("streamflow.cli.sample_csv.FIRST_BYTES", 21)
    monkeypatch.setattr("streamflow.cli.sample_csv.READ_BYTES", 60)
    write(path, "a,b\n1,2\n3\n4,5\n" + "6,7\n" * 40)
    sample = read_sample([path], 99)
    assert sample.table["a"].to_pylist() == [1, 4, *[6] * 11]
    assert "1 of 14 rows has another number of cells" in sample.notes[0]
    write(path, 'a,b\n1,2\n"3,4\n' + "6,7\n" * 40)
    words = "line 3, column 1: a quote is opened here and not closed in "
    assert words in refused("plan", path)


def test_numbers_that_no_double_holds_are_named_and_their_lines_passed_by(tmp_path: Path) -> None:
    path = write(tmp_path / "t.ndjson", '{"a": 1}\n{"b": 1, "a": 1e400}\n{"a": 2.5}\n')
    sample = read_sample([path], 9)
    assert sample.table.to_pylist() == [{"a": 1.0}, {"a": 2.5}]
    words = "1 of 3 lines has a number beyond what a double holds (line 2, column 15: 1e400"
    assert sample.notes[0].startswith(f"t.ndjson: {words}")


@pytest.mark.parametrize("more", ["", '"text"'])
@pytest.mark.parametrize(
    ("values", "kind", "note"),
    [
        ([2**63, -1, None], "decimal128(19, 0)", "decimal(19, 0), which is exact"),
        ([2**70, 2**64 + 1], "decimal128(22, 0)", "decimal(22, 0), which is exact"),
        ([-(2**63), 2**63 - 1], "int64", None),
        ([1.5, 2**64], "double", "and fractions: taken as double, of 15 digits"),
        ([1.5, 12345678901234567890.5], "double", None),
        ([10**40], "string", "holds numbers, with integers beyond 64 bits: taken as text"),
        ([True, 2**64], "string", "holds truth values, numbers, with integers beyond 64 bits"),
    ],
)
def test_integers_beyond_64_bits_stay_what_they_are_or_it_is_said(
    tmp_path: Path, values: list[Any], kind: str, note: str | None, more: str
) -> None:
    """Also where another line has Python read them, and not Arrow."""
    lines = [*(json.dumps({"v": value, "t": "2020-01-01"}) for value in values), more]
    sample = read_sample([write(tmp_path / "t.ndjson", "\n".join(lines))], 99)
    column = sample.table["v"]
    assert str(column.type) == kind
    said = [words for words in sample.notes if "no JSON object" not in words]
    assert len(said) == bool(note)
    assert not note or note in said[0]
    if kind != "string":
        assert column.to_pylist() == values
    if values[0] is not True:  # of which Arrow makes no column
        assert pa.types.is_timestamp(sample.table.schema.field("t").type)


def test_large_integers_within_objects_are_said_to_be_rounded(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", json.dumps([{"o": {"v": [2**64 + 1]}, "p": {"x": 1.5}}]))
    sample = read_sample([path], 9)
    assert sample.table["o"].to_pylist() == [{"v": [2.0**64]}]
    words = "o holds integers beyond 64 bits: taken as double, of which 15 digits are exact"
    assert sample.notes == [f"t.json: {words}"]


def test_bytes_that_are_no_utf_8_are_never_printed(tmp_path: Path) -> None:
    for name in ("r.csv", "r.ndjson", "r.json", "r.parquet", "r.csv.gz"):
        for seed in (b"\xe7\x00,\n\xff,,\n", b"a,\xfc\n\xff,\xe7,\n", bytes(range(255, 0, -1))):
            line = refused("plan", write(tmp_path / name, seed * 50))
            assert f"{name} cannot be read: " in line
            assert line.isprintable()
            assert "\ufffd" not in line
