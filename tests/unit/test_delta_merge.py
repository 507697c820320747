"""Rows that take the place of earlier ones in a Delta table, in the commit of their roll."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Count,
    Topology,
    Tumbling,
    delta,
    formerly,
    parquet,
    source,
    topic,
    update,
)
from streamflow.core.delta_stats import stats_of
from streamflow.core.merging import Merging, may_have, newest, without
from streamflow.core.rows import Layout, Trailer, decode, encode_rows, encode_trailer
from streamflow.core.sink_spec import SinkSpec
from streamflow.destinations import Parquet
from streamflow.edges.delta_log import DeltaLog
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory_files import MemoryFiles
from streamflow.edges.memory_table_log import MemoryLog
from streamflow.engine.chain import chain_of
from streamflow.engine.optimize import optimize
from streamflow.engine.rewrite import Rewriter
from streamflow.errors import SinkRefused, SinkUnavailable, TopologyError
from streamflow.ports import AddedFile, LoggedTable, OpenFile
from streamflow.schema import schema_id
from streamflow.testing import TopologyDriver
from tests.examples import examples
from tests.unit.sink_log import Log, drain, partition, spec
from tests.unit.test_sink_laws import Race

TIMES = pa.timestamp("us", "UTC")
RESULTS = pa.schema(
    [
        pa.field("shop", pa.string()),
        pa.field("window_start", TIMES, nullable=False),
        pa.field("total", pa.int64()),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("_offset", pa.int64()),
    ]
)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BY = ("shop", "window_start")
#: Of each row the shop, the hour and the total.
Key = tuple[str | None, int]


@dataclass
class Results(Log):
    """Commits of results; what is of a key that was there before is a revision of it."""

    early: bool = False
    parts: tuple[str, ...] = ()
    known: dict[Key, tuple[int, int]] = field(default_factory=dict[Key, tuple[int, int]])

    def results(self, *keys: Key, last: bool = False) -> None:
        made: list[dict[str, Any]] = []
        for shop, hour in keys:
            revision = self.known[shop, hour][1] + 1 if (shop, hour) in self.known else 0
            self.known[shop, hour] = (self.rows, revision)
            row = {"shop": shop, "window_start": NOON + hour * HOUR, "total": self.rows}
            # Early results are not numbered: only their order tells them apart.
            shown = 0 if self.early else revision
            made.append(row | {"revision": shown, "_offset": self.rows})
            self.rows += 1
        batch = pa.RecordBatch.from_pylist(made, schema=RESULTS)
        chunks = encode_rows([batch], self.commits + 1)
        trailer = Trailer(
            commit=self.commits + 1,
            previous=self.commits or None,
            chunks=len(chunks),
            layout=Layout(schema_id(RESULTS), self.parts, "1", BY, self.early),
            watermark=self.rows,
            end_of_input=last,
            sources={"in": (3, self.rows - len(keys), self.rows)},
        )
        self.append([*chunks, encode_trailer(trailer)])
        self.commits += 1


def logged(parts: tuple[str, ...] = ()) -> LoggedTable:
    return LoggedTable(MemoryFiles(), MemoryLog(RESULTS, parts))


def on_disk(root: Path, parts: tuple[str, ...] = ()) -> LoggedTable:
    table = LoggedTable(
        LocalFiles(root, "t"), DeltaLog(str(root / "t"), None, lambda: 1_700_000_000_000)
    )
    chain_of(table).agree(spec_of(parts))
    return table


def spec_of(parts: tuple[str, ...] = (), **more: Any) -> SinkSpec:
    return spec(schema=RESULTS, partition_by=parts, **more)


def totals(table: LoggedTable) -> list[tuple[Key, int]]:
    """What readers see, by key: each key is there once or the list is longer."""
    loaded, found = table.log.load(), list[tuple[Key, int]]()
    assert loaded is not None
    for file in loaded.files():
        for row in pq.read_table(pa.BufferReader(table.files.read(file.name))).to_pylist():
            whole: dict[str, Any] = {**file.values, **row}
            key = whole["shop"], (whole["window_start"] - NOON) // HOUR
            found.append((key, whole["total"]))
    return sorted(found, key=repr)


def expected(log: Results) -> list[tuple[Key, int]]:
    return sorted(((key, total) for key, (total, _) in log.known.items()), key=repr)


COMMITS = st.lists(
    st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 3)), max_size=5),
    min_size=1,
    max_size=7,
)


def log_of(
    commits: Sequence[Sequence[Key]], early: bool = False, parts: tuple[str, ...] = ()
) -> Results:
    log = Results(early=early, parts=parts)
    for i, keys in enumerate(commits):
        log.results(*keys, last=i == len(commits) - 1)
    return log


@pytest.mark.slow
@examples(100)
@given(
    st.data(),
    COMMITS,
    st.booleans(),
    st.sampled_from([(), ("shop",)]),
    st.sampled_from([1, 4_000, 10**9]),
)
def test_two_owners_and_an_optimizer_leave_the_newest_row_of_each_key(
    data: st.DataObject,
    commits: list[list[Key]],
    early: bool,
    parts: tuple[str, ...],
    target: int,
) -> None:
    log, table = log_of(commits, early, parts), logged(parts)
    race = Race(data, log, target, table, 100)

    def step() -> None:
        if data.draw(st.integers(0, 3)):
            race.act(data.draw(st.integers(0, 1)))
        else:
            optimize(table, Rewriter(table.files, "none"), data.draw(st.integers(1, 50_000)))
        keys = [key for key, _ in totals(table)]
        assert len(keys) == len(set(keys))

    for _ in range(data.draw(st.integers(0, 25))):
        step()
    drain(partition(table, spec_of(parts, target_bytes=target)), log)
    assert totals(table) == expected(log)


@pytest.mark.parametrize("parts", [(), ("shop",)])
@pytest.mark.parametrize("early", [False, True])
def test_a_revision_takes_the_place_of_the_row_before_it(
    tmp_path: Path, parts: tuple[str, ...], early: bool
) -> None:
    commits: list[list[Key]] = [
        [("a", 0), ("b", 0), (None, 0)],
        [("a", 1), ("a", 0)],
        [("a", 0), (None, 0), ("c", 0), ("a", 0)],
    ]
    log, table = log_of(commits, early, parts), on_disk(tmp_path, parts)
    drain(partition(table, spec_of(parts)), log)
    uri = str(tmp_path / "t")
    wanted = [(shop, NOON + hour * HOUR, total) for (shop, hour), total in expected(log)]
    with duckdb.connect() as connection:
        connection.register("results", DeltaTable(uri).to_pyarrow_dataset())
        sql = "select shop, epoch_us(window_start)::bigint, total from results"
        micros = [(shop, int(at.timestamp() * 1e6), total) for shop, at, total in wanted]
        assert sorted(connection.sql(sql).fetchall(), key=repr) == sorted(micros, key=repr)
    frame = pl.read_delta(uri).select("shop", "window_start", "total")
    assert sorted(frame.rows(), key=repr) == sorted(wanted, key=repr)
    assert DeltaTable(uri).transaction_version("app-flights-rows-3") == log.end - 1
    before = DeltaTable(uri, version=1).to_pyarrow_table()
    assert before.num_rows == 3, "an earlier version is as it was"


def test_files_that_another_tool_joins_meanwhile_are_looked_into_again(tmp_path: Path) -> None:
    """The library lets commits take out files that are out already: rows would be there twice."""
    log, table = log_of([[("a", 0), ("b", 0)], [("c", 0)], [("a", 0)]]), on_disk(tmp_path)
    rolls = [0]

    def another(point: str) -> None:
        rolls[0] += point == "files-written"
        if point == "files-written" and rolls[0] == 3:
            DeltaTable(str(tmp_path / "t")).optimize.compact()

    drain(partition(table, spec_of(), faults=another), log)
    assert rolls[0] == 4
    assert totals(on_disk(tmp_path)) == expected(log)


def test_one_who_never_comes_to_it_says_so_and_tries_again() -> None:
    log, table = log_of([[("a", 0), ("b", 0)], [("a", 0)]]), logged()
    busy = [True]

    def another(point: str) -> None:
        loaded = table.log.load()
        if point == "files-written" and busy[0] and loaded is not None:
            loaded.commit([], {"another": 1})

    sink = partition(table, spec_of(), faults=another)
    sink.open(0, log.end)
    with pytest.raises(SinkUnavailable):
        sink.receive(log.fetch(0, log.end))
    busy[0] = False
    sink.receive(log.fetch(0, log.end))
    assert totals(table) == expected(log)


@dataclass
class Counted:
    """Files of which it is known which were read."""

    files: MemoryFiles
    asked: list[str] = field(default_factory=list[str])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.files, name)

    def open(self, name: str) -> OpenFile:
        self.asked.append(name)
        return self.files.open(name)


def test_only_files_are_read_that_may_have_the_key() -> None:
    counted: Any = Counted(MemoryFiles())
    log = log_of([[("a", 0)], [("a", 1)], [("b", 1)], [("a", 2)], [("c", 1)]], parts=("shop",))
    table = LoggedTable(counted, MemoryLog(RESULTS, ("shop",)))
    sink = partition(table, spec_of(("shop",)))
    drain(sink, log)
    assert counted.asked == [], "first results replace nothing"
    place = log.end
    log.results(("a", 1))
    sink.receive(log.fetch(place, log.end))
    assert len(counted.asked) == 1
    assert totals(LoggedTable(counted.files, table.log)) == expected(log)


def test_a_file_that_was_deleted_by_hand_is_named() -> None:
    log, table = log_of([[("a", 0)], [("a", 0)]]), logged()

    def deletes(point: str) -> None:
        if point == "files-linked":
            files: Any = table.files
            files._data.clear()

    with pytest.raises(SinkRefused, match="is part of the table and is not there"):
        drain(partition(table, spec_of(), faults=deletes), log)


def test_a_plain_table_does_not_take_rows_that_replace_others() -> None:
    with pytest.raises(SinkRefused, match="belong into a Delta table, 'delta:flights'"):
        drain(partition(MemoryFiles(), spec_of()), log_of([[("a", 0)]]))


def test_trailers_without_merging_are_as_they_were() -> None:
    plain = Trailer(1, None, 0, Layout("s", ("a",), "1"))
    record = encode_trailer(plain)
    assert b"merge" not in (record.value or b"")
    assert decode(record.value, record.headers) == plain
    merging = Trailer(1, None, 0, Layout("s", ("a",), "1", ("x", "y"), True))
    record = encode_trailer(merging)
    assert decode(record.value, record.headers) == merging
    assert merging.layout.merging == Merging(("x", "y"), True)


def rows(*keys: Key) -> pa.Table:
    made = [
        {"shop": shop, "window_start": NOON + hour * HOUR, "total": i, "revision": 0, "_offset": i}
        for i, (shop, hour) in enumerate(keys)
    ]
    return pa.Table.from_pylist(made, schema=RESULTS)


def test_of_each_key_the_last_row_stays_where_it_is() -> None:
    chunks = {3: rows(("a", 0), ("b", 0), (None, 1)), 5: rows(), 7: rows(("b", 0), (None, 1))}
    found = newest(chunks, BY)
    assert {offset: kept.to_pylist() for offset, kept in found.items()} == {
        3: [True, False, False],
        7: [True, True],
    }


def test_a_file_may_have_a_key_where_its_bounds_allow_it() -> None:
    keys = rows(("a", 1), (None, 3)).select(BY)
    times = {"window_start": (NOON, NOON + HOUR)}
    assert may_have({}, times, keys)
    assert may_have({}, {}, keys)
    assert not may_have({}, {"window_start": (NOON + 2 * HOUR, NOON + 2 * HOUR)}, keys)
    assert may_have({"shop": "a"}, times, keys)
    assert may_have({"shop": None}, {}, keys)
    assert not may_have({"shop": "b"}, times, keys)
    assert not may_have({"shop": None}, {}, keys.slice(0, 1))
    assert may_have({"date": "2026-01-01"}, times, keys)


@pytest.mark.parametrize("inside", [True, False])
def test_rows_of_a_key_are_left_out(inside: bool) -> None:
    keys = rows(("a", 1)).select(BY).combine_chunks()
    held = rows(("a", 0), ("a", 1), ("a", 2))
    file, values = (held, {}) if inside else (held.drop_columns(["shop"]), {"shop": "a"})
    stays = without(file, values, keys)
    assert stays is not None
    left = file.filter(stays)
    assert left["total"].to_pylist() == [0, 2]
    assert without(left, values, keys) is None


@pytest.mark.parametrize(
    ("there", "new"),
    [
        (-0.0, 0.0),
        (0.0, -0.0),
        (struct.unpack("d", b"\x01" + b"\0" * 5 + b"\xf8\xff")[0], math.nan),
    ],
)
def test_floats_that_are_one_value_are_one_key_whoever_wrote_them(there: float, new: float) -> None:
    keys = pa.table({"size": [new + 0.0], "window_start": pa.array([NOON], TIMES)})
    file = pa.table({"size": [there, 5.0], "window_start": pa.array([NOON, NOON], TIMES)})
    stays = without(file, {}, keys)
    assert stays is not None
    assert stays.to_pylist() == [False, True]


def test_a_row_of_the_last_millisecond_there_is_stops_nothing(tmp_path: Path) -> None:
    """The log has bounds rounded down to milliseconds; what is added to them may be no time."""
    table = on_disk(tmp_path)
    times = [datetime.max.replace(tzinfo=UTC), NOON + timedelta(microseconds=1)]
    for at in times:
        data = pa.BufferOutputStream()
        pq.write_table(pa.table({"window_start": pa.array([at], TIMES)}), data)
        stats = stats_of(pq.read_metadata(pa.BufferReader(data.getvalue())))
        loaded = table.log.load()
        assert loaded is not None
        loaded.replace([AddedFile(f"{at.year}.parquet", 10, {}, stats)], [], {}, same_rows=False)
    loaded = table.log.load()
    assert loaded is not None
    found = {file.name: file.times["window_start"] for file in loaded.files()}
    for at in times:
        low, high = found[f"{at.year}.parquet"]
        assert low <= at <= high


class Sale(BaseModel):
    shop: str
    at: AwareDatetime


class Renamed(BaseModel):
    """As results are called by now; their columns keep the first names."""

    shop: Annotated[str, formerly("store")]
    window_start: Annotated[AwareDatetime, formerly("hour")]
    sales: Annotated[int, formerly("n")]


def test_rows_are_replaced_by_columns_whose_fields_were_renamed() -> None:
    topology = hourly(delta("lake"), model=Renamed, late=update(keep=2 * HOUR))
    [plan] = topology.tasks[0].all_sinks
    assert plan.merging == Merging(("store", "hour"), early=False)
    driver = TopologyDriver(topology, NOON + 9 * HOUR)
    for hour in (0, 2, 0, 1):
        driver.send("sales", {"shop": "a", "at": NOON + hour * HOUR})
        driver.advance(timedelta(minutes=6))
    driver.end_of_input()
    found = {row["hour"]: (row["store"], row["n"]) for row in driver.files("lake")}
    assert found == {NOON + n * HOUR: ("a", count) for n, count in ((0, 2), (1, 1), (2, 1))}
    assert len(driver.files("lake")) == len(found)


class Hourly(BaseModel):
    shop: str
    window_start: AwareDatetime
    sales: int


def hourly(table: Parquet, model: type[BaseModel] = Hourly, **window: Any) -> Topology:
    sales = source(topic("sales"), Sale, event_time="at", key="shop")
    results = sales.window(Tumbling(HOUR), by="shop", **window).aggregate(model, sales=Count())
    sides = [results.late.drop()]
    return Topology("t", results.to(table), sales.rejected.drop(), *sides)


def test_what_a_table_does_with_revisions_is_said() -> None:
    corrected: dict[str, Any] = {"late": update(keep=HOUR)}
    [plan] = hourly(delta("x"), **corrected).tasks[0].all_sinks
    assert plan.merging == Merging(("shop", "window_start"), early=False)
    [plan] = hourly(delta("x"), grace=HOUR, early="at_end").tasks[0].all_sinks
    assert plan.merging == Merging(("shop", "window_start"), early=True)
    for table in (delta("x", revisions="final"), delta("x", revisions="append")):
        [plan] = hourly(table, **corrected).tasks[0].all_sinks
        assert plan.merging is None
    [plan] = hourly(delta("x", revisions="merge")).tasks[0].all_sinks
    assert plan.merging is None, "there is one result of each window"
    with pytest.raises(TopologyError, match="or write a delta"):
        hourly(parquet("x"), **corrected)
    with pytest.raises(TopologyError, match="a Delta table also merges"):
        parquet("x", revisions="merge")
    with pytest.raises(TopologyError, match='"final" or "append" or "merge"'):
        delta("x", revisions="last")  # type: ignore[arg-type]
