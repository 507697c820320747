"""The promise of an archive: the table is the topic, each committed record once, whatever happens.

The topic has holes, as transactions leave them, and begins anywhere. Sinks crash at each step, come
back with other batches, and work on beside whoever has taken over. Everything that any of them has
decided is done once more, from other batches, and gives the same bytes.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from streamflow import Topology, archive, day, parquet, topic
from streamflow.batch import MicroBatch, Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.names import Names
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.archive_feed import ArchiveFeed
from streamflow.engine.holdings import Holdings
from streamflow.engine.roll_memory import RollMemory
from streamflow.engine.sink import CRASH_POINTS, SinkPartition
from streamflow.engine.sink_chain import read_cut, standing_links
from streamflow.engine.table_spec import table_spec
from tests.examples import law

TP = TopicPartition("clicks", 2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000

DATA = st.one_of(st.none(), st.binary(max_size=6))
HEADERS = st.lists(st.tuples(st.sampled_from(["a", "b", "ü"]), DATA), max_size=3).map(tuple)
TIMES = st.one_of(st.integers(0, 3).map(lambda n: n * DAY_MS + 5), st.sampled_from([-1, 2**60]))
RECORDS = st.builds(Record, DATA, DATA, TIMES, HEADERS)
#: None is an offset without a record.
LOGS = st.lists(st.one_of(st.none(), RECORDS, RECORDS), max_size=25)
#: All in one piece, or in chunks of one batch, of which rolls unpack one at a time.
LARGE, SMALL = (10**6, 10**9), (1, 1)
BOUNDS = st.lists(st.integers(0, 30), max_size=5)


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Log:
    """A partition of a topic of others, which begins at `first`."""

    first: int
    entries: Sequence[Record | None]
    offsets: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        here = enumerate(self.entries, self.first)
        self.offsets = [offset for offset, record in here if record is not None]

    @property
    def end(self) -> int:
        return self.first + len(self.entries)

    def fetch(self, start: int, stop: int) -> MicroBatch:
        rows = slice(bisect_left(self.offsets, start), bisect_left(self.offsets, stop))
        offsets = self.offsets[rows]
        found = [r for r in (self.entries[o - self.first] for o in offsets) if r is not None]
        stamps = [record.timestamp or 0 for record in found]
        keys, values = [record.key for record in found], [record.value for record in found]
        headers = [record.headers for record in found]
        return MicroBatch(TP, start, stop, offsets, keys, values, stamps, headers)

    def batches(self, start: int, bounds: Sequence[int]) -> list[MicroBatch]:
        inside = {self.first + bound for bound in bounds}
        stops = sorted({bound for bound in inside if start < bound < self.end} | {self.end})
        return [self.fetch(*pair) for pair in pairwise([start, *stops])]


def sink_on(
    files: MemoryFiles,
    target: int = 1,
    *,
    faults: Callable[[str], None] = lambda point: None,
    fold_after: int = 100,
    sort_by: Sequence[str] = (),
    sizes: tuple[int, int] = LARGE,
) -> SinkPartition:
    """`sizes` are those of what is encoded at once, and of the memory of rolls."""
    table = parquet("raw", partition_by=day("_timestamp"), target_bytes=target, sort_by=sort_by)
    topology = Topology("t", archive(topic("clicks")).to(table))
    plan = topology.archives[0]
    spec = table_spec(topology, Names("t"), plan)
    return SinkPartition(
        spec,
        TP,
        files,
        clock=SimulatedClock(NOW),
        owner="t",
        feed=ArchiveFeed(plan, spec, bounded=True, chunk_bytes=sizes[0]),
        faults=faults,
        holdings=Holdings(rolls=RollMemory(sizes[1])),
        fold_after=fold_after,
    )


def run(sink: SinkPartition, log: Log, bounds: Sequence[int]) -> None:
    for batch in log.batches(sink.open(log.first, log.end), bounds):
        assert sink.receive(batch) is None, "it is not ours to trim"
    assert sink.tick() is None


def crash_at(point: str, time: int) -> Callable[[str], None]:
    left = [time]

    def faults(name: str) -> None:
        if name == point:
            left[0] -= 1
            if left[0] < 0:
                raise Crash

    return faults


def rows(files: MemoryFiles) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for name in files.names():
        for row in pq.read_table(pa.BufferReader(files.read(name))).to_pylist():
            headers = tuple((one["key"], one["value"]) for one in row["headers"])
            stamp = row["_timestamp"]
            millis = None if stamp is None else round(stamp.timestamp() * 1000)
            here = (row["_topic"], row["_partition"], row["_offset"])
            folder = "" if millis is None else f"{stamp:date=%Y-%m-%d/}"
            assert name.startswith(folder or "date=__HIVE_DEFAULT_PARTITION__/")
            found.append((*here, row["key"], row["value"], headers, millis))
    return sorted(found, key=lambda row: str(row[2]).zfill(9))


def wanted(log: Log) -> list[tuple[object, ...]]:
    batch = log.fetch(log.first, log.end)
    columns = zip(batch.offsets, batch.keys, batch.values, batch.headers, strict=True)
    stamps = [None if stamp in (-1, 2**60) else stamp for stamp in batch.timestamps]
    return [(*TP, *row, stamp) for row, stamp in zip(columns, stamps, strict=True)]


@law()
@given(
    st.builds(Log, st.sampled_from([0, 7]), LOGS),
    st.sampled_from([1, 3_000, 10**9]),
    st.lists(st.tuples(st.sampled_from(CRASH_POINTS), st.integers(0, 4), BOUNDS), max_size=3),
    BOUNDS,
    BOUNDS,
    st.sampled_from([100, 2]),
    st.sampled_from([(), ("value", "_offset")]),
    st.sampled_from([LARGE, SMALL]),
)
def test_the_table_is_the_topic_whatever_happens(
    log: Log,
    target: int,
    crashes: list[tuple[str, int, list[int]]],
    bounds: list[int],
    zombie_bounds: list[int],
    fold_after: int,
    sort_by: Sequence[str],
    sizes: tuple[int, int],
) -> None:
    files = MemoryFiles()
    more: Any = {"fold_after": fold_after, "sort_by": sort_by, "sizes": sizes}
    for point, time, cuts in crashes:
        before = {name: files.read(name) for name in files.names()}
        with suppress(Crash):
            run(sink_on(files, target, faults=crash_at(point, time), **more), log, cuts)
        assert before.items() <= {name: files.read(name) for name in files.names()}.items()
    zombie, sink = sink_on(files, target * 2, **more), sink_on(files, target, **more)
    stale = log.batches(zombie.open(log.first, log.end), zombie_bounds)
    batches = log.batches(sink.open(log.first, log.end), bounds)
    for batch in batches:
        sink.receive(batch)
        if stale:
            zombie.receive(stale.pop(0))
    assert sink.done
    for batch in stale:
        zombie.receive(batch)
    assert rows(files) == wanted(log)
    assert sink.position == log.end
    _made_again_it_is_the_same(files, log, sort_by, [bounds, zombie_bounds])


def _made_again_it_is_the_same(
    files: MemoryFiles, log: Log, sort_by: Sequence[str], batches: Sequence[Sequence[int]]
) -> None:
    """Each cut that still stands is executed once more, where its files are not there."""
    there = standing_links(files, TP).standing
    cuts = [read_cut(files, TP, k) for k in there]
    assert all(before.next == after.first for before, after in pairwise(cuts))
    for cut in [cut for cut in cuts[1:] if cut.files]:  # the first is the origin, or all but folded
        for bounds in batches:
            again = MemoryFiles()
            for name in files.names(private=True):
                if name not in {later.name for later in cuts if later.k > cut.k}:
                    again.create(name, files.read(name, private=True), private=True)
            sink = sink_on(again, 10**9, sort_by=sort_by, sizes=SMALL if bounds else LARGE)
            start = sink.open(log.first, log.end)
            assert start == cut.first
            for batch in log.batches(start, bounds):
                sink.receive(batch)
            for file in cut.files:
                assert again.read(file.name) == files.read(file.name), file
