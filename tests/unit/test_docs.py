"""What the documents show is what there is."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamflow.batch import Record
from streamflow.cli import COMMANDS, main
from streamflow.engine.settings import Settings
from streamflow.former_names import stored_name
from streamflow.schema import DECIMAL, arrow_schema
from streamflow.testing import TopologyDriver

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()
TABLES = (ROOT / "docs" / "tables.md").read_text()
STORAGE = (ROOT / "docs" / "storage.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(kind: str, document: str = README) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", document, re.DOTALL)


def test_the_topology_in_the_readme_is_the_one_that_runs() -> None:
    shown = blocks("python")[0]
    assert shown in (ROOT / "topologies" / "flights.py").read_text()


def test_the_test_in_the_readme_passes() -> None:
    names: dict[str, object] = {}
    exec(blocks("python")[1], names)
    test = names["test_what_is_no_flight_is_a_dead_letter"]
    assert callable(test)
    test()


def test_the_examples_of_storage_run_and_name_what_there_is() -> None:
    for block in re.findall(r"```python\n(.*?)```", STORAGE, re.DOTALL):
        exec(block, {})
    commands = re.search(r"```sh\n(.*?)```", STORAGE, re.DOTALL)
    assert commands is not None
    for line in commands[1].splitlines():
        _, group, verb, *words = line.split()
        shown = CliRunner().invoke(main, [group, verb, "--help"])
        assert shown.exit_code == 0, line
        assert all(word in shown.output for word in words if word.startswith("--")), line


def test_the_tables_that_are_shown_can_be_declared() -> None:
    names: dict[str, Any] = {}
    exec(blocks("python", TABLES)[0], names)
    assert [str(names[name]) for name in ("plain", "in_a_store", "in_delta")] == [
        "parquet('flights')",
        "parquet('s3://bucket/lake/flights')",
        "delta('s3://bucket/lake/hourly')",
    ]


def test_the_archive_that_is_shown_keeps_topics_as_they_are() -> None:
    names: dict[str, Any] = {}
    [shown] = [block for block in blocks("python", TABLES) if "archive(" in block]
    exec(shown, names)
    driver = TopologyDriver(names["raw"], datetime(2026, 1, 1, tzinfo=UTC))
    driver.send("clicks", Record(b"user", None, 0, (("trace", b"1"), ("trace", b"2"))))
    driver.send("payments", b"no JSON")
    driver.end_of_input()
    [click], [payment] = driver.tables("raw/clicks"), driver.tables("raw/payments")
    assert click.select(["key", "value", "headers", "_offset"]).to_pylist() == [
        {
            "key": b"user",
            "value": None,
            "headers": [{"key": "trace", "value": b"1"}, {"key": "trace", "value": b"2"}],
            "_offset": 0,
        }
    ]
    assert payment["value"].to_pylist() == [b"no JSON"]
    described = TABLES.split("## A topic as it is")[1].split("\n## ")[0]
    assert all(f"`{column}`" in described for column in payment.column_names)


def test_the_readers_that_are_shown_read_all_versions_as_one(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks("python", TABLES)[1:]:
        exec(block, names)
    assert [stored_name(field) for field in arrow_schema(names["Order"])] == ["client", "store"]
    for shop, amount in (("a", pa.array([5])), ("b", pa.array([Decimal("1.5")], DECIMAL))):
        (tmp_path / f"shop={shop}").mkdir()
        pq.write_table(pa.table({"amount": amount}), tmp_path / f"shop={shop}" / "x.parquet")
    pq.write_table(pa.table({"note": ["new"]}), tmp_path / "shop=b" / "y.parquet")
    expected = [("a", 5, None), ("b", Decimal("1.5"), None), ("b", None, "new")]
    for reader in ("with_duckdb", "with_pyarrow", "with_polars"):
        found = names[reader](str(tmp_path))
        rows = found.to_pylist() if isinstance(found, pa.Table) else found.to_dicts()
        seen = [(row["shop"], row["amount"], row["note"]) for row in rows]
        assert sorted(seen, key=str) == expected, reader


def test_the_example_of_sensitive_fields_lets_none_out() -> None:
    names: dict[str, Any] = {}
    exec(blocks("python", (ROOT / "docs" / "sensitive.md").read_text())[0], names)
    driver = TopologyDriver(names["topology"], datetime(2026, 1, 1, tzinfo=UTC))
    order = {"customer": "c1", "email": "a@b.org", "phone": "5551234", "notes": "gate code"}
    at = "2026-01-01T00:00:00Z"
    driver.send("orders", {**order, "cents": 1, "at": at}, {**order, "cents": "odd", "at": at})
    driver.end_of_input()
    assert [row["phone"] for row in driver.files("orders")] == ["****234"]
    assert [row["by_phone"] for row in driver.read("reachable")] == [True]
    (letter,) = driver.records("orders-dlq")
    left = f"{driver.files('orders')} {driver.records('reachable')} {letter}"
    assert not [text for text in ("a@b.org", "5551234", "gate code") if text in left]


def test_the_commands_for_tables_are_there() -> None:
    [shown] = re.findall(r"```sh\n(.*?)```", TABLES, re.DOTALL)
    for line in shown.splitlines():
        _, name, *words = line.split()
        usage = CliRunner().invoke(main, [name, "--help"]).output
        assert all(word in usage for word in words if word.startswith("--")), line


def test_make_knows_the_commands_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in blocks("sh")[0].splitlines():
        target = line.split()[1]
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_in_the_readme_and_has_help_with_an_example(name: str) -> None:
    assert f"`streamflow {name}" in README
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Example" in result.output
    assert f"streamflow {name}" in result.output


def test_each_setting_is_documented_with_its_default() -> None:
    for name, info in Settings.model_fields.items():
        assert f"`STREAMFLOW_{name.upper()}`" in OPERATING, name
        assert info.description, name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_each_link_and_file_that_is_named_exists(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), target
    if path.name == "ARCHITECTURE.md":
        for name in re.findall(r"`((?:core|engine|edges|tests)/[a-z_]+(?:\.py|/)?)`", text):
            found = ROOT / name if name.startswith("tests") else ROOT / "streamflow" / name
            assert found.exists(), name


def test_the_readme_says_where_the_command_is_and_what_of_the_topology_it_leaves_out() -> None:
    assert "`.venv/bin/streamflow`" in README
    shown = blocks("python")[0]
    for name in ("Flight", "Hourly", "scheduled"):
        assert name in shown
        assert f"`{name}`" in README
