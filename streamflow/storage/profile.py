"""What the values of each column of a sample are like, by Arrow kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.parquet import leaf_columns


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """A column as Parquet has it, one for each field of a struct or list; None is: not known.

    Attributes:
        path: Its path in the Parquet schema.
        column: The column of the table it is, or is in.
        type: Its Arrow type.
        physical: Parquet's type of it.
        values: How many there are, nulls included.
        nulls: The share of these that are null.
        distinct: How many different ones there are, nulls not counted.
        ordered: The share of neighbours of which the second is not the smaller one.
        run: How many equal values follow each other, in the mean.
        spread_bits: What the largest is above the smallest, in bits.
        mean_length: Bytes of a text, in the mean.
    """

    path: str
    column: str
    type: str
    physical: str
    values: int
    nulls: float
    distinct: int | None = None
    ordered: float | None = None
    run: float | None = None
    spread_bits: int | None = None
    mean_length: float | None = None

    @property
    def coded(self) -> bool:
        """Is it a dictionary in Arrow? Then it is read as one, and Arrow reads few encodings so."""
        return self.type.startswith("dictionary<")

    @property
    def repeats(self) -> float | None:
        """The share of values that were there before."""
        there = round(self.values * (1 - self.nulls))
        return None if self.distinct is None or not there else 1 - self.distinct / there

    @property
    def constant(self) -> bool:
        """Is there one value at most?"""
        there = 0 < self.nulls < 1
        return self.nulls == 1 or (self.distinct is not None and self.distinct + there <= 1)


def profile(sample: pa.Table) -> list[ColumnProfile]:
    """The leaves of a sample, in the order of its Parquet schema."""
    found: list[ColumnProfile] = []
    for name in dict.fromkeys(sample.column_names):
        for place in [i for i, known in enumerate(sample.column_names) if known == name]:
            column = sample.select([place])
            leaves = leaf_columns(column.schema)
            values = list(_leaves(_whole(column.column(0))))
            for leaf, (kind, array) in zip(leaves, values, strict=True):
                found.append(_profile(leaf.path, name, str(kind), leaf.physical, array))
    return found


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """One array with no offset, so that what lies in it can be taken as it is."""
    return pa.concat_arrays([pa.array([], column.type), *column.chunks])


def _leaves(array: pa.Array) -> Iterator[tuple[pa.DataType, pa.Array]]:
    """The leaves that Parquet makes of an array, in its order: their types and plain values."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _leaves(array.storage)
    elif pa.types.is_dictionary(kind):
        yield kind, array.dictionary_decode()
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(kind):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif pa.types.is_nested(kind):
        yield from _leaves(array.flatten())
    else:
        yield kind, array


def _profile(path: str, column: str, kind: str, physical: str, array: pa.Array) -> ColumnProfile:
    count = len(array)
    pairs = max(count - 1, 1)
    before, after = array.slice(0, pairs), array.slice(1)
    text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    binary = text or pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)
    changes = _number(lambda: pc.sum(pc.not_equal(before, after)).as_py() or 0)
    gaps = abs(_border(array)) if count else 0
    return ColumnProfile(
        path=path,
        column=column,
        type=kind,
        physical=physical,
        values=count,
        nulls=array.null_count / count if count else 0.0,
        distinct=_number(lambda: pc.count_distinct(array, mode="only_valid").as_py()),
        ordered=_number(lambda: _rounded(pc.mean(pc.greater_equal(after, before)).as_py())),
        run=None if changes is None or not count else _rounded(count / (changes + gaps + 1)),
        spread_bits=_number(lambda: _spread(array)),
        mean_length=_number(lambda: _rounded(pc.mean(pc.binary_length(array)).as_py()))
        if binary
        else None,
    )


def _border(array: pa.Array) -> int:
    """How often a null follows a value or a value a null, which no comparison counts."""
    null = array.is_null()
    return pc.sum(pc.not_equal(null.slice(0, max(len(null) - 1, 0)), null.slice(1))).as_py() or 0


def _spread(array: pa.Array) -> int | None:
    kind = array.type
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not pa.types.is_integer(kind):
        return None
    ends = pc.min_max(array).as_py()
    return None if ends["min"] is None else (ends["max"] - ends["min"]).bit_length()


def _number(compute: Callable[[], Any]) -> Any:
    """What is computed, or None where Arrow does not compute it for this type."""
    try:
        return compute()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return None


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
