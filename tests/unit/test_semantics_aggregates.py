"""The examples of aggregates in docs/semantics.md do what the text beside them says."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel

import streamflow
from streamflow import AggregateFunction, Topology, Tumbling, source, topic
from streamflow.aggregates import Aggregate
from streamflow.testing import TopologyDriver, check_aggregate

SEMANTICS = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Sale(BaseModel):
    shop: str
    cents: int
    pieces: int = 1
    note: str | None = None
    at: AwareDatetime


class Priced(BaseModel):
    shop: str
    window_start: AwareDatetime
    price: float | None


sales = source(topic("sales"), Sale, key="shop", event_time="at")


def run_example(word: str) -> dict[str, Any]:
    """What the python block that holds `word` defines."""
    blocks = re.findall(r"```python\n(.*?)```", SEMANTICS, re.DOTALL)
    (code,) = [block for block in blocks if word in block]
    names = dict(vars(streamflow)) | {
        name: getattr(streamflow, name) for name in streamflow.__all__
    }
    names |= {"sales": sales, "timedelta": timedelta, "pa": pa, "pc": pc}
    names |= {"BaseModel": BaseModel, "AwareDatetime": AwareDatetime, "__name__": __name__}
    exec(code, names)
    return names


def results(made: Any, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    edges = [made.to(topic("x")), made.late.drop(), sales.rejected.drop()]
    driver = TopologyDriver(Topology("sales", *edges), NOON)
    driver.send("sales", *({"at": NOON, **row} for row in rows))
    driver.end_of_input()
    return {row["shop"]: row for row in driver.read("x")}


def test_the_example_of_aggregates_gives_what_the_text_says() -> None:
    rows: list[dict[str, Any]] = [
        {"shop": "a", "cents": 100, "note": "gift"},
        {"shop": "a", "cents": 200},
        {"shop": "a", "cents": 900, "note": "gift"},
        {"shop": "b", "cents": 1},
        *({"shop": "c", "cents": 1, "note": str(i)} for i in range(1001)),
    ]
    found = results(run_example("Frequent(")["per_shop"], rows)
    a, b, c = found["a"], found["b"], found["c"]
    assert (a["total"], a["notes"], a["kinds"]) == (1200, ["gift"], 1)
    assert a["typical"] == pytest.approx(200, abs=2)
    assert a["spread"] == pytest.approx(435.89, abs=0.005)
    assert (b["notes"], b["kinds"], b["spread"]) == ([], 0, None)
    assert (c["notes"], c["kinds"]) == (None, 1001)


def test_the_example_of_an_aggregate_of_ones_own() -> None:
    price: AggregateFunction = run_example("class MeanPrice")["MeanPrice"]()
    check_aggregate(price, pa.record_batch({"cents": [5, 0, 100], "pieces": [1, 0, 20]}))
    made = sales.window(Tumbling(HOUR), by="shop").aggregate(Priced, price=price)
    rows = [{"shop": "a", "cents": 300, "pieces": 2}, {"shop": "a", "cents": 100, "pieces": 2}]
    found = results(made, [*rows, {"shop": "b", "cents": 0, "pieces": 0}])
    assert (found["a"]["price"], found["b"]["price"]) == (100.0, None)


def test_every_aggregate_is_in_the_table() -> None:
    section = SEMANTICS.split("## Aggregates\n")[1].split("### An aggregate")[0]
    named = set(re.findall(r"`(\w+)\(", "".join(re.findall(r"^\|[^|]*\|", section, re.MULTILINE))))
    kinds = {kind.__name__ for kind in Aggregate.__args__} - {"UserDefined"}
    assert named == kinds
