"""Plans may come at any time, from anybody, and for any aim: rows and files are what cuts say."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.cut import Cut, decode_cut, footer
from streamflow.core.parquet import encode_parquet
from streamflow.core.summary import links
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.sink import CRASH_POINTS
from streamflow.storage.plan import plan_names
from streamflow.writer_settings import Storage
from tests.examples import examples
from tests.unit.sink_log import LAYOUT, TP, Crash, Log, drain, ids, partition, spec
from tests.unit.test_sink_laws import crash_at

STORAGES: Sequence[Storage] = ("auto", "none", "smallest", "fastest-read", "fastest-write")
SIZES = st.lists(st.sampled_from([0, 5, 1200, 4000]), min_size=1, max_size=4)
LIVES = st.lists(
    st.tuples(st.sampled_from(STORAGES), st.sampled_from(CRASH_POINTS), st.integers(0, 3)),
    max_size=3,
)


def cuts(files: MemoryFiles) -> list[Cut]:
    names = [f"{TP.topic}-{TP.partition:05d}-{k:08d}.json" for k in all_cuts(files)]
    return [decode_cut(files.read(name, private=True), name) for name in names]


def all_cuts(files: MemoryFiles) -> Sequence[int]:
    return links(files.names(private=True), TP).cuts


def alone(files: MemoryFiles, cut: Cut) -> MemoryFiles:
    """A table in which that cut is the last one, its files are gone, and there are no plans."""
    found = MemoryFiles()
    for earlier in cuts(files)[: cut.k + 1]:
        found.create(earlier.name, files.read(earlier.name, private=True), private=True)
        for file in earlier.files if earlier.k < cut.k else ():
            found.create(file.name, files.read(file.name))
    return found


@examples(25)
@given(SIZES, st.sampled_from([1, 10**9]), LIVES, st.sampled_from(STORAGES), st.data())
def test_whatever_plans_there_were_rows_are_there_once_and_a_redo_is_equal_byte_for_byte(
    sizes: list[int],
    target: int,
    lives: list[tuple[Storage, str, int]],
    last: Storage,
    data: st.DataObject,
) -> None:
    parts = data.draw(st.sampled_from([(), ("origin",)]))
    log, files = Log(replace(LAYOUT, partition_by=parts)), MemoryFiles()
    for i, size in enumerate(sizes):
        log.commit(size, end_of_input=i == len(sizes) - 1)
    for storage, point, time in lives:
        sink = replace(spec(target_bytes=target), storage=storage)
        try:
            drain(partition(files, sink, faults=crash_at(point, time)), log)
        except Crash:
            files.delete_private(  # a plan may be lost at any time
                data.draw(st.lists(st.sampled_from(plans), unique=True))
                if (plans := plan_names(files.names(private=True)))
                else []
            )
    drain(partition(files, replace(spec(target_bytes=target), storage=last)), log)
    assert ids(files) == list(range(sum(sizes)))
    for cut in cuts(files):
        log.first = 0
        again = alone(files, cut)
        storage = data.draw(st.sampled_from(STORAGES))
        sink = partition(again, replace(spec(target_bytes=10**9), storage=storage))
        sink.receive(log.fetch(sink.open(0, log.end), max(cut.next, cut.first + 1)))
        for file in cut.files:
            written = files.read(file.name)
            assert again.read(file.name) == written
            table = pq.read_table(pa.BufferReader(written))
            assert encode_parquet(table, file.writer, footer(cut, file)) == written
