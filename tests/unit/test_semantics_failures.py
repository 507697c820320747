"""What docs/semantics.md says of functions that fail, and of answers from outside."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import Cache, Topology, source, topic
from streamflow.errors import StateRefused, TaskLost
from streamflow.testing import TopologyDriver

SEMANTICS = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Sale(BaseModel):
    shop: str
    cents: int
    at: AwareDatetime


sales = source(topic("sales"), Sale, key="shop", event_time="at")


def example(word: str, **given: Any) -> dict[str, Any]:
    """What the python block that holds `word` defines."""
    blocks = re.findall(r"```python\n(.*?)```", SEMANTICS, re.DOTALL)
    (code,) = [block for block in blocks if word in block]
    names: dict[str, Any] = {"pa": pa, "pc": pc, "sales": sales, "BaseModel": BaseModel}
    defined = names | given | {"__name__": __name__}
    exec(code, defined)
    return defined


def sale(cents: int) -> dict[str, Any]:
    return {"shop": "a", "cents": cents, "at": NOW}


def test_a_function_that_halts_the_worker() -> None:
    shares = example("class Share")["shares"]
    edges = [shares.to(topic("shares")), shares.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("shares", *edges), NOW)
    with pytest.raises(StateRefused, match=r"sales\[0\]@1: map Share fails on this record"):
        driver.send("sales", sale(100), sale(0), sale(50))
    assert [row["share"] for row in driver.read("shares")] == [100]


class Registry:
    """A service that knows one shop, and one with a year that no shop is of."""

    def __init__(self) -> None:
        self.known = {"a": {"city": "Rome", "year": 1950}, "b": {"city": "Oslo", "year": 10}}
        self.asked: list[list[str]] = []

    async def fetch(self, keys: list[str]) -> list[dict[str, Any]]:
        self.asked.append(keys)
        return [{"id": key, **self.known[key]} for key in keys if key in self.known]


def test_answers_from_outside() -> None:
    registry = Registry()
    names = {"registry": registry, "Cache": Cache, "timedelta": timedelta, "Field": Field}
    located = example("class Located", Any=Any, **names)["located"]
    edges = [located.to(topic("located")), located.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("located", *edges), NOW)
    driver.send("sales", sale(1), sale(2), {**sale(3), "shop": "c"})
    places = [(row["city"], row["opened"]) for row in driver.read("located")]
    assert places == [("Rome", 1950), ("Rome", 1950), (None, None)]
    driver.advance(timedelta(minutes=9))
    driver.send("sales", sale(4))
    assert registry.asked == [["a", "c"]]
    assert driver.rules == {"enrich Located:missing": 1}
    with pytest.raises(TaskLost, match="not what the model says"):
        driver.send("sales", {**sale(5), "shop": "b"})
