"""Integers, floats and decimals beside each other: compared exactly, computed as DuckDB does."""

import operator
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, TopologyError, source, topic
from streamflow.sql import compile_condition
from streamflow.testing import TopologyDriver

DECIMAL = pa.decimal128(38, 9)
SCHEMA = pa.schema(
    [
        pa.field("n", pa.int64()),
        pa.field("part", pa.int32()),
        pa.field("f", pa.float64()),
        pa.field("price", DECIMAL),
        pa.field("paid", DECIMAL),
        pa.field("rate", pa.decimal128(38, 2)),
        pa.field("tiny", pa.decimal128(38, 30)),
        pa.field("share", pa.decimal128(38, 38)),
    ]
)
#: The largest and smallest that a decimal of nine places can be.
MOST = "99999999999999999999999999999.999999999"
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def values(expression: str, *rows: dict[str, Any]) -> list[Any]:
    batch = pa.RecordBatch.from_pylist(list(rows), schema=SCHEMA)
    return compile_condition(expression, SCHEMA, "rule 'r'")(batch).to_pylist()


def one(expression: str, **row: Any) -> Any:
    decimals = {"price", "paid", "rate", "tiny", "share"}
    given = {k: Decimal(v) if k in decimals and v is not None else v for k, v in row.items()}
    return values(expression, given)[0]


def in_duckdb(expression: str, **row: Any) -> Any:
    batch = pa.RecordBatch.from_pylist([row], schema=SCHEMA)
    with duckdb.connect() as database:
        database.register("records", pa.Table.from_batches([batch]))
        return database.sql(f"SELECT {expression} FROM records").fetchall()[0][0]


@pytest.mark.parametrize(
    ("condition", "row", "holds"),
    [
        ("n >= f", {"n": 2**60, "f": 1.0}, True),
        ("f < n", {"n": 2**60, "f": 1.0}, True),
        ("n >= f", {"n": 2**60, "f": None}, None),
        ("n < 1e80", {"n": 2**60}, True),
        ("n < 1e400", {"n": 2**63 - 1}, True),
        ("n > -1e80", {"n": -(2**63)}, True),
        ("n IN (f, 3)", {"n": 2**60, "f": 1.0}, False),
        ("n IN (f, 3)", {"n": 2**60, "f": 2.0**60}, True),
        ("n IN (f, 3)", {"n": 2**60, "f": None}, None),
        ("n BETWEEN 0.5 AND f", {"n": 2**60, "f": 1.0}, False),
        ("n NOT BETWEEN f AND 9e99", {"n": 2**60, "f": 1.0}, False),
        ("n BETWEEN 0.5 AND f", {"n": 2**60, "f": None}, None),
        ("f < 9223372036854775807", {"f": 1.0}, True),
        ("f > 1700000000000000000", {"f": 2e18}, True),
        ("f <> -9223372036854775808", {"f": -(2.0**63)}, False),
        ("f IN (0, 1700000000000000000)", {"f": 1.7e18}, True),
        ("f NOT IN (0, 1700000000000000000)", {"f": 1.0}, True),
        ("n < f", {"n": 2**60, "f": float("inf")}, True),
        ("part < 3000000000.5", {"part": 2**31 - 1}, True),
    ],
)
def test_a_large_integer_has_its_place_among_floats(
    condition: str, row: dict[str, Any], holds: bool | None
) -> None:
    assert one(condition, **row) is holds
    assert in_duckdb(condition, **row) is holds


edges = [2**power + step for power in (53, 62, 63) for step in range(-2, 3)]
near = [sign * edge for edge in edges for sign in (1, -1)]
large = st.one_of(
    st.sampled_from([n for n in near if -(2**63) <= n < 2**63]),
    st.integers(-(2**63), 2**63 - 1),
)


@given(n=large, f=st.one_of(large.map(float), st.floats()), how=st.sampled_from(sorted(COMPARED)))
@example(n=2**53 + 1, f=2.0**53, how="=")
@example(n=2**63 - 1, f=2.0**63, how="<")
@example(n=2**63 - 1, f=2.0**63, how="=")
@example(n=2**63 - 512, f=2.0**63, how=">=")
@example(n=-(2**63), f=-(2.0**63), how="=")
def test_an_integer_and_a_float_are_compared_exactly_as_python_does(
    n: int, f: float, how: str
) -> None:
    batch = [{"n": n, "f": f}, {"n": None, "f": f}, {"n": n, "f": None}, {"n": 7, "f": 7.0}]
    wanted = COMPARED[how](n, f)
    assert values(f"n {how} f", *batch) == [wanted, None, None, COMPARED[how](7, 7.0)]
    assert values(f"f {how} n", *batch)[0] == COMPARED[how](f, n)
    assert values(f"f {how} {n}", batch[0]) == [COMPARED[how](f, n)]


@pytest.mark.parametrize("n", [3, 2**53 + 1, 2**60 + 1, -(2**63)])
@pytest.mark.parametrize(
    "expression", ["n + f", "n - f", "f - n", "n * f", "n + 0.5::DOUBLE", "part * f", "n * -f"]
)
def test_an_integer_and_a_float_are_computed_as_floats(expression: str, n: int) -> None:
    row = {"n": n, "f": 0.1, "part": 7}
    assert one(expression.removesuffix("::DOUBLE"), **row) == in_duckdb(expression, **row)


@pytest.mark.parametrize(
    ("expression", "row", "value"),
    [
        ("price + paid", {"price": "1.5", "paid": "0.000000001"}, "1.500000001"),
        ("price - paid", {"price": "1.5", "paid": "2"}, "-0.5"),
        ("price + paid", {"price": MOST, "paid": MOST}, "199999999999999999999999999999.999999998"),
        ("price + paid", {"price": "1", "paid": None}, None),
        ("price + rate", {"price": "0.000000001", "rate": "0.01"}, "0.010000001"),
        ("price + 1", {"price": "0.5"}, "1.5"),
        ("1 - price", {"price": "0.5"}, "0.5"),
        ("price + n", {"price": "0.000000001", "n": 2**63 - 1}, "9223372036854775807.000000001"),
        ("price * 2", {"price": "0.000000001"}, "0.000000002"),
        ("price * -2", {"price": "0.000000001"}, "-0.000000002"),
        ("price * n", {"price": "0.000000001", "n": -(2**63)}, "-9223372036.854775808"),
        ("part * price", {"price": "1.5", "part": 3}, "4.5"),
        ("price * paid", {"price": "1.5", "paid": "0.000000001"}, "0.0000000015"),
        ("price * rate", {"price": "1.5", "rate": "0.19"}, "0.285"),
        ("price * paid + rate", {"price": "1.5", "paid": "2", "rate": "0.1"}, "3.1"),
        ("price * n * (1 - rate)", {"price": "9.99", "n": 3, "rate": "0.19"}, "24.2757"),
        ("price * price * price", {"price": "0.000000003"}, "2.7e-26"),
        ("abs(-price * 3)", {"price": "0.1"}, "0.3"),
        ("price * NULL", {"price": "1"}, None),
        ("price + NULL", {"price": "1"}, None),
    ],
)
def test_decimals_are_computed_exactly(
    expression: str, row: dict[str, Any], value: str | None
) -> None:
    assert one(expression, **row) == (None if value is None else Decimal(value))


EXACT = Context(prec=200)
amounts = st.decimals(Decimal("-" + MOST), Decimal(MOST), places=9)


@given(price=amounts, paid=amounts, n=st.integers(-(2**63), 2**63 - 1))
@example(price=Decimal(MOST), paid=Decimal(MOST), n=2**63 - 1)
@example(price=Decimal("-" + MOST), paid=Decimal(MOST), n=-(2**63))
def test_sums_and_products_of_any_two_decimals_are_those_of_python(
    price: Decimal, paid: Decimal, n: int
) -> None:
    row = {"price": price, "paid": paid, "n": n}
    for sign, compute in (("+", EXACT.add), ("-", EXACT.subtract), ("*", EXACT.multiply)):
        assert values(f"price {sign} paid", row) == [compute(price, paid)]
        assert values(f"n {sign} price", row) == [compute(Decimal(n), price)]


@pytest.mark.parametrize(
    ("condition", "row", "holds"),
    [
        ("price = rate", {"price": "0.5", "rate": "0.5"}, True),
        ("price > rate", {"price": "0.500000001", "rate": "0.5"}, True),
        ("price IN (rate)", {"price": "0.5", "rate": "0.51"}, False),
        ("price NOT IN (rate, paid)", {"price": "0.5", "rate": "0.51", "paid": None}, None),
        ("price BETWEEN rate AND n", {"price": "0.5", "rate": "0.5", "n": 1}, True),
        ("price = paid * 2", {"price": "0.5", "paid": "0.25"}, True),
        ("price * n < 1000", {"price": "0.5", "n": 1999}, True),
        ("price * 2 IN (1, 3)", {"price": "0.5"}, True),
        ("price + paid = 0", {"price": "0.5", "paid": "-0.5"}, True),
        ("tiny < 1000000000000000000", {"tiny": "0.5"}, True),
        ("tiny IN (1, 2)", {"tiny": "1"}, True),
        ("share < n", {"share": "0.5", "n": 1}, True),
        ("tiny = rate", {"tiny": "0.5", "rate": "0.5"}, True),
        ("price > NULL", {"price": "1"}, None),
    ],
)
def test_decimals_of_other_places_are_compared_exactly(
    condition: str, row: dict[str, Any], holds: bool | None
) -> None:
    assert one(condition, **row) is holds


@pytest.mark.parametrize(
    ("condition", "holds"),
    [("price < 1e66", True), ("price < 1e70", True), ("price * 2 > -1e70", True)],
)
def test_a_number_beyond_all_decimals_has_its_place(condition: str, holds: bool) -> None:
    assert one(condition, price=MOST) is holds


@pytest.mark.parametrize("expression", ["price + 0.5", "price * 1.0", "price * n + 0.5"])
def test_a_decimal_beside_a_written_fraction_is_a_float(expression: str) -> None:
    assert isinstance(one(expression, price="1", n=1), float)


@pytest.mark.parametrize(
    ("expression", "row"),
    [
        # A factor has up to 38 digits where the product could have more than 76.
        ("price * paid * rate", {"price": MOST, "paid": MOST, "rate": "1"}),
        ("price * price * price", {"price": MOST}),
    ],
)
def test_a_row_whose_product_has_too_many_digits_fails_alone(
    expression: str, row: dict[str, Any]
) -> None:
    with pytest.raises(pa.ArrowInvalid, match="does not fit in precision"):
        one(expression, **row)
    assert one(expression, price="1", paid="2", rate="3") is not None


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("share * share * tiny > 0", "it has 106 places, there are 76 digits"),
        ("price * paid = rate * rate", "it needs 90 digits, there are 76"),
    ],
)
def test_what_needs_too_many_digits_for_any_row_is_refused_in_words(
    expression: str, words: str
) -> None:
    with pytest.raises(TopologyError, match=words) as caught:
        one(expression)
    assert str(caught.value).endswith("\n  ^ here")


class Sale(BaseModel, frozen=True):
    key: str
    at: AwareDatetime
    price: Decimal
    paid: Decimal


class Total(BaseModel, frozen=True):
    key: str
    total: Decimal


def test_a_product_that_does_not_fit_its_field_is_a_dead_letter() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    sales = source(topic("sales"), Sale, key="key", event_time="at")
    totals = sales.map(Total, total="price * paid")
    topology = Topology("t", totals.to(topic("totals")), totals.rejected.to(topic("dlq")))
    driver = TopologyDriver(topology, now)
    pairs = [("1.5", "0.1"), ("0.000000001", "0.5"), (MOST, "10"), (MOST, "1")]
    sent = [{"key": "a", "at": now, "price": price, "paid": paid} for price, paid in pairs]
    driver.send("sales", *sent)
    driver.end_of_input()
    assert [row["total"] for row in driver.read("totals")] == ["0.150000000", MOST]
    assert [row["offset"] for row in driver.read("dlq")] == [1, 2]
