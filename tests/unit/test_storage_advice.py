"""What queries look for, and what would help them."""

import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, day, month, parquet, source, topic
from streamflow.storage.advice import Suggestion, advise, as_code, remarks, skipping
from streamflow.storage.profile import profile
from streamflow.storage.queries import filtered

MB = 1024 * 1024


def visits(rows: int = 6400) -> pa.Table:
    dice = random.Random(2)
    return pa.table(
        {
            "at": list(range(rows)),
            "country": [dice.choice(["DE", "FR", "IT", "ES"]) for _ in range(rows)],
            "shop": [dice.randrange(400) for _ in range(rows)],
            "visitor": [f"{dice.getrandbits(64):016x}" for _ in range(rows)],
            "price": [dice.random() for _ in range(rows)],
            "tags": [["a"]] * rows,
        }
    )


def advice(columns: list[str], total_bytes: int) -> dict[str, tuple[str, ...]]:
    table = visits()
    found = advise(table, profile(table), filtered(columns), total_bytes)
    assert all(one.evidence for one in found)
    return {one.kind: one.columns for one in found}


def test_few_values_make_folders_where_they_are_large_enough() -> None:
    assert advice(["country"], 100 * MB) == {"partition": ("country",)}
    assert advice(["country"], MB) == {"sort": ("country",)}


def test_an_order_helps_where_statistics_do_not_yet() -> None:
    assert advice(["shop"], MB) == {"sort": ("shop",)}
    assert advice(["at"], MB) == {}


def test_many_values_that_are_looked_for_beside_an_order_get_a_bloom_filter() -> None:
    assert advice(["shop", "visitor"], MB) == {"sort": ("shop",), "bloom": ("visitor",)}


def test_times_make_folders_of_days_or_of_months() -> None:
    hours = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=i) for i in range(24 * 100)]
    table = pa.table({"at": pa.array(hours, pa.timestamp("us", "UTC"))})

    def units(total_bytes: int) -> list[str | None]:
        return [
            one.unit
            for one in advise(table, profile(table), filtered(["at"]), total_bytes)
            if one.kind == "partition"
        ]

    assert units(100 * 16 * MB) == ["day"]
    assert units(4 * 16 * MB) == ["month"]
    assert units(16 * MB) == []


def test_the_advice_is_a_table_that_a_topology_can_have() -> None:
    suggestions = [
        Suggestion("partition", ("at",), "", "day"),
        Suggestion("partition", ("country",), ""),
        Suggestion("sort", ("shop", "price"), ""),
        Suggestion("bloom", ("visitor",), ""),
    ]
    code = as_code("visits", suggestions)
    assert code == (
        'parquet("visits", partition_by=[day("at"), "country"], sort_by=["shop", "price"],'
        ' bloom_by=["visitor"])'
    )
    table = eval(code, {"parquet": parquet, "day": day, "month": month})

    class Visit(BaseModel):
        at: AwareDatetime
        country: str
        shop: int
        visitor: str
        price: float

    visits = source(topic("visits"), Visit, event_time="at")
    Topology("visits", visits.to(table), visits.rejected.drop())
    assert as_code('a"b', suggestions[3:]) == r'parquet("a\"b", bloom_by=["visitor"])'


def test_what_is_nested_or_looked_for_by_nobody_gets_nothing() -> None:
    assert advice(["tags"], MB) == {}
    assert advice([], MB) == {}


def test_it_is_said_why_nothing_is_suggested() -> None:
    table = visits().append_column("none", pa.nulls(6400, pa.string()))
    table = table.append_column("one", pa.array([5] * 6400))
    few = pa.array([1, 2] + [None] * 6398, pa.int64())
    table = table.append_column("few", few)
    access = filtered(["tags", "none", "one", "few", "at", "shop"])
    found = profile(table)
    suggestions = advise(table, found, access, MB)
    nested = "it is list<item: string>, by which readers pass nothing by; a column of its own would"
    assert remarks(table, found, access, suggestions) == [
        "at: a query for one value reads 3% of the blocks as they lie",
        "few: 2 values in the sample are too few to tell",
        "none: null in all rows of the sample, so nothing can be said of it",
        "one: one value only, so no order leaves any rows out",
        f"tags: {nested} do",
    ]


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="nobody"):
        advice(["nobody"], MB)


def test_blocks_are_counted() -> None:
    apart = skipping(pa.chunked_array([list(range(3200))]))
    assert apart is not None
    assert apart.now == apart.sorted == 1 / 32
    mixed = skipping(pa.chunked_array([[i % 100 for i in range(3200)]]))
    assert mixed is not None
    assert mixed.now > 0.9
    assert mixed.sorted < 0.1
    assert skipping(pa.chunked_array([[1, 2]])) is None
    assert skipping(pa.chunked_array([[[1]] * 100])) is None
    coded = skipping(pa.chunked_array([pa.array(["a", "b"] * 50).dictionary_encode()]))
    assert coded is not None
    assert coded.now == 1
