"""What a user's function holds on to while it is computed, and what is its failure."""

import asyncio
import gc
import weakref

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from streamflow.core.halving import each_alone
from streamflow.engine.failures import as_failure


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


class Panic(BaseException):
    """What a library in Rust raises."""


@pytest.mark.parametrize("error", [Panic("here"), asyncio.CancelledError("here")])
def test_what_is_no_exception_fails_on_its_row(error: BaseException) -> None:
    def odd(rows: pa.RecordBatch) -> pa.Array:
        if 2 in rows["n"].to_pylist():
            raise error
        return rows["n"]

    made, failed = each_alone(odd, pa.RecordBatch.from_pydict({"n": [1, 2, 3]}), pa.int64())
    assert made.to_pylist() == [1, None, 3]
    assert failed == {1: f"{type(error).__name__}: here"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_no_failure_of_a_function_is_raised(error: type[BaseException]) -> None:
    def odd(rows: pa.RecordBatch) -> pa.Array:
        raise error

    with pytest.raises(error):
        each_alone(odd, pa.RecordBatch.from_pydict({"n": [1]}), pa.int64())


def test_no_rows_are_no_reason_to_call_a_function() -> None:
    def away(rows: pa.RecordBatch) -> pa.Array:
        raise OSError("what it needs is away")

    none = pa.RecordBatch.from_pydict({"n": pa.array([], pa.int64())})
    made, failed = each_alone(away, none, pa.float64(), "retry")
    assert (made.to_pylist(), made.type, failed) == ([], pa.float64(), {})


def test_what_ends_a_coroutine_is_told_from_what_a_function_raises() -> None:
    async def cancelled() -> object:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            return as_failure(error)

    async def test() -> None:
        made = as_failure(asyncio.CancelledError())
        assert (type(made), str(made)) == (RuntimeError, "CancelledError: ")
        assert str(as_failure(Panic("here"))) == "Panic: here"
        plain = ValueError("no")
        assert as_failure(plain) is plain
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(SystemExit):
            as_failure(SystemExit(3))

    asyncio.run(test())
