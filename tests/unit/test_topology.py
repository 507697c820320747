"""A topology that cannot work is refused when it is built, saying where and what to do."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Count,
    Distinct,
    Max,
    Rule,
    Sum,
    Topology,
    TopologyError,
    Tumbling,
    epoch,
    header,
    month,
    parquet,
    source,
    topic,
)

HOUR = timedelta(hours=1)


class Order(BaseModel):
    country: str
    cents: int
    tags: list[str]
    month: int
    at: AwareDatetime


class Hourly(BaseModel):
    country: str
    window_start: AwareDatetime
    orders: int


class Naive(BaseModel):
    at: datetime


class Either(BaseModel):
    inner: Order | Naive


def stream(**changes: Any) -> Any:
    options: dict[str, Any] = {"key": "country", "event_time": "at"}
    return source(topic("orders"), Order, **{**options, **changes})


def hourly(**aggregates: Any) -> Any:
    return stream().window(Tumbling(HOUR), by="country", grace=HOUR).aggregate(Hourly, **aggregates)


def edges(of: Any) -> list[Any]:
    return [of.to(parquet("orders")), of.rejected.to(topic("orders.dlq"))]


def rule(condition: Any) -> Any:
    return stream().gate(Rule("r", condition))


def both(*made: Callable[[Any], Any]) -> Topology:
    orders = stream()
    return Topology("t", *(edge(orders) for edge in made), orders.rejected.drop())


def late_only(made: Callable[[Any], list[Any]]) -> Topology:
    results = hourly(orders=Count())
    return Topology("t", *made(results), results.windowed.stream.rejected.drop())


def two_of_a_name() -> Any:
    results = hourly(orders=Count())
    return Topology(
        "t",
        results.to(parquet("orders")),
        results.late.drop(),
        *edges(results.windowed.stream),
    )


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: Topology("t"), "topology 't' has no edges"),
    (lambda: Topology("a b", *edges(stream())), "a name has letters, digits"),
    (
        lambda: Topology("t", stream().to(parquet("orders"))),
        "topology 't': the rejected side of 'orders' goes nowhere; add",
    ),
    (
        lambda: Topology("t", hourly(orders=Count()).to(topic("x"))),
        "the late side of 'orders.hourly' goes nowhere",
    ),
    (
        lambda: late_only(lambda results: [results.late.to(topic("late"))]),
        r"the results of 'orders\.hourly' go nowhere; add \.to\(\.\.\.\)",
    ),
    (
        lambda: Topology("t", stream().rejected.to(topic("orders.dlq"))),
        "the passed records of 'orders' go nowhere; add .* or .drop",
    ),
    (
        lambda: both(lambda orders: orders.drop(), lambda orders: orders.to(topic("x"))),
        "the passed records of 'orders' are sent on and dropped; leave",
    ),
    (
        lambda: both(lambda orders: orders.to(topic("x")), lambda orders: orders.to(topic("x"))),
        r"the records of 'orders' go to 'x' twice; leave one \.to\(\.\.\.\) out",
    ),
    (lambda: stream().to("x"), r"'orders'\.to\('x'\): give it a topic\(...\) or parquet\(...\)"),
    (
        lambda: stream().rejected.to(parquet("x")),
        r"the rejected side of 'orders'\.to\(.*\): give it a topic\(...\)",
    ),
    (two_of_a_name, "two tables are named 'orders'"),
    (lambda: stream(key="land"), "Order has no field 'land' to be keyed by"),
    (
        lambda: stream(event_time="cents"),
        r"event_time='cents' is no AwareDatetime field of Order; for .* say epoch\('cents', unit",
    ),
    (
        lambda: stream(event_time="name"),
        "event_time='name' is no AwareDatetime field of Order$",
    ),
    (
        lambda: stream(event_time=epoch("name", unit="s")),
        r"epoch\('name'\) is no int or float field of Order",
    ),
    (lambda: epoch("cents", unit="m"), r"epoch\('cents', unit='m'\): the unit is one of \['s'"),  # type: ignore[arg-type]
    (lambda: header("at", unit="h"), r"header\('at', unit='h'\): the unit is one of \['s'"),  # type: ignore[arg-type]
    (lambda: stream(out_of_orderness=-HOUR), "out_of_orderness is below zero"),
    (lambda: source(topic("n"), Naive, event_time="at"), "use AwareDatetime"),
    (lambda: source(topic("n"), Either, event_time="at"), "Either.inner: no column type for"),
    (lambda: topic("no spaces"), "a name has letters, digits and"),
    (lambda: parquet("../up"), "a table is a plain relative folder"),
    (lambda: parquet("/abs"), "a table is a plain relative folder"),
    (lambda: stream().to(parquet("o", partition_by="land")), "Order has no field 'land'"),
    (
        lambda: both(lambda orders: orders.to(parquet("o", partition_by=month("at")))),
        "would hide a column of that name",
    ),
    (
        lambda: stream().gate(Rule("r", "cent > 1")),
        "there is no field 'cent'; did you mean 'cents'?",
    ),
    (lambda: stream().gate(Rule("r", "cents >")), "cannot be read as SQL\n  cents >"),
    (lambda: stream().gate(Rule("r", "cents + 1")), "gives int64, not true or false"),
    (lambda: stream().gate(Rule("r", "cents > 'x'")), "cannot be computed on these fields"),
    (lambda: stream().gate(Rule("r", "1 = 1")), "gives a BooleanScalar, not a pa.Array"),
    (lambda: rule(lambda rows: [True] * len(rows)), "rule 'r': gives a list, not a pa.Array with"),
    (lambda: rule(lambda rows: None), "rule 'r': gives a NoneType, not a pa.Array with one value"),
    (lambda: rule(lambda rows: pa.array([True])), "gives 1 value for zero rows; give one value"),
    (lambda: rule(lambda rows: rows["cents"]), "rule 'r': gives int64, not true or false"),
    (lambda: rule(lambda rows: rows["cent"]), "tried on zero rows: KeyError: .*cent"),
    (lambda: rule(lambda rows: rows["cents"][0]), "tried on zero rows: IndexError: "),
    (lambda: rule(7), "rule 'r': 7 is neither SQL nor a function"),
    (
        lambda: source(topic("orders"), Order, key="country"),
        r"source\('orders'\): event_time is missing; name the AwareDatetime field of Order",
    ),
    (lambda: stream(event_time=HOUR), "event_time=.* is no field and no function"),
    (
        lambda: stream(event_time=lambda rows: rows["when"]),
        r"source\('orders'\): event_time=<lambda>: cannot be computed .* KeyError: .*when",
    ),
    (lambda: stream(event_time=lambda rows: [1]), "gives a list, not a pa.Array"),
    (lambda: stream(event_time=lambda rows: pa.array([0])), "gives 1 value for zero rows"),
    (
        lambda: stream(event_time=lambda rows: rows["cents"]),
        "gives int64, not points in time; make a pa.timestamp",
    ),
    (
        lambda: stream(event_time=lambda rows: rows["at"].cast(pa.timestamp("us"))),
        r"gives timestamp\[us\], not points in time",
    ),
    (
        lambda: stream().gate(Rule("r", "cents > 1"), Rule("r", "cents > 2")),
        "two rules are named 'r'",
    ),
    (lambda: Rule("r", "cents > 1", severity="fatal"), "severity 'fatal' is none of"),  # type: ignore[arg-type]
    (lambda: stream().window(Tumbling(HOUR), by="land", grace=HOUR), "Order has no field 'land'"),
    (
        lambda: stream().window(Tumbling(HOUR), by="cents", grace=HOUR),
        "does not contain the topic's key 'country'",
    ),
    (lambda: stream().window(Tumbling(HOUR), by="country", grace=-HOUR), "is below zero"),
    (lambda: Tumbling(timedelta(0)), "the size must be above zero"),
    (lambda: hourly(count=Count()), r"aggregate\(\) makes \['count', 'country', 'window_start'\]"),
    (lambda: hourly(orders=Sum("euros")), "Order has no field 'euros'"),
    (
        lambda: Topology("t", hourly(orders=Sum("country")).to(topic("x"))),
        "sum: 'country' is string, not a number",
    ),
    (
        lambda: Topology("t", hourly(orders=Max("tags")).to(topic("x"))),
        "have no order",
    ),
    (
        lambda: Topology("t", hourly(orders=Distinct("tags")).to(topic("x"))),
        "cannot compare",
    ),
    (
        lambda: both(lambda orders: orders.to(topic("orders"))),
        "writes to 'orders', which it also reads",
    ),
]


@pytest.mark.parametrize(("build", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_it_is_refused_in_words(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        build()


def test_a_result_whose_type_does_not_fit_the_model_is_refused() -> None:
    class Wrong(BaseModel):
        country: str
        window_start: AwareDatetime
        orders: AwareDatetime

    orders = stream()
    results = orders.window(Tumbling(HOUR), by="country", grace=HOUR).aggregate(
        Wrong, orders=Count()
    )
    with pytest.raises(
        TopologyError, match=r"Wrong\.orders is timestamp.*, but Count\(\) gives int64"
    ):
        Topology("t", results.to(topic("x")), results.late.drop(), *edges(orders))


@pytest.mark.parametrize(
    ("passed", "rejected", "results", "late", "words"),
    [
        (
            "a",
            "x",
            "b",
            "x",
            "the dead letters of 'orders' and the late records of 'orders.hourly'",
        ),
        ("a", "b", "x", "x", "the results of 'orders.hourly' and the late records of"),
        ("x", "x", "a", "b", "the records of 'orders' and the dead letters of 'orders'"),
        ("x", "a", "x", "b", "the records of 'orders' and the results of 'orders.hourly'"),
        ("x", "a", "b", "x", "the records of 'orders' and the late records of 'orders.hourly'"),
        ("a", "x", "x", "b", "the dead letters of 'orders' and the results of 'orders.hourly'"),
    ],
)
def test_two_kinds_of_records_in_one_topic_are_refused(
    passed: str, rejected: str, results: str, late: str, words: str
) -> None:
    made = hourly(orders=Count())
    orders = made.windowed.stream
    with pytest.raises(TopologyError, match=f"'x' would hold {words}.* topic of its own"):
        Topology(
            "t",
            orders.to(topic(passed)),
            orders.rejected.to(topic(rejected)),
            made.to(topic(results)),
            made.late.to(topic(late)),
        )


class Refund(Order):
    reason: str


def test_two_sources_share_a_topic_where_its_reader_can_tell() -> None:
    def two(model: type[BaseModel], good: str) -> Topology:
        one = source(topic("orders"), Order, key="country", event_time="at")
        two = source(topic("more"), model, key="country", event_time="at")
        return Topology(
            "t",
            one.to(topic("good")),
            two.to(topic(good)),
            one.rejected.to(topic("dlq")),
            two.rejected.to(topic("dlq")),
        )

    two(Order, "good")
    two(Refund, "refunds")
    with pytest.raises(
        TopologyError, match="'good' would hold the records of 'orders' and the records of 'more'"
    ):
        two(Refund, "good")


def test_arms_of_a_branch_share_a_topic_but_streams_with_the_same_records_do_not() -> None:
    orders = stream()
    large, rest = orders.branch("cents > 100")
    dlq = orders.rejected.drop()
    Topology("t", large.filter("cents < 1000").to(topic("x")), rest.to(topic("x")), dlq)
    with pytest.raises(TopologyError, match=r"'orders' go to 'x' twice;.* branch\(\.\.\.\) has"):
        Topology("t", large.to(topic("x")), orders.to(topic("x")), rest.drop(), dlq)
    ways = [large.filter(f"cents < {limit}").to(topic("x")) for limit in (500, 1000)]
    with pytest.raises(TopologyError, match="go to 'x' twice"):
        Topology("t", *ways, rest.drop(), dlq)
    priced = rest.map(Refund, reason=lambda rows: rows["country"])
    with pytest.raises(TopologyError, match="records of 'orders' and the records of 'orders' as R"):
        Topology("t", large.to(topic("x")), priced.to(topic("x")), dlq)


class PerDay(Hourly):
    pass


def test_two_windows_share_a_topic_of_late_records_but_not_of_results() -> None:
    def two(first: str, second: str) -> Topology:
        hours = hourly(orders=Count())
        orders = hours.windowed.stream
        days = orders.window(Tumbling(24 * HOUR), by="country", grace=HOUR).aggregate(
            PerDay, orders=Count()
        )
        made = [hours.to(topic(first)), days.to(topic(second))]
        late = [hours.late.to(topic("late")), days.late.to(topic("late"))]
        return Topology("t", *made, *late, orders.rejected.drop())

    assert [window.late_topic for window in two("a", "b").tasks[0].windows] == ["late", "late"]
    with pytest.raises(
        TopologyError,
        match=r"'a' would hold the results of 'orders\.hourly' and the results of 'orders\.perday'",
    ):
        two("a", "a")


def test_equal_topologies_have_equal_versions_and_changed_ones_do_not() -> None:
    def build(limit: int) -> Topology:
        orders = stream().gate(Rule("cheap", f"cents < {limit}"))
        return Topology("t", *edges(orders))

    assert build(1).version == build(1).version
    assert build(1).version != build(2).version
