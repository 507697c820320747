"""Records of models in models: structs, lists and maps in tables, JSON in topics."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import duckdb
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from pydantic import AwareDatetime, BaseModel, Field, RootModel

from streamflow import (
    Last,
    Rule,
    Topology,
    TopologyError,
    Tumbling,
    delta,
    formerly,
    parquet,
    source,
    topic,
)
from streamflow.batch import Record
from streamflow.core.json_values import to_json
from streamflow.destinations import Parquet
from streamflow.errors import SinkRefused
from streamflow.local import LocalRun
from streamflow.schema import arrow_schema
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = "2026-01-01T00:00:00Z"


class Item(BaseModel):
    sku: str = Field(description="the article")
    price: Decimal
    weight: float | None = None


class Address(BaseModel):
    city: str
    since: AwareDatetime | None = None


class Order(BaseModel):
    id: int
    at: AwareDatetime
    to: Address
    bill: Address | None = None
    items: list[Item]
    tags: dict[str, int | None] = {}


class Slim(BaseModel):
    id: int
    to: Address
    items: list[Item]
    tags: dict[str, int | None]


ITEMS = [{"sku": "a", "price": "1.50", "weight": 2.5}, {"sku": "b", "price": "2"}]
ORDER = {"id": 1, "at": AT, "to": {"city": "Köln", "since": AT}, "items": ITEMS, "tags": {"x": 1}}
SMALL = {"id": 2, "at": AT, "to": {"city": "Rom"}, "items": [], "bill": {"city": "Bonn"}}
ROWS = [
    {
        "id": 1,
        "to": {"city": "Köln", "since": NOW},
        "bill": None,
        "items": [
            {"sku": "a", "price": Decimal("1.5"), "weight": 2.5},
            {"sku": "b", "price": Decimal(2), "weight": None},
        ],
        "tags": {"x": 1},
    },
    {
        "id": 2,
        "to": {"city": "Rom", "since": None},
        "bill": {"city": "Bonn", "since": None},
        "items": [],
        "tags": {},
    },
]
NAMES = list(ROWS[0])


def topology(table: Parquet, model: type[BaseModel] = Order, *rules: Rule) -> Topology:
    orders = source(topic("orders"), model, event_time="at")
    kept = orders.gate(*rules) if rules else orders
    return Topology("orders", kept.to(table), orders.rejected.to(topic("dlq")))


def written(root: Path, table: Parquet) -> Path:
    records = [Record(b"k", orjson.dumps(order), 0) for order in (ORDER, SMALL)]
    LocalRun(topology(table), root / "out", partitions=1).run({"orders": records})
    return root / "out" / "orders"


@pytest.mark.parametrize("storage", ["auto", "none"])
def test_every_engine_reads_structs_lists_and_maps(tmp_path: Path, storage: Any) -> None:
    folder = written(tmp_path, parquet("orders", storage=storage))
    found = ds.dataset(folder).to_table(columns=NAMES).sort_by("id")
    assert found.to_pylist(maps_as_pydicts="strict") == ROWS
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        names = ", ".join(f'"{name}"' for name in NAMES)
        sql = f"select {names} from read_parquet('{folder}/*.parquet') order by id"
        assert connection.sql(sql).to_arrow_table().to_pylist(maps_as_pydicts="strict") == ROWS
        sql = f"select sum(item.price) from (select unnest(items) item from '{folder}/*.parquet')"
        assert connection.sql(sql).fetchall() == [(Decimal("3.5"),)]
    frame = pl.read_parquet(folder / "*.parquet").sort("id")
    assert frame["to"].struct["city"].to_list() == ["Köln", "Rom"]
    assert frame["items"].list.len().to_list() == [2, 0]


def test_delta_tables_have_them_too(tmp_path: Path) -> None:
    table = DeltaTable(str(written(tmp_path, delta("orders"))))
    found = table.to_pyarrow_table(columns=NAMES).sort_by("id")
    assert found.to_pylist(maps_as_pydicts="strict") == ROWS


def test_fields_inside_have_their_descriptions() -> None:
    driver = TopologyDriver(topology(parquet("orders")), NOW)
    driver.send("orders", ORDER)
    driver.end_of_input()
    [table] = driver.tables("orders")
    inside = table.schema.field("items").type.value_field.type
    assert inside.field("sku").metadata[b"description"] == b"the article"


def test_what_is_refused_inside_is_named() -> None:
    driver = TopologyDriver(topology(parquet("orders")), NOW)
    driver.send("orders", ORDER | {"items": [*ITEMS, {"sku": "c", "price": "dear"}]}, ORDER)
    assert [(row["reason"], row["field"]) for row in driver.read("dlq")] == [
        ("invalid", "items.2.price")
    ]


def test_rows_of_another_model_go_to_topics_as_json() -> None:
    orders = source(topic("orders"), Order, event_time="at")
    slim = orders.map(Slim, id="id", to="to", items="items", tags="tags")
    edges = (slim.to(topic("slim")), orders.rejected.drop())
    driver = TopologyDriver(Topology("orders", *edges), NOW)
    nan = [{"sku": "nan", "price": "1", "weight": "nan"}]
    driver.send("orders", ORDER, SMALL | {"items": nan})
    sent = [orjson.loads(record.value or b"") for record in driver.records("slim")]
    assert [(row["to"], row["tags"]) for row in sent] == [
        ({"city": "Köln", "since": AT}, {"x": 1}),
        ({"city": "Rom", "since": None}, {}),
    ]
    assert sent[0]["items"][0] == {"sku": "a", "price": "1.500000000", "weight": 2.5}
    assert sent[1]["items"] == [{"sku": "nan", "price": "1.000000000", "weight": "NaN"}]
    assert [Slim.model_validate(row).id for row in sent] == [1, 2]


def test_bytes_are_the_text_that_they_were() -> None:
    class Held(BaseModel):
        raw: bytes

    class Raw(BaseModel):
        at: AwareDatetime
        raw: bytes
        held: list[Held]

    class Sent(BaseModel):
        raw: bytes
        held: list[Held]

    raws = source(topic("raws"), Raw, event_time="at")
    edges = (raws.map(Sent, raw="raw", held="held").to(topic("sent")), raws.rejected.drop())
    driver = TopologyDriver(Topology("raws", *edges), NOW)
    row = {"raw": "ü'\\", "held": [{"raw": "x"}]}
    driver.send("raws", row | {"at": AT})
    [record] = driver.records("sent")
    sent = orjson.loads(record.value or b"")
    assert {name: sent[name] for name in row} == row
    assert Sent.model_validate_json(record.value or b"").raw == "ü'\\".encode()
    assert orjson.loads(to_json(b"a\xff")) == "a\\xff"


def test_functions_that_make_rows_may_make_models_in_models() -> None:
    def slim(order: dict[str, Any]) -> Slim:
        items = [Item(sku=item["sku"].upper(), price=item["price"]) for item in order["items"]]
        return Slim(id=order["id"], to=Address(city="X"), items=items, tags={"n": len(items)})

    orders = source(topic("orders"), Order, event_time="at")
    made = orders.map_rows(Slim, slim)
    edges = (made.to(parquet("slim")), orders.rejected.to(topic("dlq")))
    driver = TopologyDriver(Topology("orders", *edges), NOW)
    driver.send("orders", ORDER)
    driver.end_of_input()
    [row] = driver.files("slim")
    assert [item["sku"] for item in row["items"]] == ["A", "B"]
    assert (row["to"], row["tags"]) == ({"city": "X", "since": None}, [("n", 2)])


def test_items_become_rows() -> None:
    class Line(BaseModel):
        id: int
        sku: str
        price: Decimal

    orders = source(topic("orders"), Order, event_time="at")
    lines = orders.expand(Line, by="items")
    edges = (lines.to(parquet("lines")), orders.rejected.drop())
    driver = TopologyDriver(Topology("orders", *edges), NOW)
    driver.send("orders", ORDER, SMALL)
    driver.end_of_input()
    assert [(row["id"], row["sku"]) for row in driver.files("lines")] == [(1, "a"), (1, "b")]


def test_an_item_that_is_null_or_whole() -> None:
    class Holed(BaseModel):
        id: int
        at: AwareDatetime
        items: list[Item | None]

    class Line(BaseModel):
        sku: str

    class Whole(BaseModel):
        items: Item | None

    for model, skus, refused in ((Line, ["a"], ["failed"]), (Whole, ["a", None, "b"], [])):
        orders = source(topic("orders"), Holed, event_time="at")
        edges = (
            orders.expand(model, by="items").to(topic("out")),
            orders.rejected.to(topic("dlq")),
        )
        driver = TopologyDriver(Topology("orders", *edges), NOW)
        first = {"id": 1, "at": AT, "items": ITEMS[:1]}
        driver.send("orders", first, first | {"items": [None, ITEMS[1]]})
        sent = [row.get("items", row) or {} for row in driver.read("out")]
        assert [row.get("sku") for row in sent] == skus
        assert [row["reason"] for row in driver.read("dlq")] == refused


def test_rules_ask_whether_they_are_there() -> None:
    rules = [Rule("billed", "bill IS NOT NULL")]
    driver = TopologyDriver(topology(parquet("orders"), Order, *rules), NOW)
    driver.send("orders", ORDER, SMALL)
    driver.end_of_input()
    assert [row["id"] for row in driver.files("orders")] == [2]


class Holder(BaseModel):
    at: AwareDatetime
    inner: list[Holder] | None = None


class Empty(BaseModel):
    pass


class Listed(RootModel[list[int]]):
    pass


class Renamed(BaseModel):
    city: Annotated[str, formerly("town")]


REFUSED = [
    (Holder, "Holder holds itself, and columns have a depth"),
    (list[Empty], "Empty has no fields, which Parquet cannot have"),
    (Listed, "no column type for .*Listed"),
    (dict[int, str], r"no column type for dict\[int, str\]"),
    (Item | Address, "no column type for"),
    (dict[str, Any], "no column type for typing.Any"),
    (
        Renamed,
        r"Row.field.city: formerly\(...\) and marks of sensitive fields are for fields of",
    ),
    (list[datetime], "a datetime without a zone"),
]


@pytest.mark.parametrize(("annotation", "words"), REFUSED, ids=lambda x: str(x)[:30])
def test_what_no_column_can_hold_is_refused(annotation: Any, words: str) -> None:
    row = type("Row", (BaseModel,), {"__annotations__": {"field": annotation}})
    with pytest.raises(TopologyError, match=words):
        arrow_schema(row)


def order_stream(**options: Any) -> Any:
    return source(topic("orders"), Order, event_time="at", **options)


# What takes single values only, and its words for what is none.
TAKES_NONE = [
    (lambda: topology(parquet("x"), Order, Rule("r", "to.city = 'x'")), "use a function instead"),
    (lambda: topology(parquet("x"), Order, Rule("r", "tags = 1")), "cannot be computed on these"),
    (lambda: topology(parquet("x", sort_by="items")), "which has no order here"),
    (lambda: order_stream(key="to"), "Order.to is no single value"),
    (lambda: order_stream().dedup("items", within=timedelta(hours=1)), "cannot compare 'items'"),
    (lambda: order_stream().changed("tags"), "cannot compare 'tags'"),
    (lambda: order_stream().window(Tumbling(timedelta(hours=1)), by="to"), "cannot group by 'to'"),
    (lambda: started(parquet("x", partition_by="to")), "folders are named by text"),
]


def started(table: Parquet) -> TopologyDriver:
    return TopologyDriver(topology(table), NOW)


@pytest.mark.parametrize(("use", "words"), TAKES_NONE, ids=[words for _, words in TAKES_NONE])
def test_what_takes_single_values_says_so(use: Callable[[], Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        use()


def test_the_last_of_a_window_may_be_a_struct() -> None:
    class Latest(BaseModel):
        id: int
        window_start: AwareDatetime
        to: Address | None

    windows = order_stream(key="id").window(Tumbling(timedelta(hours=1)), by="id")
    last = windows.aggregate(Latest, to=Last("to"))
    edges = (last.to(parquet("last")), last.late.drop(), windows.stream.rejected.drop())
    driver = TopologyDriver(Topology("orders", *edges), NOW)
    driver.send("orders", ORDER, ORDER | {"to": {"city": "Rom"}})
    driver.end_of_input()
    assert [row["to"] for row in driver.files("last")] == [{"city": "Rom", "since": None}]


def test_fields_inside_come_and_go_as_columns_do() -> None:
    class Moved(BaseModel):
        city: str
        street: str | None = None

    class Needed(BaseModel):
        city: str
        street: str

    models = []
    for inner in (Address, Moved, Needed):
        fields = {"__annotations__": {"at": AwareDatetime, "to": inner}, "__module__": __name__}
        models.append(type("Sent", (BaseModel,), fields))
    table = parquet("orders", roll_interval=timedelta(minutes=1))
    driver = TopologyDriver(topology(table, models[0]), NOW)
    driver.send("orders", {"at": AT, "to": {"city": "a", "since": AT}})
    with pytest.raises(SinkRefused, match="of its 'street', it is never null"):
        driver.deploy(topology(table, models[2]))
    driver.deploy(topology(table, models[1]))
    driver.send("orders", {"at": AT, "to": {"city": "b", "street": "s"}})
    driver.advance(timedelta(minutes=2))
    read = pa.concat_tables(driver.tables("orders"), promote_options="permissive")
    assert read["to"].to_pylist() == [
        {"city": "a", "since": NOW, "street": None},
        {"city": "b", "since": None, "street": "s"},
    ]
