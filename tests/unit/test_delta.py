"""Delta tables: each roll one commit of the log, exactly once whoever else writes."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import duckdb
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, delta, formerly, parquet, source, topic
from streamflow.batch import Record
from streamflow.check import check_folders
from streamflow.clock import SimulatedClock
from streamflow.core.delta_stats import stats_of
from streamflow.core.folder_name import component
from streamflow.core.table_schema import schema_names
from streamflow.destinations import Parquet, table_at
from streamflow.edges.delta_log import DeltaLog
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory_files import MemoryFiles
from streamflow.edges.memory_table_log import MemoryLog
from streamflow.engine.chain import chain_of
from streamflow.engine.guarded_files import Guard
from streamflow.engine.guarded_log import guarded
from streamflow.engine.settings import Settings
from streamflow.engine.sink import CRASH_POINTS
from streamflow.errors import SettingsError, SinkRefused, SinkUnavailable, TableAway, TopologyError
from streamflow.local import LocalRun
from streamflow.ports import AddedFile, LoggedTable, TableLog
from streamflow.retry import CircuitBreaker
from streamflow.table_files import open_table
from streamflow.testing.contracts_table_log import LAWS
from tests.unit.sink_log import SCHEMA, TP, Crash, Log, drain, ids, logged, partition, spec

TIMES = pa.timestamp("us", "UTC")
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


class Sale(BaseModel):
    shop: str
    cents: int
    at: AwareDatetime


def at(root: Path, faults: Callable[[str], None] = lambda _: None) -> LoggedTable:
    log = DeltaLog(str(root / "t"), None, lambda: 1_700_000_000_000)
    return LoggedTable(LocalFiles(root, "t", faults=faults), log)


def made(root: Path) -> LoggedTable:
    table = at(root)
    chain_of(table).agree(spec())
    return table


def seen(root: Path) -> list[int]:
    return sorted(DeltaTable(str(root / "t")).to_pyarrow_table()["id"].to_pylist())


def log_of(*sizes: int) -> Log:
    log = Log()
    for i, size in enumerate(sizes):
        log.commit(size, end_of_input=i == len(sizes) - 1)
    return log


def logs(place: str, root: Path) -> TableLog:
    if place == "disk":
        return at(root).log
    if place == "memory":
        return MemoryLog()
    table = guarded(LoggedTable(MemoryFiles(), MemoryLog()), guard())
    assert isinstance(table, LoggedTable)
    return table.log


def guard() -> Guard:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    return Guard("t", CircuitBreaker(2, 1, 5, timedelta(seconds=60), timedelta(seconds=300)), clock)


@pytest.mark.parametrize("place", ["memory", "guarded", "disk"])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_contract_is_kept(law: Callable[[TableLog], None], place: str, tmp_path: Path) -> None:
    law(logs(place, tmp_path))


def test_a_log_that_is_away_is_left_alone() -> None:
    class Away(MemoryLog):
        asked = 0

        def load(self) -> Any:
            self.asked += 1
            raise SinkUnavailable("does not answer")

    away, breaker = Away(), guard()
    table = guarded(LoggedTable(MemoryFiles(), away), breaker)
    assert isinstance(table, LoggedTable)
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match="does not answer"):
            table.log.load()
    for act in (table.log.load, table.files.names):
        with pytest.raises(TableAway):
            act()
    assert (away.asked, breaker.phase) == (2, "open")


@pytest.mark.parametrize("point", [*CRASH_POINTS, "temp", "linked"])
def test_a_crash_at_any_step_leaves_every_row_once(tmp_path: Path, point: str) -> None:
    """`files-linked` is after the commit of the table; `temp` and `linked` are at each file."""
    seen_times = [0]

    def crash_the_second_time(name: str) -> None:
        seen_times[0] += name == point
        if seen_times[0] > 1:
            raise Crash

    log = log_of(5, 0, 9, 3)
    made(tmp_path)
    with pytest.raises(Crash):
        drain(partition(at(tmp_path, crash_the_second_time), faults=crash_the_second_time), log)
    before = seen(tmp_path)
    again = partition(at(tmp_path))
    drain(again, log)
    assert again.done
    assert set(before) < set(range(17)), "there was nothing left to do"
    assert seen(tmp_path) == list(range(17))


@pytest.mark.parametrize("point", ["cut-temp", "files-written"])
@pytest.mark.parametrize("bound", [1, 10**9])
def test_an_owner_with_an_old_snapshot_commits_nothing(
    tmp_path: Path, point: str, bound: int
) -> None:
    """It sleeps in its first roll while another one rolls everything, in rolls of its own."""
    log, slept = log_of(4, 0, 4, 1), [False]
    made(tmp_path)

    def faults(name: str) -> None:
        if name == point and not slept[0]:
            slept[0] = True
            drain(partition(at(tmp_path), spec(target_bytes=bound)), log)
            log.first = 0

    sleeper = partition(at(tmp_path), faults=faults)
    drain(sleeper, log)
    assert sleeper.done
    assert sleeper.written.files == 0
    assert seen(tmp_path) == list(range(9))


class Losing:
    """A log that does, or does not, what it is asked, and then says that it cannot tell."""

    def __init__(self, log: TableLog, *, done: bool) -> None:
        self._log, self._done = log, done
        self.lost = 0

    def load(self) -> Any:
        loaded: Any = self._log.load()
        commit = loaded.commit

        def loses(files: Any, marks: Any) -> None:
            if self.lost:
                commit(files, marks)
                return
            self.lost += 1
            if self._done:
                commit(files, marks)
            raise SinkUnavailable("the answer is lost")

        loaded.commit = loses
        return loaded

    def create(self, schema: pa.Schema, partition_by: Any) -> None:
        self._log.create(schema, partition_by)

    def form(self, schema: pa.Schema) -> pa.Schema:
        return self._log.form(schema)

    def vacuum(self, retention: timedelta) -> None:
        self._log.vacuum(retention)


@pytest.mark.parametrize("done", [True, False])
def test_after_a_lost_answer_the_log_says_whether_it_was_done(tmp_path: Path, done: bool) -> None:
    log = log_of(4, 4, 1)
    table = made(tmp_path)
    losing = Losing(table.log, done=done)
    sink = partition(LoggedTable(table.files, losing))
    sink.open(0, log.end)
    if not done:
        with pytest.raises(SinkUnavailable):
            sink.receive(log.fetch(0, log.end))
    sink.receive(log.fetch(0, log.end))
    assert (losing.lost, sink.done) == (1, True)
    assert seen(tmp_path) == list(range(9))


def test_a_roll_that_is_not_next_is_not_made() -> None:
    """Whoever is ahead of what the log says stops; whoever is behind it follows."""
    log, table = log_of(4, 4, 4), logged()
    ahead = partition(table)
    ahead.open(0, log.end)
    ahead.receive(log.fetch(0, 4))
    assert isinstance(table.log, MemoryLog)
    committed = list(table.log.commits)
    table.log.commits.clear()  # as a restored older version has them not
    with pytest.raises(SinkRefused, match="restored to an older version; start the worker again"):
        ahead.receive(log.fetch(4, log.end))
    table.log.commits.extend(committed)
    behind = partition(table)
    behind.open(0, log.end)
    drain(partition(table), log)
    behind.receive(log.fetch(0, log.end))
    assert behind.done
    assert ids(table) == list(range(12))


def test_a_topic_that_was_trimmed_for_another_table_is_refused() -> None:
    with pytest.raises(SinkRefused, match="has nothing of app-flights-rows"):
        partition(logged()).open(3, 9)


def test_a_table_that_was_deleted_under_way_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(SinkRefused, match="is not there any more"):
        partition(at(tmp_path)).open(0, 9)


def test_engines_see_partition_values_and_rows(tmp_path: Path) -> None:
    drain(partition(made(tmp_path)), log_of(5, 9, 1))
    uri = str(tmp_path / "t")
    table = DeltaTable(uri)
    assert table.metadata().partition_columns == ["origin"]
    expected = [("EWR", 5), ("JFK", 5), (None, 5)]
    with duckdb.connect() as connection:
        connection.register("flights", table.to_pyarrow_dataset())
        sql = "select origin, count(*) from flights group by 1 order by 1 nulls last"
        assert connection.sql(sql).fetchall() == expected
    counted = pl.scan_delta(uri).group_by("origin").len().sort("origin", nulls_last=True)
    assert counted.collect().rows() == expected
    assert table.to_pyarrow_table(filters=[("origin", "=", "JFK")]).num_rows == 5


@pytest.mark.parametrize("value", ["a/b", "..", "a=b%2F", "é ☃", "x" * 200, " ", "_x", None])
def test_any_text_is_a_partition_value(tmp_path: Path, value: str | None) -> None:
    table = at(tmp_path)
    table.log.create(pa.schema([("origin", pa.string()), ("id", pa.int64())]), ["origin"])
    data = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [1]}), data)
    buffer = data.getvalue()
    name = f"{component('origin', value)}/a.parquet"
    table.files.create(name, memoryview(buffer))
    loaded = table.log.load()
    assert loaded is not None
    stats = stats_of(pq.read_metadata(pa.BufferReader(buffer)))
    loaded.commit([AddedFile(name, buffer.size, {"origin": value}, stats)], {"a": 1})
    uri = str(tmp_path / "t")
    assert DeltaTable(uri).to_pyarrow_table().to_pylist() == [{"origin": value, "id": 1}]
    assert pl.read_delta(uri).select("origin", "id").rows() == [(value, 1)]


def test_a_column_that_is_added_is_null_in_earlier_rows(tmp_path: Path) -> None:
    log = log_of(3)
    table = made(tmp_path)
    drain(partition(table), log)
    more = pa.schema([*SCHEMA, pa.field("more", pa.list_(pa.string()))])
    for _ in range(2):  # the second worker of the new version finds it done
        chain_of(at(tmp_path)).agree(spec(schema=more, version="2"))
    assert DeltaTable(str(tmp_path / "t")).schema().fields[-1].name == "more"
    assert DeltaTable(str(tmp_path / "t")).to_pyarrow_table()["more"].null_count == 3


def test_columns_come_in_one_commit_and_the_table_is_read_as_one(tmp_path: Path) -> None:
    """Two columns are added, one is renamed and two are left out: readers see one table."""

    class Changed(BaseModel):
        store: Annotated[str, formerly("shop")]
        cents: int
        at: AwareDatetime
        note: str | None = None
        tags: list[str] | None = None

    class Left(BaseModel):
        store: Annotated[str, formerly("shop")]
        at: AwareDatetime

    table, log, versions = at(tmp_path), Log(), list[int]()
    lineage = {"_topic": "sales", "_partition": 3, "_index": 0, "_timestamp": NOON}
    for number, model in enumerate((Sale, Changed, Left)):
        [sink] = shops(delta("t"), model).tasks[0].all_sinks
        agreed = spec(schema=sink.schema, partition_by=())
        chain_of(table).agree(agreed)
        versions.append(DeltaTable(str(tmp_path / "t")).version())
        values = {"shop": f"s{number}", "cents": number, "at": NOON, "note": "n", "tags": ["a"]}
        row = values | lineage | {"_offset": number, "_event_time": NOON}
        made = [{name: row[name] for name in sink.schema.names}]
        log.commit_of(pa.RecordBatch.from_pylist(made, schema=sink.schema))
        drain(partition(table, agreed), log)
    assert versions == [0, 2, 3]  # it is made; a roll, then both columns; a roll
    names = ["shop", "cents", "note", "tags"]
    expected = [("s0", 0, None, None), ("s1", 1, "n", ["a"]), ("s2", None, None, None)]
    loaded = DeltaTable(str(tmp_path / "t"))
    rows = loaded.to_pyarrow_table().select(names).sort_by("shop").to_pylist()
    assert [tuple(row.values()) for row in rows] == expected
    with duckdb.connect() as connection:
        connection.register("sales", loaded.to_pyarrow_dataset())
        found = connection.sql(f"select {', '.join(names)} from sales order by shop").fetchall()
        assert found == expected
    assert pl.read_delta(str(tmp_path / "t")).select(names).sort("shop").rows() == expected
    assert len(schema_names(table.files.names(private=True))) == 3


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (pa.field("id", pa.string()), "id: was int64, is string"),
        (pa.field("id", pa.decimal128(38, 9)), "a column of a Delta table keeps its type"),
        (pa.field("new", pa.int64(), nullable=False), "new: was not there, is int64, never null"),
    ],
)
def test_a_change_that_breaks_the_table_is_refused(
    tmp_path: Path, changed: pa.Field, words: str
) -> None:
    made(tmp_path)
    fields = [f for f in SCHEMA if f.name != changed.name]
    with pytest.raises(SinkRefused, match=words):
        chain_of(at(tmp_path)).agree(spec(schema=pa.schema([*fields, changed])))
    with pytest.raises(SinkRefused, match="it is partitioned by no column, it was by origin"):
        chain_of(at(tmp_path)).agree(spec(partition_by=()))


def shops(table: Parquet, model: type[BaseModel] = Sale) -> Topology:
    sales = source(topic("sales"), model, event_time="at")
    return Topology("shops", sales.to(table), sales.rejected.to(topic("sales.dlq")))


def test_a_topology_writes_a_delta_table(tmp_path: Path) -> None:
    sale = {"cents": 1, "at": "2026-05-01T12:00:00Z"}
    records = [Record(b"k", orjson.dumps(sale | {"shop": s}), 0) for s in ("a/b", "c", "c")]
    topology = shops(delta("lake/sales", partition_by="shop"))
    LocalRun(topology, tmp_path / "out").run({"sales": records})
    table = DeltaTable(str(tmp_path / "out" / "lake" / "sales"))
    rows = table.to_pyarrow_table().select(["shop", "cents"]).to_pylist()
    assert sorted(row["shop"] for row in rows) == ["a/b", "c", "c"]
    assert {row["cents"] for row in rows} == {1}


def test_a_table_has_one_location(tmp_path: Path) -> None:
    assert (delta("lake/x").location, delta("lake/x").name) == ("delta:lake/x", "lake-x")
    assert table_at("delta:s3://bucket/x") == delta("s3://bucket/x")
    assert table_at("lake/x") == parquet("lake/x")
    assert str(delta("lake/x")) == "delta('lake/x')"
    opened = open_table(Settings.load(lake=str(tmp_path)), "delta:lake/x")
    assert isinstance(opened, LoggedTable)
    chain_of(opened).agree(spec())
    assert DeltaTable(str(tmp_path / "lake" / "x")).version() == 0


def test_columns_that_delta_does_not_tell_apart_are_refused_at_once() -> None:
    class Twice(Sale):
        Shop: str

    with pytest.raises(TopologyError, match="Delta does not tell column 'shop'"):
        shops(delta("sales"), Twice)
    assert shops(parquet("sales"), Twice)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    monkeypatch.delitem(sys.modules, "streamflow.edges.delta_log")
    settings = Settings.load(lake=str(tmp_path), state_dir=tmp_path)
    with pytest.raises(SettingsError, match=r"pip install 'streamflow\[delta\]'"):
        open_table(settings, "delta:lake/x")


def test_the_check_looks_for_the_library(tmp_path: Path) -> None:
    settings = Settings.load(lake=str(tmp_path), state_dir=tmp_path / "state")
    found = [(f.level, f.what) for f in check_folders(shops(delta("sales")), settings)]
    assert ("ok", "the library for Delta tables is installed") in found
    assert TP.topic not in str(found)
