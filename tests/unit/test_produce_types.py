"""The types and the keys of a topology's source, for CSV that is sent and run."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamflow import cli

TOPOLOGY = """
from pydantic import AwareDatetime, BaseModel
from streamflow import Topology, source, topic

class Sale(BaseModel):
    shop: str
    cents: int
    at: AwareDatetime

sales = source(topic("sales"), Sale, key="shop", event_time="at")
topology = Topology("sales", sales.to(topic("out")), sales.rejected.to(topic("dlq")))
"""


def test_a_local_run_takes_csv_with_the_types_of_its_topology(tmp_path: Path) -> None:
    (tmp_path / "sales_csv.py").write_text(TOPOLOGY)
    file = tmp_path / "sales.CSV"
    file.write_bytes(b"shop,cents,at\n007,5,2024-05-01T12:00:00Z\n7,x,\n7\n")
    done = CliRunner().invoke(
        cli.main,
        [
            *("run", str(tmp_path / "sales_csv.py"), "--local", "--partitions", "1"),
            *("--input", str(file), "--output", str(tmp_path / "out")),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "3 in = 1 passed + 2 rejected" in done.stdout
    out, dlq = (
        [
            json.loads(line)
            for line in (tmp_path / f"out/topics/{name}.ndjson").read_text().splitlines()
        ]
        for name in ("out", "dlq")
    )
    assert [(r["key"], r["value"]) for r in out] == [
        ("007", '{"shop":"007","cents":5,"at":"2024-05-01T12:00:00Z"}')
    ]
    assert [r["value"] for r in dlq] == ['{"shop":"7","cents":"x","at":null}', "7"]


ALIASED = """
from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field
from streamflow import Topology, source, topic

class Sale(BaseModel):
    model_config = ConfigDict(populate_by_name=BY_NAME)
    shop: str = Field(alias="Shop Name")
    cents: int = Field(alias="Cents", strict=True)
    tags: list[str] = Field(validation_alias=AliasChoices("Tags", "Labels"))
    at: AwareDatetime

sales = source(topic("sales"), Sale, key="shop", event_time="at")
topology = Topology("sales", sales.to(topic("out")), sales.rejected.to(topic("dlq")))
"""


@pytest.mark.parametrize(
    ("by_name", "header"),
    [
        (False, "Shop Name,Cents,Tags,at"),
        (False, "Shop Name,Cents,Labels,at"),
        (True, "Shop Name,Cents,Tags,at"),
        (True, "shop,cents,tags,at"),
    ],
)
def test_types_hold_for_fields_under_each_name_that_the_model_takes(
    by_name: bool, header: str, tmp_path: Path
) -> None:
    text = ALIASED.replace("BY_NAME", str(by_name))
    (tmp_path / "sales_aliased.py").write_text(text)
    file = tmp_path / "sales.csv"
    file.write_text(f'{header}\n007,5,"[""a""]",2024-05-01T12:00:00Z\n')
    done = CliRunner().invoke(
        cli.main,
        [
            *("run", str(tmp_path / "sales_aliased.py"), "--local", "--partitions", "1"),
            *("--input", str(file), "--output", str(tmp_path / "out")),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "1 in = 1 passed + 0 rejected" in done.stdout


def test_types_of_a_topology_that_does_not_read_the_topic_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sales_types.py"
    path.write_text(TOPOLOGY)
    done = CliRunner().invoke(cli.main, ["produce", "other", "--types", str(path)], input=b"")
    assert done.exit_code == 2
    assert f"--types {path}: sales reads ['sales'], not 'other'" in done.stderr


def test_a_topology_is_found_by_its_topic_with_the_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sales_prefixed.py"
    path.write_text(TOPOLOGY)
    monkeypatch.setenv("STREAMFLOW_TOPIC_PREFIX", "dev.")
    monkeypatch.setenv("STREAMFLOW_BROKER_WAIT", "0")
    words = ["--types", str(path), "--broker", "127.0.0.1:1"]
    done = CliRunner().invoke(cli.main, ["produce", "sales", *words], input=b"")
    assert "sales reads ['dev.sales'], not 'sales'" in done.stderr
    done = CliRunner().invoke(cli.main, ["produce", "dev.sales", *words], input=b"")
    assert "--types" not in done.stderr
    assert "127.0.0.1:1" in done.stderr


def test_a_field_that_is_named_twice_as_the_key_is_refused() -> None:
    words = ["produce", "sales", "--key", "shop", "--key", "shop"]
    done = CliRunner().invoke(cli.main, words, input=b"")
    assert done.exit_code == 2
    assert "--key shop is there twice; leave one out" in done.stderr
