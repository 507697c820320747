"""Aggregates by example: what each refuses, its edges, and the errors of those that estimate."""

import math
import random
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import AwareDatetime, BaseModel, Field, create_model

from streamflow import (
    ApproxDistinct,
    Collect,
    Distinct,
    First,
    Frequent,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    StdDev,
    Sum,
    TopK,
    Topology,
    TopologyError,
    Tumbling,
    Variance,
    source,
    topic,
)
from streamflow.errors import StateRefused
from streamflow.testing import TopologyDriver

HOUR = timedelta(hours=1)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NOW = datetime(2030, 1, 1, tzinfo=UTC)

Cents = Annotated[Decimal, Field(decimal_places=2)]


class Sale(BaseModel):
    shop: str
    item: str | None = None
    qty: int = 0
    paid: bool = False
    weight: float | None = None
    price: Decimal = Field(decimal_places=2, default=Decimal(0))
    tags: list[str] = []
    at: AwareDatetime


def topology(kind: Any, aggregate: Any) -> Topology:
    """One aggregate, `made`, of the hourly sales of a shop, declared as `kind`."""
    fields: dict[str, Any] = {
        "shop": (str, ...),
        "window_start": (AwareDatetime, ...),
        "made": (kind, ...),
    }
    model = create_model("Hourly", **fields)
    sales = source(topic("sales"), Sale, key="shop", event_time="at", out_of_orderness=HOUR)
    hourly = sales.window(Tumbling(HOUR), by="shop").aggregate(model, made=aggregate)
    return Topology("t", hourly.to(topic("x")), hourly.late.drop(), sales.rejected.drop())


def made(
    kind: Any, aggregate: Any, rows: Sequence[dict[str, Any]], batch: int = 1000, commit: int = 1000
) -> Any:
    """The result of one window: rows are an hour's sales of a shop, at noon if they don't say."""
    driver = TopologyDriver(topology(kind, aggregate), NOW, batches=[batch], commit_records=commit)
    driver.send("sales", *({"shop": "a", "at": NOON, **row} for row in rows))
    driver.end_of_input()
    (result,) = driver.read("x")
    return result["made"]


@pytest.mark.parametrize(
    ("aggregate", "kind", "words"),
    [
        (Variance("item"), float | None, "variance: 'item' is string, not a number"),
        (StdDev("paid"), float | None, "standard deviation: 'paid' is bool, not a number"),
        (Quantile("item", 0.5), float | None, "quantile: 'item' is string, not a number"),
        (Collect("tags"), list[str], "collect: 'tags' is list<.*>, not a single value"),
        (TopK(2, by="qty", of="tags"), list[str], "top: 'tags' is list<.*>, not a single value"),
        (TopK(2, by="paid", of="item"), list[str], r"values of 'paid' \(bool\) have no order"),
        (TopK(2, by="size", of="item"), list[str], "Sale has no field 'size'; it has .*'qty'"),
        (TopK(2, by="qty", of="size"), list[str], "TopK.* 'size'"),
        (ApproxDistinct("tags"), int, "distinct: 'tags' is list<.*>, not a single value"),
        (Frequent("tags", 2), list[str] | None, "frequent: 'tags' is list<.*>, not a single value"),
        (
            Frequent("item", 2),
            list[str],
            "null where item has more different values than its limit; declare it",
        ),
        (First("none"), str | None, "First.* 'none'"),
        (First("qty"), str, r"Hourly.made is string, but First\(\) gives int64; change the model"),
        (Collect("qty"), list[str], "but Collect.* gives list<item: int64>; change the model"),
        (Collect("qty"), int, "but Collect.* gives list<item: int64>; change the model"),
        (Variance("qty"), int | None, r"is int64, but Variance\(\) gives double"),
        (
            Variance("qty"),
            float,
            r"Hourly.made can be null, since .* there are fewer than two values of qty; declare it",
        ),
        (StdDev("qty"), float, "null where there are fewer than two values of qty"),
        (First("item"), str, r"since First\('item'\) is null where the first item is; declare it"),
        (Last("item"), str, r"since Last\('item'\) is null where the last item is; declare it"),
        (Quantile("weight", 0.5), float, "null where every weight is"),
    ],
    ids=repr,
)
def test_what_cannot_work_is_refused_when_it_is_built(
    aggregate: Any, kind: Any, words: str
) -> None:
    with pytest.raises(TopologyError, match=words):
        topology(kind, aggregate)


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (Collect, {"field": "qty", "limit": 0}, "collect: limit is 0; it must be a whole number"),
        (Collect, {"field": "qty", "limit": True}, "collect: limit is True"),
        (TopK, {"k": 1.5, "by": "qty", "of": "qty"}, "top: k is 1.5; it must be a whole number"),
        (Frequent, {"field": "qty", "k": 0}, "frequent: k is 0; it must be a whole number from 1"),
        (Frequent, {"field": "qty", "k": 1, "limit": 2**31}, "it must be .* from 1, below 2"),
        (Frequent, {"field": "qty", "k": 9, "limit": 8}, "limit is 8, below k, 9; raise it"),
        (Quantile, {"field": "qty", "q": 50}, "quantile: q is 50; it must be from 0 to 1"),
        (Quantile, {"field": "qty", "q": math.nan}, "quantile: q is nan"),
        (Quantile, {"field": "qty", "q": 0.5, "error": 0}, "quantile: error is 0; it must be from"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    kind: Any, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(TopologyError, match=words):
        kind(**arguments)


@pytest.mark.parametrize(
    ("aggregate", "kind"),
    [
        (First("qty"), int),
        (Last("tags"), list[str]),
        (Quantile("qty", 0.5), float),
        (Collect("item"), list[str]),
        (Collect("item"), list[str | None]),
        (TopK(1, by="item", of="price"), list[Decimal]),
    ],
    ids=repr,
)
def test_what_is_never_null_need_not_be_declared_so(aggregate: Any, kind: Any) -> None:
    if kind == list[Decimal]:
        with pytest.raises(TopologyError, match="change the model"):
            topology(kind, aggregate)  # two places are not nine
    else:
        topology(kind, aggregate)


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_the_variance_of_large_values_near_each_other_keeps_its_digits(batch: int) -> None:
    values = [1e9 + x for x in (4.0, 7.0, 13.0, 16.0)] * 50
    rows = [{"weight": value} for value in values]
    exact = statistics.variance(values)
    assert made(float | None, Variance("weight"), rows, batch, 7) == pytest.approx(exact, rel=1e-7)
    # The mean of the squares less the square of the mean has no digit right.
    naive = sum(v * v for v in values) / 200 - (sum(values) / 200) ** 2
    assert abs(naive * 200 / 199 - exact) > 0.1 * exact


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_equal_values_have_no_variance_at_all(batch: int) -> None:
    assert made(float | None, StdDev("weight"), [{"weight": 0.1}] * 10, batch, 4) == 0.0


def test_a_variance_needs_two_values_and_finite_ones() -> None:
    assert made(float | None, Variance("weight"), [{}, {"weight": 1.0}]) is None
    assert made(float | None, Variance("weight"), [{}]) is None
    assert made(float | None, Variance("weight"), [{"weight": 1.0}, {"weight": "NaN"}]) == "NaN"
    huge = [{"weight": 1e308}, {"weight": -1e308}]
    assert made(float | None, Variance("weight"), huge, batch=1) == "NaN"
    assert made(float | None, Variance("weight"), [{"weight": 1e308}] * 3) == 0.0


def test_variance_of_integers_and_decimals() -> None:
    assert made(float | None, Variance("qty"), [{"qty": q} for q in (1, 2, 4)]) == pytest.approx(
        7 / 3
    )
    assert made(
        float | None, Variance("price"), [{"price": p} for p in ("0.10", "0.30")]
    ) == pytest.approx(0.02)


@pytest.mark.parametrize("batch", [1, 2, 1000])
@pytest.mark.parametrize(
    ("aggregate", "kind", "result"),
    [
        (First("item"), str | None, "b"),
        (Last("item"), str | None, None),
        (Last("tags"), list[str], ["y", "z"]),
        (Collect("item"), list[str], ["b", "c", "a", "a"]),
        (Collect("item", limit=3), list[str], ["b", "c", "a"]),
        (TopK(2, by="qty", of="item"), list[str], ["c", "a"]),
        (TopK(9, by="qty", of="item"), list[str], ["c", "a", "a", "b"]),
        (TopK(1, by="at", of="qty"), list[int], [3]),
    ],
    ids=repr,
)
def test_rows_are_ordered_by_event_time_then_offset(
    aggregate: Any, kind: Any, result: Any, batch: int
) -> None:
    minutes = [(30, "a", 3), (10, "b", 1), (10, "c", 9), (40, "a", 3), (50, "d", 3), (50, None, 99)]
    rows = [
        {"at": NOON + timedelta(minutes=m), "item": item, "qty": qty, "tags": ["y", "z"]}
        for m, item, qty in minutes
    ]
    rows[4]["item"] = None
    assert made(kind, aggregate, rows, batch, 2) == result


def test_nothing_but_nulls() -> None:
    rows = [{"item": None}] * 3
    assert made(list[str], Collect("item"), rows, 1, 1) == []
    assert made(list[str], TopK(2, by="qty", of="item"), rows, 1, 1) == []
    assert made(str | None, First("item"), rows, 1, 1) is None
    assert made(float | None, Quantile("weight", 0.5), rows, 1, 1) is None
    assert made(int, ApproxDistinct("item"), rows, 1, 1) == 0


@pytest.mark.parametrize("error", [0.0001, 0.01, 0.2])
@pytest.mark.parametrize("q", [0, 0.01, 0.5, 0.99, 1])
def test_a_quantile_is_as_near_as_it_says(q: float, error: float) -> None:
    draw = random.Random(7)
    values = [draw.choice([-1, 1, 1]) * draw.lognormvariate(0, 4) for _ in range(900)] + [0.0] * 99
    values += [1.7e308, -1.7e308, 2.3e-308]
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    rows = [{"weight": value} for value in values]
    found = made(float | None, Quantile("weight", q, error=error), rows, 100, 300)
    assert abs(found - exact) <= error * (1 + 1e-9) * abs(exact)


@pytest.mark.parametrize(("q", "result"), [(0, "-Infinity"), (0.4, 0.0), (0.8, "Infinity")])
def test_quantiles_of_wild_values(q: float, result: Any) -> None:
    weights = ["NaN", "-Infinity", None, 5e-324, "Infinity", -0.0, 1.0]
    rows = [{"weight": weight} for weight in weights]
    assert made(float | None, Quantile("weight", q), rows, 2, 3) == result
    assert made(float | None, Quantile("weight", 1), rows, 2, 3) == "NaN"


@pytest.mark.parametrize(("field", "n"), [("item", 4095), ("item", 9000), ("qty", 20000)])
def test_approximate_distinct_is_exact_while_there_are_few_and_near_above(
    field: str, n: int
) -> None:
    rows = [{field: str(i) if field == "item" else i} for i in range(n)]
    found = made(int, ApproxDistinct(field), [*rows, *rows[:500]], 5000, 7000)
    assert found == made(int, ApproxDistinct(field), rows[::-1])
    assert found == n if n < 4096 else abs(found - n) < 4 * 0.0157 * n


@pytest.mark.parametrize("field", ["shop", "item", "qty", "paid", "weight", "price", "at"])
def test_approximate_distinct_counts_values_of_every_kind(field: str) -> None:
    rows: list[dict[str, Any]] = [
        {"item": None, "qty": 1, "weight": 0.5, "at": NOON + timedelta(microseconds=1)},
        {"item": "1", "qty": 2, "weight": 0.25, "paid": True, "price": "0.01"},
        {"item": "b", "qty": -(2**63), "weight": "NaN"},
    ]
    assert made(int, ApproxDistinct(field), rows) == made(int, Distinct(field), rows)


@pytest.mark.parametrize("batch", [1, 2, 1000])
@pytest.mark.parametrize(
    ("field", "kind", "values", "most"),
    [
        ("item", list[str] | None, ["b", "a", "c", "b", None, None, None], ["b", "a", "c"]),
        ("item", list[str] | None, ["é", "z", "aa", "a", "B", ""], ["", "B", "a"]),
        ("qty", list[int] | None, [5, -5, 3, 2**62, 3, -5, 2**62, 2**62], [2**62, -5, 3]),
        ("weight", list[float] | None, ["NaN", 2.0, "NaN", 0.0, -0.0, 1.0], [0.0, "NaN", 1.0]),
        ("paid", list[bool] | None, [True, False], [False, True]),
        ("price", list[Cents] | None, ["0.10", "0.01"], ["0.01", "0.10"]),
        ("item", list[str] | None, [None, None], []),
    ],
)
def test_the_most_frequent_come_first_and_equally_frequent_ones_by_value(
    field: str, kind: Any, values: list[Any], most: list[Any], batch: int
) -> None:
    rows = [{field: value} for value in values]
    assert made(kind, Frequent(field, 3), rows, batch, 2) == most


def test_floats_in_lists_that_json_has_no_number_for_are_words_on_topics() -> None:
    rows = [{"weight": weight} for weight in ("NaN", 1.0, None, "-Infinity", 1e300, "Infinity")]
    found = made(list[float], Collect("weight"), rows)
    assert found == ["NaN", 1.0, "-Infinity", 1e300, "Infinity"]
    assert made(list[float], Collect("weight"), [{"weight": 1.0}, {"weight": 2.0}]) == [1.0, 2.0]


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_above_the_limit_there_is_no_list_rather_than_a_wrong_one(batch: int) -> None:
    rows = [{"item": item} for item in ("a", "a", None, "b", "c", "a", "b")]
    assert made(list[str] | None, Frequent("item", 2, limit=3), rows, batch, 2) == ["a", "b"]
    # Null also where the values after it are few again, and whenever the fourth came.
    for place in range(len(rows)):
        more = [*rows[:place], {"item": "d"}, *rows[place:]]
        assert made(list[str] | None, Frequent("item", 2, limit=3), more, batch, 2) is None


@pytest.mark.parametrize("aggregate", [Distinct("weight"), ApproxDistinct("weight")], ids=repr)
def test_zero_is_one_value_whatever_its_sign(aggregate: Any) -> None:
    rows = [{"weight": weight} for weight in (0.0, -0.0, 1.0, "NaN", None, "NaN", -1.0)]
    assert made(int, aggregate, rows, 3, 4) == 4


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_sums_are_exact_beyond_what_any_single_value_can_be(batch: int) -> None:
    large = 2**63 - 1
    rows = [{"qty": large, "price": "99999999999999999999999999999.99"}] * 5
    assert Decimal(made(Decimal, Sum("qty"), rows, batch, 2)) == 5 * large
    dear = [*rows, *[{"price": "-99999999999999999999999999999.99"}] * 4, {"price": "0.01"}]
    kind = Cents
    assert Decimal(made(kind, Sum("price"), dear, batch, 2)) == Decimal(10) ** 29
    assert made(float, Mean("qty"), rows, batch, 2) == float(large)
    assert made(float, Mean("price"), rows, batch, 2) == pytest.approx(1e29, rel=1e-15)
    assert made(float | None, Variance("qty"), rows, batch, 2) == 0.0


@pytest.mark.parametrize(
    ("kind", "aggregate", "row"),
    [
        (int, Sum("qty"), {"qty": 2**63 - 1}),
        (int, Sum("qty"), {"qty": -(2**63)}),
        # 38 nines and twice that, which wraps to a negative number in 128 bits.
        (Decimal, Sum("price"), {"price": "9" * 36 + ".99"}),
        (Cents, Sum("price"), {"price": "9" * 36 + ".99"}),
    ],
)
def test_a_sum_that_does_not_fit_its_field_stops_the_task_and_never_wraps(
    kind: Any, aggregate: Any, row: dict[str, Any]
) -> None:
    with pytest.raises(StateRefused, match=r"sales\[0\]: a result of .* does not fit made"):
        made(kind, aggregate, [row, row], 1, 1)


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_a_nan_is_the_smallest_and_the_largest_only_where_nothing_else_is(batch: int) -> None:
    rows = [{"weight": weight} for weight in ("NaN", None, 2.0, "NaN", 1.0)]
    assert made(float | None, Min("weight"), rows, batch, 2) == 1.0
    assert made(float | None, Max("weight"), rows, batch, 2) == 2.0
    assert made(float | None, Max("weight"), rows[:2], batch, 2) == "NaN"
    assert made(float | None, Sum("weight"), rows, batch, 2) == "NaN"


def test_new_and_old_aggregates_share_a_window() -> None:
    class Hourly(BaseModel):
        shop: str
        window_start: AwareDatetime
        total: int
        spread: float | None
        latest: int
        kinds: int

    sales = source(topic("sales"), Sale, key="shop", event_time="at")
    hourly = sales.window(Tumbling(HOUR), by="shop").aggregate(
        Hourly, total=Sum("qty"), spread=StdDev("qty"), latest=Last("qty"), kinds=Distinct("item")
    )
    driver = TopologyDriver(
        Topology("t", hourly.to(topic("x")), hourly.late.drop(), sales.rejected.drop()), NOW
    )
    rows = [("a", "p", 1), ("b", None, 5), ("a", "q", 3), ("a", "q", 5)]
    driver.send("sales", *({"shop": s, "item": i, "qty": q, "at": NOON} for s, i, q in rows))
    driver.end_of_input()
    found = [
        [r[n] for n in ("shop", "total", "spread", "latest", "kinds")] for r in driver.read("x")
    ]
    assert found == [["a", 9, 2.0, 5, 2], ["b", 5, None, 5, 0]]
