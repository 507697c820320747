"""Plans may come at any time, from anybody, and for any aim, and files be laid out in any way:
rows and files are what cuts say.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.cut import Cut, decode_cut, footer
from streamflow.core.file_layout import in_order
from streamflow.core.parquet import encode_parquet
from streamflow.core.sink_spec import SinkSpec
from streamflow.core.summary import links
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.sink import CRASH_POINTS
from streamflow.storage.plan import plan_names
from streamflow.writer_settings import AS_THEY_COME, FileLayout, Storage
from tests.examples import law
from tests.unit.sink_log import LAYOUT, TP, Crash, Log, drain, ids, partition, spec
from tests.unit.test_sink_laws import crash_at

STORAGES: Sequence[Storage] = ("auto", "none", "smallest", "fastest-read", "fastest-write")
LAYOUTS: Sequence[FileLayout] = (
    AS_THEY_COME,
    FileLayout(("_partition",), ("_topic",), 1_000),
    FileLayout(("id",), ("id", "_offset")),
)
#: Where rows do not lie in folders of it.
BY_ORIGIN = FileLayout(("origin", "_partition"), ("origin",), 700)
SIZES = st.lists(st.sampled_from([0, 5, 1200, 4000]), min_size=1, max_size=4)
LIVES = st.lists(
    st.tuples(st.sampled_from(STORAGES), st.sampled_from(CRASH_POINTS), st.integers(0, 3)),
    max_size=3,
)
KEYED = st.lists(
    st.tuples(st.none() | st.integers(0, 3), st.sampled_from([None, float("nan"), -0.0, 0.0, 1.5])),
    max_size=40,
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


@law()
@given(SIZES, st.sampled_from([1, 10**9]), LIVES, st.sampled_from(STORAGES), st.data())
def test_whatever_plans_there_were_rows_are_there_once_and_a_redo_is_equal_byte_for_byte(
    sizes: list[int],
    target: int,
    lives: list[tuple[Storage, str, int]],
    last: Storage,
    data: st.DataObject,
) -> None:
    parts = data.draw(st.sampled_from([(), ("origin",)]))
    layouts = st.sampled_from([*LAYOUTS, *([] if parts else [BY_ORIGIN])])

    def sink_of(storage: Storage, size: int = target) -> SinkSpec:
        made = spec(target_bytes=size, partition_by=parts)
        return replace(made, storage=storage, layout=data.draw(layouts))

    log, files = Log(replace(LAYOUT, partition_by=parts)), MemoryFiles()
    for i, size in enumerate(sizes):
        log.commit(size, end_of_input=i == len(sizes) - 1)
    for storage, point, time in lives:
        try:
            drain(partition(files, sink_of(storage), faults=crash_at(point, time)), log)
        except Crash:
            files.delete_private(  # a plan may be lost at any time
                data.draw(st.lists(st.sampled_from(plans), unique=True))
                if (plans := plan_names(files.names(private=True)))
                else []
            )
    drain(partition(files, sink_of(last)), log)
    assert ids(files) == list(range(sum(sizes)))
    for cut in cuts(files):
        log.first = 0
        again = alone(files, cut)
        storage = data.draw(st.sampled_from(STORAGES))
        sink = partition(again, sink_of(storage, 10**9))
        sink.receive(log.fetch(sink.open(0, log.end), max(cut.next, cut.first + 1)))
        for file in cut.files:
            written = files.read(file.name)
            assert again.read(file.name) == written
            table = pq.read_table(pa.BufferReader(written))
            assert table["id"].to_pylist() == in_python(table, file.sort)
            assert encode_parquet(table, file.writer, footer(cut, file), file.sort) == written


@law()
@given(KEYED, st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "a")]), st.integers(1, 9))
def test_a_file_is_sorted_as_python_sorts_however_its_rows_are_cut(
    keys: list[tuple[int | None, float | None]], sort: tuple[str, ...], size: int
) -> None:
    table = pa.table(
        {
            "a": pa.array([a for a, _ in keys], pa.int8()),
            "b": pa.array([b for _, b in keys], pa.float64()),
            "id": range(len(keys)),
        }
    )
    chunks = {i: table.slice(i, size) for i in range(0, len(keys), size)}
    rows = pa.concat_tables([table.slice(0, 0), *chunks.values()])
    assert in_order(rows, sort).to_pylist() == in_python(table, sort)


def in_python(table: pa.Table, sort: Sequence[str]) -> list[int]:
    """The ids of rows, which count up in the order of the topic, sorted by these columns."""

    def rank(value: Any) -> tuple[int, Any]:
        if value is None:
            return 2, 0
        return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)

    rows = sorted(table.select([*sort, "id"]).to_pylist(), key=lambda row: row["id"])
    return [r["id"] for r in sorted(rows, key=lambda row: [rank(row[name]) for name in sort])]
