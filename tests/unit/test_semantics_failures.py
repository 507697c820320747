"""What docs/semantics.md says of functions that fail."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, source, topic
from streamflow.errors import StateRefused
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
