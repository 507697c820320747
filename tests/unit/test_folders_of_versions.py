"""What names the folders of a table that was left to the rows, where versions of its topology have
other columns, and rows of all of them may be on their way.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, day, parquet, source, topic
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.table_folders import known_folders
from streamflow.engine.table_versions import agree
from streamflow.errors import SinkRefused
from streamflow.testing import TopologyDriver

from .sink_log import LAYOUT, Log, drain, ids, partition, spec

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


class Visit(BaseModel):
    at: AwareDatetime
    id: int


class Kinded(Visit):
    kind: Literal["new", "known"] | None = None


class Told(Visit):
    kind: str | None = None


def visits(model: type[BaseModel], partition_by: Any) -> Topology:
    """One table of the visits, which is rolled every five minutes."""
    stream = source(topic("visits"), model, key="id", event_time="at")
    table = parquet("visits", partition_by=partition_by, roll_interval=timedelta(minutes=5))
    return Topology("t", stream.to(table), stream.rejected.to(topic("unread")))


def visit(number: int, **more: Any) -> dict[str, Any]:
    return {"at": NOON.isoformat(), "id": number, **more}


def on_their_way(model: type[BaseModel], *more: dict[str, Any]) -> TopologyDriver:
    """Rows of a version that leaves the folders to them, of which none is in a file."""
    driver = TopologyDriver(visits(model, "auto"), now=NOON)
    driver.send("visits", visit(1), *more)
    assert driver.files("visits") == []
    return driver


@pytest.mark.parametrize(
    ("model", "by"), [(Visit, [day("at")]), (Kinded, ["kind"]), (Kinded, ["kind", day("at")])]
)
def test_rows_from_before_a_column_that_names_folders_lie_where_it_is_null(
    model: type[BaseModel], by: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    driver = on_their_way(Visit)
    driver.deploy(visits(model, by))
    driver.send("visits", visit(2))
    driver.end_of_input()
    assert sorted(row["id"] for row in driver.files("visits")) == [1, 2]
    assert "without" in caplog.text
    assert "they lie where it is null" in caplog.text


def test_a_text_that_names_no_folder_may_be_on_its_way() -> None:
    driver = on_their_way(Told, visit(2, kind="long" * 100))
    with pytest.raises(SinkRefused, match="would be named by 'kind', and rows of an earlier"):
        driver.deploy(visits(Told, ["kind"]))
    driver.deploy(visits(Kinded, "auto"))
    driver.send("visits", *(visit(i, kind=("new", "known")[i % 2]) for i in range(3, 2000)))
    driver.end_of_input()
    assert len(driver.files("visits")) == 1999


def test_whoever_drains_a_table_chooses_for_those_who_come_later() -> None:
    files, log = MemoryFiles(), Log(replace(LAYOUT, partition_by=()))
    whoever = spec(partition_by=(), target_bytes=1)
    agree(files, replace(whoever, folders=("origin",)))
    log.commit(1200, end_of_input=True)
    drain(partition(files, whoever), log)
    chosen = known_folders(files)
    assert chosen is not None
    assert chosen.partition_by == ("origin",)
    assert {name.partition("=")[0] for name in files.names()} == {"origin"}
    assert ids(files) == list(range(1200))
