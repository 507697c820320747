"""Answers are added as plain Python would add them, in order, however rows are cut, asked for and
done again; whoever answers answers the same of the same key.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import Cache, Count, Sum, Topology, Tumbling, parquet, per_key, source, topic
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LAG, MINUTE = 5 * SECOND, 60 * SECOND


class Sale(BaseModel):
    shop: str
    sku: str | None
    lot: int
    at: AwareDatetime


class Priced(BaseModel):
    shop: str
    sku: str | None
    lot: int
    price: int | None = Field(ge=0)
    name: str | None


class Weighed(BaseModel):
    shop: str
    price: int | None
    grams: int


class PerShop(BaseModel):
    shop: str
    window_start: AwareDatetime
    sales: int
    grams: int


#: By product and lot its price; of a lot of 3 there is none, of "bad" asking fails, "cheap" breaks
#: the model, and "late" costs nothing.
def price_of(sku: str, lot: int) -> dict[str, Any] | None:
    if sku == "bad":
        raise ConnectionError("away")
    if lot == 3:
        return None
    prices = {"cheap": -1, "late": None}
    return {"price": prices.get(sku, len(sku) * 10 + lot), "name": f"{sku}-{lot}"}


def grams_of(price: int) -> int | None:
    return None if price % 10 == 2 else price * 2


class Asked:
    """The functions that answer, each key after as many turns as its number says."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    async def prices(self, keys: list[tuple[str, int]]) -> dict[tuple[str, int], Any]:
        assert len(set(keys)) == len(keys)
        self.calls.append(keys)
        for _ in range(keys[0][1] * 2):
            await asyncio.sleep(0)
        return {key: price_of(*key) for key in reversed(keys)}

    async def grams(self, price: int) -> Any:
        for _ in range(price % 5):
            await asyncio.sleep(0)
        grams = grams_of(price)
        return None if grams is None else {"grams": grams, "more": "is not looked at"}


Policy = Literal["dead_letter", "null"]
Row = tuple[str, str | None, int, int]
rows = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["tea", "milk", "x", "late", "cheap", "bad", None]),
        st.integers(0, 3),
        st.integers(-20, 40),
    ),
    min_size=1,
    max_size=30,
)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=4)
limits = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 5),
        "concurrency": st.integers(1, 3),
        "cache": st.sampled_from([None, Cache(ttl=MINUTE), Cache(ttl=MINUTE, max_keys=2)]),
    }
)


def built(asked: Asked, on_error: Policy, **limits: Any) -> Topology:
    sales = source(topic("sales"), Sale, key="shop", event_time="at", out_of_orderness=LAG)
    priced = sales.enrich(Priced, asked.prices, key=("sku", "lot"), on_error=on_error, **limits)
    limits.pop("batch")
    weighed = priced.enrich(Weighed, per_key(asked.grams), key="price", **limits)
    per_shop = weighed.window(Tumbling(MINUTE), by="shop").aggregate(
        PerShop, sales=Count(), grams=Sum("grams")
    )
    return Topology(
        "sales",
        priced.to(topic("priced")),
        priced.to(parquet("priced")),
        weighed.to(topic("weighed")),
        sales.rejected.to(topic("dlq")),
        per_shop.to(topic("per-shop")),
        per_shop.late.to(topic("late")),
    )


def sent(stream: Sequence[Row]) -> list[dict[str, Any]]:
    at, made = START, list[dict[str, Any]]()
    for shop, sku, lot, move in stream:
        at += move * SECOND
        made.append({"shop": shop, "sku": sku, "lot": lot, "at": at})
    return made


def run(
    stream: Sequence[Row],
    topology: Topology,
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
    *,
    keep_disk: bool = True,
) -> TopologyDriver:
    driver = TopologyDriver(
        topology, NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    records = sent(stream)
    driver.send("sales", *records[: len(records) // 2])
    with driver.crash(at=crash_at or "never"):
        driver.send("sales", *records[len(records) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    return driver


def reference(stream: Sequence[Row], on_error: Policy) -> dict[str, Any]:
    """One row at a time."""
    priced: list[tuple[Any, ...]] = []
    weighed: list[tuple[Any, ...]] = []
    letters: list[tuple[int, str]] = []
    late: list[int] = []
    windows: dict[tuple[str, datetime], list[int]] = {}
    watermark: datetime | None = None
    for offset, row in enumerate(sent(stream)):
        shop, sku, lot, at = row["shop"], row["sku"], row["lot"], row["at"]
        answer = None
        if sku == "bad" or (sku == "cheap" and lot != 3):
            if on_error == "dead_letter":
                letters.append((offset, "enrich Priced"))
                continue
        elif sku is not None:
            answer = price_of(sku, lot)
        price = None if answer is None else answer["price"]
        priced.append((shop, sku, lot, price, None if answer is None else answer["name"]))
        grams = None if price is None else grams_of(price)
        if grams is None:
            letters.append((offset, "enrich Weighed"))
            continue
        before, start = watermark, at - (at - START) % MINUTE
        watermark = max(watermark or at - LAG, at - LAG)
        weighed.append((shop, price, grams))
        if before is not None and before >= start + MINUTE:
            late.append(offset)
        else:
            windows.setdefault((shop, start), []).append(grams)
    results = sorted((shop, at, len(found), sum(found)) for (shop, at), found in windows.items())
    counts = {"priced": priced, "weighed": weighed, "letters": sorted(letters)}
    return {**counts, "late": late, "results": results, "table": sorted(map(str, priced))}


def found(driver: TopologyDriver) -> dict[str, Any]:
    names = ("shop", "sku", "lot", "price", "name")
    late = [dict(record.headers)["streamflow.lineage"] or b"" for record in driver.records("late")]
    letters = [
        (row["offset"], (dict(record.headers)["streamflow.stage"] or b"").decode())
        for row, record in zip(driver.read("dlq"), driver.records("dlq"), strict=True)
    ]
    table = [tuple(row[name] for name in names) for row in driver.files("priced")]
    return {
        "priced": [tuple(row[name] for name in names) for row in driver.read("priced")],
        "weighed": [(r["shop"], r["price"], r["grams"]) for r in driver.read("weighed")],
        "letters": sorted(letters),
        "late": [int.from_bytes(lineage[13:21], "big") for lineage in late],
        "results": sorted(
            (row["shop"], row["window_start"], row["sales"], row["grams"])
            for row in driver.read("per-shop")
        ),
        "table": sorted(map(str, table)),
    }


@pytest.mark.parametrize("on_error", ["dead_letter", "null"])
@law(cases=2)
@given(rows, cuts, st.integers(1, 20), limits)
def test_answers_are_added_as_plain_python_adds_them(
    on_error: Policy, stream: list[Row], batches: list[int], commits: int, limits: dict[str, Any]
) -> None:
    asked = Asked()
    driver = run(stream, built(asked, on_error, **limits), batches, commits)
    assert found(driver) == reference(stream, on_error)
    totals = driver.totals
    ways = totals["passed"] + totals["rejected"] + totals["dropped"]
    assert totals["in"] + totals["forked"] == ways
    assert all(len(keys) <= limits["batch"] for keys in asked.calls)
    assert not [key for keys in asked.calls for key in keys if key[0] is None]


@law()
@given(rows, cuts, st.integers(1, 20), limits, st.sampled_from(CRASH_POINTS), st.booleans())
def test_cuts_commits_and_crashes_are_unobservable(
    stream: list[Row],
    batches: list[int],
    commits: int,
    limits: dict[str, Any],
    point: str,
    keep_disk: bool,
) -> None:
    topology = built(Asked(), "dead_letter", **limits)
    crashed = run(stream, topology, batches, commits, crash_at=point, keep_disk=keep_disk)
    whole = run(stream, built(Asked(), "dead_letter", **limits))
    assert found(crashed) == found(whole)
    assert crashed.totals == whole.totals
    assert crashed.rules == whole.rules
