"""A user's own aggregate: what it computes, what is refused at import, what stops the worker."""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel, create_model

from streamflow import AggregateFunction, Count, Topology, TopologyError, Tumbling, source, topic
from streamflow.aggregates.returned import as_kept
from streamflow.errors import StateRefused
from streamflow.testing import TopologyDriver, check_aggregate

HOUR = timedelta(hours=1)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Sale(BaseModel):
    shop: str
    qty: int = 0
    price: float | None = None
    at: AwareDatetime


class Vwap(AggregateFunction):
    """The mean price of a piece."""

    fields = ("price", "qty")
    state = pa.struct([("paid", pa.float64()), ("qty", pa.int64())])
    type = pa.float64()

    def init(self) -> Any:
        return {"paid": 0.0, "qty": 0}

    def accumulate(self, state: Any, rows: pa.RecordBatch) -> Any:
        paid = pc.sum(pc.multiply(rows["price"], pc.cast(rows["qty"], pa.float64())), min_count=0)
        state["paid"] += paid.as_py()
        state["qty"] += pc.sum(rows["qty"], min_count=0).as_py()
        return state

    def merge(self, state: Any, other: Any) -> Any:
        return {name: state[name] + other[name] for name in state}

    def result(self, state: Any) -> Any:
        return state["paid"] / state["qty"] if state["qty"] else None


class Total(AggregateFunction):
    """A sum of quantities whose parts can be replaced by what a test wants."""

    fields: tuple[str, ...] = ("qty",)
    state: pa.DataType = pa.int64()
    type: pa.DataType = pa.int64()

    def __init__(self, **changes: Any) -> None:
        for name, change in changes.items():
            setattr(self, name, change)

    def init(self) -> Any:
        return 0

    def accumulate(self, state: Any, rows: pa.RecordBatch) -> Any:
        return pc.add(pc.sum(rows["qty"], min_count=0), state)

    def merge(self, state: Any, other: Any) -> Any:
        return state + other

    def result(self, state: Any) -> Any:
        return state


def topology(kind: Any, aggregate: Any) -> Topology:
    fields: dict[str, Any] = {
        "shop": (str, ...),
        "window_start": (AwareDatetime, ...),
        "rows": (int, ...),
        "made": (kind, ...),
    }
    model = create_model("Hourly", **fields)
    sales = source(topic("sales"), Sale, key="shop", event_time="at", out_of_orderness=HOUR)
    hourly = sales.window(Tumbling(HOUR), by="shop").aggregate(model, rows=Count(), made=aggregate)
    return Topology("t", hourly.to(topic("x")), hourly.late.drop(), sales.rejected.drop())


def made(kind: Any, aggregate: Any, rows: list[dict[str, Any]], batch: int = 1000) -> Any:
    """The results by shop, of one hour."""
    driver = TopologyDriver(topology(kind, aggregate), NOW, batches=[batch], commit_records=2)
    driver.send("sales", *({"shop": "a", "at": NOON, **row} for row in rows))
    driver.end_of_input()
    return {row["shop"]: row["made"] for row in driver.read("x")}


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
def test_an_aggregate_of_ones_own_is_computed_for_each_group(batch: int) -> None:
    rows = [
        {"shop": "a", "price": 1.0, "qty": 1},
        {"shop": "b", "price": 5.0, "qty": 2},
        {"shop": "a", "price": 4.0, "qty": 2},
        {"shop": "c", "price": None, "qty": 0},
        {"shop": "b", "price": 9.0, "qty": 2},
        {"shop": "a", "price": 1.0, "qty": 0},
    ]
    assert made(float | None, Vwap(), rows, batch) == {"a": 3.0, "b": 7.0, "c": None}
    assert made(int, Total(), rows, batch) == {"a": 3, "b": 4, "c": 0}


def test_it_sees_event_times_and_offsets_and_keeps_what_arrow_keeps() -> None:
    class Latest(Total):
        fields = ("_event_time", "_offset")
        state = pa.list_(pa.timestamp("us", "UTC"))
        type = pa.timestamp("us", "UTC")

        def init(self) -> Any:
            return []

        def accumulate(self, state: Any, rows: pa.RecordBatch) -> Any:
            assert rows.schema.names == ["_event_time", "_offset"]
            return [*state, *rows["_event_time"].to_pylist()]

        def result(self, state: Any) -> Any:
            return max(state, default=None)

    rows = [{"at": NOON + timedelta(microseconds=m)} for m in (3, 7, 1)]
    found = made(AwareDatetime | None, Latest(), rows, 1)
    assert found == {"a": NOON + timedelta(microseconds=7)}


def test_a_state_that_is_changed_in_place_is_no_other_groups() -> None:
    shared: list[int] = []

    class Values(Total):
        state = pa.list_(pa.int64())
        type = pa.list_(pa.int64())

        def init(self) -> Any:
            return shared

        def accumulate(self, state: Any, rows: pa.RecordBatch) -> Any:
            state += rows["qty"].to_pylist()
            return state

        def result(self, state: Any) -> Any:
            return sorted(state)

    rows = [{"shop": "ab"[i % 2], "qty": i} for i in range(5)]
    assert made(list[int], Values(), rows, 2) == {"a": [0, 2, 4], "b": [1, 3]}
    assert shared == []


def raising(*_: Any) -> Any:
    raise ZeroDivisionError("of nothing")


def returning(value: Any) -> Callable[..., Any]:
    return lambda *_: value


@pytest.mark.parametrize(
    ("aggregate", "words"),
    [
        (Total(init=raising), r"Total.init\(\) raised ZeroDivisionError.*, tried on no rows"),
        (Total(accumulate=raising), r"Total.accumulate\(\) raised ZeroDivisionError"),
        (Total(merge=raising), r"Total.merge\(\) raised ZeroDivisionError\('of nothing'\), tried"),
        (Total(result=raising), r"Total.result\(\) raised ZeroDivisionError"),
        (Total(accumulate=lambda state, rows: rows["size"]), r"accumulate\(\) raised KeyError"),
        (Total(accumulate=lambda state, rows: rows["qty"]), r"(?s)accumulate\(\) gave .* no int64"),
        (Total(init=returning("0")), r"init\(\) gave '0', which is no int64"),
        (
            Total(state=pa.list_(pa.int64()), init=returning([1.5])),
            r"init\(\) gave \[1.5\], which is no list<item: int64>: 1.5 is no integer",
        ),
        (
            Total(state=pa.struct([("n", pa.int64())]), init=returning({"n": Decimal("0.5")})),
            r"which is no struct<n: int64>: Decimal\('0.5'\) is no integer",
        ),
        (Total(merge=returning(1.5)), r"merge\(\) gave 1.5, which is no int64"),
        (Total(result=returning(2**63)), r"result\(\) gave 9223372036854775808, which is no int64"),
        (Total(state=pa.struct([("n", pa.int64())])), r"gave 0, .* a dict with the names \['n'\]"),
        (
            Total(state=pa.struct([("n", pa.int64())]), init=returning({"m": 1})),
            r"gave \{'m': 1\}, .* a dict with the names \['n'\] is wanted",
        ),
        (Total(state=int), "Total.state must be one of Arrow's types"),
        (Total(type=None), "Total.type must be one of Arrow's types"),
        (Total(type=pa.string(), result=returning("x")), "made is int64, but .* gives string"),
        (Total(fields="qty"), "Total.fields is 'qty'; it must be a tuple of names of fields"),
        (Total(fields=()), r"Total.fields is \(\)"),
        (Total(fields=("qty", "size")), r"Total\(\) as made: Sale has no field 'size'"),
        (Total, "made is <class .*Total'>; it must be an aggregate, such as Count"),
        (sum, "made is <built-in function sum>; it must be an aggregate"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(aggregate: Any, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        topology(int, aggregate)


def when(row: int, method: str, then: Callable[..., Any]) -> Total:
    """A sum whose method does something else once a quantity of `row` is in it."""
    plain = Total()

    def changed(*given: Any) -> Any:
        values = given[1]["qty"].to_pylist() if method == "accumulate" else given
        return then() if row in values else getattr(plain, method)(*given)

    return Total(**{method: changed})


@pytest.mark.parametrize(
    ("aggregate", "words"),
    [
        (when(4, "accumulate", raising), r"sales\[0\]@2..3: Total.accumulate\(\) raised Zero"),
        (when(4, "accumulate", returning(0.5)), r"sales\[0\]@2..3: .* gave 0.5, which is no int64"),
        (when(4, "accumulate", returning(pa.array([1]))), "which is no int64"),
        (
            when(7, "merge", raising),
            r"sales\[0\]@0..3: Total.merge\(\) raised ZeroDivisionError\('of",
        ),
        (
            when(10, "result", raising),
            r"sales\[0\]@0..3: Total.result\(\) raised ZeroDivisionError",
        ),
        (when(10, "result", returning("10")), r"Total.result\(\) gave '10', which is no int64"),
        (when(10, "result", returning(None)), r"a result of 'sales.hourly' is null, but made is n"),
    ],
)
def test_a_function_that_fails_on_rows_stops_the_task_before_a_wrong_result(
    aggregate: Any, words: str
) -> None:
    rows = [{"qty": qty} for qty in (1, 2, 4, 3)]
    with pytest.raises(StateRefused, match=words):
        made(int, aggregate, rows, 2)


BATCH = pa.record_batch(
    {"qty": pa.array([3, 1, 0, 2, 2]), "price": pa.array([0.5, None, 1.5, 2.0, -1e9])}
)


def test_functions_that_do_not_see_the_cut_pass_the_check() -> None:
    check_aggregate(Vwap(), BATCH)
    check_aggregate(Total(), BATCH.slice(0, 0))
    nan = Total(type=pa.list_(pa.float64()), result=lambda state: [float("nan"), state / 3])
    check_aggregate(nan, BATCH)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Total(merge=lambda state, other: state - other), "of the rows cut before row"),
        (Total(merge=lambda state, other: other), "of the rows merged with no rows, but 8 of"),
        (Total(init=returning(1)), "9 of the rows merged with no rows|10 of"),
        (Total(accumulate=lambda state, rows: state + max([*rows["qty"].to_pylist(), 0])), "cut"),
        (
            Total(
                state=pa.float64(),
                init=returning(None),
                accumulate=lambda _, rows: pc.mean(rows["qty"]).as_py(),
                merge=lambda a, b: a if b is None else b if a is None else (a + b) / 2,
                result=lambda state: None if state is None else round(state * 100),
            ),
            "cut before row 1",
        ),
        (
            Total(
                state=pa.list_(pa.int64()),
                init=returning([]),
                accumulate=lambda state, rows: state + rows["qty"].to_pylist(),
                result=lambda state: state[0] if state else None,
            ),
            "cut before row 1, in reverse",
        ),
    ],
)
def test_functions_that_see_the_cut_fail_the_check(wrong: Total, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_aggregate(wrong, BATCH)


def test_another_process_with_the_same_code_goes_on_with_the_state() -> None:
    def build(percent: int = 100, **changes: Any) -> Topology:
        class Share(Total):  # made anew, as an import does
            def __init__(self, percent: int) -> None:
                super().__init__(**changes)
                self.percent = percent

            def result(self, state: Any) -> Any:
                return state * self.percent // 100

        return topology(int, Share(percent))

    first, again = build(), build()
    assert (first.tasks[0].state_id, first.version) == (again.tasks[0].state_id, again.version)
    mended = build(init=lambda: 0)
    assert mended.tasks[0].state_id == first.tasks[0].state_id, "code is not kept"
    assert mended.version != first.version
    for other in (build(50), build(fields=("qty", "price")), build(type=pa.int32())):
        assert other.tasks[0].state_id != first.tasks[0].state_id
    driver = TopologyDriver(first, NOW)
    driver.send("sales", {"shop": "a", "qty": 3, "at": NOON})
    driver.deploy(mended)
    driver.send("sales", {"shop": "a", "qty": 4, "at": NOON})
    driver.end_of_input()
    assert [row["made"] for row in driver.read("x")] == [7]


def test_memory_that_is_not_there_is_no_failure_of_a_function() -> None:
    def fails() -> Any:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        made(int, when(4, "accumulate", fails), [{"qty": 4}])


class Mute(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def mute(*_: Any) -> Any:
    raise Mute


class Fails(Total):
    @property
    def fields(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise mute()


@pytest.mark.parametrize(
    ("aggregate", "words"),
    [
        (Total(merge=mute), r"Total.merge\(\) raised a Mute, tried on no rows"),
        (Total(merge=returning(Mute())), r"Total.merge\(\) gave a Mute, which is no int64"),
        (
            Total(init=returning("x" * 9999)),
            r"gave 'xx.*\.\.\. \(10,001 characters\), which is no int64",
        ),
        (Fails(), "Fails.fields raised a Mute"),
        (
            Total(state=pa.string_view(), init=returning("")),
            "state is string_view, a type that Arrow",
        ),
    ],
)
def test_words_are_found_for_what_has_none(aggregate: Any, words: str) -> None:
    changes = {"accumulate": returning(""), "merge": returning(""), "result": returning(0)}
    if getattr(aggregate, "state", None) == pa.string_view():
        aggregate = Total(**{**changes, **vars(aggregate)})
    with pytest.raises(TopologyError, match=words):
        topology(int, aggregate)


INTS, NESTED = pa.list_(pa.int64()), pa.struct([("in", pa.struct([("n", pa.int64())]))])


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (pa.int64(), Fraction(3, 2), r"Fraction\(3, 2\) is no integer"),
        (pa.int64(), "3", "'3' is no integer"),
        (pa.int64(), True, "Expected integer, got bool"),
        (INTS, deque([1.5]), "1.5 is no integer"),
        (INTS, pa.array([1.5]), "1.5 is no integer"),
        (INTS, 5, "a list is wanted, and not a int"),
        (INTS, {1, 2}, "a list is wanted, and not a set"),
        (pa.list_(pa.string()), "texts", "a list is wanted, and not a str"),
        (pa.large_list(pa.int32()), [Decimal(1)], r"Decimal\('1'\) is no integer"),
        (pa.list_(pa.int64(), 1), [0.5], "0.5 is no integer"),
        (NESTED, {"in": {"m": 1}}, r"a dict with the names \['n'\] is wanted"),
        (NESTED, {"in": 1}, r"a dict with the names \['n'\] is wanted"),
        (pa.list_(NESTED), [{"in": {}}], r"a dict with the names \['n'\] is wanted"),
        (pa.map_(pa.string(), pa.int64()), {"a": 1.5}, "1.5 is no integer"),
        (pa.map_(pa.string(), pa.int64()), [("a", 1), ("a", 2)], "the key 'a' is there twice"),
        (pa.timestamp("us", "UTC"), 1.75, "1.75 is no integer"),
        (pa.dictionary(pa.int8(), pa.int64()), 1.5, "1.5 is no integer"),
    ],
)
def test_what_arrow_would_change_in_silence_does_not_fit(
    kind: pa.DataType, value: Any, words: str
) -> None:
    with pytest.raises((pa.ArrowException, TypeError, ValueError), match=words):
        as_kept(value, kind)


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        (pa.int64(), pa.scalar(3, pa.int8()), 3),
        (INTS, deque([1, None]), [1, None]),
        (INTS, pa.array([1, 2]), [1, 2]),
        (INTS, range(3), [0, 1, 2]),
        (NESTED, {"in": {"n": None}}, {"in": {"n": None}}),
        (NESTED, {"in": None}, {"in": None}),
        (pa.map_(pa.string(), pa.int64()), {"a": 1, "b": None}, [("a", 1), ("b", None)]),
        (pa.map_(NESTED, pa.bool_()), [({"in": None}, True)], [({"in": None}, True)]),
        (pa.timestamp("us", "UTC"), 10**6, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (pa.float64(), 3, 3.0),
    ],
)
def test_what_fits_is_kept_as_it_is(kind: pa.DataType, value: Any, kept: Any) -> None:
    assert as_kept(value, kind) == kept


def test_a_null_in_a_list_stops_the_task_where_the_model_has_none_there() -> None:
    class Both(Total):
        type = INTS

        def result(self, state: Any) -> Any:
            return [state, None if state > 4 else 0]

    assert made(list[int], Both(), [{"qty": 4}]) == {"a": [4, 0]}
    assert made(list[int | None], Both(), [{"qty": 5}]) == {"a": [5, None]}
    with pytest.raises(
        StateRefused, match=r"'sales.hourly' has a null in made, whose model has no"
    ):
        made(list[int], Both(), [{"qty": 5}])


def test_decimals_of_a_state_stay_exact() -> None:
    class Cents(Total):
        state = pa.decimal128(38, 2)
        type = pa.decimal128(38, 2)

        def init(self) -> Any:
            return Decimal("0.00")

        def accumulate(self, state: Any, rows: pa.RecordBatch) -> Any:
            return state + Decimal(pc.sum(rows["qty"], min_count=0).as_py()) / 100

    rows = [{"qty": 10**15 + 1}] * 3
    assert made(Decimal, Cents(), rows, 1) == {"a": "30000000000000.030000000"}
    with pytest.raises(TopologyError, match=r"gave Decimal\('0.001'\), which is no decimal128"):
        made(Decimal, Cents(result=returning(Decimal("0.001"))), rows)
