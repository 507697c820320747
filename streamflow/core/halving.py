"""A user's function over rows, computed in columns also where it fails on some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from streamflow.failed_words import NOT_ITS_OWN, words_of
from streamflow.on_error import OnError

Rows = pa.RecordBatch


def each_alone(
    function: Callable[[Rows], pa.Array],
    rows: Rows,
    kind: pa.DataType,
    on_error: OnError = "dead_letter",
) -> tuple[pa.Array, dict[int, str]]:
    """`function(rows)`, null where it fails; and for each of those rows why.

    No rows are no reason to call it: what it needs may be away, and nothing would fail by that.
    Halves what fails until single rows are left, so a few bad rows cost little. `function` gives
    one value of type `kind` per row, and looks at each row alone. Where a failure is no dead
    letter nothing is computed beyond the first row that fails, and all after it fail too.
    """
    if not rows.num_rows:
        return pa.array([], kind), {}
    halving = _Halving(function, rows, kind, on_error)
    parts = halving.of(0, rows.num_rows)
    return parts[0] if len(parts) == 1 else pa.concat_arrays(parts), halving.failed


@dataclass
class _Halving:
    """A class, since a nested function that calls itself would hold the rows in a cycle, until the
    garbage collector comes.
    """

    function: Callable[[Rows], pa.Array]
    rows: Rows
    kind: pa.DataType
    on_error: OnError
    failed: dict[int, str] = field(default_factory=dict[int, str])

    def of(self, start: int, stop: int) -> list[pa.Array]:
        if self.failed and self.on_error != "dead_letter":
            self.failed |= dict.fromkeys(range(start, stop), "")
            return [pa.nulls(stop - start, self.kind)]
        try:
            return [self.function(self._rows(start, stop))]
        except NOT_ITS_OWN:
            raise
        except BaseException as error:
            if stop - start == 1:
                self.failed[start] = words_of(error)
                return [pa.nulls(1, self.kind)]
        middle = (start + stop) // 2
        return self.of(start, middle) + self.of(middle, stop)

    def _rows(self, start: int, stop: int) -> Rows:
        """Copied where these are not all: Arrow casts what lies in the lists of others as well."""
        whole = stop - start == self.rows.num_rows != 1
        return self.rows if whole else self.rows.take(pa.array(range(start, stop), pa.int64()))
