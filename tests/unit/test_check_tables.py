"""What `streamflow check` says of the tables that stand, before a worker would refuse them."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, cli, delta, formerly, parquet, source, topic
from streamflow.check import check_folders
from streamflow.check.tables import check_tables
from streamflow.cli.check import listing
from streamflow.destinations import Parquet
from streamflow.engine.chain import chain_of
from streamflow.engine.settings import Settings
from streamflow.engine.table_spec import table_spec
from streamflow.errors import SinkRefused
from streamflow.table_files import open_table


class Sale(BaseModel):
    at: AwareDatetime
    shop: str
    cents: int


class Noted(Sale):
    note: str | None = None


class Needed(Sale):
    note: str


class Text(BaseModel):
    at: AwareDatetime
    shop: str
    cents: str


class Renamed(BaseModel):
    at: AwareDatetime
    store: Annotated[str, formerly("shop")]
    cents: int


class Fewer(BaseModel):
    at: AwareDatetime
    shop: str


def of(model: Any, table: Parquet) -> Topology:
    sales = source(topic("sales"), model, event_time="at")
    return Topology("sales", sales.to(table), sales.rejected.to(topic("dlq")))


def at(lake: Path, **more: Any) -> Settings:
    return Settings.load(lake=str(lake), state_dir=lake / "state", **more)


def start(topology: Topology, settings: Settings) -> None:
    """Do with the table what a worker does when it starts."""
    names = settings.names(topology.name)
    [sink] = topology.tasks[0].all_sinks
    spec = table_spec(topology, names, sink)
    chain = chain_of(open_table(settings, spec.path))
    chain.claim(spec, names.app)
    chain.agree(spec)


def all_files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def checked(topology: Topology, settings: Settings) -> tuple[str, str]:
    """The level and the words of the one table; it is left as it is."""
    folder = Path(settings.lake)
    before = all_files(folder)
    [found] = check_tables(topology, settings)
    assert all_files(folder) == before
    return found.finding.level, found.finding.what


KINDS = pytest.mark.parametrize("table", [parquet, delta], ids=["plain", "delta"])


@KINDS
def test_a_table_that_does_not_stand_is_not_made(table: Any, tmp_path: Path) -> None:
    words = f"table 'sales' does not stand yet in {str(tmp_path)!r}: a worker makes it"
    assert checked(of(Sale, table("sales")), at(tmp_path)) == ("ok", words)
    assert list(tmp_path.iterdir()) == []


@KINDS
def test_what_a_new_version_changes_is_said_and_not_done(table: Any, tmp_path: Path) -> None:
    settings = at(tmp_path)
    start(of(Sale, table("sales")), settings)
    assert checked(of(Sale, table("sales")), settings) == (
        "ok",
        "table 'sales' has these columns as version 0",
    )
    noted = "table 'sales' gets these columns as version 1: 'note' is added, string"
    assert checked(of(Noted, table("sales")), settings) == ("ok", noted)
    start(of(Noted, table("sales")), settings)
    assert checked(of(Sale, table("sales")), settings) == (
        "ok",
        "table 'sales' has these columns as version 0; against its newest: 'note' is left out",
    )
    renamed = "'shop' is of field 'store' now; 'note' is left out"
    assert checked(of(Renamed, table("sales")), settings) == (
        "ok",
        f"table 'sales' has these columns as version 0; against its newest: {renamed}",
    )


def test_what_becomes_wider_or_null_is_said(tmp_path: Path) -> None:
    class Nulls(BaseModel):
        at: AwareDatetime
        shop: str | None
        cents: int | None

    settings = at(tmp_path)
    start(of(Sale, parquet("sales")), settings)
    level, words = checked(of(Nulls, parquet("sales")), settings)
    assert level == "ok"
    assert "'shop' becomes string, was string, never null; 'cents' becomes int64, was" in words


@KINDS
@pytest.mark.parametrize(
    ("model", "more"),
    [(Text, {}), (Needed, {}), (Sale, {"partition_by": "shop"}), (Fewer, {"partition_by": "shop"})],
    ids=["type", "never null", "folders", "both"],
)
def test_a_refusal_has_the_words_of_a_worker(
    table: Any, model: Any, more: dict[str, Any], tmp_path: Path
) -> None:
    settings, changed = at(tmp_path), of(model, table("sales", **more))
    start(of(Sale, table("sales")), settings)
    level, words = checked(changed, settings)
    assert level == "problem"
    with pytest.raises(SinkRefused) as refused:
        start(changed, settings)
    assert words == str(refused.value)


@pytest.mark.parametrize(
    ("before", "after", "app"),
    [
        (parquet("sales"), parquet("sales"), "another"),
        (parquet("sales"), delta("sales"), None),
        (delta("sales"), parquet("sales"), None),
    ],
    ids=["of another app", "plain as delta", "delta as plain"],
)
def test_whose_table_it_is_and_which_kind(
    before: Parquet, after: Parquet, app: str | None, tmp_path: Path
) -> None:
    start(of(Sale, before), at(tmp_path, app_id=app))
    level, words = checked(of(Sale, after), at(tmp_path))
    assert level == "problem"
    with pytest.raises(SinkRefused) as refused:
        start(of(Sale, after), at(tmp_path))
    assert words == str(refused.value)


def test_the_columns_of_a_delta_table_that_another_tool_has_made(tmp_path: Path) -> None:
    import deltalake

    columns = pa.table({"shop": ["a"], "cents": pa.array([1], pa.int64())})
    deltalake.write_deltalake(tmp_path / "sales", columns)
    level, words = checked(of(Noted, delta("sales", compatibility="none")), at(tmp_path))
    assert (level, words.partition(":")[0]) == (
        "ok",
        "table 'sales' gets these columns as version 0",
    )
    assert "'note' is added, string" in words
    assert checked(of(Text, delta("sales")), at(tmp_path))[0] == "problem"


def test_a_version_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    start(of(Sale, parquet("sales")), at(tmp_path))
    (tmp_path / "sales.streamflow" / "schema-00000.json").write_bytes(b"{}")
    level, words = checked(of(Sale, parquet("sales")), at(tmp_path))
    assert (level, words.startswith("table schema schema-00000.json cannot be")) == (
        "problem",
        True,
    )


def test_a_table_that_may_not_be_read_is_a_problem_of_its_own(tmp_path: Path) -> None:
    start(of(Sale, parquet("sales")), at(tmp_path))
    user = os.geteuid()
    beside = tmp_path / "sales.streamflow"
    beside.chmod(0o000)
    if not user:
        tmp_path.chmod(0o755)
        tmp_path.parent.chmod(0o755)
        os.seteuid(65534)
    try:
        [found] = check_tables(of(Sale, parquet("sales")), at(tmp_path))
    finally:
        os.seteuid(user)
        beside.chmod(0o755)
    assert (found.finding.level, found.is_away) == ("problem", True)
    assert "table 'sales' cannot be read: " in found.finding.what
    assert "Permission denied" in found.finding.what


def test_a_store_that_does_not_answer_is_asked_once_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    nowhere: dict[str, Any] = {
        "store_endpoint": "http://127.0.0.1:1",
        "store_allow_http": True,
        "store_timeout": timedelta(seconds=2),
    }
    settings = replace_lake(at(tmp_path, **nowhere), "s3://my-bucket/lake")
    topology = of(Sale, parquet("sales"))
    [found] = check_tables(topology, settings)
    assert (found.path, found.is_away, found.finding.level) == ("sales", True, "problem")
    assert "table 'sales' cannot be read: s3://my-bucket/lake/sales" in found.finding.what
    assert "the store cannot be reached" in found.finding.what
    assert [f.check for f in check_folders(topology, settings, [found.path])] == ["state"]


def replace_lake(settings: Settings, lake: str) -> Settings:
    return settings.model_copy(update={"lake": lake})


def test_lines_of_a_difference_stand_below_their_level(tmp_path: Path) -> None:
    start(of(Sale, parquet("sales")), at(tmp_path))
    [found] = check_tables(of(Text, parquet("sales")), at(tmp_path))
    lines = "\n".join(listing([replace(found.finding, fix="")])).splitlines()
    assert lines[0].startswith("problem  table 'sales' of sink 'sales' would not be one table")
    assert lines[1].startswith("           cents: was int64, never null, is string, never null: ")
    assert lines[2].startswith("         change the topology back")


def test_the_command_has_tables_among_its_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMFLOW_BROKER_WAIT", "0")
    words = ["check", "topologies.flights", "--broker", "127.0.0.1:1", "--json"]
    words += ["--lake", str(tmp_path), "--state-dir", str(tmp_path / "state")]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 1
    found = [f for f in orjson.loads(done.stdout)["findings"] if f["check"] == "table"]
    assert [f["level"] for f in found] == ["ok", "ok"]
    assert [f["what"].split(" in ")[0] for f in found] == [
        "table 'flights' does not stand yet",
        "table 'hourly' does not stand yet",
    ]
