"""What a topology is declared with, of the wrong type: told by name, before anything runs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Calendar,
    Count,
    Hopping,
    Quantile,
    Rule,
    Session,
    Sliding,
    Threshold,
    Topology,
    TopologyError,
    Tumbling,
    day,
    every,
    header,
    parquet,
    source,
    topic,
    update,
)
from streamflow.batch import Record
from streamflow.destinations import Parquet
from streamflow.testing import TopologyDriver

HOUR = timedelta(hours=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Many(BaseModel):
    shops: list[str]
    at: AwareDatetime


class Sale(BaseModel):
    shop: str
    cents: int
    at: AwareDatetime


def sales(**options: Any) -> Any:
    return source(topic("sales"), Sale, key="shop", event_time="at", **options)


def window(window: Any = None, **options: Any) -> Any:
    return sales().window(window or Tumbling(HOUR), by="shop", **options)


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: Tumbling("1h"), "Tumbling: size is '1h', which is no timedelta; say timedelta(ho"),  # type: ignore[arg-type]
    (lambda: Tumbling(HOUR, offset=5), "Tumbling: offset is 5, which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Hopping(HOUR, 60), "Hopping: every is 60, which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Hopping(HOUR, HOUR, "0"), "Hopping: offset is '0', which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Session("30m"), "Session: gap is '30m', which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Sliding(30), "Sliding: size is 30, which is no timedelta"),  # type: ignore[arg-type]
    (lambda: sales(max_future="1h"), "source('sales'): max_future is '1h', which is no time"),
    (lambda: sales(out_of_orderness=3), "source('sales'): out_of_orderness is 3, which is no"),
    (lambda: sales(idle_after="1m"), "source('sales'): idle_after is '1m', which is no time"),
    (lambda: sales().dedup("shop", within="1d"), "dedup on 'sales': within is '1d', which"),
    (lambda: sales().changed("shop", forget_after=1), "forget_after is 1, which is no timed"),
    (lambda: window(grace="6h"), "window on 'sales': grace is '6h', which is no timedelta"),
    (lambda: window(early=every("15m")), "every(...) is '15m', which is no timedelta"),  # type: ignore[arg-type]
    (lambda: window(late=update(keep=2)), "update(keep=...) is 2, which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Quantile("cents", "0.5"), "quantile: q is '0.5', which is no number"),  # type: ignore[arg-type]
    (lambda: Quantile("cents", 0.5, error=True), "quantile: error is True, which is no number"),
    (lambda: Threshold(max_count="3", last=9), "threshold: max_count is '3', which is no whole"),  # type: ignore[arg-type]
    (lambda: Threshold(max_count=3, last=9.5), "threshold: last is 9.5, which is no whole num"),  # type: ignore[arg-type]
    (lambda: Threshold(max_fraction="1%", last=9), "threshold: max_fraction is '1%', which is"),  # type: ignore[arg-type]
    (lambda: Threshold(max_count=3, within="1h"), "threshold: within is '1h', which is no tim"),  # type: ignore[arg-type]
    (
        lambda: Threshold(max_count=3, last=9, action="route", resume_after="1h"),  # type: ignore[arg-type]
        "threshold: resume_after is '1h', which is no timedelta",
    ),
    (lambda: sales().gate("cents > 0"), "gate on 'sales': 'cents > 0' is no rule; say Rule("),
    (lambda: sales().filter(5), "filter on 'sales': 5 is neither SQL nor a function"),
    (lambda: sales(out_of_orderness=None), "source('sales'): out_of_orderness is None, which is"),
    (lambda: sales(tombstones="x"), 'tombstones=\'x\'; it is "dead_letter" or "delete"'),
    (lambda: sales(event_time=header(5)), "header that has the event time is 5, which is no text"),  # type: ignore[arg-type]
    (lambda: source("sales", Sale, key="shop", event_time="at"), "source(sales): what is read is"),  # type: ignore[arg-type]
    (lambda: source(parquet("x"), Sale, key="shop", event_time="at"), "source(parquet('x')): what"),  # type: ignore[arg-type]
    (lambda: source(topic("sales"), dict, event_time="at"), "'dict'> is no pydantic model"),  # type: ignore[arg-type]
    (lambda: source(topic("t"), Many, key="shops", event_time="at"), "Many.shops is no single"),
    (lambda: sales().map(Sale(shop="", cents=1, at=NOW)), "is no pydantic model; give it a class"),
    (lambda: sales().gate(Rule(5, "cents > 0")), "rule 5: its name is 5, which is no text of one"),  # type: ignore[arg-type]
    (lambda: Rule("a\nb", "cents > 0"), "its name is 'a\\nb', which is no text of one line"),
    (lambda: Rule("a:fixed", "cents > 0"), "its name ends as what is counted beside such a name"),
    (lambda: Rule(" ", "cents > 0"), "rule ' ': its name is ' ', which is no text of one line"),
    (lambda: Rule("a", "cents > 0", threshold=5), "rule 'a': threshold is 5; say Threshold("),  # type: ignore[arg-type]
    (lambda: sales().gate(Rule("a", "cents > 0"), threshold=5), "'sales': threshold is 5; say"),
    (lambda: Threshold(max_count=3, last=9, name=5), "threshold: name is 5, which is no text of"),  # type: ignore[arg-type]
    (
        lambda: sales().filter("(" * 5000 + "cents > 0" + ")" * 5000),
        "nested more than 32 deep; make a field of a part",
    ),
    (lambda: sales().dedup("shop", within=None), "dedup on 'sales': within is None, which is no"),
    (lambda: sales().dedup("shop", within=HOUR, name="a\0b"), "name is 'a\\x00b', which is no tex"),
    (lambda: sales().dedup(5, within=HOUR), "dedup: Sale has no field 5; it has"),
    (lambda: sales().window(Tumbling(HOUR), by=5), "window on 'sales': by=5; name the fields to"),
    (lambda: sales().window(Tumbling(HOUR), by=("shop", "shop")), "by has 'shop' twice; leave"),
    (
        lambda: window(HOUR),
        "window on 'sales': datetime.timedelta(seconds=3600) is no window, such",
    ),
    (lambda: window(Tumbling), "'streamflow.windows.Tumbling'> is no window, such as Tumbling("),
    (lambda: Calendar("day", None), "no time zone None; names are like 'Europe/Berlin'"),  # type: ignore[arg-type]
    (lambda: Hopping(HOUR, timedelta(microseconds=1)), "a row would be in 3,600,000,000 windows,"),
    (lambda: window().aggregate(5, n=Count()), "5 is no pydantic model; give it a class"),
    (lambda: topic(5), "topic(5): a name has letters, digits and . _ - only"),  # type: ignore[arg-type]
    (lambda: topic(".."), "topic('..'): Kafka has no topic of that name"),
    (lambda: parquet(5), "parquet(5): a table is a plain relative folder"),  # type: ignore[arg-type]
    (lambda: parquet("a.streamflow/b"), "folders *.streamflow hold what belongs to a table"),
    (lambda: parquet("x", partition_by=5), "parquet('x'): partition_by has 5; it takes f"),  # type: ignore[arg-type]
    (lambda: parquet("x", target_bytes=1.5), "parquet('x'): target_bytes is 1.5, which is no w"),  # type: ignore[arg-type]
    (lambda: parquet("x", roll_interval=5), "parquet('x'): roll_interval is 5, which is no timed"),  # type: ignore[arg-type]
    (
        lambda: sales().rejected.to(parquet("x")),
        "side of 'sales'.to(parquet('x')): give it a topic",
    ),  # type: ignore[arg-type]
    (lambda: Topology(5, sales().drop()), "Topology(a int): a name has letters"),  # type: ignore[arg-type]
    (lambda: Topology("t", sales()), "topology 't': a Stream is no way out; give it what .to("),
    (lambda: Topology("t", [sales().drop()]), "topology 't': a list is no way out; give it what"),  # type: ignore[arg-type]
]

#: Durations below zero, which Python writes as days and what is left of a day.
BELOW_ZERO: list[tuple[Callable[[], Any], str]] = [
    (lambda: Tumbling(-HOUR), "Tumbling: size is -1:00:00; the size must be above zero"),
    (lambda: Session(-HOUR), "Session: gap is -1:00:00; the gap must be above zero"),
    (lambda: window(grace=-HOUR), "window on 'sales': grace -1:00:00 is below zero"),
    (lambda: window(early=every(-HOUR)), "every(-1:00:00) must be above zero"),
    (lambda: window(late=update(keep=-HOUR)), "update(keep=-1:00:00) must be above zero"),
    (lambda: sales(idle_after=-HOUR), "idle_after=-1:00:00 is not above zero"),
    (lambda: sales().changed("shop", forget_after=-HOUR), "forget_after=-1:00:00 is not above"),
    (lambda: sales().dedup("shop", within=-HOUR), "a time above zero; within is -1:00:00"),
    (lambda: parquet("x", roll_interval=-HOUR), "roll_interval=-1:00:00 is not above zero"),
    (lambda: parquet("x", inactivity_interval=-HOUR), "inactivity_interval=-1:00:00 is not above"),
    (
        lambda: Threshold(max_count=3, last=9, action="route", resume_after=-HOUR),
        "threshold: resume_after -1:00:00 is no time above zero",
    ),
]


def to_tables(*tables: Parquet) -> Topology:
    stream = sales()
    return Topology("t", *(stream.to(table) for table in tables), stream.rejected.drop())


def to_topics(name: str) -> Topology:
    stream = sales()
    return Topology("t", stream.to(topic(name)), stream.to(parquet("x")), stream.rejected.drop())


#: What is wrong with several things together.
TOGETHER: list[tuple[Callable[[], Any], str]] = [
    (lambda: to_tables(parquet("a"), parquet("a/b")), "parquet('a/b') lies in parquet('a'), whose"),
    (
        lambda: to_tables(parquet("x", partition_by=(day("at"), day("_event_time")))),
        "parquet('x'): two of its partitions are named 'date'",
    ),
    (lambda: to_tables(parquet("x", partition_by="at")), "partition_by column 'at' is timestamp"),
    (lambda: to_tables(parquet("x", partition_by=["shop"] * 2)), "are named 'shop'"),
    (lambda: to_topics("t-sales-changelog"), "'t-sales-changelog' is the name of a topic of its"),
    (lambda: to_topics("t-sales-watermarks"), "is the name of a topic of its own state or rows"),
    (lambda: to_topics("t-x-rows"), "topology 't': 't-x-rows' is the name of a topic of its own"),
]


@pytest.mark.parametrize(("mistake", "words"), [*MISTAKES, *BELOW_ZERO, *TOGETHER])
def test_a_value_of_another_type_is_refused_by_name(mistake: Callable[[], Any], words: str) -> None:
    with pytest.raises(TopologyError) as refused:
        mistake()
    assert words in str(refused.value)


def test_the_driver_says_what_it_can_be_sent() -> None:
    stream = sales()
    edges = [stream.to(topic("copy")), stream.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("sales", *edges), NOW)
    with pytest.raises(ValueError, match=r"does not read 'sale'; it reads \['sales'\]"):
        driver.send("sale", b"{}")
    for wrong in (None, 5, "text"):
        with pytest.raises(TypeError, match="a record is a mapping, bytes or a Record"):
            driver.send("sales", wrong)
    driver.send("sales", Record(b"a", None))
    assert [row["reason"] for row in driver.read("dlq")] == ["no-value"]
