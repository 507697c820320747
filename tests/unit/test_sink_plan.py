"""The storage plan of a table's partition: made once, shared, followed, revisited."""

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamflow import Topology, TopologyError, parquet, source, topic
from streamflow.core.cut import decode_cut
from streamflow.core.rows import RowsChunk, decode, encode_rows
from streamflow.core.sink_spec import SinkSpec
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.roll_memory import RollMemory
from streamflow.engine.sink_plan import MIN_ROWS, Planner
from streamflow.engine.sink_rows import Form, Rows
from streamflow.errors import SinkUnavailable
from streamflow.schema import schema_id
from streamflow.storage.drift import drift
from streamflow.storage.plan import ZSTD, decode_plan, encode_plan, plan_names
from streamflow.storage.profile import profile
from streamflow.storage.sample import SAMPLE_ROWS, runs
from streamflow.writer_settings import UNPLANNED, ColumnSettings, Storage, WriterSettings

from .sink_log import LAYOUT, TP, Log, drain, ids, partition, spec
from .test_storage_plan import events, still


def roll_of(table: pa.Table, room: int = 10**9) -> Rows:
    """The rows of a table in chunks, those with a column `g` by its values."""
    records = encode_rows(table.to_batches(), 1)
    chunks = [decode(record.value, record.headers) for record in records]
    held = {i: chunk for i, chunk in enumerate(chunks) if isinstance(chunk, RowsChunk)}
    parts = ("g",) if "g" in table.column_names else ()
    return Rows(held, Form(parts), room, RollMemory(10**9))


class Roller:
    """One partition that rolls tables, and the plans beside it."""

    def __init__(self, files: MemoryFiles, storage: Storage | WriterSettings = "auto") -> None:
        self.files = files
        self.planner = Planner(files, storage, still)

    def roll(self, table: pa.Table) -> WriterSettings:
        return self.planner.settings(schema_id(table.schema), roll_of(table))

    @property
    def plans(self) -> list[str]:
        return plan_names(self.files.names(private=True))


def shuffled(rows: int = 3000) -> pa.Table:
    """The same columns as `events`, and other data: offsets that jump, ids that come again."""
    table, dice = events(rows, 9), random.Random(4)
    offsets = pa.array([dice.randrange(40) * 10**9 for _ in range(rows)])
    again = pa.array([f"user-{dice.randrange(30)}" for _ in range(rows)])
    return table.set_column(1, "offset", offsets).set_column(4, "id", again)


def test_the_first_roll_with_enough_rows_makes_the_plan_and_later_ones_keep_it() -> None:
    roller = Roller(MemoryFiles())
    assert roller.roll(events(MIN_ROWS - 1)) == UNPLANNED
    assert roller.plans == []
    first = roller.roll(events(3000))
    assert first.by_path["offset"].encoding == "DELTA_BINARY_PACKED"
    assert len(roller.plans) == 1
    before = roller.files.read(roller.plans[0], private=True)
    assert roller.roll(events(10)) == first
    assert roller.roll(events(3000, seed=5)) == first
    assert [roller.files.read(name, private=True) for name in roller.plans] == [before]


def test_another_partition_and_a_later_process_follow_the_plan_that_stands() -> None:
    files = MemoryFiles()
    first = Roller(files).roll(events(3000))
    other = Roller(files)
    assert other.roll(events(5)) == first
    assert other.roll(events(3000, seed=2)) == first
    assert len(other.plans) == 1


class Taken(MemoryFiles):
    """Another worker takes each name at the very moment."""

    def __init__(self, theirs: bytes) -> None:
        super().__init__()
        self.theirs = theirs

    def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
        super().create(name, self.theirs, private=private)
        return super().create(name, data, private=private)


def test_whoever_comes_second_follows_the_plan_of_the_first() -> None:
    theirs = Roller(MemoryFiles(), "auto")
    theirs.roll(events(3000, seed=3))
    data = theirs.files.read(theirs.plans[0], private=True)
    changed = orjson.loads(data)
    changed["settings"] |= {"row_group_rows": 77}
    mine = Roller(Taken(orjson.dumps(changed)))
    assert mine.roll(events(3000)).row_group_rows == 77
    assert len(mine.plans) == 1


def test_a_plan_that_another_partition_makes_meanwhile_is_not_measured_again() -> None:
    files = MemoryFiles()

    class Slow(MemoryFiles):
        """The other one makes its plan right after this one has looked for plans."""

        def names(self, *, private: bool = False) -> list[str]:
            before = files.names(private=private)
            if not before:
                Roller(files).roll(events(3000))
            return before

        def read(self, name: str, *, private: bool = False) -> bytes:
            return files.read(name, private=private)

    told: list[float] = []

    def timer() -> float:
        told.append(0.0)
        return 0.0

    planner = Planner(Slow(), "auto", timer)
    table = events(3000)
    found = planner.settings(schema_id(table.schema), roll_of(table))
    assert found == Roller(files).roll(events(10))
    assert len(told) == 2  # of the whole, and of no trial


def test_data_that_becomes_another_gets_a_new_plan_that_all_follow() -> None:
    files = MemoryFiles()
    roller, other = Roller(files), Roller(files)
    first = roller.roll(events(3000))
    assert other.roll(events(3000)) == first
    second = roller.roll(shuffled())
    assert second != first
    assert second.by_path["id"].encoding == "DICTIONARY"
    assert len(roller.plans) == 2
    reason = decode_plan(files.read(roller.plans[1], private=True), "p").reason
    assert "offset: " in reason
    assert "id: 99% seen before, it was 0%" in reason
    assert other.roll(events(10)) == second


def test_a_plan_of_another_partition_is_followed_once_before_it_is_held_against_the_data() -> None:
    files = MemoryFiles()
    first = Roller(files).roll(events(3000))
    other = Roller(files)
    assert other.roll(shuffled()) == first
    assert other.roll(shuffled()) != first


def test_a_new_plan_that_saves_little_is_not_taken() -> None:
    roller = Roller(MemoryFiles())
    first = roller.roll(events(3000))
    new = events(3000).set_column(0, "topic", pa.array(["a", "b"] * 1500))
    assert drift(profile(events(3000)), profile(new)) == ["topic: one value no more"]
    assert roller.roll(new) == first
    assert len(roller.plans) == 1


def test_data_that_goes_to_and_fro_is_measured_ever_more_seldom() -> None:
    roller = Roller(MemoryFiles())
    tables = [events(2000), shuffled(2000)]
    for i in range(60):
        roller.roll(tables[i % 2])
    assert 2 <= len(roller.plans) <= 7


def test_a_plan_of_few_rows_is_looked_at_again_when_there_are_many() -> None:
    roller = Roller(MemoryFiles())
    few = events(MIN_ROWS)
    few = few.set_column(4, "id", pa.array([f"{i % 400}" for i in range(MIN_ROWS)]))
    roller.roll(few)
    more = events(MIN_ROWS * 4)
    roller.roll(more)
    found = [decode_plan(roller.files.read(name, private=True), name) for name in roller.plans]
    assert [plan.reason for plan in found] == ["first rows", "4,000 rows where there were 1,000"]


def test_each_schema_and_each_aim_has_plans_of_its_own() -> None:
    files = MemoryFiles()
    Roller(files).roll(events(2000))
    Roller(files).roll(events(2000).drop_columns(["none"]))
    Roller(files, "smallest").roll(events(2000))
    assert len(plan_names(files.names(private=True))) == 3


def test_settings_of_ones_own_are_taken_as_they_are() -> None:
    own = WriterSettings(compression="snappy")
    roller = Roller(MemoryFiles(), own)
    assert roller.roll(events(3000)) == own
    assert Roller(roller.files, "none").roll(events(3000)) == UNPLANNED
    assert roller.plans == []


def test_the_largest_file_of_a_roll_is_what_is_measured() -> None:
    table = pa.concat_tables([events(1500), shuffled(3000)])
    roller = Roller(MemoryFiles())
    found = roller.roll(table.append_column("g", pa.array([0] * 1500 + [1] * 3000)))
    assert found.by_path["id"].encoding == "DICTIONARY"
    assert Roller(MemoryFiles()).roll(events(1500)).by_path["id"].encoding != "DICTIONARY"


@pytest.mark.parametrize(
    "damage",
    [
        lambda plan: b"{",
        lambda plan: encode_plan(replace(plan, aim="smallest")),
        lambda plan: encode_plan(
            replace(
                plan,
                settings=WriterSettings(columns=(ColumnSettings("host", "DELTA_BINARY_PACKED"),)),
            )
        ),
    ],
)
def test_a_plan_that_was_damaged_or_edited_is_passed_by(damage: Any) -> None:
    roller = Roller(MemoryFiles())
    first = roller.roll(events(3000))
    name = roller.plans[0]
    plan = decode_plan(roller.files.read(name, private=True), name)
    roller.files.delete_private([name])
    roller.files.create(name, damage(plan), private=True)
    assert Roller(roller.files).roll(events(10)) == UNPLANNED
    assert Roller(roller.files).roll(events(3000)) == first
    assert roller.plans == [name, name.replace("00000", "00001")]
    assert Roller(roller.files).roll(events(10)) == first


def test_a_full_disk_does_not_have_it_measured_again() -> None:
    roller = Roller(MemoryFiles())
    roller.files.full = True
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            roller.roll(events(3000))
    roller.files.full = False
    settings = roller.roll(shuffled(3000))
    name = roller.plans[0]
    plan = decode_plan(roller.files.read(name, private=True), name)
    assert settings == plan.settings
    assert plan.profile == profile(events(3000).combine_chunks())


def test_a_sample_is_of_rows_that_follow_each_other_all_over() -> None:
    table = pa.table({"v": list(range(100_000))})
    found = roll_of(table).sample()["v"].to_pylist()
    assert len(found) == SAMPLE_ROWS
    assert (found[0], found[-1]) == (0, 99_999)
    assert sum(b - a != 1 for a, b in pairwise(found)) == 3
    odd = table.append_column("g", pa.array([i % 2 + i // 99_999 for i in range(100_000)]))
    found = roll_of(odd).sample()
    assert found.column_names == ["v"]
    spans = [range(start, start + length) for start, length in runs(50_000, SAMPLE_ROWS)]
    assert found["v"].to_pylist() == [2 * i for span in spans for i in span]
    few = roll_of(table, room=800).sample()["v"].to_pylist()
    assert (len(few), few[0], few[-1]) == (100, 0, 99_999)


BIG = replace(LAYOUT, partition_by=())


def planned(target_bytes: int = 10**9) -> SinkSpec:
    return replace(spec(partition_by=(), target_bytes=target_bytes), storage="auto")


def test_a_sink_writes_its_files_by_the_plan_and_a_cut_says_how() -> None:
    files = MemoryFiles()
    log = Log(BIG)
    for size in (3000, 2000):
        log.commit(size, end_of_input=True)
    drain(partition(files, planned()), log)
    assert ids(files) == list(range(5000))
    name = next(name for name in files.names(private=True) if name.startswith(TP.topic))
    cuts = [n for n in files.names(private=True) if n.startswith(f"{TP.topic}-") and n != name]
    cut = decode_cut(files.read(cuts[0], private=True), cuts[0])
    plan_name = plan_names(files.names(private=True))[0]
    plan = decode_plan(files.read(plan_name, private=True), plan_name)
    assert {file.writer for file in cut.files} == {plan.settings}
    metadata = pq.read_metadata(pa.BufferReader(files.read(files.names()[0])))
    column = metadata.row_group(0).column(metadata.schema.names.index("id"))
    assert "DELTA_BINARY_PACKED" in column.encodings


def test_a_redo_uses_the_cut_and_neither_the_plan_nor_todays_settings() -> None:
    log = Log(BIG)
    log.commit(3000, end_of_input=True)
    calm = MemoryFiles()
    drain(partition(calm, planned()), log)
    data = {name: calm.read(name) for name in calm.names()}
    for storage in ("none", "smallest", "auto"):
        log.first = 0
        files = MemoryFiles()
        for name in calm.names(private=True):  # as after a crash before any file
            if not name.startswith("plan-"):
                files.create(name, calm.read(name, private=True), private=True)
        drain(partition(files, replace(planned(), storage=storage)), log)
        assert {name: files.read(name) for name in files.names()} == data


def test_a_table_that_nothing_can_be_saved_of_is_written_as_pyarrow_does() -> None:
    dice = random.Random(1)
    table = pa.table({"v": [dice.getrandbits(63) for _ in range(2000)]})
    settings = Roller(MemoryFiles()).roll(table)
    assert settings == ZSTD or settings.by_path["v"].encoding != "DICTIONARY"


class TestTopologies:
    """What a topology says of how its tables are written."""

    @staticmethod
    def made(storage: Any, **more: Any) -> Topology:
        from topologies.flights import Flight

        flights = source(topic("f"), Flight, key="origin", event_time="time_hour")
        table = parquet("flights", storage=storage, **more)
        return Topology("t", flights.to(table), flights.rejected.to(topic("dlq")))

    def test_how_files_are_written_is_no_matter_of_the_version(self) -> None:
        own = WriterSettings(columns=(ColumnSettings("flight", "DELTA_BINARY_PACKED"),))
        versions = {self.made(storage).version for storage in ("auto", "none", "smallest", own)}
        assert len(versions) == 1

    @pytest.mark.parametrize(
        ("storage", "said"),
        [
            ("fast", "storage='fast'; it is auto, none, balanced"),
            (
                WriterSettings(columns=(ColumnSettings("fligth"),)),
                "storage names column 'fligth'; the files have year, ",
            ),
            (
                WriterSettings(columns=(ColumnSettings("month"),)),
                "storage names column 'month'; the files have year, day",
            ),
            (
                WriterSettings(columns=(ColumnSettings("carrier", "DELTA_BINARY_PACKED"),)),
                "storage cannot be written so: DELTA_BINARY_PACKED encoder only supports",
            ),
        ],
    )
    def test_what_cannot_be_written_is_refused(self, storage: Any, said: str) -> None:
        with pytest.raises(TopologyError, match=r"parquet\('flights'\): ") as refused:
            self.made(storage, partition_by="month")
        assert said in str(refused.value)
