"""What a user's function holds on to while it is computed."""

import gc
import weakref

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from streamflow.core.halving import each_alone


@pytest.mark.parametrize("values", [[1, 2, 3], [1, None, 3]], ids=["all work", "one fails"])
def test_rows_are_let_go_without_the_garbage_collector(values: list[int | None]) -> None:
    def double(rows: pa.RecordBatch) -> pa.Array:
        if rows["n"].null_count:
            raise ValueError("null")
        return pc.multiply(rows["n"], 2)

    rows = pa.RecordBatch.from_pydict({"n": values})
    gone = weakref.ref(rows)
    gc.disable()
    try:
        made, failed = each_alone(double, rows, pa.int64())
        del rows
        assert gone() is None
    finally:
        gc.enable()
    assert made.to_pylist() == [None if value is None else 2 * value for value in values]
    assert failed == ({} if None not in values else {1: "ValueError: null"})
