"""A small topology that has every kind of exit, and records that take each of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import (
    Count,
    Distinct,
    Max,
    Mean,
    Min,
    Rule,
    Sum,
    Topology,
    Tumbling,
    parquet,
    source,
    topic,
)
from streamflow.batch import Record

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
GRACE, LAG = timedelta(seconds=90), timedelta(seconds=30)
COUNTRIES = ("FR", "DE", "JP")


class Order(BaseModel, frozen=True):
    country: str
    product: str | None
    cents: int = Field(ge=0)
    weight: float
    price: Decimal = Field(decimal_places=2)
    at: AwareDatetime


class PerMinute(BaseModel, frozen=True):
    country: str
    window_start: AwareDatetime
    orders: int
    cents: int
    mean_weight: float
    total_price: Decimal = Field(decimal_places=2)
    smallest: int
    largest: int
    products: int


orders = source(topic("orders"), Order, key="country", event_time="at", out_of_orderness=LAG).gate(
    Rule("cheap", "cents < 1000", severity="critical"),
    Rule("named", "product IS NOT NULL", severity="warning"),
)
per_minute = orders.window(Tumbling(MINUTE), by="country", grace=GRACE).aggregate(
    PerMinute,
    orders=Count(),
    cents=Sum("cents"),
    mean_weight=Mean("weight"),
    total_price=Sum("price"),
    smallest=Min("cents"),
    largest=Max("cents"),
    products=Distinct("product"),
)
topology = Topology(
    "orders",
    orders.to(topic("orders.clean")),
    orders.to(parquet("orders", partition_by="country", target_bytes=3_000)),
    orders.rejected.to(topic("orders.dlq")),
    per_minute.to(topic("per-minute")),
    per_minute.to(parquet("per-minute")),
    per_minute.late.to(topic("orders.late")),
)


def order(seconds: int, country: str = "FR", **changes: Any) -> Record:
    """An order `seconds` after noon."""
    row: dict[str, Any] = {
        "country": country,
        "product": "book",
        "cents": 10,
        "weight": 0.1,
        "price": "1.25",
        "at": NOON + timedelta(seconds=seconds),
    }
    return Record(country.encode(), orjson.dumps(row | changes, option=orjson.OPT_UTC_Z))


#: Weights. Sums of floats depend on their order in the last digit; those of `EXACT` ones do not.
ANY = st.floats(-1e6, 1e6)
EXACT = st.integers(-64_000_000, 64_000_000).map(lambda n: n / 64)


def _order(draw: Callable[[Any], Any], weights: st.SearchStrategy[float]) -> Record:
    return order(
        draw(st.integers(-200, 900)),
        draw(st.sampled_from(COUNTRIES)),
        product=draw(st.sampled_from(["book", "pen", None])),
        cents=draw(st.sampled_from([0, 1, 999, 1000, 2**62])),
        weight=draw(weights),
        price=draw(st.sampled_from(["0.01", "1234567.89", "3.50"])),
    )


@st.composite
def records(draw: Any, weights: st.SearchStrategy[float] = ANY) -> Record:
    """Mostly orders; some that cannot be read, have the wrong key, or break the contract."""
    good = _order(draw, weights)
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return good._replace(
            value=draw(st.sampled_from([None, b"", b"{oops", b"[]", b"1 2", b"\xff"]))
        )
    if kind == 1:
        return good._replace(key=draw(st.sampled_from([None, b"XX"])))
    if kind == 2:
        return good._replace(value=(good.value or b"").replace(b'"cents":', b'"cents":-'))
    return good
