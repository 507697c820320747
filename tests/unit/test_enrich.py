"""Looking up answers by key: how it is asked, what becomes of failures, and what is refused."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import (
    Cache,
    Count,
    Rule,
    Threshold,
    Topology,
    TopologyError,
    Tumbling,
    per_key,
    source,
    topic,
)
from streamflow.batch import Record, TopicPartition
from streamflow.errors import StateRefused, TaskLost
from streamflow.local import LocalRun
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SALES = TopicPartition("sales", 0)


class Sale(BaseModel):
    shop: str
    sku: str | None
    lot: int
    weight: float = 0.0
    tags: list[str] = []
    at: AwareDatetime


class Priced(BaseModel):
    shop: str
    sku: str | None
    cents: int | None = Field(ge=0)


class Strict(BaseModel):
    shop: str
    cents: int


class PerCity(BaseModel):
    shop: str
    city: str | None
    window_start: AwareDatetime
    sales: int


sales = source(topic("sales"), Sale, key="shop", event_time="at")
PRICES = {
    "tea": {"cents": 10},
    "milk": {"cents": 20},
    "odd": {"cents": -1},
    "free": {"cents": None},
}


class Prices:
    """A service with its calls; it fails on what is `bad`, and does not answer what is `slow`."""

    def __init__(self, bad: set[str] | None = None, slow: set[str] | None = None) -> None:
        self.bad, self.slow = bad or set(), slow or set()
        self.calls: list[list[Any]] = []

    async def __call__(self, keys: list[str]) -> dict[str, Any]:
        self.calls.append(keys)
        if self.slow & set(keys):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if self.bad & set(keys):
            raise ConnectionError("away")
        return {key: PRICES[key] for key in keys if key in PRICES}


def sale(sku: str | None, lot: int = 0) -> dict[str, Any]:
    return {"shop": "a", "sku": sku, "lot": lot, "at": NOW}


def driver_of(stream: Stream, **given: Any) -> TopologyDriver:
    edges = [stream.to(topic("out")), stream.rejected.to(topic("dlq"))]
    return TopologyDriver(Topology("sales", *edges), NOW, **given)


def cents(driver: TopologyDriver) -> list[Any]:
    return [row["cents"] for row in driver.read("out")]


def words(driver: TopologyDriver) -> list[str]:
    found = [dict(record.headers) for record in driver.records("dlq")]
    return [(one["__connect.errors.exception.message"] or b"").decode() for one in found]


def test_each_distinct_key_of_a_micro_batch_is_asked_once_and_order_is_kept() -> None:
    prices = Prices()
    driver = driver_of(sales.enrich(Priced, prices, key="sku"), batches=[4, 3])
    driver.send("sales", *map(sale, ["milk", "tea", "milk", None, "tea", "none", "tea"]))
    assert cents(driver) == [20, 10, 20, None, 10, None, 10]
    assert prices.calls == [["milk", "tea"], ["tea", "none"]]
    assert driver.rules == {"enrich Priced:missing": 2}
    assert driver.read("dlq") == []


def test_nobody_is_asked_when_no_row_comes_or_none_has_a_key() -> None:
    prices = Prices()
    driver = driver_of(sales.filter("lot = 0").enrich(Priced, prices, key="sku"))
    driver.send("sales", sale("tea", 1))
    driver.send("sales", sale(None))
    assert (cents(driver), prices.calls) == ([None], [])


def test_a_key_of_several_fields_is_a_tuple() -> None:
    calls: list[Any] = []

    async def by_lot(keys: list[tuple[str, int]]) -> dict[Any, Any]:
        calls.append(keys)
        return {(sku, lot): Priced(shop="", sku="", cents=lot) for sku, lot in keys}

    driver = driver_of(sales.enrich(Priced, by_lot, key=("sku", "lot")))
    rows = [("tea", 2), ("milk", 1), ("tea", 1), (None, 1), ("tea", 2)]
    driver.send("sales", *[sale(*row) for row in rows])
    assert cents(driver) == [2, 1, 1, None, 2]
    assert calls == [[("tea", 2), ("milk", 1), ("tea", 1)]]


def test_a_function_of_one_key_is_called_for_each_and_no_more_at_once_than_is_said() -> None:
    under_way, most = [0], [0]
    two = asyncio.Barrier(2)

    async def price(sku: str) -> Any:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        await two.wait()  # the third would be there too before these go on
        await asyncio.sleep(0)
        under_way[0] -= 1
        return PRICES.get(sku)

    driver = driver_of(sales.enrich(Priced, per_key(price), key="sku", concurrency=2))
    driver.send("sales", *map(sale, ["tea", "milk", "none", "free"]))
    assert cents(driver) == [10, 20, None, None]
    assert most == [2]


def test_a_call_has_no_more_keys_than_is_said() -> None:
    prices = Prices()
    stage = sales.enrich(Priced, prices, key="sku", batch=2, concurrency=1)
    driver = driver_of(stage)
    driver.send("sales", *map(sale, ["tea", "milk", "none", "tea", "free"]))
    assert prices.calls == [["tea", "milk"], ["none", "free"]]
    assert cents(driver) == [10, 20, None, 10, None]


def test_only_the_keys_that_fail_alone_are_dead_letters() -> None:
    prices = Prices(bad={"milk"})
    driver = driver_of(sales.enrich(Priced, prices, key="sku"))
    driver.send("sales", *map(sale, ["tea", "milk", "none", "free", "milk"]))
    assert cents(driver) == [10, None, None]
    letters = [(row["offset"], row["reason"]) for row in driver.read("dlq")]
    assert letters == [(1, "failed"), (4, "failed")]
    assert words(driver) == ["ConnectionError: away"] * 2
    headers = dict(driver.records("dlq")[0].headers)
    assert headers["streamflow.stage"] == b"enrich Priced"
    assert prices.calls == [
        *[["tea", "milk", "none", "free"]] * 3,
        ["tea", "milk"],
        ["tea"],
        ["milk"],
        ["none", "free"],
    ]


def test_what_does_not_answer_in_time_is_a_failure_of_all_keys_of_the_call() -> None:
    prices = Prices(slow={"milk"})
    quick = timedelta(milliseconds=5)
    driver = driver_of(sales.enrich(Priced, prices, key="sku", timeout=quick, batch=2))
    driver.send("sales", *map(sale, ["tea", "milk", "none"]))
    assert [row["offset"] for row in driver.read("dlq")] == [0, 1]
    assert words(driver) == ["no answer within 0:00:00.005000 (TIMEOUT, 3 attempts)"] * 2
    assert sorted(prices.calls) == [["none"], *[["tea", "milk"]] * 3]


def test_a_time_out_of_the_function_s_own_is_a_failure_like_any_other() -> None:
    async def late(keys: list[str]) -> dict[str, Any]:
        if "milk" in keys:
            raise TimeoutError("of my own")
        return {key: PRICES[key] for key in keys}

    driver = driver_of(sales.enrich(Priced, late, key="sku"))
    driver.send("sales", *map(sale, ["tea", "milk"]))
    assert (cents(driver), words(driver)) == ([10], ["TimeoutError: of my own"])


def test_a_function_that_cancels_itself_does_not_cancel_the_task() -> None:
    async def cancelled(key: str) -> Any:
        raise asyncio.CancelledError

    driver = driver_of(sales.enrich(Priced, per_key(cancelled), key="sku"))
    driver.send("sales", sale("tea"))
    assert words(driver) == ["the lookup was cancelled"]


def test_failures_can_be_nulls() -> None:
    prices = Prices(bad={"milk"})
    driver = driver_of(sales.enrich(Priced, prices, key="sku", on_error="null"))
    driver.send("sales", *map(sale, ["tea", "milk", "odd", "none"]))
    assert cents(driver) == [10, None, None, None]
    assert driver.rules == {"enrich Priced:missing": 1, "enrich Priced:failed": 2}


def test_a_worker_halts_at_the_first_record_whose_key_fails() -> None:
    prices = Prices(bad={"milk"})
    driver = driver_of(sales.enrich(Priced, prices, key="sku", on_error="halt"))
    expected = r"sales\[0\]@1: enrich Priced fails on this record: ConnectionError: away\. All"
    with pytest.raises(StateRefused, match=expected):
        driver.send("sales", *map(sale, ["tea", "milk", "none", "milk"]))
    assert cents(driver) == [10]
    prices.bad.clear()
    driver.restart()
    driver.process()
    assert cents(driver) == [10, 20, None, 20]


def test_a_failure_is_tried_again_later_and_no_call_is_begun_after_the_first() -> None:
    prices = Prices(bad={"milk"})
    stage = sales.enrich(
        Priced, prices, key="sku", on_error="retry", batch=2, concurrency=1, cache=Cache(ttl=MINUTE)
    )
    driver = driver_of(stage)
    with pytest.raises(TaskLost, match=r"sales\[0\]@2: .* which is tried again: ConnectionError"):
        driver.send("sales", *map(sale, ["tea", "free", "none", "milk", "odd"]))
    assert prices.calls == [["tea", "free"], *[["none", "milk"]] * 3]
    assert cents(driver) == [10, None]
    prices.bad.clear()
    prices.calls.clear()
    driver.restart()
    PRICES["odd"] = {"cents": 1}
    driver.process()
    PRICES["odd"] = {"cents": -1}
    assert cents(driver) == [10, None, None, 20, 1]
    assert prices.calls == [["none", "milk"], ["odd"]]


ANSWERS: list[tuple[Any, str]] = [
    ({"tea": {"cents": -1}}, "not what the model says: .*greater than or equal to 0"),
    ({"tea": {"cents": 2**70}}, "not what the model says"),
    ({"tea": {}}, "not what the model says: .*Field required"),
    ({"tea": 7}, "not what the model says: .*not iterable"),
    ([("tea", 1)], "the lookup gives a list, not answers by key"),
    ({7: {"cents": 1}}, "the lookup answers 7, but 'tea' was asked"),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_an_answer_that_is_none_is_a_failure(answer: Any, expected: str) -> None:
    async def wrong(keys: list[str]) -> Any:
        return answer

    driver = driver_of(sales.enrich(Priced, wrong, key="sku"))
    driver.send("sales", sale("tea"), sale(None))
    assert cents(driver) == [None]
    (said,) = words(driver)
    assert re.search(expected, said, re.DOTALL), said


def test_a_null_that_the_model_does_not_allow_is_a_failure() -> None:
    driver = driver_of(sales.enrich(Strict, Prices(), key="sku"))
    driver.send("sales", *map(sale, ["tea", "none", None]))
    assert cents(driver) == [10]
    expected = "cents is null, but Strict says that it cannot be: there is no answer"
    assert words(driver) == [expected] * 2


def test_a_failure_is_told_and_not_the_null_that_it_makes() -> None:
    driver = driver_of(sales.enrich(Strict, Prices(bad={"milk"}), key="sku"))
    driver.send("sales", *map(sale, ["milk", "tea"]))
    assert (cents(driver), words(driver)) == ([10], ["ConnectionError: away"])


def test_answers_are_kept_for_a_time_and_failures_are_not() -> None:
    prices = Prices(bad={"milk"})
    stage = sales.enrich(Priced, prices, key="sku", batch=1, cache=Cache(ttl=MINUTE))
    driver = driver_of(stage)
    driver.send("sales", *map(sale, ["tea", "none", "milk"]))
    prices.bad.clear()
    prices.calls.clear()
    driver.advance(MINUTE - timedelta(seconds=1))
    driver.send("sales", *map(sale, ["tea", "none", "milk"]))
    assert prices.calls == [["milk"]]  # that there is no answer is one
    driver.advance(timedelta(seconds=1))
    driver.send("sales", *map(sale, ["tea", "none", "milk"]))
    assert prices.calls == [["milk"], ["tea"], ["none"]]
    driver.restart()
    driver.send("sales", sale("tea"))
    assert prices.calls[-1] == ["tea"]
    assert cents(driver) == [10, None, 10, None, 20, 10, None, 20, 10]


def test_what_was_not_asked_for_the_longest_time_is_forgotten_first() -> None:
    prices = Prices()
    stage = sales.enrich(Priced, prices, key="sku", cache=Cache(ttl=MINUTE, max_keys=2))
    driver = driver_of(stage)
    for sku in ("tea", "milk", "tea", "free", "tea", "milk"):
        driver.send("sales", sale(sku))
    assert prices.calls == [["tea"], ["milk"], ["free"], ["milk"]]
    assert cents(driver) == [10, 20, 10, None, 10, 20]


def test_a_gate_behind_it_that_pauses_makes_nobody_ask_again() -> None:
    prices = Prices()
    wait = Threshold(max_count=0, last=1, action="pause", resume_after=MINUTE)
    cheap = sales.enrich(Priced, prices, key="sku").gate(
        Rule("cheap", "cents < 20", threshold=wait)
    )
    driver = driver_of(cheap)
    driver.send("sales", *map(sale, ["tea", "milk", "none"]))
    assert cents(driver) == [10]
    assert driver.phase("cheap", SALES) == "open"
    assert prices.calls == [["tea", "milk", "none"]]


def test_windows_group_by_what_was_looked_up() -> None:
    class Located(BaseModel):
        shop: str
        city: str | None

    async def cities(keys: list[str]) -> dict[str, Any]:
        return {key: {"city": "Rome"} for key in keys if key == "tea"}

    located = sales.enrich(Located, cities, key="sku")
    results = located.window(Tumbling(MINUTE), by=("shop", "city")).aggregate(
        PerCity, sales=Count()
    )
    edges = [results.to(topic("per")), results.late.drop(), sales.rejected.drop()]
    driver = TopologyDriver(Topology("sales", *edges), NOW)
    driver.send("sales", *map(sale, ["tea", "milk", "tea"]))
    driver.end_of_input()
    found = {row["city"]: row["sales"] for row in driver.read("per")}
    assert found == {"Rome": 2, None: 1}


def test_a_run_over_files_waits_for_answers_too(tmp_path: Any) -> None:
    stage = sales.enrich(Priced, Prices(), key="sku")
    edges = [stage.to(topic("out")), stage.rejected.to(topic("dlq"))]
    run = LocalRun(Topology("sales", *edges), tmp_path / "out")
    values = [
        b'{"shop":"a","sku":"%s","lot":1,"at":"2026-01-01T00:00:00Z"}' % s for s in (b"tea", b"x")
    ]
    result = run.run({"sales": [Record(b"a", value) for value in values]})
    assert result.totals["passed"] == 2
    assert '\\"cents\\":10' in result.topics["out"].read_text()


def test_memory_that_is_not_there_is_nobody_s_answer() -> None:
    async def full(keys: list[str]) -> Any:
        raise MemoryError

    driver = driver_of(sales.enrich(Priced, full, key="sku"))
    with pytest.raises(MemoryError, match="enrich Priced"):
        driver.send("sales", sale("tea"))


def test_what_is_asked_is_part_of_the_version_and_how_is_not() -> None:
    def version(**given: Any) -> str:
        given.setdefault("key", "sku")
        stage = sales.enrich(Priced, Prices(), **given)
        return Topology("s", stage.to(topic("out")), stage.rejected.drop()).version

    assert version() == version(concurrency=9, cache=Cache(ttl=MINUTE))
    assert len({version(), version(key=("sku", "lot")), version(on_error="null")}) == 3


async def answers(keys: list[str]) -> dict[str, Any]:
    return {}


def no_lookup(keys: list[str]) -> dict[str, Any]:
    return {}


class Renamed(BaseModel):
    shop: str
    lot: str
    cents: int | None


def enrich(model: Any = Priced, lookup: Any = answers, **given: Any) -> Callable[[], Any]:
    given.setdefault("key", "sku")
    return lambda: sales.enrich(model, lookup, **given)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (enrich(key="id"), "enrich: Sale has no field 'id'"),
    (enrich(key=()), "enrich on 'sales': name a key"),
    (enrich(key="weight"), "cannot ask by 'weight', which is double"),
    (enrich(key="tags"), "cannot ask by 'tags', which is list"),
    (enrich(model=Sale), "name a key, and a model with a field that the stream does not have"),
    (enrich(model=Renamed), "Renamed.lot is string, but the stream has int64; map it before"),
    (enrich(lookup=no_lookup), "no_lookup.* is no async function: write async def"),
    (enrich(lookup=per_key(no_lookup)), "is no async function"),  # type: ignore[arg-type]
    (enrich(lookup="prices"), "'prices' is no async function"),
    (enrich(timeout=timedelta(0)), "timeout is a time above zero"),
    (enrich(timeout=None), "timeout is None, which is no timedelta"),
    (enrich(timeout=3), "timeout is 3, which is no timedelta"),
    (enrich(concurrency=0), "concurrency and batch are at least 1"),
    (enrich(batch=0), "concurrency and batch are at least 1"),
    (enrich(batch=1.5), "batch is 1.5, which is no whole number"),
    (enrich(cache=1000), "1000 is no cache"),
    (enrich(on_error="skip"), "on_error 'skip' is none of dead_letter, retry, halt, null"),
    (enrich(model=Strict, on_error="null"), "'cents' cannot be null, so a lookup that fails"),
    (lambda: Cache(ttl=timedelta(0)), "ttl is a time above zero"),
    (lambda: Cache(ttl=MINUTE, max_keys=0), "max_keys at least 1"),
    (lambda: sales.enrich(Lost, answers, key="sku").window(Tumbling(MINUTE), by="sku"), "grouping"),
]


class Lost(BaseModel):
    sku: str | None
    cents: int | None


@pytest.mark.parametrize(("build", "expected"), REFUSED, ids=[words for _, words in REFUSED])
def test_it_is_refused_in_words(build: Callable[[], Any], expected: str) -> None:
    with pytest.raises(TopologyError, match=expected):
        build()


def test_a_partial_or_an_object_of_an_async_function_is_one() -> None:
    bound: Callable[..., Awaitable[Any]] = Prices().__call__
    assert sales.enrich(Priced, bound, key="sku").keys == ("shop",)
