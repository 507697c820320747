"""Each sentence of the guarantees names a test, and there is one of that name."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guarantees.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[a-z0-9_/]+\.py)::([a-zA-Z_0-9]+)`", TEXT)))


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_each_test_that_is_named_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert name in found


def test_each_failure_names_a_test() -> None:
    table = TEXT.split("## Under these failures")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10
    for row in rows:
        assert re.search(r"`tests/[a-z0-9_/]+\.py::", row), row


def test_nothing_is_named_in_another_way() -> None:
    assert TEXT.count("::") == len(re.findall(r"`tests/[a-z0-9_/]+\.py::[a-zA-Z_0-9]+`", TEXT)) + 1
