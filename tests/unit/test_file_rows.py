"""Files are read and written anew in pieces: the same rows, with no more at once than fits."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.compact import Compactor
from streamflow.engine.file_rows import FileRows
from streamflow.engine.rewrite import Rewriter
from streamflow.engine.roll_memory import MIB, RollMemory
from streamflow.engine.sink_parts import row_groups
from streamflow.errors import SinkUnavailable
from streamflow.ports import OpenFile
from streamflow.schema import schema_id
from streamflow.writer_settings import FileLayout
from tests.examples import examples
from tests.unit.sink_log import ids
from tests.unit.test_compact import filled, work

SCHEMA = pa.schema([("id", pa.int64()), ("key", pa.int64()), ("text", pa.string())])
FOOTER = {"schema_id": schema_id(SCHEMA), "origins": "[]", "sources": "{}"}


def put(files: MemoryFiles, name: str, rows: pa.Table, group_rows: int = 7) -> None:
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, rows.schema) as writer:
        writer.write_table(rows, row_group_size=group_rows)
        writer.add_key_value_metadata({f"streamflow.{key}": v for key, v in FOOTER.items()})
    assert files.create(name, memoryview(stream.getvalue()))


def table(first: int, count: int, width: int = 3) -> pa.Table:
    numbers = range(first, first + count)
    texts = [None if i % 5 == 0 else str(i) * width for i in numbers]
    return pa.table([list(numbers), [i * 7 % 13 for i in numbers], texts], schema=SCHEMA)


def several(counts: list[int], group_rows: int = 7) -> tuple[MemoryFiles, list[str], pa.Table]:
    files, names, whole = MemoryFiles(), list[str](), list[pa.Table]()
    for i, count in enumerate(counts):
        rows = table(sum(counts[:i]), count)
        names.append(f"{i}.parquet")
        put(files, names[-1], rows, group_rows)
        whole.append(rows)
    return files, names, pa.concat_tables(whole)


@examples(150)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.integers(1, 20),
    st.sampled_from([1, 500, 2_000, 8_000, MIB]),
    st.sampled_from([(), ("key",), ("key", "id")]),
    st.sampled_from([None, ("key",), ("text", "id")]),
)
def test_all_rows_come_in_their_order_whatever_room_there_is(
    counts: list[int],
    group_rows: int,
    limit: int,
    sort: tuple[str, ...],
    columns: tuple[str, ...] | None,
) -> None:
    files, names, whole = several(counts, group_rows)
    memory = RollMemory(limit)
    with closing(FileRows(files, names, memory)) as rows:
        assert (rows.num_rows, rows.counts) == (whole.num_rows, counts)
        with memory.share(rows.unpacked) as room:
            parts = rows.parts(sort, room)
            wanted = whole.sort_by([(name, "ascending") for name in sort]) if sort else whole
            for _ in range(2):
                found = [rows.schema.empty_table(), *parts.tables()]
                assert pa.concat_tables(found).to_pylist() == wanted.to_pylist()
            if columns is not None and whole.num_rows:
                some = pa.concat_tables(parts.tables(columns))
                assert some.to_pylist() == wanted.select(columns).to_pylist()


@examples(60)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.data())
def test_runs_can_be_read_in_any_order(counts: list[int], data: st.DataObject) -> None:
    files, names, whole = several(counts)
    with closing(FileRows(files, names, RollMemory(4_000))) as rows:
        runs = list(rows.having([""]))
        starts = dict[Any, int]()
        for run in runs:
            starts[run] = sum(starts_of.count for starts_of in starts)
        for run in data.draw(st.lists(st.sampled_from(runs), max_size=9)) if runs else ():
            found = rows.of(run, "")
            assert found.to_pylist() == whole.slice(starts[run], run.count).to_pylist()


def test_rows_of_a_sample_are_spread_over_the_files() -> None:
    files, names, whole = several([40] * 30)
    with closing(FileRows(files, names, RollMemory())) as rows:
        assert rows.sample().num_rows == whole.num_rows
    with closing(FileRows(files, names, RollMemory(20_000))) as rows:
        some = rows.sample()["id"].to_pylist()
        assert 4 <= len(some) < whole.num_rows
        assert max(some) > 800
        assert min(some) < 40


def test_row_groups_have_no_more_bytes_than_there_is_room_for() -> None:
    tables = [table(i * 10, 10, 100) for i in range(10)]
    whole = pa.concat_tables(tables)
    room = 3 * tables[-1].nbytes
    groups = list(row_groups(tables, 1_000, room))
    assert all(group.nbytes <= room for group in groups)
    assert 3 <= len(groups) <= 5
    assert pa.concat_tables(groups).equals(whole)
    assert [len(group) for group in row_groups(tables, 1_000)] == [100]
    assert [len(group) for group in row_groups(tables, 30, whole.nbytes)] == [30, 30, 30, 10]


def test_a_joined_file_has_its_filters_and_says_its_order() -> None:
    files, names, whole = several([30, 40, 50])
    layout = FileLayout(("key",), ("text",))
    writes = Rewriter(files, "none", layout, RollMemory(6_000))
    with writes.joined("all.parquet", names, dict.fromkeys(names, FOOTER)) as made:
        assert made.new.create()
        assert made.metadata.num_rows == 120
        assert made.size == files.sizes()["all.parquet"]
    found = pq.ParquetFile(pa.BufferReader(files.read("all.parquet")))
    assert found.metadata.num_row_groups > 1
    assert found.metadata.metadata[b"streamflow.sort"] == b'["key"]'
    assert found.read().equals(whole.sort_by("key"))


def test_what_is_not_made_visible_is_forgotten() -> None:
    files, names, _ = several([30])
    with Rewriter(files, "none").joined("x.parquet", names, {names[0]: FOOTER}):
        pass
    assert files.names() == names


class Touched(MemoryFiles):
    """Does something when a data file is opened for the n-th time."""

    def __init__(self, n: int, act: Callable[[], None]) -> None:
        super().__init__()
        self.left, self.act = n, act

    def open(self, name: str) -> OpenFile:
        self.left -= 1
        if not self.left:
            self.act()
        return super().open(name)


@pytest.mark.parametrize("n", range(1, 12))
def test_another_one_who_joins_the_same_files_meanwhile_is_followed(n: int) -> None:
    """It empties files that are being read here; what it has made stands then."""
    files = Touched(0, lambda: None)
    filled(files, [5, 9, 4, 6])
    plan = work(files).next(MIB)
    files.left, files.act = n, lambda: list.clear([*work(files).run(MIB)])
    assert work(files).run(MIB) is not None
    assert files.left < n
    assert ids(files) == list(range(24))
    assert work(files).run(MIB) == []
    assert len(plan.packs) == 3


def test_a_file_that_a_person_changes_meanwhile_is_joined_with_none() -> None:
    files = Touched(0, lambda: None)
    filled(files, [5, 9, 4, 6])
    pack = work(files).next(MIB).packs[0]
    fewer = files.read(pack.of[1].name)
    files.left, files.act = 1, lambda: files.replace(pack.of[0].name, fewer)
    with pytest.raises(SinkUnavailable, match="were changed while they were read"):
        work(files).run(MIB)
    assert not files.exists(pack.name)


def test_a_file_that_was_emptied_meanwhile_is_not_taken_for_what_it_was() -> None:
    files, names, _ = several([30, 40])
    with closing(FileRows(files, names, RollMemory())) as rows:
        files.delete(names[0])
        put(files, names[0], table(0, 0))
        with pytest.raises(SinkUnavailable, match=r"0\.parquet was changed while it was read"):
            list(rows.parts((), MIB).tables())


def test_what_is_no_parquet_is_named() -> None:
    files, names, _ = several([30])
    files.replace(names[0], files.read(names[0])[:-20] + b"x" * 20)
    with pytest.raises(SinkUnavailable, match=r"0\.parquet cannot be read as Parquet"):
        FileRows(files, names, RollMemory())
    with pytest.raises(FileNotFoundError):
        FileRows(files, ["none.parquet"], RollMemory())


def test_a_compaction_that_cannot_read_a_file_says_which() -> None:
    files = MemoryFiles()
    filled(files, [5, 9, 4, 6])
    [name, *_] = work(files).next(MIB).packs[0].of
    data = files.read(name.name)
    files.replace(name.name, b"PAR1" + b"\xff" * 100 + data[104:])
    with pytest.raises(SinkUnavailable, match=r"cannot be made: .*cannot be read as Parquet"):
        work(files).run(MIB)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "most"), [("join", 12), ("sort", 20), ("merge", 12)])
def test_no_more_rows_are_held_than_fit(what: str, most: int) -> None:
    """With 16 MiB for 57 MB of rows; one who held them all would have those at the least."""
    run = [sys.executable, "-m", "tests.unit.rewritten_files", what, "16", "5"]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    rows, peak, _, files = map(int, found)
    assert (rows, files) == ((400_000, 1) if what != "merge" else (399_995, 5))
    assert peak < most * MIB


def test_a_compactor_takes_the_bound_that_it_is_given() -> None:
    files = MemoryFiles()
    filled(files, [5, 9, 4, 6])
    clock = work(files)._clock
    Compactor(files, "none", clock, memory=RollMemory(1)).run(MIB)
    made = [name for name in files.names() if "compacted" in name]
    groups = [pq.read_metadata(pa.BufferReader(files.read(name))).num_row_groups for name in made]
    assert min(groups) > 1
    assert ids(files) == list(range(24))
