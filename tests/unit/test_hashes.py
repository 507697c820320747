"""Hashes of values: the same for ever, since they lie in states, and far apart."""

import math
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from streamflow.aggregates.hashes import hashes


@pytest.mark.parametrize(
    ("values", "known"),
    [
        (pa.array([0, 1, -1]), (16294208416658607535, 10451216379200822465, 16490336266968443936)),
        (
            pa.array(["", "a", "é" * 40]),
            (16294208416658607535, 6774081908283191102, 15964957511002602013),
        ),
    ],
)
def test_a_hash_never_changes(values: pa.Array, known: tuple[int, ...]) -> None:
    assert tuple(hashes(values).to_pylist()) == known


@pytest.mark.parametrize(
    "values",
    [
        [b"", b"\0", b"\0" * 8, b"\0" * 9, b"\0" * 64, b"\0" * 65, b"\xff" * 7, b"a" * 1000],
        ["a", "b", "ab", "ba", "é", "abcdefgh", "abcdefgh\0", "abcdefghi", "x" * 63 + "y"],
        [0, 1, 2**63 - 1, -(2**63), 2**53, 2**53 + 1],
        [0.0, 5e-324, math.inf, -math.inf, math.nan, 1.5],
        [Decimal("0.01"), Decimal("0.10"), Decimal("-0.01"), Decimal(10) ** 28],
        [datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 1, 0, 0, 0, 1, tzinfo=UTC)],
        [date(2024, 5, 1), date(1, 1, 1)],
        [True, False],
    ],
    ids=lambda values: type(values[0]).__name__,
)
def test_different_values_have_different_hashes_and_null_has_none(values: list[Any]) -> None:
    found = hashes(pa.array([None, *values, None, *values])).to_pylist()
    assert len(set(found)) == len(values) + 1
    assert found[0] is None
    assert found[: len(values) + 1] == found[len(values) + 1 :]


def test_a_value_hashes_alike_wherever_it_stands_in_a_column() -> None:
    column = pa.array([None if i % 5 == 0 else "x" * i for i in range(200)])
    for start in (0, 1, 63, 199, 200):
        assert hashes(column.slice(start)).equals(hashes(column).slice(start))
        assert hashes(pa.chunked_array([column.slice(start)])).equals(hashes(column).slice(start))


def test_every_bit_of_a_hash_depends_on_the_value() -> None:
    counters = pa.array(range(4096), pa.int64())
    texts = pa.array([struct.pack(">I", i) for i in range(4096)])
    for column in (counters, texts):
        found = hashes(column).to_pylist()
        for bit in range(64):
            assert 1800 < sum(value >> bit & 1 for value in found) < 2300
