"""Delta tables are optimized and vacuumed beside their rolls, and nothing is lost or seen twice."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from streamflow import Topology, Upkeep, delta, source, topic
from streamflow.batch import TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.origins import merged, read_footer
from streamflow.core.packing import packed
from streamflow.edges.delta_log import DeltaLog
from streamflow.edges.local_files import LocalFiles
from streamflow.engine.faults import no_faults
from streamflow.engine.optimize import optimize
from streamflow.engine.rewrite import Rewriter
from streamflow.engine.settings import Settings
from streamflow.engine.sink_stage import SinkStage
from streamflow.engine.table_upkeep import AGAIN, OPTIMIZED, VACUUMED, Kept, TableUpkeep
from streamflow.errors import SinkUnavailable, TopologyError
from streamflow.ports import LoggedTable, TableFiles
from streamflow.writer_settings import FileLayout
from tests.examples import examples
from tests.unit.sink_log import Log, content, drain, ids, logged, partition, rows
from tests.unit.test_delta import Sale, at, made, seen

MIB = 1024 * 1024
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def rewriter(table: LoggedTable) -> Rewriter:
    return Rewriter(table.files, "none")


def log_of(*sizes: int) -> Log:
    log = Log()
    for i, size in enumerate(sizes):
        log.commit(size, end_of_input=i == len(sizes) - 1)
    return log


def test_small_files_become_one_in_each_folder(tmp_path: Path) -> None:
    drain(partition(made(tmp_path)), log_of(5, 9, 4, 6))
    table, uri = at(tmp_path), str(tmp_path / "t")
    before = DeltaTable(uri)
    done = optimize(table, rewriter(table), MIB)
    assert (done.before, done.after) == (12, 3)
    after = DeltaTable(uri)
    assert len(after.file_uris()) == 3
    assert seen(tmp_path) == list(range(24))
    assert DeltaTable(uri, version=before.version()).to_pyarrow_table().num_rows == 24
    assert [after.transaction_version(mark) for mark in ("app-flights-rows-3",)] == [
        before.transaction_version("app-flights-rows-3")
    ]
    with duckdb.connect() as connection:
        connection.register("flights", after.to_pyarrow_dataset())
        sql = "select origin, count(*) from flights group by 1 order by 1 nulls last"
        assert connection.sql(sql).fetchall() == [("EWR", 8), ("JFK", 8), (None, 8)]
    assert pl.read_delta(uri).select(pl.col("id").sum()).item() == sum(range(24))
    assert optimize(table, rewriter(table), MIB).before == 0


def test_a_roll_goes_on_where_it_was_after_files_were_joined(tmp_path: Path) -> None:
    log = Log()
    log.commit(5)
    sink = partition(made(tmp_path))
    drain(sink, log)
    for size in (4, 6, 3):
        place = log.end
        log.commit(size)
        optimize(at(tmp_path), rewriter(at(tmp_path)), MIB)
        sink.receive(log.fetch(place, log.end))
    drain(partition(at(tmp_path)), log)
    assert seen(tmp_path) == list(range(18))


def test_the_origin_of_the_rows_stays_in_the_footer() -> None:
    table = logged()
    drain(partition(table), log_of(5, 9, 4))
    optimize(table, rewriter(table), MIB)
    for data in content(table).values():
        footer = read_footer(pa.py_buffer(data))
        assert footer is not None
        assert orjson.loads(footer["sources"]) == {"in": [[3, 0, 18]]}
        [origin] = orjson.loads(footer["origins"])
        assert (origin["rows_topic"], origin["rows_partition"]) == ("app-flights-rows", 3)
        assert origin["rows_ranges"] == [[0, 8]]
        assert (origin["topology"], origin["topology_version"]) == ("flights", "1")


def test_origins_are_told_apart_and_joined() -> None:
    def of_a_cut(partition: int, first: int, stop: int, version: str = "1") -> dict[str, str]:
        return {
            "topology": "t",
            "topology_version": version,
            "rows_topic": "rows",
            "rows_partition": str(partition),
            "rows_range": f"[{first},{stop}]",
            "schema_id": "s",
            "sources": f'{{"in":[[{partition},{first},{stop}]]}}',
        }

    one = merged([of_a_cut(0, 3, 5), of_a_cut(0, 0, 3), of_a_cut(1, 0, 2)])
    both = merged([one, of_a_cut(0, 7, 9), of_a_cut(0, 5, 7, "2")])
    numbered = {**of_a_cut(0, 9, 11), "schema_version": "3"}
    assert merged([numbered, numbered])["schema_version"] == "3"
    assert "schema_version" not in merged([numbered, one])
    found = [
        (origin["topology_version"], origin["rows_partition"], origin["rows_ranges"])
        for origin in orjson.loads(both["origins"])
    ]
    assert found == [("1", 0, [[0, 5], [7, 9]]), ("1", 1, [[0, 2]]), ("2", 0, [[5, 7]])]
    assert orjson.loads(both["sources"]) == {"in": [[0, 0, 9], [1, 0, 2]]}
    assert both["schema_id"] == "s"


def test_joined_files_are_sorted_as_the_table_declares() -> None:
    table = logged()
    drain(partition(table), log_of(5, 9, 4))
    optimize(table, Rewriter(table.files, "none", FileLayout(("_topic", "id"), ("id",))), MIB)
    for data in content(table).values():
        file = pq.ParquetFile(pa.BufferReader(data))
        found = file.read()["id"].to_pylist()
        assert found == sorted(found)
        assert len(file.metadata.row_group(0).sorting_columns) == 2


def test_what_others_have_written_is_left_alone(tmp_path: Path) -> None:
    drain(partition(made(tmp_path)), log_of(3))
    for _ in range(3):
        write_deltalake(str(tmp_path / "t"), rows([99]), mode="append")
    table = at(tmp_path)
    assert optimize(table, rewriter(table), MIB).before == 0
    assert seen(tmp_path) == [0, 1, 2, 99, 99, 99]


@dataclass(frozen=True)
class File:
    name: int
    nbytes: int


@examples(200)
@given(st.lists(st.integers(1, 200), max_size=30), st.integers(1, 300))
def test_packs_are_worth_it(sizes: list[int], target: int) -> None:
    files = [File(i, size) for i, size in enumerate(sizes)]
    packs = list(packed(files, target))
    names = [file.name for pack in packs for file in pack]
    assert names == sorted(set(names))
    for pack in packs:
        total = sum(file.nbytes for file in pack)
        assert len(pack) > 1
        assert total <= target
        assert all(3 * file.nbytes <= 2 * total for file in pack)
        assert all(2 * file.nbytes <= target for file in pack)
    kept = [file for file in files if file.name not in names]
    while (joined := list(packed(kept, target))) and joined[0]:
        kept = [file for file in kept if file not in joined[0]]
    assert not list(packed(kept, target))


def test_small_files_of_one_size_are_all_packed() -> None:
    packs = list(packed([File(i, 10) for i in range(10)], 40))
    assert [[file.name for file in pack] for pack in packs] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


class Between:
    """Files of a table; something happens each time before one is made."""

    def __init__(self, files: TableFiles, happens: Callable[[], None]) -> None:
        self._files, self._happens = files, happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
        self._happens()
        return self._files.create(name, data, private=private)


@pytest.mark.slow
@examples(80)
@given(st.data(), st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_rolls_and_optimizers_at_once_make_one_table(data: st.DataObject, sizes: list[int]) -> None:
    """Whoever is in the midst of it, the others may do all of theirs."""
    table, log = logged(), log_of(*sizes)
    sink = partition(table)
    place = [sink.open(0, log.end)]
    depth = [0]

    def roll() -> None:
        stop = min(log.end, place[0] + data.draw(st.integers(1, 9)))
        start, place[0] = place[0], stop
        sink.receive(log.fetch(start, stop))

    def join() -> None:
        target = data.draw(st.sampled_from([5_000, 20_000, MIB]))
        optimize(LoggedTable(between(), table.log), rewriter(table), target)

    def happens() -> None:
        if depth[0] < 3 and data.draw(st.booleans()):
            depth[0] += 1
            data.draw(st.sampled_from([roll, join]))()
            depth[0] -= 1
            rows_once()

    def rows_once() -> None:
        found = ids(table)
        assert found == sorted(set(found))

    def between() -> Any:
        return Between(table.files, happens)

    for act in data.draw(st.lists(st.sampled_from([roll, join]), max_size=12)):
        act()
        rows_once()
    drain(partition(table), log)
    assert ids(table) == list(range(sum(sizes)))


@dataclass
class Losing:
    """A log of which some commits are done, or are not, and in either case nobody is told."""

    log: Any
    script: list[str]
    lost: list[str] = field(default_factory=list[str])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    def load(self) -> Any:
        loaded = self.log.load()
        replace = loaded.replace

        def loses(*given: Any, **named: Any) -> None:
            what = self.script.pop(0) if self.script else "answered"
            self.lost.append(what)
            if what != "not done":
                replace(*given, **named)
            if what != "answered":
                raise SinkUnavailable("the answer is lost")

        loaded.replace = loses
        return loaded


@pytest.mark.parametrize("what", ["done", "not done"])
def test_after_a_lost_answer_files_are_swapped_once(what: str) -> None:
    table = logged()
    drain(partition(table), log_of(5, 9, 4))
    losing: Any = Losing(table.log, [what])
    done = optimize(LoggedTable(table.files, losing), rewriter(table), MIB)
    assert (done.before, done.after) == (9, 3)
    assert losing.lost == ([what] if what == "done" else [what, "answered"])
    assert ids(table) == list(range(18))
    assert len(content(table)) == 3


def kept(table: LoggedTable, **upkeep: Any) -> Kept:
    return Kept("delta:t", table, Upkeep(**upkeep), MIB, rewriter(table))


def going() -> bool:
    return True


def test_a_table_is_seen_to_when_it_is_due_whoever_does_it() -> None:
    table, log = logged(), Log()
    log.commit(5)
    log.commit(5)
    sink = partition(table)
    drain(sink, log)
    hour = HOUR // timedelta(milliseconds=1)
    kept(table).turn(5 * hour, going)
    assert len(content(table)) == 3
    place = log.end
    log.commit(5)
    log.commit(5)
    sink.receive(log.fetch(place, log.end))
    another = kept(table)
    another.turn(6 * hour - 1, going)
    assert len(content(table)) == 9
    another.turn(6 * hour, going)
    assert len(content(table)) == 3
    assert table.log.vacuumed == [timedelta(days=7)]  # type: ignore[attr-defined]
    loaded = table.log.load()
    assert loaded is not None
    assert [loaded.mark(mark) for mark in (OPTIMIZED, VACUUMED)] == [6 * hour, 5 * hour]


def test_what_cannot_be_done_is_told_of_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    table = logged()
    drain(partition(table), log_of(5, 5))
    seen_to = kept(table, retention=HOUR)
    table.files.away = True  # type: ignore[attr-defined]
    seen_to.turn(0, going)
    assert set(seen_to.problems) == {OPTIMIZED, VACUUMED}
    assert "does not answer" in seen_to.problems[OPTIMIZED]
    assert "keeps its files for 7 days" in seen_to.problems[VACUUMED]
    assert "delta:t: its small files wait to be joined again" in caplog.text
    table.files.away = False  # type: ignore[attr-defined]
    again = AGAIN // timedelta(milliseconds=1)
    seen_to.turn(again - 1, going)
    assert set(seen_to.problems) == {OPTIMIZED, VACUUMED}
    seen_to.turn(again, going)
    assert set(seen_to.problems) == {VACUUMED}
    assert len(content(table)) == 3
    assert ids(table) == list(range(10))


def test_one_that_is_told_to_stop_commits_nothing_more() -> None:
    table = logged()
    drain(partition(table), log_of(5, 5))
    left = [True, True, False]
    seen_to = kept(table, vacuum_every=None)
    seen_to.turn(0, lambda: left.pop(0) if left else False)
    loaded = table.log.load()
    assert loaded is not None
    assert (len(content(table)), loaded.mark(OPTIMIZED)) == (6, None)


def test_a_worker_looks_at_each_of_its_tables() -> None:
    tables = [logged(), logged()]
    for table in tables:
        drain(partition(table), log_of(5, 5))
    seen_to = TableUpkeep(map(kept, tables), SimulatedClock(START))
    asyncio.run(seen_to.turn())
    assert [len(content(table)) for table in tables] == [3, 3]


def test_what_no_version_has_is_deleted_when_it_is_old(tmp_path: Path) -> None:
    """What readers of the last hour may have open stays, and so do the files of a roll."""
    drain(partition(made(tmp_path)), log_of(5, 9, 4))
    uri = str(tmp_path / "t")
    DeltaTable(uri).alter.set_table_properties(
        {"delta.deletedFileRetentionDuration": "interval 1 hours"}
    )
    now = [int(time.time() * 1000) - 7_200_000]
    table = LoggedTable(LocalFiles(tmp_path, "t"), DeltaLog(uri, None, lambda: now[0]))
    optimize(table, rewriter(table), MIB)
    old, young = tmp_path / "t" / "old.parquet", tmp_path / "t" / "young.parquet"
    for file in (old, young):
        pq.write_table(pa.table({"id": [1]}), file)
    os.utime(old, (now[0] / 1000, now[0] / 1000))
    for file in tmp_path.glob("t/origin=*/*"):
        os.utime(file, (now[0] / 1000, now[0] / 1000))
    table.log.vacuum(HOUR)
    assert (old.exists(), young.exists()) == (False, True)
    assert len(list(tmp_path.glob("t/origin=*/*.parquet"))) == 3
    assert seen(tmp_path) == list(range(18))


def test_a_roll_that_has_taken_too_long_is_made_again() -> None:
    """Its files may be gone: nobody else has rolled, so the log itself would not refuse it."""
    table, log = logged(), log_of(4, 4)
    clock = SimulatedClock(START)
    slept = [False]

    def sleeps(point: str) -> None:
        if point == "files-written" and not slept[0]:
            slept[0] = True
            clock.advance(timedelta(minutes=31))

    sink = partition(table, clock=clock, faults=sleeps)
    sink.open(0, log.end)
    with pytest.raises(SinkUnavailable, match="took too long"):
        sink.receive(log.fetch(0, log.end))
    assert content(table) == {}
    sink.receive(log.fetch(0, log.end))
    assert ids(table) == list(range(8))


def shops(upkeep: Upkeep | None) -> Topology:
    sales = source(topic("sales"), Sale, event_time="at")
    table = delta("sales", upkeep=upkeep)
    return Topology("shops", sales.to(table), sales.rejected.to(topic("sales.dlq")))


@pytest.mark.parametrize("upkeep", [None, Upkeep()])
def test_the_worker_with_the_first_partition_sees_to_a_table(upkeep: Upkeep | None) -> None:
    class World:
        def files(self, path: str) -> LoggedTable:
            assert path == "delta:sales"
            return logged()

    topology, settings, world = shops(upkeep), Settings.load(), World()
    names, clock = settings.names("shops"), SimulatedClock(START)
    stage = SinkStage(topology, names, settings, world, clock, no_faults)  # type: ignore[arg-type]
    [rows] = stage.tables
    has = [TopicPartition(rows, 1), TopicPartition(rows, 2)]
    assert stage.kept(has) == []
    found = stage.kept([TopicPartition(rows, 0), *has])
    assert [each.upkeep for each in found] == ([] if upkeep is None else [upkeep])
    for each in found:
        each.problems["x"] = "why"
        assert stage.upkeep_problems == {"delta:sales": "why"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"retention": timedelta(minutes=59)}, "retention=.* is below .*: files of rolls"),
        ({"optimize_every": timedelta(seconds=1)}, "optimize_every=.* is below"),
        ({"vacuum_every": 5}, "vacuum_every"),
        ({"retention": None}, "retention"),
    ],
)
def test_upkeep_that_would_do_harm_is_refused(given: Any, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        Upkeep(**given)
    with pytest.raises(TopologyError, match="is no Upkeep"):
        delta("x", upkeep="daily")  # type: ignore[arg-type]
