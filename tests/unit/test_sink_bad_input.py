"""What a table gets that is hard to write: each is a correct file, a dead letter or a refusal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Generator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from pydantic import AwareDatetime, BaseModel, Field, create_model

from streamflow import Topology, TopologyError, delta, parquet, source, topic
from streamflow.batch import Record
from streamflow.check import check_folders
from streamflow.clock import SimulatedClock
from streamflow.destinations import Parquet
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory import MemoryBroker
from streamflow.engine.chain import chain_of
from streamflow.engine.settings import Settings
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.local import LocalRun
from streamflow.table_files import open_table
from streamflow.testing import TopologyDriver
from tests.unit.memory_world import MemoryWorld
from tests.unit.sink_log import SCHEMA, Log, content, drain, partition, spec
from tests.unit.test_joining_tables import started

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = "2026-01-01T00:00:00Z"


class Sale(BaseModel):
    shop: str | None
    cents: int
    at: AwareDatetime


def topology(table: Parquet, model: type[BaseModel] = Sale, name: str = "sales") -> Topology:
    sales = source(topic("sales"), model, event_time="at")
    return Topology(name, sales.to(table), sales.rejected.to(topic("sales.dlq")))


def sale(shop: str | None, **more: Any) -> dict[str, Any]:
    return {"shop": shop, "cents": 1, "at": AT, **more}


def run(root: Path, table: Parquet, *rows: dict[str, Any], model: type[BaseModel] = Sale) -> Path:
    """The folder of a local run of these records."""
    records = [Record(b"k", orjson.dumps(row), 0) for row in rows]
    LocalRun(topology(table, model), root / "out", partitions=1).run({"sales": records})
    return root / "out"


def rejected(folder: Path) -> list[str]:
    lines = (folder / "topics" / "sales.dlq.ndjson").read_bytes().splitlines()
    return [dict(orjson.loads(line)["headers"])["streamflow.reason"] for line in lines]


# A value of a partition column, and what becomes of its row.
VALUES = [
    ("a slash", "a/b", "file"),
    ("the folder above", "..", "file"),
    ("a way out of the table", "../../x", "file"),
    ("an equals sign", "shop=x", "file"),
    ("NUL", "a\0b", "file"),
    ("an emoji", "🏪", "file"),
    ("a percent sign", "100%2F", "file"),
    ("a number", "007", "file"),
    ("null", None, "file"),
    ("the word for null", "null", "file"),
    ("nothing", "", "unstorable"),
    ("the folder of null", "__HIVE_DEFAULT_PARTITION__", "unstorable"),
    ("10 KB", "x" * 10_240, "unstorable"),
]


@pytest.mark.parametrize(("value", "outcome"), [v[1:] for v in VALUES], ids=[v[0] for v in VALUES])
def test_a_partition_value(tmp_path: Path, value: str | None, outcome: str) -> None:
    folder = run(tmp_path, parquet("sales", partition_by="shop"), sale(value), sale("b"))
    assert rejected(folder) == ([] if outcome == "file" else [outcome])
    expected = {value, "b"} if outcome == "file" else {"b"}
    by_text = ds.partitioning(pa.schema([("shop", pa.string())]), flavor="hive")
    table = folder / "sales"
    assert {*ds.dataset(table, partitioning=by_text).to_table()["shop"].to_pylist()} == expected
    with duckdb.connect() as connection:
        options = "hive_partitioning = true, hive_types_autocast = false"
        sql = f"select shop from read_parquet('{table}/**/*.parquet', {options})"
        assert {shop for (shop,) in connection.sql(sql).fetchall()} == expected
    outside = [path for path in tmp_path.rglob("*.parquet") if not path.is_relative_to(table)]
    assert outside == []


class Wide(BaseModel):
    lists: list[list[int]]
    texts: list[str | None]
    money: Decimal
    raw: bytes
    at: AwareDatetime
    price: Decimal = Field(decimal_places=2)


THOUSAND: type[BaseModel] = create_model(  # pyright: ignore[reportCallIssue]
    "Thousand",
    at=(AwareDatetime, ...),
    **{f"f{i}": (int | None if i % 2 else str, ...) for i in range(1000)},  # pyright: ignore[reportArgumentType]
)
# A model, a record of it, and what the file has; where nothing is said, what the record has.
RECORDS: list[tuple[str, type[BaseModel], dict[str, Any], dict[str, Any]]] = [
    (
        "lists of lists, nulls in lists, decimals and bytes",
        Wide,
        {"lists": [[1], []], "texts": ["a", None], "money": "1.5", "raw": "ü", "price": "2.50"},
        {"money": Decimal("1.5"), "raw": "ü".encode(), "price": Decimal("2.50")},
    ),
    (
        "1,000 columns",
        THOUSAND,
        {f"f{i}": i if i % 2 else f"text {i}" for i in range(1000)},
        {},
    ),
]


@pytest.mark.parametrize(
    ("model", "row", "stored"), [r[1:] for r in RECORDS], ids=[r[0] for r in RECORDS]
)
def test_a_record(
    tmp_path: Path, model: type[BaseModel], row: dict[str, Any], stored: dict[str, Any]
) -> None:
    folder = run(tmp_path, parquet("sales"), row | {"at": AT}, model=model)
    assert rejected(folder) == []
    [found] = ds.dataset(folder / "sales").to_table().to_pylist()
    assert {name: found[name] for name in row} == row | stored


def test_no_rows_make_no_file_and_an_empty_table_is_no_error(tmp_path: Path) -> None:
    assert list(run(tmp_path, parquet("sales")).rglob("*.parquet")) == []
    files, log = LocalFiles(tmp_path, "t"), Log()
    for _ in range(3):
        log.commit(0)
    log.commit(0, end_of_input=True)
    sink = partition(files)
    drain(sink, log)
    assert (sink.done, content(files)) == (True, {})


# What a field becomes under way, and what becomes of the rows.
def test_a_value_of_another_type_is_a_dead_letter() -> None:
    driver = TopologyDriver(topology(parquet("sales")), NOW)
    driver.send("sales", sale("a"), sale("b", cents="x"), sale("c", cents=1.5), sale("d"))
    driver.end_of_input()
    assert [row["reason"] for row in driver.read("sales.dlq")] == ["invalid", "invalid"]
    assert [row["shop"] for row in driver.files("sales")] == ["a", "d"]


def test_a_function_whose_column_changes_its_type_is_a_dead_letter_where_it_does_not_fit() -> None:
    def moody(rows: pa.RecordBatch) -> pa.Array:
        """Numbers, and texts as soon as one comes from the shop b."""
        if "b" in rows["shop"].to_pylist():
            return pa.array(["x"] * len(rows))
        return pa.array([1] * len(rows), pa.int64())

    sales = source(topic("sales"), Sale, event_time="at")
    made = sales.map(Sale, shop="shop", cents=moody, at="at")
    edges = (made.to(parquet("sales")), sales.rejected.to(topic("sales.dlq")))
    driver = TopologyDriver(Topology("sales", *edges), NOW, batches=(1,))
    driver.send("sales", sale("a"), sale("b"), sale("a"))
    driver.end_of_input()
    assert [row["reason"] for row in driver.read("sales.dlq")] == ["failed"]
    assert [row["cents"] for row in driver.files("sales")] == [1, 1]


def test_rows_of_other_columns_than_their_commit_says_are_refused() -> None:
    log = Log(schema=pa.schema([*SCHEMA, pa.field("more", pa.string())]))
    log.commit(1)
    with pytest.raises(SinkRefused, match="the rows topic was written by something else"):
        drain(partition(LocalFiles(Path(tempfile.mkdtemp()), "t")), log)


# A path of a table, and what is said of it.
PATHS = ["/sales", "../sales", "a/../b", "./sales", "a//b", "", "a b", "sales.streamflow", "~/x"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_no_plain_folder_below_the_lake(path: str) -> None:
    with pytest.raises(
        TopologyError, match=r"a table is a plain relative folder|belongs to a table"
    ):
        parquet(path)


@pytest.mark.parametrize("taken", ["lake", "lake/sales", "lake/sales.streamflow"])
@pytest.mark.parametrize("table", [parquet("sales"), delta("sales")], ids=["plain", "delta"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, taken: str, table: Parquet) -> None:
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("mine")
    opened = open_table(Settings.load(lake=str(tmp_path / "lake")), table.location)
    with pytest.raises(SinkRefused, match=f"{taken} is a file, and would have to be a folder"):
        claim(opened)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / taken]


def claim(table: Any, app: str = "app") -> None:
    """As a worker does when it starts."""
    chain = chain_of(table)
    chain.claim(spec(), app)
    chain.agree(spec())


@contextlib.contextmanager
def nobody() -> Generator[Path]:
    """A folder that this process cannot write, as another user where it is root."""
    with tempfile.TemporaryDirectory() as root:
        user = os.geteuid()
        Path(root).chmod(0o555)
        if not user:
            os.seteuid(65534)
        try:
            yield Path(root)
        finally:
            os.seteuid(user)
            Path(root).chmod(0o755)


@pytest.mark.parametrize("table", [parquet("sales"), delta("sales")], ids=["plain", "delta"])
def test_a_lake_that_cannot_be_written(table: Parquet) -> None:
    """It is said before a worker starts; and should it happen later, the rows wait in Kafka."""
    with nobody() as lake:
        settings = Settings.load(lake=str(lake), state_dir=lake)
        found = [f.what for f in check_folders(topology(table), settings) if f.check == "lake"]
        assert any("cannot be written: Permission denied" in what for what in found)
        with pytest.raises(SinkUnavailable, match=r"Permission denied|Could not create local"):
            claim(open_table(settings, table.location))


def test_a_relative_lake_is_one_of_the_folder_that_the_worker_starts_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = open_table(Settings.load(lake="some/lake"), "sales")
    log = Log()
    log.commit(4, end_of_input=True)
    claim(table)
    drain(partition(table), log)
    assert ds.dataset(tmp_path / "some" / "lake" / "sales").count_rows() == 4


def test_a_table_of_another_topology_is_refused_before_anything_is_written() -> None:
    broker = MemoryBroker(0)
    broker.create("sales", 1)
    clock = SimulatedClock(NOW)
    made = [topology(parquet("sales"), name=name) for name in ("first", "second")]
    worlds = [MemoryWorld(broker, one, clock) for one in made]
    worlds[1]._files = worlds[0]._files

    async def go() -> None:
        host = await started(worlds[0], made[0])
        before = {name: list(log) for name, log in broker.topics.items()}
        files = content(worlds[0].files("sales"))
        private = worlds[0].files("sales").names(private=True)
        with pytest.raises(SinkRefused, match="'sales' is written by app 'first', and this is app"):
            await started(worlds[1], made[1])
        await host.close()
        assert content(worlds[0].files("sales")) == files
        assert worlds[0].files("sales").names(private=True) == private
        assert {name: list(log) for name, log in broker.topics.items() if name in before} == before

    asyncio.run(go())


@pytest.mark.parametrize(("first", "second"), [("sales", "delta:sales"), ("delta:sales", "sales")])
def test_a_table_is_plain_or_delta(tmp_path: Path, first: str, second: str) -> None:
    settings = Settings.load(lake=str(tmp_path))
    claim(open_table(settings, first))
    kind = "plain" if second.startswith("delta") else "Delta"
    with pytest.raises(SinkRefused, match=f"'flights' of sink 'flights' is a {kind} table"):
        claim(open_table(settings, second), "other")
