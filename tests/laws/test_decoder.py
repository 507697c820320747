"""The fast path is the slow path: the decoder accepts what pydantic accepts, as it does."""

import json
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from hypothesis import given, settings
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

from streamflow.schema import INT64_MAX, INT64_MIN, Contract


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
    accepted, places, refused = Contract(model).parse(batch)
    slow = [by_pydantic(model, value) for value in batch]
    wanted = [i for i, row in enumerate(slow) if row is not None and fits(row)]
    assert places == wanted
    assert repr(accepted) == repr([slow[i] for i in wanted])  # repr: NaN is not equal to itself
    assert sorted(bad.index for bad in refused) == sorted(set(range(len(batch))) - set(wanted))


@settings(deadline=None, max_examples=300)
@given(st.lists(raw, max_size=6))
def test_a_plain_model(batch: list[bytes]) -> None:
    check_equal(Everything, batch)


@settings(deadline=None, max_examples=300)
@given(st.lists(raw, max_size=6))
def test_a_strict_model_that_forbids_more(batch: list[bytes]) -> None:
    check_equal(Strict, batch)


@settings(deadline=None, max_examples=100)
@given(st.lists(raw, max_size=6))
def test_a_model_with_validators_of_its_own(batch: list[bytes]) -> None:
    check_equal(Checked, batch)


def test_the_strategies_do_make_records_that_are_accepted() -> None:
    good = b'{"number":1,"name":"x","r":2,"price":"1.25","at":"2024-01-01T00:00:00Z"}'
    for model in (Everything, Strict):
        assert len(Contract(model).parse([good])[0]) == 1
    assert len(Contract(Checked).parse([b'{"low":2,"high":3}'])[0]) == 1
