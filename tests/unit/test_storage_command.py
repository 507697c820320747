"""`streamflow storage`: what it says of tables and files."""

import gzip
import json
import re
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from streamflow.cli import main
from streamflow.cli.samples import read_sample
from streamflow.storage.plan import decode_plan, encode_plan, make_plan, numbered

from .test_storage_plan import events, still


def run(*words: str | Path) -> Result:
    done = CliRunner().invoke(main, ["storage", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def said(*words: str | Path) -> str:
    done = run(*words)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: str | Path) -> str:
    done = run(*words)
    assert done.exit_code == 2, done.output
    return done.stderr.splitlines()[-1]


def flat(rows: int = 500) -> pa.Table:
    return events(rows).drop_columns(["tags", "none"])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The same rows in every form."""
    table = flat()
    pq.write_table(table, tmp_path / "t.parquet")
    pacsv.write_csv(table, tmp_path / "t.csv")
    lines = [json.dumps(row, default=str) for row in table.to_pylist()]
    (tmp_path / "t.ndjson").write_text("\n".join(lines))
    with gzip.open(tmp_path / "t.jsonl.gz", "wt") as packed:
        packed.write("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.ndjson", "t.jsonl.gz"])
def test_a_plan_is_made_for_files_of_every_form(files: Path, name: str) -> None:
    shown = said("plan", files / name)
    assert re.search(r"^offset +int64 .* DELTA_BINARY_PACKED ", shown, re.MULTILINE)
    assert "500 rows (asked for)" in shown
    document = orjson.loads(said("plan", files / name, "--json", "--aim", "smallest"))
    assert [one["aim"] for one in document] == ["smallest"]
    assert document[0]["bytes"] < document[0]["zstd_bytes"]


def test_the_plan_of_a_table_is_the_newest_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    beside = tmp_path / "t.streamflow"
    beside.mkdir()
    for number, reason in enumerate(["first rows", "drift: latency"]):
        plan = numbered(make_plan(events(50), "balanced", still, "ab", reason), number)
        (beside / plan.name).write_bytes(encode_plan(plan))
    shown = said("plan", tmp_path / "t")
    assert shown.startswith("plan 1 for balanced files, of 50 rows (drift: latency)")
    assert shown.count("plan ") == 1
    found = orjson.loads(said("plan", tmp_path / "t", "--json"))
    assert decode_plan(orjson.dumps(found[0]), "p").number == 1
    (beside / "plan-ab-balanced-00002.json").write_text("{")
    assert "plan-ab-balanced-00002.json is damaged" in refused("plan", tmp_path / "t")


def test_an_analysis_says_what_helps_and_why(tmp_path: Path) -> None:
    table = events(6400)
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "log.sql").write_text(
        "select * from t where HOST = 'web-01';\nselect * from u where other = 1;\nx y z"
    )
    shown = said("analyze", tmp_path / "t.parquet", "--query-log", tmp_path / "log.sql")
    assert "1 file, " in shown
    assert "6,400 rows; sampled 6,400 rows" in shown
    assert re.search(
        r"^sort by host: a query for one value of host reads 100%", shown, re.MULTILINE
    )
    assert "of the query log 1 statement is no SQL" in shown
    name = tmp_path.name
    assert shown.endswith(f'as a table of a topology: parquet("{name}", sort_by=["host"])\n')
    (tmp_path / "log.sql").write_text(
        "EXPLAIN select * from t where host = 'x'; EXPLAIN (x; CALL f()"
    )
    done = run("analyze", tmp_path / "t.parquet", "--query-log", tmp_path / "log.sql")
    assert done.exit_code == 0
    assert done.stderr == ""
    words = ("analyze", tmp_path / "t.parquet", "--filter", "id", "--json")
    found = orjson.loads(said(*words))
    assert [one["kind"] for one in found["suggestions"]] == ["sort"]
    assert found["code"] == f'parquet("{tmp_path.name}", sort_by=["id"])'
    assert found["rows"] == found["sampled_rows"] == 6400
    assert found["access"]["equal"] == {"id": 1}
    assert "say what queries look for" in said("analyze", tmp_path / "t.parquet")
    assert "at: a query for one value reads 3% of the blocks as they lie" in said(
        "analyze", tmp_path / "t.parquet", "--filter", "at"
    )


def test_a_sample_is_of_all_files_and_of_no_private_ones(tmp_path: Path) -> None:
    table = flat(40)
    names = ["a.parquet", "day=1/b.parquet", "_x/c.parquet", ".d.parquet", "t.streamflow/e.parquet"]
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(table.slice(i, 20), tmp_path / name)
    (tmp_path / "notes.txt").write_text("no data")
    sample = read_sample([tmp_path], 16)
    assert (sample.files, sample.rows, sample.table.num_rows) == (2, 40, 16)
    runs = [0, 1, 6, 7, 12, 13, 18, 19]
    assert sample.table["offset"].to_pylist() == [*runs, *(offset + 1 for offset in runs)]


def test_many_files_are_looked_into_here_and_there(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i:02d}.csv").write_text(f"v\n{i}\n")
    assert read_sample([tmp_path], 100).table["v"].to_pylist() == [0, 2, 5, 7, 10, 12, 15, 17]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.csv", None, "there is no such file or folder"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.csv", b"", "cannot be read"),
        ("a.ndjson", b"{", "cannot be read"),
        ("a.ndjson", b"\xff\xfe\n", "cannot be read"),
        ("a.gz", b"x", "does not say what it is"),
        ("a.csv.gz", b"x", "cannot be read"),
        ("a.csv", b"v\n", "there is no row to measure, but a header"),
        ("a.csv", b"\n \n", "there is no row to measure"),
        ("a.csv", b"\n\n", "it has no header: all of its lines are blank"),
        ("a.csv", b'"a"b,c\n', "its header cannot be read: "),
        ("a.ndjson", b"", "cannot be read: it is empty"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for verb in ("plan", "analyze"):
        line = refused(verb, tmp_path / name)
        assert line.startswith("error: ")
        assert words in line
        assert name in line


def test_an_address_is_that_of_a_table() -> None:
    assert "memory:// is no store that is known" in refused("plan", "memory://x/y")
    assert "only files on this machine are sampled" in refused("analyze", "s3://bucket/lake/t")


def test_arguments_that_do_not_fit_are_named(files: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no data in" in refused("plan", tmp_path / "empty")
    assert "--filter nope: the columns are topic" in refused(
        "analyze", files / "t.csv", "--filter", "nope"
    )
    log = tmp_path / "log.sql"
    words = f"--query-log {log} cannot be read: No such file or directory"
    assert words in refused("analyze", files / "t.csv", "--query-log", log)
    log.write_bytes(b"SELECT 1 FROM t\nWHERE a = '\xfc'\n")
    words = f"--query-log {log} cannot be read: line 2, column 12: the byte 0xfc is not UTF-8"
    assert words in refused("analyze", files / "t.csv", "--query-log", log)
    pq.write_table(pa.table({"offset": ["x"]}), tmp_path / "u.parquet")
    assert "are not of one table" in refused("plan", files / "t.parquet", tmp_path / "u.parquet")
    assert "'--aim': 'best'" in refused("plan", files / "t.csv", "--aim", "best")


@pytest.mark.parametrize("text", ["", " \n\n", "-- nothing\n", "INSERT INTO t VALUES (1);\n"])
def test_a_query_log_without_a_query_is_refused(files: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "log.sql").write_text(text)
    line = refused("analyze", files / "t.csv", "--query-log", tmp_path / "log.sql")
    assert "log.sql: there is no query in it; give statements of SQL" in line


def test_types_are_said_of_nothing_but_csv(files: Path, tmp_path: Path) -> None:
    words = "--type offset: types are said of columns of CSV, and there is none here"
    for verb in ("plan", "analyze"):
        for name in ("t.parquet", "t.ndjson"):
            assert words in refused(verb, files / name, "--type", "offset=text")
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake.streamflow").mkdir()
    plan = numbered(make_plan(events(50), "balanced", still, "ab", "first rows"), 0)
    (tmp_path / "lake.streamflow" / plan.name).write_bytes(encode_plan(plan))
    line = refused("plan", tmp_path / "lake", "--type", "offset=text")
    assert "--type offset=text: types are said of columns of CSV, and " in line
    assert "has a plan already" in line


def test_a_sample_of_a_file_is_spread_over_it_whatever_its_row_groups(tmp_path: Path) -> None:
    count = 100_000
    codes = ["A" if i < count // 2 else f"B{i}" for i in range(count)]
    table = pa.table({"i": range(count), "code": codes})
    for size in (count, 5_000, 999):
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=size)
        found = read_sample([tmp_path / "t.parquet"], 1_000).table
        assert found["i"].to_pylist() == [
            *range(250),
            *range(33_250, 33_500),
            *range(66_500, 66_750),
            *range(99_750, count),
        ]
        assert found["code"].to_pylist() == [codes[i] for i in found["i"].to_pylist()]


def test_what_cannot_be_written_or_found_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "e.ndjson").write_text('{"o": {}}\n')
    words = "o holds objects without fields, which Parquet cannot have; there is no other column"
    for verb in ("plan", "analyze"):
        assert words in refused(verb, tmp_path / "e.ndjson")
    (tmp_path / "loop").symlink_to("loop")
    assert "loop" in refused("plan", tmp_path / "loop")
    pq.write_table(pa.table({}), tmp_path / "n.parquet")
    assert "there is no row to measure" in refused("plan", tmp_path / "n.parquet")


def test_files_that_lack_a_column_that_is_never_null_elsewhere_are_one_table(
    tmp_path: Path,
) -> None:
    needed = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    pq.write_table(pa.table({"id": [1, 2]}, schema=needed), tmp_path / "a.parquet")
    pq.write_table(pa.table({"y": [1.5, 2.5]}), tmp_path / "b.parquet")
    assert "id" in said("plan", tmp_path)


def test_files_without_a_common_column_are_wondered_at(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "x": [1, 2]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("x,z\n1,2\n")
    assert "are they of one table" not in said("plan", tmp_path)
    (tmp_path / "c.ndjson").write_text('{"y": 1}\n')
    words = f"{tmp_path}/c.ndjson has no column of {tmp_path}/a.parquet: are they of one table?"
    for verb in ("plan", "analyze"):
        assert words in said(verb, tmp_path)


def test_what_holds_tables_or_belongs_to_one_is_no_data_set(tmp_path: Path) -> None:
    for name in ("run/flights", "run/by/hour"):
        (tmp_path / f"{name}.streamflow").mkdir(parents=True)
        (tmp_path / f"{name}.streamflow" / "owner.json").write_text('{"app": "a"}')
        (tmp_path / name).mkdir()
        pq.write_table(flat(40), tmp_path / name / "t.parquet")
    (tmp_path / "run" / "topics").mkdir()
    (tmp_path / "run" / "topics" / "late.ndjson").write_text('{"a": 1}\n')
    for verb in ("plan", "analyze"):
        words = f"run holds 2 tables of streamflow, and is none; say one of them: {tmp_path}/run/by"
        assert words in refused(verb, tmp_path / "run")
        assert f"run/by holds 1 table of streamflow, and is none; say one of them: {tmp_path}" in (
            refused(verb, tmp_path / "run" / "by")
        )
        private = tmp_path / "run" / "flights.streamflow"
        for path in (private, private / "owner.json"):
            words = "flights.streamflow is the private folder of a table, which has none of its"
            line = refused(verb, path)
            assert words in line
            assert line.endswith(f"; say {tmp_path}/run/flights")
        assert "offset" in said(verb, tmp_path / "run" / "flights")
