"""The examples of change detection in docs/semantics.md do what the text says."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, content, debezium, epoch, source, topic
from streamflow.batch import Record
from streamflow.testing import TopologyDriver

SEMANTICS = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_change_detection() -> None:
    blocks = re.findall(r"```python\n(.*?)```", SEMANTICS, re.DOTALL)
    (code,) = [block for block in blocks if "class Product" in block]
    defined: dict[str, Any] = {"BaseModel": BaseModel, "AwareDatetime": AwareDatetime}
    defined |= {"source": source, "topic": topic, "content": content, "__name__": __name__}
    exec(code, defined)
    present = defined["present"]
    edges = present.to(topic("present")), present.rejected.drop()
    driver = TopologyDriver(Topology("products", *edges), NOW)

    def product(price: int, minute: int) -> dict[str, Any]:
        at = NOW + timedelta(minutes=minute)
        return {"sku": "a", "price": price, "stock": 1, "updated_at": at}

    gone = Record(b"a", None, int(NOW.timestamp() * 1000))
    driver.send("products", product(5, 0), product(5, 4), product(6, 2), gone, product(5, 3))
    assert [row["price"] for row in driver.read("present")] == [5]
    driver.send("products", product(5, 5), product(7, 6))
    assert [row["price"] for row in driver.read("present")] == [5, 5, 7]
    name = "changed sku by content(price,stock)"
    counts = {"new": 2, "changed": 1, "deleted": 1, "unchanged": 1, "conflict": 2}
    assert {f"{name}: {what}": count for what, count in counts.items()}.items() <= (
        driver.rules.items()
    )


def test_debezium() -> None:
    blocks = re.findall(r"```python\n(.*?)```", SEMANTICS, re.DOTALL)
    (code,) = [block for block in blocks if "class Customer(" in block]
    defined: dict[str, Any] = {"BaseModel": BaseModel, "source": source, "topic": topic}
    defined |= {"epoch": epoch, "debezium": debezium, "__name__": __name__}
    exec(code, defined)
    changed = defined["changed"]
    sides = changed.rejected.to(topic("dlq")), changed.conflicts.to(topic("older"))
    driver = TopologyDriver(Topology("shop", changed.to(topic("out")), *sides), NOW)

    def event(op: str, lsn: int, row: dict[str, Any] | None) -> Record:
        said = {"op": op, "before": row if op == "d" else None, "after": row if op != "d" else None}
        value = orjson.dumps(said | {"source": {"lsn": lsn, "ts_ms": lsn * 1000}})
        return Record(b'{"id":7}', value, 0)

    row = {"id": 7, "name": "Ann"}
    log = event("c", 1, row), event("d", 2, row), Record(b'{"id":7}', None, 0), event("c", 3, row)
    driver.send("shop.public.customers", *log, *log, event("t", 4, None))
    headers = [dict(record.headers)["streamflow.change"] for record in driver.records("out")]
    assert headers == [b"new", b"deleted", b"new"]
    assert len(driver.records("older")) == 2
    assert [letter["reason"] for letter in driver.read("dlq")] == ["envelope"]
    counts = {"debezium: tombstone": 2, "changed id by lsn: unchanged": 1}
    assert counts.items() <= driver.rules.items()
