"""Casts: what survives them, what is refused, and what is handed on of columns made elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import TopologyError
from streamflow.exact_cast import cast_exactly, check_cast, plain_text, sound

INT, FLOAT, TEXT, BOOL = pa.int64(), pa.float64(), pa.string(), pa.bool_()
CENTS, NINE, DAY = pa.decimal128(38, 2), pa.decimal128(38, 9), pa.date32()
TIME = pa.timestamp("us", "UTC")
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
TAGS = pa.map_(TEXT, INT)

SURVIVE: list[tuple[Any, pa.DataType, pa.DataType, Any]] = [
    (0.1, FLOAT, CENTS, Decimal("0.10")),
    (4.35, FLOAT, CENTS, Decimal("4.35")),
    (123456.789, FLOAT, NINE, Decimal("123456.789")),
    (1e-7, FLOAT, NINE, Decimal("0.0000001")),
    (1e22, FLOAT, NINE, Decimal(10**22)),
    (Decimal("0.1"), NINE, FLOAT, 0.1),
    (Decimal("19.99"), NINE, FLOAT, 19.99),
    (Decimal(2**60), NINE, FLOAT, 2.0**60),
    (Decimal("-0.000000001"), NINE, FLOAT, -1e-9),
    ("0.10", TEXT, FLOAT, 0.1),
    ("0.30000000000000004", TEXT, FLOAT, 0.1 + 0.2),
    ("0.10000000000000001", TEXT, FLOAT, 0.1),  # 17 digits, as many programs write it
    (str(2**60), TEXT, FLOAT, 2.0**60),
    ("0.000", TEXT, FLOAT, 0.0),
    ("0e5", TEXT, FLOAT, 0.0),
    ("-inf", TEXT, FLOAT, float("-inf")),
    ("5e-324", TEXT, FLOAT, 5e-324),
    (2**60, INT, FLOAT, 2.0**60),
    (-(2**63), INT, FLOAT, -(2.0**63)),
    (2**63, pa.uint64(), FLOAT, 2.0**63),
    (1, INT, BOOL, True),
    (0.0, FLOAT, BOOL, False),
    (MIDNIGHT, TIME, DAY, MIDNIGHT.date()),
    (Decimal(0), NINE, TEXT, "0.000000000"),
    ("7", TEXT, INT, 7),
]
REFUSED: list[tuple[Any, pa.DataType, pa.DataType]] = [
    (1.239, FLOAT, CENTS),
    (5.9381, FLOAT, CENTS),
    (1e-10, FLOAT, NINE),
    (float("nan"), FLOAT, CENTS),
    (float("inf"), FLOAT, CENTS),
    (Decimal(2**60 + 1), NINE, FLOAT),
    (Decimal("12345678901234567890.123456789"), NINE, FLOAT),
    (Decimal("9" * 38), pa.decimal128(38, 0), FLOAT),
    (str(2**60 + 1), TEXT, FLOAT),
    (str(2**53 + 1), TEXT, FLOAT),
    ("0.12345678901234567890", TEXT, FLOAT),
    ("1e400", TEXT, FLOAT),
    (b"1e400", pa.binary(), FLOAT),
    ("1e-400", TEXT, FLOAT),
    (2**60 + 1, INT, FLOAT),
    (2**63 - 1, INT, FLOAT),
    (2**64 - 1, pa.uint64(), FLOAT),
    (5, INT, BOOL),
    (0.3, FLOAT, BOOL),
    (float("nan"), FLOAT, BOOL),
    (MIDNIGHT.replace(hour=5), TIME, DAY),
]


def _around(nest: str, values: list[Any], kind: pa.DataType) -> tuple[pa.Array, Callable[..., Any]]:
    """The values by themselves or within others; and how the same is said of another type."""
    if nest == "list":
        return pa.array([[v] for v in values], pa.list_(kind)), pa.list_
    if nest == "map":
        made = pa.array([[("k", v)] for v in values], pa.map_(TEXT, kind))
        return made, lambda inner: pa.map_(TEXT, inner)
    if nest == "struct":
        made = pa.array([{"v": v} for v in values], pa.struct([("v", kind)]))
        return made, lambda inner: pa.struct([("v", inner)])
    return pa.array(values, kind), lambda inner: inner


def _within(value: Any) -> Any:
    while isinstance(value, list | dict):
        value = value[0] if isinstance(value, list) else next(iter(value.values()))
    return value[1] if isinstance(value, tuple) else value


@pytest.mark.parametrize("nest", ["plain", "list", "map", "struct"])
@pytest.mark.parametrize(("value", "made", "kind", "wanted"), SURVIVE, ids=str)
def test_what_a_type_can_hold_is_cast(
    value: Any, made: pa.DataType, kind: pa.DataType, wanted: Any, nest: str
) -> None:
    column, of = _around(nest, [None, value, value], made)
    cast = cast_exactly(column, of(kind))
    cast.validate(full=True)
    assert cast.type == of(kind)
    assert [_within(one) for one in cast.to_pylist()] == [None, wanted, wanted]
    assert [_within(one) for one in cast_exactly(column[1:2], of(kind)).to_pylist()] == [wanted]


@pytest.mark.parametrize("nest", ["plain", "list", "map", "struct"])
@pytest.mark.parametrize(("value", "made", "kind"), REFUSED, ids=str)
def test_what_would_lose_something_is_refused(
    value: Any, made: pa.DataType, kind: pa.DataType, nest: str
) -> None:
    column, of = _around(nest, [None, value], made)
    with pytest.raises(ValueError, match=r"^price.* is no .* without loss: round"):
        cast_exactly(column, of(kind), "price")


def test_a_value_alone_is_named() -> None:
    with pytest.raises(ValueError, match=r"1\.239 is no decimal128\(38, 2\) without loss: round"):
        cast_exactly(pa.array([1.239]), CENTS)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_every_float_comes_back_from_its_text(numbers: list[float]) -> None:
    column = pa.array(numbers, FLOAT)
    assert cast_exactly(cast_exactly(column, TEXT), FLOAT).to_pylist() == numbers
    texts = pa.array([f"{number:.16e}" for number in numbers], TEXT)
    assert cast_exactly(texts, FLOAT).to_pylist() == numbers


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_is_cast_to_a_float_just_where_it_is_one(number: int) -> None:
    try:
        made = cast_exactly(pa.array([number]), FLOAT)[0].as_py()
    except ValueError:
        assert int(float(number)) != number
    else:
        assert int(made) == number


@given(st.decimals(places=9, min_value=-(10**20), max_value=10**20))
def test_a_decimal_that_becomes_a_float_can_be_read_back_or_is_that_float(number: Decimal) -> None:
    try:
        made = cast_exactly(pa.array([number], NINE), FLOAT)[0].as_py()
    except ValueError:
        assert len(f"{number:f}".lstrip("-").replace(".", "").strip("0")) > 15
    else:
        assert number in (Decimal(repr(made)), Decimal(made))


def test_what_lies_under_a_null_is_nobodys_value() -> None:
    zip_code = pa.struct([pa.field("zip", TEXT, nullable=False)])
    column = pa.array([{"zip": "10115"}, None, {"zip": "7"}], zip_code)  # '' under the null
    wanted = pa.struct([pa.field("zip", INT, nullable=False)])
    made = cast_exactly(column, wanted)
    assert made.to_pylist() == [{"zip": 10115}, None, {"zip": 7}]
    assert made.field(0).null_count == 0  # of which Parquet would take none
    lists = pa.ListArray.from_arrays(
        pa.array([0, 1, 2], pa.int32()), pa.array(["x", "7"]), mask=pa.array([True, False])
    )
    assert cast_exactly(lists, pa.list_(INT)).to_pylist() == [None, [7]]
    nulls = cast_exactly(pa.nulls(2), wanted)
    assert (nulls.to_pylist(), nulls.field(0).null_count) == ([None, None], 0)


def test_a_null_where_none_can_be_is_refused_only_where_its_parent_is_there() -> None:
    wanted = pa.struct([pa.field("zip", INT, nullable=False)])
    column = pa.array([None, {"zip": None}], pa.struct([("zip", TEXT)]))
    assert cast_exactly(column[:1], wanted).to_pylist() == [None]
    with pytest.raises(ValueError, match=r"addr\.zip is null, and cannot be"):
        cast_exactly(column, wanted, "addr")
    wanted = pa.list_(pa.field("item", FLOAT, nullable=False))
    with pytest.raises(ValueError, match="an item of ints is null, and cannot be"):
        cast_exactly(pa.array([[1, None]]), wanted, "ints")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["1", "2"], None, ["3", "4"]], pa.list_(TEXT, 2)),
        pa.array([["1", "2"], None, ["3", "4"]], pa.large_list(TEXT)),
        pa.array([["1", "2"], None, ["3", "4"]], pa.list_view(TEXT)),
        pa.array([["1", "2"], None, ["3", "4"]], pa.list_(pa.field("element", TEXT))),
    ],
    ids=lambda column: str(column.type),
)
def test_lists_of_all_kinds_are_cast(column: pa.Array) -> None:
    assert cast_exactly(column, pa.list_(INT)).to_pylist() == [[1, 2], None, [3, 4]]
    assert cast_exactly(column[1:], pa.list_(INT)).to_pylist() == [None, [3, 4]]


def test_fields_of_a_struct_are_found_by_name_and_none_may_be_missing() -> None:
    held = pa.list_(pa.struct([("street", TEXT), ("number", TEXT)]))
    number = pa.list_(pa.struct([("number", INT)]))
    column = pa.array([[{"street": "s", "number": "7"}]], held)
    assert cast_exactly(column, number).to_pylist() == [[{"number": 7}]]
    check_cast("Out.at", held, number)
    with pytest.raises(TopologyError, match=r"Out\.at\.town is not in what it is made of, struct<"):
        check_cast("Out.at", held, pa.list_(pa.struct([("number", INT), ("town", TEXT)])))
    with pytest.raises(TopologyError, match=r"Out\.at is double, but is made of list"):
        check_cast("Out.at", held, FLOAT)


def test_text_that_is_no_utf8_is_refused_wherever_it_lies() -> None:
    bad = pa.array([b"ok", b"\xff"]).view(TEXT)
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), bad)
    for column in (bad, lists, pa.StructArray.from_arrays([lists], names=["v"])):
        assert len(sound(column[:1])) == 1
        with pytest.raises(ValueError, match="UTF8"):
            sound(column)


def test_a_key_that_is_twice_in_one_map_is_refused_wherever_it_lies() -> None:
    column = pa.array([[("x", 1), ("y", 1)], None, [("x", 2)]], TAGS)
    assert sound(column).to_pylist() == column.to_pylist()
    twice = pa.array([[("x", 1)], [("y", 1), ("x", 2), ("y", 3)]], TAGS)
    lists = pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), twice)
    for one in (twice, lists, pa.StructArray.from_arrays([twice], names=["v"])):
        with pytest.raises(ValueError, match=r"tags.* has the key 'y' twice"):
            sound(one, "tags")


def test_lists_that_are_null_are_empty() -> None:
    offsets, there = pa.array([0, 1, 2], pa.int32()), pa.array([True, False])
    full = pa.ListArray.from_arrays(offsets, pa.array([1.0, 2.0]), mask=there)
    struct = pa.StructArray.from_arrays([full], names=["v"])
    assert len(sound(full).values) == 1
    assert len(sound(struct).field(0).values) == 1
    assert sound(struct).to_pylist() == [{"v": None}, {"v": [2.0]}]


def test_columns_without_text_and_nests_are_as_they_were() -> None:
    for column in (pa.array([1]), pa.array([1.5]), pa.array([MIDNIGHT], TIME)):
        assert sound(column) is column
        assert cast_exactly(column, column.type) is column


def test_decimals_have_all_their_places_as_text() -> None:
    numbers = [Decimal(0), Decimal("1.5"), None, Decimal("-1E-9"), Decimal("1.23E-7")]
    texts = ["0.000000000", "1.500000000", None, "-0.000000001", "0.000000123"]
    assert plain_text(pa.array(numbers, NINE)).to_pylist() == texts
    assert pc.equal(plain_text(pa.array([1, 2])), pa.array(["1", "2"])).to_pylist() == [True, True]
