"""A field that was renamed keeps its column, and whoever reads its table sees nothing of it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AwareDatetime, BaseModel, Field

from streamflow import (
    Count,
    Topology,
    TopologyError,
    Tumbling,
    day,
    formerly,
    parquet,
    source,
    topic,
)
from streamflow.errors import SinkRefused
from streamflow.plain import plain_reader
from streamflow.schema import arrow_schema
from streamflow.testing import TopologyDriver
from streamflow.writer_settings import ColumnSettings, WriterSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Order(BaseModel):
    client: str
    at: AwareDatetime


class Renamed(BaseModel):
    customer: Annotated[str, formerly("client")] = Field(description="who pays")
    at: AwareDatetime


class Again(BaseModel):
    buyer: Annotated[str, formerly("client")]
    at: AwareDatetime


class Unsaid(BaseModel):
    customer: str
    at: AwareDatetime


def topology(model: type[BaseModel], **options: Any) -> Topology:
    orders = source(topic("orders"), model, event_time="at")
    table = parquet("orders", roll_interval=MINUTE, **options)
    return Topology(
        "orders", orders.to(table), orders.to(topic("copy")), orders.rejected.to(topic("dlq"))
    )


def order(field: str, name: str) -> dict[str, Any]:
    return {field: name, "at": "2026-01-01T00:00:00Z"}


def test_rows_of_every_name_are_in_one_column() -> None:
    driver = TopologyDriver(topology(Order), NOW)
    driver.send("orders", order("client", "a"))
    driver.deploy(topology(Renamed, compatibility="full"))
    driver.send("orders", order("customer", "b"))
    driver.deploy(topology(Again, compatibility="full"))
    driver.send("orders", order("buyer", "c"))
    driver.advance(2 * MINUTE)
    assert sorted(row["client"] for row in driver.files("orders")) == ["a", "b", "c"]
    assert {len(row) for row in driver.files("orders")} == {2}
    sent = [{name for name in row if name != "at"} for row in driver.read("copy")]
    assert sent == [{"client"}, {"customer"}, {"buyer"}]


def test_the_column_says_which_field_it_is() -> None:
    driver = TopologyDriver(topology(Renamed), NOW)
    driver.send("orders", order("customer", "a"))
    driver.advance(2 * MINUTE)
    [table] = driver.tables("orders")
    told = table.schema.field("client").metadata
    assert (told[b"field"], told[b"description"]) == (b"customer", b"who pays")


def test_a_rename_that_is_not_said_is_refused_with_a_guess() -> None:
    driver = TopologyDriver(topology(Order), NOW)
    with pytest.raises(SinkRefused, match=r"declare it Annotated\[..., formerly\('client'\)\]"):
        driver.deploy(topology(Unsaid))


def test_the_second_name_is_not_the_one_that_the_table_has() -> None:
    class Wrong(BaseModel):
        buyer: Annotated[str, formerly("customer")]
        at: AwareDatetime

    driver = TopologyDriver(topology(Order), NOW)
    driver.deploy(topology(Renamed))
    with pytest.raises(SinkRefused, match=r"'customer' is the new name of 'client'"):
        driver.deploy(topology(Wrong))


def test_folders_keep_their_names_too() -> None:
    driver = TopologyDriver(topology(Order, partition_by="client"), NOW)
    driver.send("orders", order("client", "a"))
    driver.deploy(topology(Renamed, partition_by="customer"))
    long = "x" * (255 - len("client="))
    driver.send("orders", order("customer", "b"), order("customer", long))
    driver.send("orders", order("customer", f"{long}x"))
    driver.advance(2 * MINUTE)
    folders = {name.split("/")[0] for name in driver._tables.files["orders"].names()}
    assert folders == {"client=a", "client=b", f"client={long}"}
    assert [letter["reason"] for letter in driver.read("dlq")] == ["unstorable"]


def test_settings_of_files_name_columns() -> None:
    settings = WriterSettings(columns=(ColumnSettings("client", "PLAIN", "zstd", 1),))
    assert topology(Renamed, storage=settings)
    other = WriterSettings(columns=(ColumnSettings("customer", "PLAIN", "zstd", 1),))
    with pytest.raises(TopologyError, match="storage names column 'customer'"):
        topology(Renamed, storage=other)


def test_files_are_sorted_by_fields_of_the_model() -> None:
    driver = TopologyDriver(topology(Renamed, sort_by="customer", bloom_by="customer"), NOW)
    driver.send("orders", order("customer", "b"), order("customer", "a"))
    driver.advance(2 * MINUTE)
    [table] = driver.tables("orders")
    assert table["client"].to_pylist() == ["a", "b"]
    with pytest.raises(TopologyError, match="sort_by names 'customer'"):
        topology(Order, sort_by="customer", bloom_by="client")


def test_results_can_be_renamed() -> None:
    class Counted(BaseModel):
        client: str
        window_start: AwareDatetime
        number: Annotated[int, formerly("orders")]

    orders = source(topic("orders"), Order, event_time="at", key="client")
    counts = orders.window(Tumbling(MINUTE), by="client").aggregate(Counted, number=Count())
    late, rejected = counts.late.drop(), orders.rejected.drop()
    made = Topology("counts", counts.to(parquet("counts")), late, rejected)
    driver = TopologyDriver(made, NOW)
    driver.send("orders", order("client", "a"), order("client", "a"))
    driver.end_of_input()
    assert [row["orders"] for row in driver.files("counts")] == [2]


def test_a_renamed_field_is_read_as_fast_and_under_both_names_if_that_is_said() -> None:
    assert plain_reader(Renamed, arrow_schema(Renamed)) is not None

    class Both(BaseModel):
        customer: Annotated[str, formerly("client")] = Field(
            validation_alias=AliasChoices("customer", "client")
        )
        at: AwareDatetime

    driver = TopologyDriver(topology(Both), NOW)
    driver.send("orders", order("client", "a"), order("customer", "b"))
    driver.advance(2 * MINUTE)
    assert [row["client"] for row in driver.files("orders")] == ["a", "b"]


def test_a_name_cannot_be_that_of_another_field() -> None:
    class Taken(BaseModel):
        client: str
        customer: Annotated[str, formerly("client")]
        at: AwareDatetime

    with pytest.raises(TopologyError, match="two fields would be the column 'client' of tables"):
        topology(Taken)
    for name in ("", "_offset", "a b", 3):
        with pytest.raises(TopologyError, match="it takes the name that the field had"):
            formerly(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (
            Annotated[Annotated[str, formerly("client")], formerly("payer")],
            r"Row.customer: formerly\(...\) is given 2 times, client, payer; .* the first it had",
        ),
        (
            Annotated[str, formerly("client"), formerly("client")],
            "is given 2 times, client, client",
        ),
        (
            Annotated[str, formerly("customer")],
            r"Row.customer: formerly\('customer'\) is what the field is called now; .* or leave it",
        ),
        (list[Annotated[str, formerly("client")]], r"as in Annotated\[str | None, formerly"),
    ],
)
def test_a_column_has_one_other_name_or_none(annotation: Any, words: str) -> None:
    row = type("Row", (BaseModel,), {"__annotations__": {"customer": annotation}})
    with pytest.raises(TopologyError, match=words):
        arrow_schema(row)


def test_a_name_of_a_part_of_a_type_is_not_passed_over() -> None:
    class Partly(BaseModel):
        customer: Annotated[str, formerly("client")] | None

    with pytest.raises(TopologyError, match=r"Partly.customer: .* a part of the field's type"):
        arrow_schema(Partly)


def test_the_partition_of_a_day_cannot_hide_a_renamed_column() -> None:
    class Dated(BaseModel):
        when: Annotated[str, formerly("date")]
        at: AwareDatetime

    with pytest.raises(TopologyError, match="the partition 'date' would hide a column"):
        topology(Dated, partition_by=day("at"))
