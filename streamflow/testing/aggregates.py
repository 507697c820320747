"""Does an aggregate of your own give the same however its rows were cut? Tried on rows of yours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from typing import Any

import pyarrow as pa

from streamflow.aggregates import AggregateFunction, UserDefined


def check_aggregate(function: AggregateFunction, rows: pa.RecordBatch) -> None:
    """Merge the states of parts of the rows in several ways; all have to give the same result.

    The rows are taken whole, cut in two at each row, in both orders, in three, grouped either way,
    and one by one, forwards and backwards. Floats may differ by a relative 1e-9. Ten rows that hold
    what is special, nulls and equal values, show more than a thousand others.

    Args:
        function: The aggregate.
        rows: A batch that has its `fields`.

    Raises:
        AssertionError: names the cut with another result.
        StateRefused, TopologyError: as in a topology.
    """
    own = UserDefined(function)
    given = rows.select(list(own.fields))
    own.parts(*given.schema.types)
    n = given.num_rows

    def state(start: int, stop: int) -> Any:
        return own.call("accumulate", own.call("init"), given.slice(start, stop - start))

    def merged(*states: Any) -> Any:
        return reduce(lambda one, other: own.call("merge", one, other), states)

    def cuts() -> Iterator[tuple[str, Any]]:
        yield "merged with no rows", merged(state(0, n), own.call("init"))
        for at in range(n + 1):
            yield f"cut before row {at}", merged(state(0, at), state(at, n))
            yield f"cut before row {at}, in reverse", merged(state(at, n), state(0, at))
        low, high = n // 3, 2 * n // 3
        last = merged(state(low, high), state(high, n))
        yield "cut in three, the last two merged first", merged(state(0, low), last)
        singles = [(at, at + 1) for at in range(n)]
        yield "row by row", merged(own.call("init"), *(state(*one) for one in singles))
        yield "row by row, in reverse", merged(*(state(*s) for s in singles[::-1]), state(0, 0))

    whole = own.call("result", state(0, n))
    for words, one in cuts():
        result = own.call("result", one)
        assert _alike(result, whole), (
            f"{own.name}: {result!r} of the rows {words}, but {whole!r} of the whole; merge() "
            "has to be associative and commutative, and to give what accumulate() gives over them"
        )


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)
