"""The promise of the sink: every committed row is in exactly one file, whatever happens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from streamflow.core.summary import decode_summary, summary_name
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory_files import MemoryFiles
from streamflow.edges.memory_table_log import MemoryLog
from streamflow.edges.object_files import ObjectFiles
from streamflow.engine.chain import Table, chain_of
from streamflow.engine.sink import CRASH_POINTS, SinkPartition
from streamflow.engine.sink_chain import read_cut, standing_links
from streamflow.ports import LoggedTable, TableFiles
from tests.examples import law

from .sink_log import TP, Crash, Log, content, drain, ids, logged, partition, spec

pytestmark = pytest.mark.slow

SIZES = st.lists(st.integers(0, 7), min_size=1, max_size=8)
BOUNDS = st.lists(st.integers(0, 40), max_size=6)
TARGETS = st.sampled_from([1, 2500, 10**9])
#: After how many cuts the old ones are folded: never in most logs, or all the time.
FOLDS = st.sampled_from([100, 1, 2])
#: Room for the rows of a roll: of all of them, or of a few at a time.
ROLLS = st.sampled_from([10**9, 1500, 1])
#: A summary stands, and the cuts it stands for are there too.
POINTS = (*CRASH_POINTS, "folded")


def log_of(sizes: Sequence[int], chunk_bytes: int = 900_000) -> Log:
    log = Log()
    for i, size in enumerate(sizes):
        log.commit(size, chunk_bytes=chunk_bytes, end_of_input=i == len(sizes) - 1)
    return log


def crash_at(point: str, time: int) -> Callable[[str], None]:
    """Crash when `point` is passed for the `time`th time, counted from 0."""
    seen = [0]

    def faults(name: str) -> None:
        if name == point:
            seen[0] += 1
            if seen[0] > time:
                raise Crash

    return faults


def in_a_store() -> TableFiles:
    return ObjectFiles(MemoryStore(), "memory://", "flights")


#: Where a table of the laws lies.
PLACES = st.sampled_from([MemoryFiles, in_a_store, logged])


def told(files: Table) -> tuple[int, int]:
    """The rows and the commits that the chain tells of: its summary and the cuts after it; a log
    tells the number of the last commit, which is how many there are.
    """
    if isinstance(files, LoggedTable):
        assert isinstance(files.log, MemoryLog)
        added = [file for commit, _ in files.log.commits for file in commit]
        rolled = chain_of(files).rolled_to(TP)
        return sum(orjson.loads(file.stats)["numRecords"] for file in added), rolled or 0
    there = standing_links(files, TP)
    rows = commits = 0
    for k in there.standing:
        cut = read_cut(files, TP, k)
        rows, commits = rows + sum(file.rows for file in cut.files), commits + cut.commits
    if there.summaries:
        name = summary_name(TP, there.folded)
        summary = decode_summary(files.read(name, private=True), name)
        assert (summary.first, summary.next) == (0, read_cut(files, TP, there.standing[0]).first)
        assert summary.counts.get("passed", 0) == summary.rows
        rows, commits = rows + summary.rows, commits + summary.commits
    return rows, commits


@law()
@given(
    SIZES,
    st.sampled_from([1, 2000, 900_000]),
    TARGETS,
    st.lists(st.tuples(st.sampled_from(POINTS), st.integers(0, 5), BOUNDS), max_size=4),
    BOUNDS,
    PLACES,
    FOLDS,
    ROLLS,
)
def test_a_crash_anywhere_and_redelivery_in_other_batches_changes_nothing(
    sizes: list[int],
    chunk_bytes: int,
    target: int,
    crashes: list[tuple[str, int, list[int]]],
    bounds: list[int],
    place: Callable[[], Table],
    fold_after: int,
    rolls: int,
) -> None:
    log = log_of(sizes, chunk_bytes)
    files = place()
    for point, time, cuts in crashes:
        before = content(files)
        faults = crash_at(point, time)
        try:
            sink = spec(target_bytes=target)
            drain(partition(files, sink, faults=faults, fold_after=fold_after), log, cuts)
        except Crash:
            pass
        assert before.items() <= content(files).items()
    sink = partition(files, spec(target_bytes=target), fold_after=fold_after, rolls=rolls)
    drain(sink, log, bounds)
    assert sink.done
    assert ids(files) == list(range(sum(sizes)))
    assert told(files) == (sum(sizes), len(sizes))


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("disk", ["temp", "linked", None])
def test_a_crash_leaves_the_same_files_byte_for_byte(
    tmp_path: Path, point: str, disk: str | None
) -> None:
    log = log_of([5, 0, 9, 3])
    calm = LocalFiles(tmp_path / "calm", "t")
    drain(partition(calm), log)
    log.first = 0
    for time in range(12):
        root = tmp_path / f"{point}-{time}"
        faults = crash_at(disk, time) if disk else crash_at("none", 0)
        shaken = LocalFiles(root, "t", faults=faults)
        try:
            drain(partition(shaken, faults=crash_at(point, 0 if not disk else 99)), log)
        except Crash:
            shaken.close()
        again = LocalFiles(root, "t")
        drain(partition(again), log)
        log.first = 0
        for private in (False, True):
            names = again.names(private=private)
            assert names == calm.names(private=private)
            for name in names:
                assert again.read(name, private=private) == calm.read(name, private=private)
        if not disk:
            break


@dataclass
class Worker:
    """A sink with its place in the log; no sink while it is not running."""

    sink: SinkPartition | None = None
    place: int = 0
    busy: bool = False


class Race:
    """Two workers on one table, each of which may act in the midst of the other's roll."""

    def __init__(
        self, data: st.DataObject, log: Log, target: int, files: Table, fold_after: int
    ) -> None:
        self.data, self.log, self.target, self.fold_after = data, log, target, fold_after
        self.files = files
        self.workers = [Worker(), Worker()]
        self.interruptions = 0

    def act(self, i: int) -> None:
        """One step of worker `i`, which may die in it; none while it sleeps in a roll."""
        worker = self.workers[i]
        if worker.busy:
            return
        worker.busy = True
        try:
            self._step(i, worker)
        except Crash:
            worker.sink = None
        finally:
            worker.busy = False

    def _step(self, i: int, worker: Worker) -> None:
        if worker.sink is None or worker.place < self.log.first:  # a fetch would be out of range
            worker.sink = partition(
                self.files,
                spec(target_bytes=self.target),
                faults=lambda _: self._interrupt(i),
                fold_after=self.fold_after,
            )
            worker.place = worker.sink.open(self.log.first, self.log.end)
            return
        stop = min(self.log.end, worker.place + self.data.draw(st.integers(0, 9)))
        start, worker.place = worker.place, stop
        self.log.trim(worker.sink.receive(self.log.fetch(start, stop)))
        self.log.trim(worker.sink.tick())

    def _interrupt(self, i: int) -> None:
        action = self.data.draw(st.sampled_from(["go on", "go on", "other", "crash"]))
        if action == "crash":
            raise Crash
        if action == "other" and self.interruptions < 3:
            self.interruptions += 1
            for _ in range(self.data.draw(st.integers(1, 6))):
                self.act(1 - i)


@law()
@given(st.data(), SIZES, TARGETS, PLACES, FOLDS)
def test_two_owners_at_once_make_one_table(
    data: st.DataObject,
    sizes: list[int],
    target: int,
    place: Callable[[], Table],
    fold_after: int,
) -> None:
    race = Race(data, log_of(sizes, 2000), target, place(), fold_after)
    for i in data.draw(st.lists(st.integers(0, 1), max_size=30)):
        race.act(i)
    last = partition(race.files, spec(target_bytes=target), fold_after=fold_after)
    drain(last, race.log)
    assert last.done
    assert ids(race.files) == list(range(sum(sizes)))
    assert told(race.files) == (sum(sizes), len(sizes))


@law()
@given(SIZES, TARGETS, TARGETS, st.sampled_from(POINTS), FOLDS, PLACES)
def test_a_stopped_owner_that_wakes_up_follows_the_chain_that_stands(
    sizes: list[int],
    mine: int,
    theirs: int,
    point: str,
    fold_after: int,
    place: Callable[[], Table],
) -> None:
    """It slept at `point` of its first roll while another one rolled everything otherwise."""
    log = log_of(sizes)
    files = place()
    slept = [False]

    def faults(name: str) -> None:
        if name == point and not slept[0]:
            slept[0] = True
            trimmed = log.first
            drain(partition(files, spec(target_bytes=theirs), fold_after=fold_after), log)
            log.first = trimmed

    sleeper = partition(files, spec(target_bytes=mine), faults=faults, fold_after=fold_after)
    drain(sleeper, log)
    assert sleeper.done
    assert ids(files) == list(range(sum(sizes)))
    before = content(files)
    drain(partition(files), log)
    assert content(files) == before
