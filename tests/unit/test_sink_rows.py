"""The rows of a roll by file: the same whatever room there is, and never more than there is."""

import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.parquet import Inside, write_parquet
from streamflow.core.rows import RowsChunk, decode, encode_rows
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.roll_memory import MIB, RollMemory
from streamflow.engine.sink_parts import row_groups
from streamflow.engine.sink_rows import Form, Rows
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import NewFile
from streamflow.writer_settings import UNPLANNED
from tests.examples import examples

from .sink_log import Crash, Log, content, drain, ids, partition, spec
from .test_sink_laws import crash_at

KEYS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", None]), max_size=9), max_size=7)


def chunks_of(tables: Sequence[pa.Table]) -> dict[int, RowsChunk]:
    """One chunk for each table, at every third offset."""
    found: dict[int, RowsChunk] = {}
    for i, table in enumerate(tables):
        for record in encode_rows(table.to_batches(), i + 1):
            chunk = decode(record.value, record.headers)
            assert isinstance(chunk, RowsChunk)
            found[3 * i] = chunk
    return found


def keyed(parts: Sequence[Sequence[str | None]]) -> list[pa.Table]:
    start, found = 0, list[pa.Table]()
    for part in parts:
        numbers = pa.array(range(start, start + len(part)), pa.int64())
        values = pa.array([None if i % 7 == 3 else i * 11 % 4 for i in numbers.to_pylist()])
        table = {"key": pa.array(part, pa.string()), "i": numbers, "v": values.cast(pa.int8())}
        found.append(pa.table(table))
        start += len(part)
    return found


@given(
    KEYS,
    st.booleans(),
    st.sampled_from([(), ("v",), ("v", "i")]),
    st.integers(1, 400),
    st.integers(1, 2000),
    st.data(),
)
def test_each_file_gets_its_rows_in_order_whatever_room_there_is(
    parts: list[list[str | None]],
    by_key: bool,
    sort: tuple[str, ...],
    room: int,
    limit: int,
    data: st.DataObject,
) -> None:
    keys = [key if by_key else "" for part in parts for key in part]
    names = ("key",) if by_key else ()
    rows = Rows(chunks_of(keyed(parts)), Form(names, sort), room, RollMemory(limit))
    wanted: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        folder = f"key={key or '__HIVE_DEFAULT_PARTITION__'}/" if by_key else ""
        wanted.setdefault(folder, []).append(i)
    if sort:
        for numbers in wanted.values():
            numbers.sort(key=lambda i: 9 if i % 7 == 3 else i * 11 % 4)
    counts = {folder: len(numbers) for folder, numbers in sorted(wanted.items())}
    assert {group.folder: group.count for group in rows.groups} == counts
    some = data.draw(st.lists(st.sampled_from(list(counts)), unique=True)) if counts else []
    found: dict[str, list[int]] = {}
    for folder, file in rows.by_file(sorted(some)):
        whole = pa.concat_tables([rows.schema.empty_table(), *file.tables()])
        assert whole.column_names == (["i", "v"] if by_key else ["key", "i", "v"])
        found[folder] = whole["i"].to_pylist()
        assert pa.concat_tables(file.tables(["i"])) == whole.select(["i"])
    assert found == {folder: wanted[folder] for folder in some}
    assert list(found) == sorted(some)


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(1, 25))
def test_row_groups_are_full_but_for_the_last(counts: list[int], size: int) -> None:
    parts = keyed([["a"] * count for count in counts])
    total = sum(counts)
    found = list(row_groups(parts, size))
    assert [table.num_rows for table in found[:-1]] == [size] * (len(found) - 1)
    assert [i for table in found for i in table["i"].to_pylist()] == list(range(total))
    assert all(0 < table.num_rows <= size for table in found)
    assert all(table["i"].num_chunks == 1 for table in found)


@examples(40)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.integers(1, 4000),
    st.integers(1, 4000),
)
def test_who_finishes_a_roll_with_other_memory_writes_equal_files(
    sizes: list[int], mine: int, theirs: int
) -> None:
    log = Log()
    for i, size in enumerate(sizes):
        log.commit(size, chunk_bytes=1500, end_of_input=i == len(sizes) - 1)
    calm, shaken = MemoryFiles(), MemoryFiles()
    drain(partition(calm, spec(target_bytes=10**9), rolls=mine), log)
    log.first = 0
    sink = partition(shaken, spec(target_bytes=10**9), rolls=mine, faults=crash_at("cut", 0))
    with pytest.raises(Crash):
        drain(sink, log)
    drain(partition(shaken, spec(target_bytes=10**9), rolls=theirs), log)
    assert content(shaken) == content(calm)
    assert ids(shaken) == list(range(sum(sizes)))


def test_row_groups_fit_into_the_room_that_any_roll_has() -> None:
    table = pa.table({"v": pa.array(range(100_000), pa.int64())})
    memory = RollMemory(1_000_000)
    rows = Rows(
        chunks_of([table.slice(i, 2_000) for i in range(0, 100_000, 2_000)]), Form(), 1, memory
    )
    fitted = rows.fitted(UNPLANNED).row_group_rows
    assert 0.9 * memory.room < 8 * fitted <= memory.room
    assert Rows(chunks_of([table]), Form(), 1, RollMemory()).fitted(UNPLANNED) == UNPLANNED
    assert Rows({}, Form(), 1, memory).fitted(UNPLANNED) == UNPLANNED


def test_one_large_row_does_not_make_all_row_groups_small() -> None:
    small = pa.table({"v": ["x" * 90] * 20_000})
    large, memory = pa.table({"v": ["y" * 800_000]}), RollMemory(32 * MIB)
    rows = Rows(chunks_of([small, large, small, small, small, small, small]), Form(), 1, memory)
    assert rows.fitted(UNPLANNED).row_group_rows > 20_000
    rows = Rows(chunks_of([*[small] * 6, *[large] * 9]), Form(), 1, memory)
    assert rows.fitted(UNPLANNED).row_group_rows == 9


#: What was allocated of a pool needs it to be freed.
_POOLS: list[pa.MemoryPool] = []


@contextmanager
def measured() -> Generator[pa.MemoryPool]:
    """A pool that tells the most that was allocated at once."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    _POOLS.append(pool)
    pa.set_memory_pool(pool)
    try:
        yield pool
    finally:
        pa.set_memory_pool(before)


@pytest.mark.slow
@pytest.mark.parametrize("values", [1, 3, 300])
@pytest.mark.parametrize("sort", [(), ("i",)])
def test_a_large_roll_has_no_more_unpacked_than_it_may(values: int, sort: tuple[str, ...]) -> None:
    """36 MB of rows, of one file, of some, and of many, with 32 MiB for rolls; one of these rolls
    has half of them.
    """
    count, text = 5_000, ["abcdefghij" * 10] * 5_000
    tables = [
        pa.table({"key": [f"{i % values:03d}" for i in range(count)], "i": range(count), "t": text})
        for _ in range(60)
    ]
    chunks = chunks_of(tables)
    unpacked = sum(chunk.unpacked for chunk in chunks.values())
    assert unpacked > 33 * MIB
    del tables
    memory = RollMemory(32 * MIB)
    with measured() as pool, memory.share(unpacked) as room:
        rows = Rows(chunks, Form(("key",), sort), room, memory)
        assert rows.sample().num_rows > 0
        writer = rows.fitted(UNPLANNED)
        found = 0
        for _, some in rows.by_file([group.folder for group in rows.groups]):
            groups = row_groups(some.tables(), writer.row_group_rows)
            inside = Inside(rows.schema, writer)
            found += write_parquet(pa.MockOutputStream(), inside, groups, {}).num_rows
            del some
        assert found == 60 * count
        # To find the order of a large file takes the numbers of its rows, in some forms.
        assert room <= pool.max_memory() <= 16 * MIB + (24 * found if sort and values < 9 else 0)


@pytest.mark.slow
def test_a_worker_with_a_thousand_open_partitions_takes_less_than_300_mb() -> None:
    """With 32 MiB for rows that wait, and 32 MiB for rolls."""
    run = [sys.executable, "-m", "tests.unit.many_partitions", "20", "10000"]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert (int(found[1]), int(found[2])) == (400_000, 2_000)
    assert float(found[0]) < 300


def test_shares_are_never_more_than_there_is_and_all_get_theirs() -> None:
    memory = RollMemory(1_000)
    held, most = [0], [0]
    lock = threading.Lock()

    def roll(wanted: int) -> None:
        for _ in range(50):
            with memory.share(wanted) as room:
                share = 2 * room + 2 * memory.piece if wanted else 0
                with lock:
                    held[0] += share
                    most[0] = max(most[0], held[0])
                with lock:
                    held[0] -= share

    threads = [threading.Thread(target=roll, args=(wanted,)) for wanted in (10**6, 300, 100, 150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < most[0] <= 1_000


def test_a_large_share_is_not_passed_by_small_ones() -> None:
    memory = RollMemory(1_000)
    order: list[str] = []

    def roll(name: str, wanted: int) -> None:
        with memory.share(wanted):
            order.append(name)

    with memory.share(10**6), memory.share(10):  # more than half of it is taken
        large = threading.Thread(target=roll, args=("large", 10**6))
        large.start()
        while not memory.waiting and large.is_alive():
            threading.Event().wait(0.001)
        small = threading.Thread(target=roll, args=("small", 10))
        small.start()
        while memory.waiting < 2 and small.is_alive():
            threading.Event().wait(0.001)
        assert memory.waiting == 2
    large.join()
    small.join()
    assert order == ["large", "small"]


@pytest.mark.parametrize("rolls", [10**9, 1])
def test_a_disk_that_fills_up_while_a_file_is_written_loses_nothing(rolls: int) -> None:
    class Filling(NewFile):
        def __init__(self, new: NewFile) -> None:
            self.new = new

        def write(self, data: bytes | memoryview) -> None:
            if full:
                raise SinkUnavailable("make room")
            self.new.write(data)

        def create(self) -> bool:
            return self.new.create()

        def drop(self) -> None:
            self.new.drop()

    class Disk(MemoryFiles):
        def begin(self, name: str) -> NewFile:
            return Filling(super().begin(name))

    full, files, log = True, Disk(), Log()
    log.commit(20, end_of_input=True)
    sink = partition(files, rolls=rolls)
    start = sink.open(0, log.end)
    with pytest.raises(SinkUnavailable, match="make room"):
        sink.receive(log.fetch(start, log.end))
    full = False
    sink.tick()
    assert ids(files) == list(range(20))


def test_a_damaged_chunk_is_refused() -> None:
    (chunk,) = chunks_of([pa.table({"key": ["a"], "t": ["x" * 10_000]})]).values()
    broken = RowsChunk(1, 0, chunk.schema, chunk.payload[:-40], None, chunk.unpacked)
    with pytest.raises(SinkRefused, match="malformed"):
        Rows({0: broken}, Form(("key",)), 1, RollMemory())
