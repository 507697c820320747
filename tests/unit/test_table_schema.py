"""A table stays one table while its topology changes, and says beforehand when it would not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, TopologyError, day, parquet, source, topic
from streamflow.core.table_schema import decode_schema, encode_schema, schema_of
from streamflow.destinations import Compatibility
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.table_numbers import Numbers
from streamflow.engine.table_versions import agree
from streamflow.errors import SinkRefused
from streamflow.schema import schema_id
from streamflow.testing import TopologyDriver

from .sink_log import SCHEMA, spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MORE = pa.schema([*SCHEMA, pa.field("more", pa.string())])
NEEDED = pa.schema([*SCHEMA, pa.field("more", pa.string(), nullable=False)])
WIDER = pa.schema([SCHEMA.field(0), pa.field("id", pa.decimal128(38, 9)), *list(SCHEMA)[2:]])
MORE_WIDER = pa.schema([*WIDER, pa.field("more", pa.string())])
FEWER = pa.schema(list(SCHEMA)[:-1])
TEXT = pa.schema([SCHEMA.field(0), pa.field("id", pa.string()), *list(SCHEMA)[2:]])
OTHER_ID = encode_schema(schema_of(spec(), 0)).replace(b'"id":"', b'"id":"0')
BACK = pa.schema([*SCHEMA, pa.field("more", pa.int64())])


def versions(files: MemoryFiles) -> list[str]:
    return [name for name in files.names(private=True) if name.startswith("schema-")]


@pytest.mark.parametrize("schemas", [[SCHEMA, SCHEMA], [SCHEMA, MORE, MORE], [SCHEMA, FEWER]])
def test_what_can_be_read_together_is_agreed_to(schemas: list[pa.Schema]) -> None:
    files = MemoryFiles()
    for number, schema in enumerate(schemas):
        agree(files, spec(schema=schema, version=str(number)))
    assert len(versions(files)) == len({str(schema) for schema in schemas})
    last = versions(files)[-1]
    assert decode_schema(files.read(last, private=True), last).columns == schemas[-1]


@pytest.mark.parametrize(
    ("schemas", "words"),
    [
        (
            [SCHEMA, TEXT],
            r"id: was int64, is string: .* not every int64 is a string; keep the type",
        ),
        (
            [SCHEMA, NEEDED],
            r"more: was not there, is string, never null: .* rows without it; let i",
        ),
        ([MORE, SCHEMA, BACK], r"more: was string, is int64: .* not every string .* \(version 0\)"),
    ],
)
def test_what_cannot_is_refused(schemas: list[pa.Schema], words: str) -> None:
    files = MemoryFiles()
    for schema in schemas[:-1]:
        agree(files, spec(schema=schema))
    before = versions(files)
    with pytest.raises(SinkRefused, match=words):
        agree(files, spec(schema=schemas[-1]))
    assert versions(files) == before


@pytest.mark.parametrize(
    ("by", "words"), [((), "by no column, it was by origin"), (("id",), "by id, it was by origin")]
)
def test_other_folders_are_refused(by: tuple[str, ...], words: str) -> None:
    files = MemoryFiles()
    agree(files, spec())
    with pytest.raises(SinkRefused, match=words):
        agree(files, spec(partition_by=by))


def test_days_of_another_time_zone_are_refused() -> None:
    files, berlin = MemoryFiles(), replace(spec(), zones=("Europe/Berlin",))
    agree(files, berlin)
    agree(files, berlin)
    assert len(versions(files)) == 1
    with pytest.raises(SinkRefused, match="days or months of UTC, it was by those of Europe/Berli"):
        agree(files, spec())


def test_days_of_another_time_are_refused() -> None:
    class Event(BaseModel):
        at: AwareDatetime
        made: AwareDatetime

    def version(name: str) -> Topology:
        events = source(topic("events"), Event, event_time="at")
        table = parquet("events", partition_by=day(name))
        return Topology("events", events.to(table), events.rejected.drop())

    driver = TopologyDriver(version("at"), NOW)
    with pytest.raises(SinkRefused, match="partitioned by times of made, it was by those of at"):
        driver.deploy(version("made"))
    driver.deploy(version("at"))


def test_the_folder_is_the_day_of_the_zone_that_the_table_names() -> None:
    class Event(BaseModel):
        at: AwareDatetime

    events = source(topic("events"), Event, event_time="at")
    table = parquet("events", partition_by=day("at", "America/New_York"))
    made = Topology("events", events.to(table), events.rejected.to(topic("dlq")))
    driver = TopologyDriver(made, NOW)
    driver.send("events", {"at": "2013-03-10T04:59:59Z"}, {"at": "2013-03-10T05:00:00Z"})
    driver.end_of_input()
    names = [name.split("/")[0] for name in driver._tables.files["events"].names()]
    assert sorted(set(names)) == ["date=2013-03-09", "date=2013-03-10"]


def agreed(files: MemoryFiles, *schemas: pa.Schema, mode: Compatibility = "backward") -> None:
    for schema in schemas:
        agree(files, replace(spec(schema=schema), compatibility=mode))


def test_columns_that_the_table_had_are_its_version_again() -> None:
    """A version is taken back, also one under which newer rows could not be read."""
    files = MemoryFiles()
    agreed(files, SCHEMA, WIDER, SCHEMA, WIDER)
    assert versions(files) == ["schema-00000.json", "schema-00001.json"]
    numbers = Numbers(files)
    assert [numbers.of(schema_id(one)) for one in (SCHEMA, WIDER, MORE)] == [0, 1, None]
    agreed(files, MORE_WIDER)
    assert numbers.of(schema_id(MORE_WIDER)) == 2
    with pytest.raises(SinkRefused, match=r"id: was decimal128\(38, 9\), is int64: .*version 2"):
        agreed(files, pa.schema([*MORE, pa.field("other", pa.string())]))


@pytest.mark.parametrize(
    ("mode", "other", "words"),
    [
        (
            "forward",
            WIDER,
            "with its earlier columns all newer rows can be read; .*\n  id: was int64",
        ),
        ("full", NEEDED, "the rows of any other can be read; .*\n  more: was not there"),
        ("backward", TEXT, "newest columns all earlier rows can be read; .*\n  id: was int64"),
    ],
)
def test_the_mode_decides(mode: Compatibility, other: pa.Schema, words: str) -> None:
    files = MemoryFiles()
    with pytest.raises(SinkRefused, match=words):
        agreed(files, SCHEMA, other, mode=mode)
    agreed(files, other, mode="none")
    assert len(versions(files)) == 2


def test_all_that_is_wrong_is_said_at_once() -> None:
    files = MemoryFiles()
    agreed(files, SCHEMA)
    schema = pa.schema([*TEXT, pa.field("more", pa.string(), nullable=False)])
    with pytest.raises(SinkRefused) as refused:
        agree(files, spec(schema=schema, partition_by=()))
    lines = str(refused.value).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["it", "id:", "more:"]
    assert "change the topology back, or declare another compatibility=" in lines[-1]


def test_a_mode_is_one_of_four() -> None:
    with pytest.raises(TopologyError, match="compatibility='both'; it is backward, forward, full"):
        parquet("orders", compatibility="both")  # type: ignore[arg-type]


def test_files_say_of_which_version_they_are() -> None:
    driver = TopologyDriver(topology(Order), NOW)
    driver.send("orders", order(1))
    driver.deploy(topology(Noted))
    driver.send("orders", order(2))
    driver.deploy(topology(Order))
    driver.send("orders", order(3))
    driver.advance(timedelta(minutes=2))
    files = driver._tables.files["orders"]
    found: list[tuple[bytes, bytes]] = []
    for name in files.names():
        footer = pq.read_metadata(pa.BufferReader(files.read(name))).metadata
        found.append((footer[b"streamflow.schema_version"], footer[b"streamflow.schema_id"]))
    first, second = (decode_schema(files.read(n, private=True), n).id for n in versions(files))
    assert found == [(b"0", first.encode()), (b"1", second.encode()), (b"0", first.encode())]


def test_whoever_comes_second_looks_again() -> None:
    class Raced(MemoryFiles):
        """Another worker writes down its version just before this one does."""

        rival = True

        def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
            if self.rival:
                self.rival = False
                agree(self, spec(schema=TEXT))
            return super().create(name, data, private=private)

    files = Raced()
    with pytest.raises(SinkRefused, match="id: was string, is int64"):
        agree(files, spec())
    assert len(versions(files)) == 1


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format":1}', b'{"format":3}', OTHER_ID])
def test_a_damaged_version_is_refused(data: bytes) -> None:
    files = MemoryFiles()
    files.create("schema-00000.json", data, private=True)
    with pytest.raises(SinkRefused, match=r"table schema schema-00000\.json cannot be read"):
        agree(files, spec())


def test_it_is_written_as_json() -> None:
    schema = schema_of(spec(), 7)
    assert orjson.loads(encode_schema(schema))["columns"][1] == ["id", "int64", True]
    assert decode_schema(encode_schema(schema), "schema-00007.json") == schema


class Order(BaseModel, frozen=True):
    id: int
    at: AwareDatetime


class Noted(Order, frozen=True):
    note: str | None = None


class Worded(BaseModel, frozen=True):
    id: str
    at: AwareDatetime


def topology(model: type[BaseModel]) -> Topology:
    orders = source(topic("orders"), model, event_time="at")
    table = parquet("orders", roll_interval=timedelta(minutes=1))
    return Topology("orders", orders.to(table), orders.rejected.to(topic("orders.dlq")))


def order(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "at": "2026-01-01T00:00:00Z", **more}


def test_rows_committed_before_a_new_version_and_not_yet_in_a_file_are_not_lost() -> None:
    driver = TopologyDriver(topology(Order), NOW)
    driver.send("orders", order(1))
    assert driver.files("orders") == []
    driver.deploy(topology(Noted))
    driver.send("orders", order(2, note="x"))
    driver.deploy(topology(Order))
    driver.send("orders", order(3))
    driver.advance(timedelta(minutes=2))
    found = sorted(driver.files("orders"), key=lambda row: row["id"])
    assert [(row["id"], row.get("note")) for row in found] == [(1, None), (2, "x"), (3, None)]


def test_a_version_that_does_not_fit_the_table_commits_nothing() -> None:
    driver = TopologyDriver(topology(Order), NOW)
    driver.send("orders", order(1))
    with pytest.raises(SinkRefused, match="id: was int64, never null, is string"):
        driver.deploy(topology(Worded))
    driver.deploy(topology(Order))
    driver.send("orders", order(2))
    driver.advance(timedelta(minutes=2))
    assert sorted(row["id"] for row in driver.files("orders")) == [1, 2]


def test_a_table_is_filled_from_one_source() -> None:
    """Commits are numbered by the tasks of a source: those of another one would not follow."""

    class Event(BaseModel):
        at: AwareDatetime

    def version(first: str, second: str) -> Topology:
        one, two = (source(topic(name), Event, event_time="at") for name in (first, second))
        edges = one.to(parquet("x")), two.to(parquet("y"))
        return Topology("t", *edges, one.rejected.drop(), two.rejected.drop())

    driver = TopologyDriver(version("a", "b"), NOW)
    driver.send("a", {"at": NOW})
    for other in (version("b", "a"), version("c", "b")):
        with pytest.raises(SinkRefused, match=r"its rows are made of '[bc]', they were of 'a'"):
            driver.deploy(other)
    driver.deploy(version("a", "b"))
    driver.end_of_input()
    assert len(driver.files("x")) == 1
