"""The sink stage of one partition, one behaviour at a time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamflow.batch import Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.rows import Layout, Trailer, encode_rows, encode_trailer
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory_files import MemoryFiles
from streamflow.edges.parquet import read_footer
from streamflow.engine.sink import IDLE_COMMITS
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.schema import schema_id

from .sink_log import LAYOUT, SCHEMA, TP, Crash, Log, drain, ids, partition, rows, spec


def log_of(*counts: int, end: bool = True) -> Log:
    log = Log()
    for i, count in enumerate(counts):
        log.commit(count, end_of_input=end and i == len(counts) - 1)
    return log


def test_duckdb_reads_the_table_with_its_partitions(tmp_path: Path) -> None:
    log = log_of(10, 0, 25, 7)
    sink = partition(LocalFiles(tmp_path, "flights"))
    drain(sink, log)
    assert sink.done
    assert sink.position == log.end - 1
    found = (
        duckdb.connect()
        .execute(
            f"select origin, count(*), min(id), max(id)"
            f" from read_parquet('{tmp_path}/flights/**/*.parquet', hive_partitioning=true)"
            " group by all order by all"
        )
        .fetchall()
    )
    assert found == [("EWR", 14, 0, 39), ("JFK", 14, 1, 40), (None, 14, 2, 41)]
    assert sink.written.files == len(list(tmp_path.rglob("*.parquet")))
    assert sink.written.rows == 42
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.parquet")]
    assert sink.written.bytes == sum(sizes)


def test_names_are_padded_and_only_data_lies_in_the_table(tmp_path: Path) -> None:
    drain(partition(LocalFiles(tmp_path, "flights"), spec(target_bytes=10**9)), log_of(2))
    made = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert [name for name in made if "/tmp/" not in name] == [
        "flights.streamflow/app-flights-rows-00003-00000000.json",
        "flights.streamflow/app-flights-rows-00003-00000001.json",
        "flights.streamflow/owner.json",
        "flights/origin=EWR/app-flights-rows-00003-00000001-00000.parquet",
        "flights/origin=JFK/app-flights-rows-00003-00000001-00001.parquet",
    ]


def test_a_footer_tells_where_the_rows_come_from() -> None:
    files = MemoryFiles()
    drain(partition(files, spec(target_bytes=10**9)), log_of(3, 4))
    footers = [read_footer(files.read(name)) for name in files.names()]
    assert footers[0] == {
        "topology": "flights",
        "topology_version": "1",
        "rows_topic": "app-flights-rows",
        "rows_partition": "3",
        "rows_range": "[0,5]",
        "cut": "1",
        "schema_id": LAYOUT.schema_id,
        "sources": '{"in":[[3,0,7]]}',
        "counts": '{"passed":7,"rejected":2}',
        "gates": '{"rule":2}',
    }
    assert all(footer == footers[0] for footer in footers)


def test_it_rolls_at_the_target_size_and_corrects_the_estimate() -> None:
    files = MemoryFiles()
    log = Log(replace(LAYOUT, partition_by=()))
    for _ in range(40):
        log.commit(500)
    sink = partition(files, spec(partition_by=(), target_bytes=12_000))
    drain(sink, log)
    sizes = [len(files.read(name)) for name in files.names()]
    assert len(sizes) > 2
    assert sink.lag_bytes > 0
    assert not sink.done
    assert 9_000 < sizes[-1] < 16_000


def test_it_rolls_at_the_interval_only_whole_commits() -> None:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    files = MemoryFiles()
    log = log_of(5, 5, end=False)
    log.commit(50, chunk_bytes=2000)
    settings = replace(spec(target_bytes=10**9), roll_interval=timedelta(seconds=60))
    sink = partition(files, settings, clock=clock)
    sink.receive(log.fetch(sink.open(0, log.end), log.end - 2))
    assert sink.tick() is None
    clock.advance(timedelta(seconds=60))
    assert sink.tick() == 0
    assert ids(files) == list(range(10))
    assert sink.tick() is None
    sink.receive(log.fetch(log.end - 2, log.end))
    clock.advance(timedelta(seconds=59))
    assert sink.tick() is None
    clock.advance(timedelta(seconds=1))
    assert sink.tick() == 5
    assert ids(files) == list(range(60))


def test_commits_without_rows_make_no_files_but_move_the_chain_in_time() -> None:
    files = MemoryFiles()
    log = log_of(*[0] * (IDLE_COMMITS + 5), end=False)
    sink = partition(files)
    drain(sink, log)
    assert files.names() == []
    assert sink.position == 2 * IDLE_COMMITS - 1
    log.commit(0, end_of_input=True)
    sink.receive(log.fetch(log.end - 2, log.end))
    assert sink.done


def test_the_log_may_be_trimmed_up_to_the_last_finished_cut() -> None:
    log = log_of(4, 4, 4, end=False)
    sink = partition(MemoryFiles())
    start = sink.open(0, log.end)
    trims = [sink.receive(log.fetch(offset, offset + 3)) for offset in range(start, log.end, 3)]
    assert trims == [0, 2, 5]


def test_a_batch_may_begin_early_but_never_late() -> None:
    files = MemoryFiles()
    log = log_of(4, 4)
    sink = partition(files)
    sink.open(0, log.end)
    sink.receive(log.fetch(0, 4))
    sink.receive(log.fetch(0, 4))
    with pytest.raises(SinkRefused, match=r"wants app-flights-rows\[3\]@4.*would be skipped"):
        sink.receive(log.fetch(5, 6))
    sink.receive(log.fetch(1, log.end))
    assert ids(files) == list(range(8))


def test_a_full_disk_loses_and_repeats_nothing() -> None:
    files = MemoryFiles()
    log = log_of(4, 4)
    sink = partition(files)
    sink.open(0, log.end)
    files.full = True
    with pytest.raises(SinkUnavailable):
        sink.receive(log.fetch(0, log.end))
    with pytest.raises(SinkUnavailable):
        sink.tick()
    assert files.names() == []
    assert not sink.done
    files.full = False
    sink.tick()
    sink.receive(log.fetch(0, log.end))
    assert ids(files) == list(range(8))
    assert sink.done


def test_a_disk_that_fills_up_between_cut_and_files_is_gone_on_with() -> None:
    files = MemoryFiles()
    log = log_of(4, 4)

    def faults(point: str) -> None:
        files.full = files.full or point == "cut"

    sink = partition(files, faults=faults)
    sink.open(0, log.end)
    with pytest.raises(SinkUnavailable):
        sink.receive(log.fetch(0, log.end))
    assert sink.position == 0
    files.full = False
    with pytest.raises(SinkUnavailable):  # the second roll
        sink.receive(log.fetch(0, log.end))
    files.full = False
    sink.tick()
    assert ids(files) == list(range(8))


def test_closing_drops_everything_and_opening_goes_on() -> None:
    files = MemoryFiles()
    log = log_of(4, 4)
    sink = partition(files, spec(target_bytes=10**9))
    sink.open(0, log.end)
    sink.receive(log.fetch(0, log.end - 1 - 2))
    assert sink.lag_bytes > 0
    sink.close()
    assert sink.lag_bytes == 0
    assert files.names() == []
    drain(sink, log)
    assert ids(files) == list(range(8))


def test_a_finished_sink_is_done_as_soon_as_it_is_opened_again() -> None:
    files = MemoryFiles()
    log = log_of(4)
    drain(partition(files), log)
    sink = partition(files)
    assert sink.open(0, log.end) == log.end - 1
    assert sink.done


def test_a_trimmed_log_without_a_chain_is_refused_as_another_tables() -> None:
    log = log_of(4, 4, 4)
    log.trim(3)
    with pytest.raises(SinkRefused, match=r"has no chain of cuts .* is the right disk mounted"):
        drain(partition(MemoryFiles()), log)


def crashed(files: MemoryFiles, log: Log, point: str, **settings: object) -> None:
    """A sink that dies at `point` of its first roll."""

    def faults(name: str) -> None:
        if name == point:
            raise Crash

    with pytest.raises(Crash):
        drain(partition(files, spec(**settings), faults=faults), log)  # type: ignore[arg-type]


def test_a_redo_uses_the_cut_and_not_the_present_settings() -> None:
    log = log_of(10, 10)
    calm, shaken = MemoryFiles(), MemoryFiles()
    drain(partition(calm, spec(target_bytes=10**9)), log)
    crashed(shaken, log, "cut", target_bytes=10**9)
    other = pa.schema([*SCHEMA, pa.field("more", pa.string())])
    changed = spec(partition_by=("id",), target_bytes=5, schema=other, version="2")
    drain(partition(shaken, changed), log)
    assert {n: shaken.read(n) for n in shaken.names()} == {n: calm.read(n) for n in calm.names()}


def edit(files: MemoryFiles, changes: dict[str, object]) -> None:
    name = "app-flights-rows-00003-00000001.json"
    document = orjson.loads(files.read(name, private=True)) | changes
    files.delete_private([name])
    files.create(name, orjson.dumps(document), private=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 3}, "start the version of streamflow that wrote it"),
        ({"k": 7}, "was a file renamed"),
        ({"partition_by": ["carrier"]}, "where the cut says"),
        ({"partition_by": []}, "where the cut says"),
        ({"trailer": 9}, "was the topic made anew"),
        ({"commits": 2}, "was the topic made anew"),
        ({"files": []}, "where the cut says"),
        ({"next": 99}, "beyond the topic's end"),
        ({"more": 1}, "start the version of streamflow that wrote it"),
        ({"first": "0"}, "start the version of streamflow that wrote it"),
    ],
)
def test_a_cut_that_cannot_be_executed_is_refused(changes: dict[str, object], words: str) -> None:
    files, log = MemoryFiles(), log_of(6, 6)
    crashed(files, log, "cut")
    if "files" in changes:  # less than the cut held: its rows would be lost
        cut = orjson.loads(files.read("app-flights-rows-00003-00000001.json", private=True))
        changes = {"files": cut["files"][:2]}
    edit(files, changes)
    with pytest.raises(SinkRefused, match=words):
        drain(partition(files), log)
    assert files.names() == []


def test_a_damaged_cut_is_refused() -> None:
    files, log = MemoryFiles(), log_of(6)
    crashed(files, log, "cut")
    name = "app-flights-rows-00003-00000001.json"
    files.delete_private([name])
    files.create(name, b"{", private=True)
    with pytest.raises(SinkRefused, match="restore it from a backup"):
        drain(partition(files), log)


def test_another_app_is_refused() -> None:
    files, log = MemoryFiles(), log_of(6)
    drain(partition(files, owner="theirs"), log)
    with pytest.raises(SinkRefused, match=r"app 'theirs', and this is app 'mine'.*another path"):
        partition(files, owner="mine").open(0, log.end)


def test_a_chain_beyond_the_end_of_the_topic_is_refused() -> None:
    files = MemoryFiles()
    drain(partition(files), log_of(6, 6))
    with pytest.raises(SinkRefused, match=r"@2\.\.5 ends beyond the topic's end 3"):
        partition(files).open(0, 3)


def test_a_topic_that_starts_after_what_is_needed_is_refused() -> None:
    files, log = MemoryFiles(), log_of(6, 6)
    crashed(files, log, "files-written")
    with pytest.raises(SinkRefused, match=r"starts at offset 1, but .* needs it from 0"):
        partition(files).open(1, log.end)


def trailer(commit: int, previous: int | None, chunks: int = 0) -> Record:
    return encode_trailer(Trailer(commit, previous, chunks, LAYOUT))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([trailer(1, None)], r"@2: the trailer of commit 1 follows no commit, .* here is commit 1"),
        ([trailer(3, 2)], "follows commit 2, but the last one here is commit 1"),
        ([trailer(2, 1, chunks=1)], "ends 1 chunk, but 0 came"),
        ([*encode_rows([rows([1])], 2), trailer(2, 1)], "ends 0 chunks, but 1 came"),
        ([*encode_rows([rows([1])], 3), trailer(2, 1, 1)], "but 1 came before it, of commit 3"),
        (encode_rows([rows(range(999))], 2, chunk_bytes=2000)[1:], "chunk 0 of commit 2 was exp"),
        ([Record(None, b"hello")], "has something else written to this topic"),
    ],
)
def test_a_topic_that_does_not_fit_stops_the_sink(records: list[Record], words: str) -> None:
    log = log_of(1, end=False)
    log.end -= 1
    log.append(records)
    files = MemoryFiles()
    with pytest.raises(SinkRefused, match=words):
        drain(partition(files), log)
    assert ids(files) == [0]


def test_a_first_trailer_that_follows_another_is_refused_at_the_beginning_of_a_topic() -> None:
    log = Log()
    log.append([trailer(2, 1)])
    with pytest.raises(SinkRefused, match="follows commit 1, but the last one here is no commit"):
        drain(partition(MemoryFiles()), log)


def test_rows_that_are_not_of_the_schema_that_their_trailer_names_are_refused() -> None:
    log = log_of(4, end=False)
    log.layout = replace(LAYOUT, schema_id="another")
    log.commit(3)
    with pytest.raises(SinkRefused, match=r"rows of commit 2 at offset 3 have schema .* another"):
        drain(partition(MemoryFiles()), log)


WIDER = pa.schema([*SCHEMA, pa.field("more", pa.string())])


def grow(log: Log) -> None:
    """The commits to come are those of a second version, which has one more column."""
    log.schema = WIDER
    log.layout = Layout(schema_id(WIDER), LAYOUT.partition_by, "2")


@pytest.mark.parametrize("version", ["1", "2"])
def test_each_row_becomes_a_file_as_it_was_meant_to_when_it_was_committed(version: str) -> None:
    log = log_of(5, 5, end=False)
    grow(log)
    log.commit(5)
    log.commit(5, end_of_input=True)
    files = MemoryFiles()
    running = spec(target_bytes=10**9, schema={"1": SCHEMA, "2": WIDER}[version], version=version)
    drain(partition(files, running), log)
    assert ids(files) == list(range(20))
    found: dict[str, set[str]] = {"1": set(), "2": set()}
    for name in files.names():
        data = files.read(name)
        footer = read_footer(data)
        assert ("more" in pq.read_schema(pa.BufferReader(data)).names) == (footer["cut"] == "2")
        found[footer["topology_version"]].add(footer["schema_id"])
    assert found == {"1": {schema_id(SCHEMA)}, "2": {schema_id(WIDER)}}


def test_rows_of_an_earlier_layout_become_visible_when_the_first_of_another_comes() -> None:
    log = log_of(5, end=False)
    files = MemoryFiles()
    sink = partition(files, spec(target_bytes=10**9))
    drain(sink, log)
    assert ids(files) == []
    stop = log.end
    grow(log)
    log.commit(5)
    sink.receive(log.fetch(stop, log.end))
    assert ids(files) == list(range(5))
    assert sink.lag_bytes > 0


def test_batches_of_another_partition_are_refused() -> None:
    sink = partition(MemoryFiles())
    sink.open(0, 10)
    batch = log_of(1).fetch(0, 2)
    with pytest.raises(SinkRefused, match=r"rows\[4\]"):
        sink.receive(replace(batch, tp=TopicPartition(TP.topic, 4)))
