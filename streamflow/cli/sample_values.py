"""Columns of values of JSON that Arrow's reader does not take, or would not keep as they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final, cast

import pyarrow as pa

_INT64: Final = range(-(2**63), 2**63)
#: A decimal that all readers of Parquet know has no more.
_DIGITS: Final = 38
_WORDS: Final = {bool: "truth value", str: "text", list: "list", dict: "object"}


def column_of(name: str, values: Sequence[Any]) -> tuple[pa.Array, list[str]]:
    """Values as they are if that can be, else as text; and what is to be said of it."""
    there = [value for value in values if value is not None]
    kinds = {type(value) for value in there}
    large = any(map(has_large_integer, there))
    if large and kinds == {int}:
        digits = max(len(str(abs(value))) for value in there)
        if digits <= _DIGITS:
            exact = [None if value is None else Decimal(value) for value in values]
            words = f"holds integers beyond 64 bits: taken as decimal({digits}, 0), which is exact"
            return pa.array(exact, pa.decimal128(digits)), [f"{name} {words}"]
    elif large and kinds == {int, float}:
        doubles = [None if value is None else float(value) for value in values]
        words = "holds integers beyond 64 bits, and fractions: taken as double, of 15 digits"
        return pa.array(doubles), [f"{name} {words}"]
    try:
        return pa.array(values), []
    except (pa.ArrowException, OverflowError):
        texts = pa.array(list(_texts(values)), pa.string())
        found = ", ".join(f"{kind}s" for kind in _kinds(there))
        words = f"{found}, with integers beyond 64 bits" if large else found
        return texts, [f"{name} holds {words}: taken as text"]


def kind_of_value(value: Any) -> str:
    """What it is, in a word."""
    return "null" if value is None else _WORDS.get(type(value), "number")


def has_large_integer(value: Any) -> bool:
    """Is it an integer of more than 64 bits, or does it hold one?"""
    if isinstance(value, dict):
        return any(map(has_large_integer, cast("dict[str, Any]", value).values()))
    if isinstance(value, list):
        return any(map(has_large_integer, cast("list[Any]", value)))
    return isinstance(value, int) and value not in _INT64


def _kinds(values: Sequence[Any]) -> list[str]:
    """The most frequent first."""
    return [kind for kind, _ in Counter(map(kind_of_value, values)).most_common()]


def _texts(values: Sequence[Any]) -> Iterator[str | None]:
    for value in values:
        is_text = value is None or isinstance(value, str)
        yield value if is_text else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
