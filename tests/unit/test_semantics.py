"""The examples in docs/semantics.md do what the text beside them says."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Rule, Topology, Tumbling, parquet, source, topic
from streamflow.batch import Record
from streamflow.local import LocalRun
from streamflow.testing import TopologyDriver

SEMANTICS = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: As text: the first is no integer when it is read back, the second looks like one in every way.
SHOPS = ("007", "12")


class Sale(BaseModel):
    shop: str
    at: AwareDatetime


class PerShop(BaseModel):
    shop: str
    window_start: AwareDatetime
    sales: int


def example(kind: str, word: str) -> str:
    blocks = re.findall(rf"```{kind}\n(.*?)```", SEMANTICS, re.DOTALL)
    (found,) = [block for block in blocks if word in block]
    return found


def sale(shop: str, at: datetime = NOON) -> Record:
    value = orjson.dumps({"shop": shop, "at": at})
    return Record(shop.encode(), value, int(NOON.timestamp() * 1000))


def closed_and_late(*rules: Rule) -> tuple[list[int], int]:
    """Sales per closed window, and late ones, after a sale of the year 2124 among others."""
    sales = source(topic("sales"), Sale, key="shop", event_time="at").gate(*rules)
    shops = sales.window(Tumbling(HOUR), by="shop", grace=HOUR).aggregate(PerShop, sales=Count())
    edges = [shops.to(topic("hourly")), shops.late.drop(), sales.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("sales", *edges), NOON)
    driver.send("sales", sale("a"), sale("a", NOON.replace(year=2124)), sale("a"), sale("a"))
    driver.send("sales", sale("a", NOON + HOUR))
    return [row["sales"] for row in driver.read("hourly")], driver.totals["late"]


def test_a_record_from_the_future_makes_late_what_follows_unless_a_rule_rejects_it() -> None:
    assert closed_and_late() == ([1], 3)

    names: dict[str, Any] = {"pa": pa, "pc": pc, "timedelta": timedelta, "Rule": Rule}
    exec(example("python", "not_from_the_future"), names)
    assert closed_and_late(names["plausible"]) == ([], 0)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table `lake/sales`, seen from the current folder, in folders by shop."""
    sales = source(topic("sales"), Sale, key="shop", event_time="at")
    table = parquet("sales", partition_by="shop")
    topology = Topology("sales", sales.to(table), sales.rejected.drop())
    LocalRun(topology, tmp_path / "lake").run({"sales": [sale(shop) for shop in SHOPS]})
    monkeypatch.chdir(tmp_path)
    return tmp_path / "lake"


def test_pyarrow_reads_the_text_that_names_folders_as_it_was(lake: Path) -> None:
    guessed = ds.dataset(lake / "sales", partitioning="hive").to_table()
    assert sorted(guessed["shop"].to_pylist()) == [7, 12]

    names: dict[str, Any] = {"pa": pa, "ds": ds}
    exec(example("python", "ds.partitioning"), names)
    assert sorted(names["sales"]["shop"].to_pylist()) == sorted(SHOPS)


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("line", example("sql", "hive_types").splitlines())
def test_duckdb_reads_the_text_that_names_folders_as_it_was(line: str) -> None:
    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT shop {line}").fetchall()
    assert sorted(rows) == [(shop,) for shop in sorted(SHOPS)]


def test_duckdb_guesses_a_number_where_every_name_is_one(lake: Path) -> None:
    files = f"read_parquet('{lake}/sales/shop=12/*.parquet', hive_partitioning = true)"
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT shop FROM {files}").fetchall() == [(12,)]


def test_silence_closes_the_window_of_the_visit() -> None:
    names: dict[str, Any] = {"source": source, "topic": topic, "timedelta": timedelta}
    exec(example("python", "visits = source("), names | {"Visit": Sale}, names)
    visits = names["visits"]
    shops = visits.window(Tumbling(HOUR / 60), by="shop").aggregate(PerShop, sales=Count())
    edges = [shops.to(topic("minutes")), shops.late.to(topic("late")), visits.rejected.drop()]
    driver = TopologyDriver(Topology("visits", *edges), NOON)
    driver.send("visits", sale("a"))
    driver.advance(timedelta(minutes=5, seconds=-1))
    assert driver.read("minutes") == []
    driver.advance(timedelta(seconds=1))
    assert [row["window_start"] for row in driver.read("minutes")] == [NOON]
    driver.send("visits", sale("a", NOON + HOUR / 60), sale("a", NOON + HOUR / 12))
    assert [row["at"] for row in driver.read("late")] == [(NOON + HOUR / 60).isoformat()]
