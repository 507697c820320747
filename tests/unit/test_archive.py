"""Archives: a topic as it is in a table, one behaviour at a time."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import polars as pl
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, TopologyError, archive, day, delta, parquet, source, topic
from streamflow.batch import MicroBatch, Record, TopicPartition
from streamflow.check import check_folders
from streamflow.check.topics import check_archived
from streamflow.cli.runs import lines_of
from streamflow.clock import SimulatedClock
from streamflow.core.journal import Execution, decode_execution, runs_of
from streamflow.core.names import Names
from streamflow.core.raw_rows import raw_rows
from streamflow.destinations import Parquet
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory import MemoryAnnouncer, MemoryBroker
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.archive_feed import archives_of, feed_of
from streamflow.engine.compact import Compactor
from streamflow.engine.faults import no_faults
from streamflow.engine.holdings import Holdings
from streamflow.engine.host import Host
from streamflow.engine.inbox import Arrival
from streamflow.engine.journal import Journal
from streamflow.engine.settings import Settings
from streamflow.engine.sink import SinkPartition
from streamflow.engine.sink_chain import last
from streamflow.engine.status import Status, status_of, worker_status
from streamflow.engine.table_spec import table_spec
from streamflow.errors import SettingsError, SinkRefused
from streamflow.local import LocalRun
from streamflow.service import topology_app
from streamflow.testing import TopologyDriver

from .memory_world import MemoryWorld
from .test_host import Consumer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TP = TopicPartition("clicks", 0)
CLICKS = archive(topic("clicks"))


class Order(BaseModel):
    id: str
    at: AwareDatetime


ORDERS = source(topic("orders"), Order, event_time="at")
ORDERS_EDGES = (ORDERS.to(parquet("orders")), ORDERS.rejected.drop())


def click(i: int) -> Record:
    return Record(b"key", b"%d" % i, 1_000 * i)


def batch_of(start: int, *records: Record | None, stop: int | None = None) -> MicroBatch:
    """Records from an offset on; None is an offset without one."""
    here = [(start + i, record) for i, record in enumerate(records) if record is not None]
    return MicroBatch(
        TP,
        start,
        start + len(records) if stop is None else stop,
        [offset for offset, _ in here],
        [record.key for _, record in here],
        [record.value for _, record in here],
        [record.timestamp or 0 for _, record in here],
        [record.headers for _, record in here],
    )


def sink_on(
    files: Any, table: Parquet | None = None, *, bounded: bool = False, **more: Any
) -> SinkPartition:
    topology = Topology("t", CLICKS.to(table or parquet("raw", target_bytes=10**9)))
    plan = topology.archives[0]
    spec = table_spec(topology, Names("t"), plan)
    more.setdefault("clock", SimulatedClock(NOW))
    return SinkPartition(
        spec, TP, files, owner="t", feed=feed_of(plan, spec, bounded=bounded), **more
    )


def test_records_are_rows_as_they_are() -> None:
    driver = TopologyDriver(Topology("t", CLICKS.to(parquet("raw"))), NOW)
    headers = (("hop", b"1"), ("hop", None), ("", b"\xff"))
    driver.send(
        "clicks",
        Record(b"\x00\xff", b"not json", 1_500, headers),
        Record(b"gone", None, 2_500),
        Record(None, b"", -1),
        Record(None, None, 2**62),
        {"a": 1},
    )
    driver.end_of_input()
    rows = [row for table in driver.tables("raw") for row in table.to_pylist()]
    where = [(row.pop("_topic"), row.pop("_partition"), row.pop("_offset")) for row in rows]
    assert where == [("clicks", 0, offset) for offset in range(5)]
    times = [row.pop("_timestamp") for row in rows]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert times == [
        epoch + timedelta(seconds=1.5),
        epoch + timedelta(seconds=2.5),
        None,
        None,
        NOW,
    ]
    assert rows == [
        {
            "key": b"\x00\xff",
            "value": b"not json",
            "headers": [{"key": name, "value": value} for name, value in headers],
        },
        {"key": b"gone", "value": None, "headers": []},
        {"key": None, "value": b"", "headers": []},
        {"key": None, "value": None, "headers": []},
        {"key": None, "value": b'{"a":1}', "headers": []},
    ]


def test_an_archive_can_join_a_topology() -> None:
    driver = TopologyDriver(Topology("t", *ORDERS_EDGES), NOW, partitions=2)
    driver.deploy(Topology("t", *ORDERS_EDGES, CLICKS.to(parquet("raw"))))
    driver.send("clicks", b"1", b"2")
    driver.restart()
    driver.end_of_input()
    [rows] = driver.tables("raw")
    assert rows["value"].to_pylist() == [b"1", b"2"]


def test_an_empty_batch_has_no_rows() -> None:
    assert raw_rows(batch_of(3)).num_rows == 0


def test_folders_are_by_the_time_of_kafka() -> None:
    table = parquet("raw", partition_by=[day("_timestamp")])
    driver = TopologyDriver(Topology("t", CLICKS.to(table)), NOW, partitions=2)
    driver.send("clicks", *(Record(b"%d" % i, b"", i * 86_400_000) for i in range(20)))
    driver.end_of_input()
    tables = driver.tables("raw")
    assert len(tables) == 20
    assert sum(table.num_rows for table in tables) == 20


def test_a_roll_is_due_by_time_by_silence_and_by_size() -> None:
    clock, files = SimulatedClock(NOW), MemoryFiles()
    table = parquet(
        "raw",
        roll_interval=timedelta(minutes=5),
        inactivity_interval=timedelta(minutes=1),
        storage="none",
        target_bytes=5_000,
    )
    sink = sink_on(files, table, clock=clock)
    assert sink.open(0, 100) == 0
    sink.receive(batch_of(0, click(0)))
    assert not files.names()
    clock.advance(timedelta(minutes=1))
    sink.tick()
    assert (sink.position, len(files.names())) == (1, 1)
    for minute in range(7):
        clock.advance(timedelta(seconds=59))
        sink.receive(batch_of(minute + 1, click(minute)))
    assert (sink.position, len(files.names())) == (7, 2)
    sink.receive(batch_of(8, Record(None, bytes(20_000))))
    assert (sink.position, len(files.names())) == (9, 3)


def test_offsets_without_records_are_rolled_in_their_time() -> None:
    clock, files = SimulatedClock(NOW), MemoryFiles()
    sink = sink_on(files, parquet("raw", roll_interval=timedelta(minutes=5)), clock=clock)
    sink.open(0, 0)
    sink.receive(batch_of(0, None, None))
    assert sink.position == 0
    clock.advance(timedelta(minutes=5))
    assert sink.tick() is None
    assert (sink.position, files.names()) == (2, [])
    # So retention may take them: it is known that they were nothing.
    assert sink_on(files).open(2, 2) == 2


def test_a_bounded_archive_is_done_at_the_end_that_it_began_with() -> None:
    files = MemoryFiles()
    sink = sink_on(files, bounded=True)
    sink.open(0, 3)
    assert not sink.done
    sink.receive(batch_of(0, click(0), click(1)))
    assert not sink.done
    sink.receive(batch_of(2, None, click(3)))
    assert (sink.done, sink.position) == (True, 4)
    sink.receive(batch_of(4, click(4)))
    assert (sink.done, sink.lag_bytes > 0) == (True, True)
    again = sink_on(files, bounded=True)
    assert again.open(0, 4) == 4
    assert again.done
    again.open(0, 5)
    assert not again.done


def test_an_archive_begins_where_its_topic_does_and_holds_on_to_that() -> None:
    files = MemoryFiles()
    assert sink_on(files).open(70, 90) == 70
    with pytest.raises(SinkRefused, match="starts at offset 71, but the archive 'raw' ends at 70"):
        sink_on(files).open(71, 90)


def test_a_worker_that_holds_too_much_rolls_early() -> None:
    files = MemoryFiles()
    sink = sink_on(files, holdings=Holdings(limit=3_000))
    sink.open(0, 10)
    sink.receive(batch_of(0, click(0)))
    assert not files.names()
    sink.receive(batch_of(1, Record(None, bytes(2_000))))
    assert len(files.names()) == 1


def test_the_footer_and_the_cut_say_which_offsets_were_rolled() -> None:
    files = MemoryFiles()
    sink = sink_on(files)
    sink.open(0, 10)
    sink.receive(batch_of(0, click(0), None, click(2), None))
    sink.roll()
    cut = last(files, TP)
    assert cut is not None
    assert (cut.first, cut.next, cut.trailer) == (0, 4, 4)
    assert (cut.sources, cut.counts) == ({"clicks": ((0, 0, 4),)}, {"in": 2, "passed": 2})
    assert (cut.files[0].first, cut.files[0].last) == ((0, 0), (2, 0))


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        (lambda: [archive("clicks")], "archive.'clicks'.: what is read is a topic"),  # type: ignore[arg-type]
        (lambda: [CLICKS.to(topic("x"))], "give it a parquet"),  # type: ignore[arg-type]
        (lambda: [CLICKS.to(delta("raw"))], "an archive is a plain table"),
        (
            lambda: [archive(topic("orders")).to(parquet("raw")), *ORDERS_EDGES],
            "'orders' is archived and a source of it too",
        ),
        (
            lambda: [ORDERS.to(topic("clicks")), ORDERS.rejected.drop(), CLICKS.to(parquet("raw"))],
            "archives 'clicks', which it also writes",
        ),
        (
            lambda: [CLICKS.to(parquet("a")), archive(topic("clicks")).to(parquet("b"))],
            "'clicks' is archived twice",
        ),
        (
            lambda: [*ORDERS_EDGES, CLICKS.to(parquet("orders"))],
            "two tables are named 'orders'",
        ),
        (lambda: [*ORDERS_EDGES, CLICKS.to(parquet("orders/raw"))], "whose readers would take"),
        (lambda: [CLICKS.to(parquet("raw", revisions="final"))], "revisions are of the results"),
        (lambda: [CLICKS.to(parquet("raw", partition_by="auto"))], "which an archive does not"),
        (lambda: [CLICKS.to(parquet("raw", partition_by="user"))], "no column 'user'"),
        (lambda: [CLICKS.to(parquet("raw", partition_by="value"))], "'value' is binary"),
        (lambda: [CLICKS.to(parquet("raw", sort_by="headers"))], "which has no order"),
        (lambda: [archive(topic("t-orders-rows")).to(parquet("raw")), *ORDERS_EDGES], "own state"),
    ],
)
def test_what_cannot_be_is_refused_when_the_topology_is_built(
    edges: Callable[[], Sequence[Any]], words: str
) -> None:
    with pytest.raises(TopologyError, match=words):
        Topology("t", *edges())


def test_the_version_tells_archives_apart_and_leaves_others_alone() -> None:
    plain = Topology("t", *ORDERS_EDGES).version
    both = Topology("t", *ORDERS_EDGES, CLICKS.to(parquet("raw"))).version
    assert len({plain, both, Topology("t", *ORDERS_EDGES, CLICKS.to(parquet("b"))).version}) == 3


def test_a_run_of_a_part_leaves_archives_out() -> None:
    topology = Topology("t", CLICKS.to(parquet("raw")))
    assert list(archives_of(topology, Names("t", "p."))) == ["p.clicks"]
    assert archives_of(topology, Names("t").of_run("r")) == {}
    with pytest.raises(SettingsError, match="'t' only archives"):
        topology_app(topology, Settings.load(run_id="r", run_from="beginning"))


def test_a_local_run_has_no_topic_to_archive(tmp_path: Any) -> None:
    with pytest.raises(SettingsError, match="'clicks' is archived"):
        LocalRun(Topology("t", CLICKS.to(parquet("raw"))), tmp_path / "run")


def test_check_looks_at_its_table_and_warns_of_a_topic_that_is_compacted(tmp_path: Any) -> None:
    topology = Topology("t", CLICKS.to(parquet("s3://bucket/raw")))
    settings = Settings.load(lake=str(tmp_path), state_dir=tmp_path)
    assert any("s3://bucket/raw" in found.what for found in check_folders(topology, settings))
    assert check_archived("clicks", {"cleanup.policy": "delete"}) == []
    (warning,) = check_archived("clicks", {"cleanup.policy": "compact,delete"})
    assert (warning.level, "is compacted" in warning.what) == ("warning", True)
    config = {"cleanup.policy": "compact", "min.compaction.lag.ms": "3600000"}
    assert check_archived("clicks", config) == []


def broker_of(*records: Record) -> MemoryBroker:
    broker = MemoryBroker(int(NOW.timestamp() * 1000))
    broker.create("clicks", 1)
    broker.create("orders", 1)
    for record in records:
        broker.append(TP, record)
    return broker


async def assigned(broker: MemoryBroker, topology: Topology, **settings: Any) -> Host:
    clock = SimulatedClock(NOW)
    world = MemoryWorld(broker, topology, clock)
    host = Host(topology, Settings.load(**settings), world, clock, no_faults)
    await host.prepare(Consumer())
    tps = [TopicPartition(name, 0) for name in (*host.source_topics, *host.rows_topics)]
    await host.assign(tps)
    lanes = [*host.tasks.values(), *host.sinks.values()]
    async with asyncio.timeout(20):
        while not (host.finished.is_set() or all(lane.is_open for lane in lanes)):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return host


def status(host: Host, end: int) -> Status:
    return status_of(host.tasks, host.sinks, dict.fromkeys(host.reading, end), host.waits)


def test_a_worker_of_nothing_but_an_archive_ends_when_all_is_visible() -> None:
    async def go() -> None:
        topology = Topology("t", CLICKS.to(parquet("raw")))
        broker = broker_of(click(0), click(1), click(2))
        host = await assigned(broker, topology, until_end="1")
        assert (host.tasks, list(host.reading), host.source_topics) == ({}, [TP], [])
        watching = asyncio.create_task(host.watch())
        assert (status(host, 3).lag, status(host, 3).archived) == (3, 1)
        await asyncio.sleep(0.15)  # it looks, and finds nothing done
        assert not host.finished.is_set()
        await host.receive(Arrival(broker.fetch(TP, 0), lambda: None))
        async with asyncio.timeout(5):
            await watching
        assert (host.failure, status(host, 3).lag, status(host, 3).rows) == (None, 0, 3)
        lanes = dict(host.sinks)
        await host.close()
        assert status_of({}, lanes, {TP: 3}, {}).lag == 0
        assert broker.partition(TP).first_offset == 0
        assert TP not in broker.offsets

    asyncio.run(go())


def test_a_worker_that_has_fetched_nothing_yet_knows_how_far_behind_it_is() -> None:
    async def go() -> None:
        topology = Topology("t", *ORDERS_EDGES, CLICKS.to(parquet("raw")))
        host = await assigned(broker_of(click(0), click(1)), topology)
        known: dict[TopicPartition, int] = {}
        consumer = SimpleNamespace(highwater=known.get)
        assert worker_status(SimpleNamespace(host=host, consumer=consumer)).lag == 2
        known[TP] = 5  # more has come, as the first fetch told
        assert worker_status(SimpleNamespace(host=host, consumer=consumer)).lag == 5
        host.ends.clear()
        assert worker_status(SimpleNamespace(host=host, consumer=consumer)).lag is None
        await host.close()

    asyncio.run(go())


def test_the_journal_says_how_far_an_archive_is() -> None:
    async def go() -> None:
        topology = Topology("t", CLICKS.to(parquet("raw")))
        broker = broker_of(click(0), click(1))
        log = TopicPartition("t-journal", 0)
        broker.create(log.topic, 1)
        host = await assigned(broker, topology, until_end="1")
        began = Execution("live", "a", "worker", "ann", "t", "1", "exactly_once", NOW, NOW)
        journal = Journal(
            MemoryAnnouncer(broker, log), began, lambda: host.reading, SimulatedClock(NOW)
        )
        journal.begin()
        await host.receive(Arrival(broker.fetch(TP, 0), lambda: None))
        await asyncio.wait_for(host.watch(), 5)
        lanes = host.reading
        await host.close()
        await journal.end("success", "", lanes)
        last = broker.records(log.topic)[-1]
        told = decode_execution(last.value or b"")
        assert told is not None
        assert told.tasks[TP].position == 2
        (run,) = runs_of([told], [])
        words = lines_of(run, NOW, whole=True)
        assert "  nothing is counted of its 1 partition" in words
        assert "    clicks[0] to 2" in words

    asyncio.run(go())


def test_an_archive_and_a_task_of_another_topic_do_not_meet() -> None:
    async def go() -> None:
        topology = Topology("t", *ORDERS_EDGES, CLICKS.to(parquet("raw")))
        broker = broker_of(click(0))
        host = await assigned(broker, topology)
        orders = TopicPartition("orders", 0)
        assert (list(host.reading), list(host.sinks)) == (
            [orders, TP],
            [TopicPartition("t-orders-rows", 0), TP],
        )
        assert status(host, 1).lag == 2
        await host.receive(Arrival(broker.fetch(TP, 0), lambda: None))
        async with asyncio.timeout(5):
            while status(host, 1).lag != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await host.close()
        assert "t-raw-rows" not in broker.topics

    asyncio.run(go())


@pytest.mark.parametrize("deleted", [False, True])
def test_offsets_that_the_client_went_past_are_looked_at(deleted: bool) -> None:
    """Retention that overtakes a reader is not said by the client: it goes on at the beginning."""

    async def go() -> None:
        broker = broker_of(*(click(i) for i in range(6)))
        host = await assigned(broker, Topology("t", CLICKS.to(parquet("raw"))))
        await host.receive(Arrival(broker.fetch(TP, 0, 2), lambda: None))
        if deleted:
            broker.partition(TP).trim(4)
        late = broker.fetch(TP, 4)
        gap = MicroBatch(
            TP, 2, 6, late.offsets, late.keys, late.values, late.timestamps, late.headers
        )
        await host.receive(Arrival(gap, lambda: None))
        async with asyncio.timeout(5):
            while not (host.finished.is_set() or status(host, 6).lag == 0):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert (host.failure is not None) == deleted
        if deleted:
            words = "clicks[0] starts at offset 4, but the archive 'raw' ends at 2"
            assert words in str(host.failure)
            assert status(host, 6).rows == 2, "what was read before is rolled"
        await host.close()

    asyncio.run(go())


def test_an_archive_is_read_sorted_planned_and_compacted_as_other_tables_are(
    tmp_path: Path,
) -> None:
    files = LocalFiles(tmp_path, "raw")
    table = parquet("raw", target_bytes=1, sort_by="key", bloom_by="key")
    sink = sink_on(files, table)
    sink.open(0, 10**6)
    counts = [1_500, 1_500, 3, 3, 3]
    for start, count in zip(accumulate(counts, initial=0), counts, strict=False):
        records = [Record(b"%d" % (i % 9), b"%d" % i, i, (("h", None),)) for i in range(count)]
        sink.receive(batch_of(start, *records))
    assert any(name.startswith("plan-") for name in files.names(private=True))
    before = pl.read_parquet(f"{tmp_path}/raw/*.parquet")
    [made] = Compactor(files, "none", SimulatedClock(NOW), no_faults).run(1024 * 1024)
    assert [len(pack.of) for pack in made.packs] == [3]
    with duckdb.connect() as connection:
        rows = connection.read_parquet(f"{tmp_path}/raw/*.parquet").order("_offset")
        found = rows.select("_offset, key, value, headers").fetchall()
    assert len(found) == sum(counts)
    assert [row[0] for row in found] == sorted(before["_offset"].to_list())
    assert found[1_500][1:] == (b"0", b"0", [{"key": "h", "value": None}])
