"""The fast path is the slow path: the decoder accepts what pydantic accepts, as it does."""

import json
from datetime import UTC as UTC_ZONE
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from streamflow.nested import INT64_MAX, INT64_MIN
from streamflow.plain import plain_reader
from streamflow.schema import Contract
from tests.examples import law


class Everything(BaseModel):
    number: int
    ratio: float = Field(default=1.5, alias="r", ge=0)
    name: str = Field(max_length=5)
    kind: Literal["a", "b"] = "a"
    flag: bool | None = None
    tags: list[int] = []
    day: date | None = None
    at: AwareDatetime | None = None
    price: Decimal | None = Field(default=None, decimal_places=2, max_digits=10)


class Plain(BaseModel, frozen=True):
    """A model that may go the short way."""

    number: int
    r: float = Field(gt=-5, le=1e12)
    name: str
    kind: Literal["a", "b"] | None = None
    low: int | None = Field(default=None, ge=-1, lt=2**40)
    flag: bool | None = None
    at: AwareDatetime | None


class NullByDefault(BaseModel):
    """Nothing is null unless it is left out, so it may not go the short way."""

    number: int
    name: str = None  # type: ignore[assignment]


class Strict(Everything):
    model_config = ConfigDict(extra="forbid", strict=True)


class Checked(BaseModel):
    low: int
    high: int

    @field_validator("low")
    @classmethod
    def even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value

    @model_validator(mode="after")
    def ordered(self) -> "Checked":
        if self.low > self.high:
            raise ValueError("low above high")
        return self


numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.booleans(), st.none())
texts = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00", "1", "1.5", "true"]
    ),
)
values = st.one_of(numbers, texts, st.lists(numbers, max_size=2))
names = [
    "number",
    "r",
    "name",
    "kind",
    "flag",
    "tags",
    "day",
    "at",
    "price",
    "low",
    "high",
    "other",
]
documents = st.dictionaries(st.sampled_from(names), values, max_size=9)
raw = st.one_of(
    documents.map(lambda document: json.dumps(document).encode()),
    st.sampled_from([b"", b"null", b"[]", b"{", b"{}{}", b"\xff", b'{"number":1,"name":"x"} {}']),
    st.binary(max_size=8),
)


def fits(row: Any) -> bool:
    """Do the integers fit the 64 bits of a column?"""
    if isinstance(row, dict):
        return all(fits(value) for value in row.values())
    if isinstance(row, list):
        return all(fits(value) for value in row)
    return not isinstance(row, int) or INT64_MIN <= row <= INT64_MAX


def by_pydantic(model: type[BaseModel], value: bytes) -> dict[str, Any] | None:
    try:
        return dict(model.model_validate_json(value))
    except ValidationError:
        return None


def check_equal(model: type[BaseModel], batch: list[bytes]) -> None:
    decoding = Contract(model).decode(batch)
    slow = [by_pydantic(model, value) for value in batch]
    wanted = [i for i, row in enumerate(slow) if row is not None and fits(row)]
    assert decoding.places == wanted
    # repr: NaN is not equal to itself
    stored = [_in_utc(row) for row in decoding.batch.to_pylist()]
    assert repr(stored) == repr([_in_utc(slow[i]) for i in wanted])
    refused = [bad.index for bad in decoding.refused]
    assert sorted(refused) == sorted(set(range(len(batch))) - set(wanted))


def _in_utc(row: dict[str, Any] | None) -> dict[str, Any]:
    """The same points in time, in one zone, and the same decimals, in their shortest form."""
    return {name: _plainly(value) for name, value in (row or {}).items()}


def _plainly(value: Any) -> Any:
    if isinstance(value, Decimal):
        return value.normalize()
    return value.astimezone(UTC_ZONE) if isinstance(value, datetime) else value


@law(300)
@given(st.lists(raw, max_size=6))
def test_a_plain_model(batch: list[bytes]) -> None:
    check_equal(Everything, batch)


@law(300)
@given(st.lists(raw, max_size=6))
def test_a_strict_model_that_forbids_more(batch: list[bytes]) -> None:
    check_equal(Strict, batch)


@law()
@given(st.lists(raw, max_size=6))
def test_a_model_with_validators_of_its_own(batch: list[bytes]) -> None:
    check_equal(Checked, batch)


GOOD = b'{"number":1,"r":2,"name":"x","flag":true,"at":"2024-01-01T00:00:00Z"}'
#: What is put in the place of a good record's part, or after it.
CHANGES = [
    (b'"r":2', b'"r":2.5'),
    (b'"number":1', b'"number":1.0'),
    (b'"number":1', b'"number":1e2'),
    (b'"number":1', b'"number":-0'),
    (b'"number":1', b'"number":true'),
    (b'"number":1', b'"number":"1"'),
    (b'"number":1', b'"number":1,"number":2'),
    (b'"number":1', b'"number":9223372036854775807'),
    (b'"number":1', b'"number":9223372036854775808'),
    (b'"number":1', b'"number":18446744073709551616'),
    (b'"number":1', b'"other":1'),
    (b'"r":2', b'"r":1e400'),
    (b'"r":2', b'"r":NaN'),
    (b'"r":2', b'"r":-0.0'),
    (b'"r":2', b'"r":9007199254740993'),
    (b'"r":2', b'"r":18446744073709551617'),
    (b'"r":2', b'"r":false'),
    (b'"r":2', b'"r":"2"'),
    (b'"name":"x"', b'"name":5'),
    (b'"name":"x"', b'"name":null'),
    (b'"name":"x"', b'"name":"\\ud83d\\ude00\\n"'),
    (b'"name":"x"', b'"name":"\\ud800"'),
    (b'"name":"x"', b'"name":"\xff"'),
    (b'"name":"x"', b'"name":"a\tb"'),
    (b'"name":"x"', b'"name":"x","z":"\xff"'),
    (b'"name":"x"', b'"name":"x","z":' + b"[" * 250 + b"]" * 250),
    (b'"number":1', b'"number":1,"other":' + b"9" * 4299),
    (b'"number":1', b'"number":1,"other":' + b"9" * 4301),
    (b'"number":1', b'"number":' + b"9" * 4301),
    (b'"number":1', b'"number":1,"other":[01]'),
    (b'"number":1', b'"number":1,"other":NaN'),
    (b'"number":1', b'"number":1,"other":{"\xff":1}'),
    (b'"number":1', b'"number":1,"\xed\xa0\x80":1'),
    (b'"number":1', b'"number":1,"\xc3\xa9":"\xc3\xa9"'),
    (b'"number":1', b'"n\\u0075mber":1'),
    (b'"number":1', b'"low":2,"number":1'),
    (b'"number":1', b'"low":null,"number":1'),
    (b'"number":1', b'"low":-2,"number":1'),
    (b'"number":1', b'"low":1099511627776,"number":1'),
    (b'"number":1', b'"kind":"a","number":1'),
    (b'"number":1', b'"kind":null,"number":1'),
    (b'"number":1', b'"kind":"c","number":1'),
    (b'"r":2', b'"r":-5'),
    (b'"r":2', b'"r":1.1e12'),
    (b'"r":2', b'"r":-4.999999999999999999'),
    (b'"r":2', b'"r":0.1e-400'),
    (b'"name":"x"', b'"name":"x","z":' + b"[" * 199 + b"]" * 199),
    (b'"name":"x"', b'"name":"x","name":5'),
    (b'"name":"x"', b'"name":5,"name":"x"'),
    (b'"flag":true', b'"flag":null'),
    (b'"flag":true', b'"flag":1'),
    (b'"flag":true', b'"flag":"yes"'),
    (b'"flag":true,', b""),
    (b'"2024-01-01T00:00:00Z"', b"null"),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T00:00:00.25Z"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T00:00:00.1234567Z"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-06-31T00:00:00Z"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T24:00:00Z"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T23:59:60Z"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T00:00:00"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T00Z"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T00:00Z"'),
    (b'"2024-01-01T00:00:00Z"', b'"12024-01-01T00:00:00Z"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T00:00:00+0100"'),
    (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T01:00:00+01:00"'),
    (b'"2024-01-01T00:00:00Z"', b'"0001-01-01T00:00:00Z"'),
    (b'"2024-01-01T00:00:00Z"', b"1704067200"),
    (b'00Z"}', b'00Z"}{}'),
    (b'00Z"}', b'00Z"}}'),
    (b'00Z"}', b'00Z"'),
    (b'00Z"}', b'00Z"} '),
]
plain = st.one_of(
    st.just(GOOD), st.sampled_from(CHANGES).map(lambda change: GOOD.replace(*change)), raw
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[1][:40].decode("latin-1"))
def test_a_plain_model_alone_and_among_good_neighbours(change: tuple[bytes, bytes]) -> None:
    value = GOOD.replace(*change)
    assert value != GOOD
    check_equal(Plain, [value])
    check_equal(Plain, [GOOD, value, GOOD])


@law(500)
@given(st.lists(plain, max_size=5))
def test_a_plain_model_in_any_mixture(batch: list[bytes]) -> None:
    check_equal(Plain, batch)


def test_the_short_way_is_taken_by_plain_models_only() -> None:
    reader = plain_reader(Plain, Contract(Plain).schema)
    assert reader is not None
    read = reader.read([GOOD, GOOD])
    assert read is not None
    assert read.num_rows == 2
    assert reader.read([GOOD, b"{"]) is None
    assert reader.read([GOOD, None]) is None
    for model in (Everything, Strict, NullByDefault):
        assert plain_reader(model, Contract(model).schema) is None


def test_the_strategies_do_make_records_that_are_accepted() -> None:
    good = b'{"number":1,"name":"x","r":2,"price":"1.25","at":"2024-01-01T00:00:00Z"}'
    for model in (Everything, Strict):
        assert len(Contract(model).parse([good])[0]) == 1
    assert len(Contract(Checked).parse([b'{"low":2,"high":3}'])[0]) == 1
