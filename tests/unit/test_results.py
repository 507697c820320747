"""What windows give must fit the results' model; what cannot is refused when it is built."""

from copy import copy
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel, Field, create_model

from streamflow import (
    Collect,
    Count,
    Distinct,
    First,
    Last,
    Max,
    Mean,
    Min,
    Sum,
    Topology,
    TopologyError,
    Tumbling,
    source,
    topic,
)
from streamflow.schema import arrow_schema

HOUR = timedelta(hours=1)


class Sale(BaseModel):
    shop: str | None
    street: str | None
    pay: Decimal | None = Field(decimal_places=2)
    qty: int | None
    weight: float
    tags: list[str]
    at: AwareDatetime
    shares: list[int | None] = []
    weeks: int = 0
    window_start: AwareDatetime | None = None


class PerShop(BaseModel):
    shop: str
    window_start: AwareDatetime
    made: int


class PerShopPay(BaseModel):
    shop: str
    window_start: AwareDatetime
    made: Decimal = Field(decimal_places=2)


class PerShopFloat(BaseModel):
    shop: str
    window_start: AwareDatetime
    made: float


class PerShopPerhaps(BaseModel):
    shop: str | None
    window_start: AwareDatetime
    made: int | None


class PerStreet(BaseModel):
    shop: str
    street: str
    window_start: AwareDatetime


class PerShopNumber(BaseModel):
    shop: int
    window_start: AwareDatetime


def per_shop(
    model: type[BaseModel], by: str | tuple[str, ...] = "shop", **aggregates: Any
) -> Topology:
    sales = source(topic("sales"), Sale, key="shop", event_time="at")
    made = sales.window(Tumbling(HOUR), by=by, grace=HOUR).aggregate(model, **aggregates)
    return Topology("t", made.to(topic("x")), made.late.drop(), sales.rejected.drop())


@pytest.mark.parametrize(
    ("model", "aggregate", "kind"),
    [
        (PerShop, Max("qty"), "int"),
        (PerShop, Min("qty"), "int"),
        (PerShop, Sum("qty"), "int"),
        (PerShopFloat, Mean("qty"), "float"),
        (PerShopPay, Sum("pay"), "Decimal"),
    ],
    ids=repr,
)
def test_a_result_that_can_be_null_is_refused_unless_the_model_says_so(
    model: type[BaseModel], aggregate: Any, kind: str
) -> None:
    with pytest.raises(TopologyError) as refused:
        per_shop(model, made=aggregate)
    name = type(aggregate).__name__
    assert str(refused.value) == (
        f"{model.__name__}.made can be null, since {name}({aggregate.field!r}) is null where "
        f"every {aggregate.field} is; declare it {kind} | None"
    )


@pytest.mark.parametrize(
    ("model", "aggregate"),
    [
        (PerShop, Count()),
        (PerShop, Distinct("qty")),
        (PerShop, Distinct("shop")),
        (PerShopFloat, Mean("weight")),
        (PerShopFloat, Sum("weight")),
        (PerShopPerhaps, Max("qty")),
        (PerShopPerhaps, Count()),
    ],
    ids=repr,
)
def test_a_result_that_is_never_null_or_may_be_is_allowed(
    model: type[BaseModel], aggregate: Any
) -> None:
    (task,) = per_shop(model, made=aggregate).tasks
    assert task.windows[0].schema.field("made") == arrow_schema(model).field("made")


class Shares(BaseModel):
    shop: str
    window_start: AwareDatetime
    made: list[int]


@pytest.mark.parametrize("aggregate", [First("shares"), Last("shares")], ids=repr)
def test_a_list_has_nulls_in_it_only_where_the_model_allows_them(aggregate: Any) -> None:
    with pytest.raises(
        TopologyError, match=r"Shares\.made can have a null in it, since Sale\.shares"
    ):
        per_shop(Shares, made=aggregate)
    per_shop(SharesPerhaps, made=aggregate)
    per_shop(Shares, made=Collect("weeks", limit=5))


class SharesPerhaps(BaseModel):
    shop: str
    window_start: AwareDatetime
    made: list[int | None]


@pytest.mark.parametrize("name", ["window_end", "revision", "final"])
def test_what_every_result_has_is_no_name_for_anything_else(name: str) -> None:
    words = rf"every result of 'sales\.other' says by '{name}'"
    fields: dict[str, Any] = {"shop": str, "window_start": AwareDatetime, name: int}
    aggregates: dict[str, Any] = {name: Count()}
    with pytest.raises(TopologyError, match=words):
        per_shop(create_model("Other", **fields), **aggregates)


def test_a_group_and_an_aggregate_have_names_of_their_own() -> None:
    words = "says by 'window_start' where its window begins; name yours otherwise"
    with pytest.raises(TopologyError, match=words):
        per_shop(PerShop, by=("shop", "window_start"), made=Count())
    with pytest.raises(TopologyError, match=words):
        per_shop(PerShop, made=Count(), window_start=Min("window_start"))
    with pytest.raises(TopologyError, match=r"'shop' is one of the fields that .* are grouped by"):
        per_shop(PerShop, made=Count(), shop=First("street"))


def test_a_group_is_what_the_records_have() -> None:
    per_shop(PerShop, made=Count())  # the key is never null: it equals the record's key
    with pytest.raises(
        TopologyError,
        match=r"PerStreet\.street can be null, since Sale\.street can; declare it str \| None",
    ):
        per_shop(PerStreet, by=("shop", "street"))
    with pytest.raises(
        TopologyError, match=r"PerShopNumber\.shop is int64, but Sale\.shop is string; change"
    ):
        per_shop(PerShopNumber)
    with pytest.raises(TopologyError, match="cannot group by 'tags', which is list"):
        per_shop(PerStreet, by=("shop", "tags"))


def test_what_only_streams_have_is_refused_in_words() -> None:
    rows = source(topic("sales"), Sale, key="shop", event_time="at")
    window: Any = rows.window(Tumbling(HOUR), by="shop")
    results: Any = window.aggregate(PerShop, made=Count())
    words = r"results of PerShop have no .drop: .* \.to\(parquet\(...\)\), or leave the window out"
    with pytest.raises(TopologyError, match=words):
        results.drop()
    with pytest.raises(TopologyError, match=r"have no .filter: .* \.to\(parquet\(...\)\)$"):
        results.filter("n > 1")
    words = r"a window on 'sales' has no .map: only .aggregate\(Model, ...\) follows it"
    with pytest.raises(TopologyError, match=words):
        window.map(PerShop)
    for part in (window, results):
        assert not hasattr(part, "drop")
        assert type(copy(part)) is type(part)
        for name in ("nothing", "_private", "source"):
            with pytest.raises(AttributeError, match=f"has no attribute '{name}'$"):
                getattr(part, name)
