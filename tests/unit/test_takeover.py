"""Owners without transactions that meet in the changelog, and what they leave in the rows topic."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from streamflow import Topology, parquet, topic
from streamflow.batch import Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.keys import META
from streamflow.core.names import Names
from streamflow.core.rows import Trailer, encode_rows, encode_trailer
from streamflow.edges.memory import MemoryBroker, MemoryChangelog, MemoryPlainOutbox, MemoryStore
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.commit import APPLIED
from streamflow.engine.marked import NOTHING, Marked, Overrun
from streamflow.engine.restore import restore
from streamflow.engine.sink_buffer import Buffer
from streamflow.engine.sync import run_sync
from streamflow.engine.task import Task, TaskLimits
from streamflow.engine.task_ports import TaskPorts
from streamflow.errors import Fenced, SinkRefused
from tests.laws.orders import order, orders
from tests.unit.sink_log import LAYOUT, Crash, Log, ids, partition, rows, spec
from tests.unit.sink_log import TP as ROWS

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TP = TopicPartition("orders", 0)
CHANGELOG = TopicPartition("lone-orders-changelog", 0)
lone = Topology(
    "lone",
    orders.to(topic("clean")),
    orders.to(parquet("orders")),
    orders.rejected.drop(),
)


class Owners:
    """Tasks of one partition, each with a disk of its own."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(int(NOW.timestamp() * 1000))
        for name in ("orders", "clean", "lone-orders-rows", CHANGELOG.topic):
            self.broker.create(name, 1)
        for second in range(4):
            self.broker.append(TP, order(second))

    def make(self, faults: Callable[[str], None] = lambda point: None) -> Task:
        names = Names("lone")
        ports = TaskPorts(
            MemoryPlainOutbox(self.broker, names.producer(TP)),
            MemoryChangelog(self.broker, CHANGELOG),
            MemoryStore(),
            SimulatedClock(NOW),
            faults,
        )
        limits = TaskLimits(delivery="at_least_once")
        return Task(
            lone.tasks[0], names, TP, ports, partitions=1, version=lone.version, limits=limits
        )

    def take(self, task: Task, count: int) -> None:
        run_sync(task.receive(self.broker.fetch(TP, task.state.position, count)))

    def sent(self) -> int:
        return len(self.broker.records("clean"))


@pytest.mark.parametrize("point", ["begin", "commit", "mark"])
def test_who_commits_while_another_one_takes_over_is_seen_by_that_one(point: str) -> None:
    owners = Owners()
    old = owners.make()
    run_sync(old.open(0))
    owners.take(old, 2)

    def wake(at: str) -> None:
        if at == point and old.idle is False:
            run_sync(old.commit())

    new = owners.make(wake)
    with pytest.raises(Fenced, match="another owner of this task has written there"):
        run_sync(new.open(0))
    again = owners.make()
    assert run_sync(again.open(0)) == 2
    assert again.state.commit == 1
    owners.take(old, 2)
    with pytest.raises(Fenced):
        run_sync(old.commit())
    owners.take(again, 2)
    with pytest.raises(Fenced):  # it counts all the same, and is taken up again: to mend the log
        run_sync(again.commit())
    last = owners.make()
    assert run_sync(last.open(0)) == 4
    assert last.state.commit == 2
    assert owners.sent() == 6  # the last two twice


def test_what_is_written_after_another_one_has_taken_over_is_void() -> None:
    owners = Owners()
    old = owners.make()
    run_sync(old.open(0))
    new = owners.make()
    assert run_sync(new.open(0)) == 0
    owners.take(old, 3)
    with pytest.raises(Fenced):
        run_sync(old.commit())
    third = owners.make()
    assert run_sync(third.open(0)) == 0
    assert third.state.epoch > new.state.epoch > old.state.epoch
    assert third.totals["in"] == 0


def restored(changelog: MemoryChangelog, store: MemoryStore) -> frozenset[bytes]:
    clock = SimulatedClock(NOW)
    return run_sync(restore(store, changelog, clock, "changelog")).void


def mark(epoch: int, commit: int, born: int = 1) -> Record:
    document = b'{"epoch":%d,"commit":%d,"born":%d}' % (epoch, commit, born)
    return Record(META, document)


def entries(*records: Record) -> list[tuple[bytes, bytes | None]]:
    return [(record.key or b"", record.value) for record in records]


def test_void_entries_are_found_again_until_somebody_mends_them() -> None:
    broker, tp = MemoryBroker(), TopicPartition("changelog", 0)
    broker.create(tp.topic, 1)
    for record in (Record(b"a", b"1"), mark(1, 1), Record(b"a", b"2"), Record(b"b", b"2")):
        broker.append(tp, record)
    changelog, store = MemoryChangelog(broker, tp), MemoryStore()
    for _ in range(3):  # read into a new store, and twice into one that has read it
        assert restored(changelog, store) == {b"a", b"b"}
        assert store.get([b"a", b"b"]) == [b"1", None]
    for record in (Record(b"a", b"1"), Record(b"b", None), mark(2, 1)):
        broker.append(tp, record)
    assert restored(changelog, store) == frozenset()
    assert store.get([APPLIED]) == [b"7"]


def test_which_marks_count() -> None:
    marked = Marked(None)
    a, b, c = Record(b"a", b""), Record(b"b", b""), Record(b"c", b"")
    assert marked.take(entries(a, mark(2, 5), b)) == entries(a, mark(2, 5))
    assert not marked.whole
    assert marked.take(entries(mark(1, 6), c)) == []  # of an owner that was overtaken
    assert marked.take(entries(mark(3, 4), a)) == []  # of one that had not seen all
    assert marked.take(entries(mark(3, 5))) == entries(a, mark(3, 5))
    assert marked.void() == {b"b", b"c"}
    assert marked.take(entries(b, c, mark(3, 6))) == entries(b, c, mark(3, 6))
    assert marked.whole
    assert marked.take(entries(mark(3, 1, born=9))) == entries(mark(3, 1, born=9))  # made anew


def test_a_log_without_marks_is_let_through_and_read_again_where_that_was_wrong() -> None:
    many = [Record(b"%d" % n, b"") for n in range(30)]
    marked = Marked(None, hold=10)
    assert marked.take(entries(*many)) == entries(*many)
    with pytest.raises(Overrun):
        marked.void()
    assert marked.take(entries(mark(1, 1))) == entries(mark(1, 1))
    assert marked.void() == frozenset()


def test_what_was_let_through_is_not_taken_to_count_because_nothing_comes_after_it() -> None:
    """As at the end of a log, where the broker has markers that no record carries."""
    a, b = Record(b"a", b"1"), Record(b"b", b"1")
    marked = Marked(None, NOTHING)
    assert list(marked.let_through(entries(a, mark(1, 1)))) == entries(a, mark(1, 1))
    assert marked.whole
    for some in (entries(b), []):
        assert list(marked.let_through(some)) == some
        assert not marked.whole
    with pytest.raises(Overrun):
        marked.void()


def trailer(commit: int, epoch: int, chunks: int = 1, **changes: Any) -> Trailer:
    made = Trailer(commit, commit - 1 or None, chunks, LAYOUT, epoch=epoch, provisional=True)
    return replace(made, **changes)


def naming(commit: int, epoch: int) -> Record:
    return encode_trailer(trailer(commit, epoch, 0, previous=commit or None))


def written(commit: int, epoch: int, values: list[int]) -> list[Record]:
    chunks = encode_rows([rows(values)], commit, epoch=epoch)
    return [*chunks, encode_trailer(trailer(commit, epoch, len(chunks)))]


def buffered(*records: Record, epoch: int = 0) -> Buffer:
    buffer = Buffer(ROWS, 0, None, epoch)
    for offset, record in enumerate(records):
        buffer.take(offset, record.value, record.headers)
    return buffer


def test_a_commit_counts_when_it_is_named_and_ends_there() -> None:
    one = written(1, 1, [1, 2])
    buffer = buffered(naming(0, 1), *one)
    assert (buffer.commits, buffer.stop, buffer.last) == (0, 0, None)
    assert buffer.nbytes
    assert len(buffer)
    buffer = buffered(naming(0, 1), *one, naming(1, 1))
    assert (buffer.commits, buffer.stop) == (1, 4)
    taken_over = buffered(naming(0, 1), *one, naming(1, 2))
    assert taken_over.last is not None
    assert (taken_over.commits, taken_over.last.epoch) == (1, 2)


def test_a_commit_that_is_never_named_is_void() -> None:
    one, other = written(1, 1, [1, 2]), written(1, 2, [3])
    for left in (one, one[:1]):
        buffer = buffered(naming(0, 1), *left, naming(0, 2), *other, naming(1, 2))
        chunks = buffer.upto(buffer.stop).chunks.values()
        assert [chunk.table()["id"].to_pylist() for chunk in chunks] == [[3]]
        assert buffer.nbytes == buffer.whole_bytes


def test_what_an_overtaken_owner_writes_is_void() -> None:
    old, new = written(1, 1, [1]), written(1, 2, [2])
    buffer = buffered(naming(0, 1), naming(0, 2), new[0], *old, naming(1, 1), new[1], naming(1, 2))
    chunks = buffer.upto(buffer.stop).chunks.values()
    assert [chunk.table()["id"].to_pylist() for chunk in chunks] == [[2]]


def test_what_a_producer_without_an_id_repeats_is_taken_once() -> None:
    one = written(1, 1, [1])
    buffer = buffered(naming(0, 1), one[0], *one, *one, naming(1, 1), naming(1, 1))
    assert buffer.commits == 1
    assert buffer.whole_bytes == len(one[0].value or b"")


def test_what_does_not_fit_the_owners_stops_the_sink() -> None:
    two = written(2, 1, [1])
    final = encode_trailer(trailer(1, 1, 0, provisional=False))
    for records, words in (
        ([naming(0, 1), *written(1, 3, [1])], "without having taken over"),
        ([naming(0, 1), *two], "the trailer of commit 2 follows commit 1, but the last"),
        ([naming(4, 1)], "names commit 4 as its last, but the last one here is no commit"),
        ([naming(0, 1), *written(1, 1, [1]), two[0], two[1]], "before commit 1 is named"),
        ([naming(0, 2), final], "a transaction of epoch 1 ends commit 1"),
    ):
        with pytest.raises(SinkRefused, match=words):
            buffered(*records)


def test_a_cut_that_was_not_finished_is_done_again_with_the_owner_of_its_start() -> None:
    log = Log()
    log.append([naming(0, 2), *written(1, 2, [0]), naming(1, 2)])
    log.append([*written(2, 1, [7]), *written(2, 2, [1, 2]), naming(2, 2)])
    files = MemoryFiles()
    passed: list[str] = []

    def faults(point: str) -> None:
        passed.append(point)
        if passed.count("cut") == 2:
            raise Crash

    sink = partition(files, spec(), faults=faults)
    sink.open(0, log.end)
    with pytest.raises(Crash):
        sink.receive(log.fetch(0, log.end))
    again = partition(files, spec())
    start = again.open(0, log.end)
    assert start > 0
    again.receive(log.fetch(start, log.end))
    assert ids(files) == [0, 1, 2]
