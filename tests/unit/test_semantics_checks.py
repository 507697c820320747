"""The examples of checks, and of quality over extents, in docs/semantics.md do what it says."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import streamflow
from streamflow import Rule, Topology
from streamflow.testing import TopologyDriver

from .test_checks import sale, sales

SEMANTICS = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def defined_by(word: str, **given: Any) -> dict[str, Any]:
    blocks = re.findall(r"```python\n(.*?)```", SEMANTICS, re.DOTALL)
    (code,) = [block for block in blocks if word in block]
    defined: dict[str, Any] = {name: getattr(streamflow, name) for name in streamflow.__all__}
    defined |= {"timedelta": timedelta} | given
    exec(code, defined)
    return defined


def test_quality_over_extents() -> None:
    guarded = sales.gate(Rule("real", "note <> 'test'"), Rule("small", "cents < 9", "warning"))
    edges = defined_by("quality_over", guarded=guarded)["edges"]
    driver = TopologyDriver(Topology("sales", *edges), NOON)
    rows = [b"{", sale(0, note="test"), sale(1, cents=10), sale(2), sale(3700, cents=10)]
    driver.send("sales", *rows)
    (one,) = driver.read("quality")
    assert (one["records"], one["rejected"], one["issues"], one["score"]) == (4, 2, 3, 25.0)
    assert [rule["examples"] for rule in one["rules"]] == [[1], [2]]
    assert one["refused"] == [{"reason": "not-json", "records": 1, "examples": [0]}]
    driver.end_of_input()
    history = [(one["window_start"], one["score"]) for one in driver.files("quality/hourly")]
    assert sorted(history) == [(NOON, 25.0), (NOON + timedelta(hours=1), 0.0)]


def test_checks() -> None:
    defined = defined_by("Volume(", sales=sales)
    driver = TopologyDriver(Topology("sales", *defined["edges"], sales.rejected.drop()), NOON)
    rows = [sale(0, cents=900), sale(60, cents=70, note=None), sale(60, cents=70, note=None)]
    driver.send("sales", *rows, sale(2 * 3600 + 300, cents=90), sale(1))
    found = {(o["check"], o["rows"]): (o["verdict"], o["value"]) for o in driver.read("checks")}
    assert found["row count", 3] == ("pass", 3.0)
    assert found["null rate of note", 3] == ("warn", 2 / 3)
    assert found["share of cents > 100", 3] == ("pass", 1 / 3)
    assert found["duplicates of shop, cents, at", 3] == ("fail", 1.0)
    assert found["volume against 24", 3] == ("unknown", 3.0)
    assert found["row count", 0] == ("fail", 0.0)
    assert found["null rate of note", 0] == ("unknown", None)
    driver.end_of_input()
    assert len(driver.files("quality/checks")) == 3 * 7
    assert driver.rules["sales.checks: late"] == 1
    assert driver.rules["sales.checks: row count: fail"] == 2
