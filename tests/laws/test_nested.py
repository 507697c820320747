"""Nested models are accepted as pydantic accepts them, and their values are those of pydantic."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from streamflow.nested import INT64_MAX, INT64_MIN
from streamflow.plain import plain_reader
from streamflow.schema import Contract
from tests.examples import law


class Inner(BaseModel):
    n: int = Field(alias="N", ge=-5)
    s: str | None = None
    at: AwareDatetime | None = None


class Odd(BaseModel):
    n: int = 1

    @field_validator("n")
    @classmethod
    def odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("even")
        return value


class Lax(BaseModel):
    a: Inner
    b: Inner | None = None
    items: list[Inner] = []
    by_name: dict[str, Inner | None] = {}
    prices: dict[str, list[Decimal]] = Field(default={}, max_length=2)


class StrictOutside(Lax):
    """What is nested has a configuration of its own, which is not strict."""

    model_config = ConfigDict(strict=True, extra="forbid")


class StrictInner(Inner):
    model_config = ConfigDict(strict=True, extra="forbid")


class StrictInside(BaseModel):
    a: StrictInner
    items: list[StrictInner] = []
    by_name: dict[str, dict[str, StrictInner]] = {}


class Validated(BaseModel):
    a: Odd
    items: list[Odd] = [Odd(n=3)]
    by_name: dict[str, Odd] = Field(default_factory=lambda: {"x": Odd()})


class PlainInner(BaseModel):
    n: int = Field(ge=-5)
    s: str | None = None
    at: float | None = None


class Plain(BaseModel):
    """One that goes the short way where all is well."""

    a: PlainInner
    b: PlainInner | None = None
    items: list[PlainInner] = []
    by_name: dict[str, PlainInner | None] = {}
    prices: dict[str, list[float]] | None = None


class Even(PlainInner):
    @field_validator("n")
    @classmethod
    def even(cls, value: int) -> int:
        return value * 2


class Timed(BaseModel):
    n: int
    at: AwareDatetime | None = None


class Filled(BaseModel):
    n: int
    more: list[int] = []


class ExceptValidated(BaseModel):
    """These would be plain, were it not for what is inside."""

    a: Even


class ExceptTimed(BaseModel):
    a: Timed


class ExceptFilled(BaseModel):
    a: Filled
    b: PlainInner | None = None


class ExceptStrict(BaseModel):
    a: StrictInner
    b: PlainInner | None = PlainInner(n=1)


EXCEPTIONS = [ExceptValidated, ExceptTimed, ExceptFilled, ExceptStrict]
MODELS = [Plain, *EXCEPTIONS, Lax, StrictOutside, StrictInside, Validated]

leaves = st.one_of(
    st.integers(-6, 6),
    st.sampled_from([None, True, "1", "x", 1.5, 2.0, 2**63, "2024-01-01T00:00:00Z", "1.5"]),
)
inners = st.dictionaries(st.sampled_from(["N", "n", "s", "at", "more"]), leaves, max_size=3)
near = st.one_of(inners, st.builds(lambda n: {"N": n, "n": n}, leaves), leaves)
maps = st.dictionaries(
    st.sampled_from(["x", "ü", ""]), near | st.lists(leaves, max_size=2), max_size=3
)
documents = st.fixed_dictionaries(
    {"a": near},
    optional={
        "b": near,
        "items": st.lists(near, max_size=2) | leaves,
        "by_name": maps | st.dictionaries(st.just("k"), maps, max_size=1) | leaves,
        "prices": maps,
        "more": leaves,
    },
)


def fits(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(fits, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or INT64_MIN <= value <= INT64_MAX


def by_pydantic(model: type[BaseModel], value: bytes) -> dict[str, Any] | None:
    try:
        return model.model_validate_json(value).model_dump()
    except ValidationError:
        return None


def plainly(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plainly(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plainly(one) for one in value]
    if isinstance(value, Decimal):
        return value.normalize()
    return value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else value


def test_which_models_go_the_short_way() -> None:
    short = [model for model in MODELS if plain_reader(model, Contract(model).schema) is not None]
    assert short == [Plain]
    reader = plain_reader(Plain, Contract(Plain).schema)
    assert reader is not None
    rows = reader.read([b'{"a":{"n":1},"items":[{"n":2,"s":null}]}'])
    assert rows is not None
    assert rows["a"].to_pylist() == [{"n": 1, "s": None, "at": None}]
    assert (rows["by_name"].to_pylist(), rows["b"].null_count) == ([[]], 1)


@pytest.mark.parametrize("model", MODELS)
@law(540, cases=len(MODELS))
@given(st.lists(documents, max_size=4))
def test_a_record_is_taken_exactly_when_pydantic_takes_it(
    model: type[BaseModel], batch: list[dict[str, Any]]
) -> None:
    values = [json.dumps(document).encode() for document in batch]
    decoding = Contract(model).decode(values)
    slow = [by_pydantic(model, value) for value in values]
    wanted = [i for i, row in enumerate(slow) if row is not None and fits(row)]
    assert decoding.places == wanted
    stored = decoding.batch.to_pylist(maps_as_pydicts="strict")
    assert plainly(stored) == [plainly(slow[i]) for i in wanted]
    refused = sorted(bad.index for bad in decoding.refused)
    assert refused == [i for i in range(len(values)) if i not in wanted]
