"""What a version of a topology goes on with of the state of another one."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel, create_model

from streamflow import (
    ApproxDistinct,
    Count,
    Max,
    Measure,
    Rule,
    Session,
    Share,
    Sliding,
    Sum,
    Threshold,
    Topology,
    Tumbling,
    Unique,
    Variance,
    content,
    delta,
    parquet,
    source,
    topic,
    update,
)
from streamflow.core import inherited
from streamflow.errors import SinkRefused, StateRefused
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver

NOW, NOON = datetime(2030, 1, 1, tzinfo=UTC), datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Sale(BaseModel):
    shop: str
    size: int = 0
    other: int = 0
    at: AwareDatetime


class Hourly(BaseModel):
    shop: str
    window_start: AwareDatetime
    sales: int


def sales(model: type[BaseModel] = Sale, **more: Any) -> Stream:
    return source(topic("sales"), model, key="shop", event_time="at", **more)


def plain(stream: Stream) -> Topology:
    return Topology("t", stream.to(topic("x")), stream.rejected.to(topic("dlq")))


def at(minutes: float, **more: Any) -> dict[str, Any]:
    return {"shop": "a", "at": NOON + timedelta(minutes=minutes), **more}


def hourly(window: Any, lag: timedelta) -> Topology:
    stream = sales(out_of_orderness=lag)
    made = stream.window(window, by="shop").aggregate(Hourly, sales=Count())
    return Topology("t", made.to(topic("x")), made.late.to(topic("late")), stream.rejected.drop())


def results(driver: TopologyDriver) -> list[tuple[float, int]]:
    rows = driver.read("x")
    assert {row["revision"] for row in rows} <= {0}
    return [((row["window_start"] - NOON) / HOUR, row["sales"]) for row in rows]


def test_a_watermark_stands_still_when_the_out_of_orderness_is_another_one() -> None:
    driver = TopologyDriver(hourly(Tumbling(HOUR), 2 * HOUR), NOW)
    driver.send("sales", *(at(m) for m in (5, 65, 70, 130, 185)))
    assert results(driver) == [(0, 1)], "the watermark is at 13:05"
    driver.deploy(hourly(Tumbling(HOUR), 0 * HOUR))
    assert results(driver) == [(0, 1)]
    driver.send("sales", at(66))
    driver.send("sales", at(190))
    assert results(driver) == [(0, 1), (1, 3), (2, 1)]
    driver.deploy(hourly(Tumbling(HOUR), 9 * HOUR))
    driver.send("sales", at(60), at(191))
    assert len(driver.read("late")) == 1
    driver.end_of_input()
    assert results(driver) == [(0, 1), (1, 3), (2, 1), (3, 3)]


@pytest.mark.parametrize("window", [Tumbling(HOUR), Session(HOUR / 4), Sliding(HOUR)], ids=repr)
def test_whatever_it_is_changed_to_no_row_is_in_no_result_or_in_two(window: Any) -> None:
    lags = [HOUR * n for n in (1, 0, 3, 2, 0, 5, 1)]
    driver = TopologyDriver(hourly(window, lags[0]), NOW)
    for number, lag in enumerate(lags):
        driver.deploy(hourly(window, lag))
        driver.send("sales", *(at(number * 40 + m) for m in (0, 47, 11, 90)))
    driver.end_of_input()
    starts = Counter(start for start, _ in results(driver))
    assert set(starts.values()) == {1}
    totals = driver.totals
    assert totals["in"] == totals["accumulated"] + totals["late"]
    if not isinstance(window, Sliding):  # of which each row has a result of its own
        assert sum(count for _, count in results(driver)) == totals["accumulated"]


def passed(versions: Sequence[tuple[Topology, Sequence[dict[str, Any]]]]) -> list[int]:
    """How many records of each version pass."""
    driver, counts = TopologyDriver(versions[0][0], NOW), list[int]()
    for version, rows in versions:
        driver.deploy(version)
        before = len(driver.read("x"))
        driver.send("sales", *rows)
        counts.append(len(driver.read("x")) - before)
    return counts


class Longer(BaseModel):
    shop: str
    size: str = "0"
    other: int = 0
    at: AwareDatetime


class Floating(Sale):
    size: float = 0.0  # type: ignore[assignment]


class Timed(BaseModel):
    shop: str
    size: AwareDatetime
    other: int = 0
    at: AwareDatetime


def test_a_stage_does_not_read_what_another_has_remembered_under_its_name() -> None:
    one = plain(sales().dedup("size", within=DAY, name="once"))
    two = plain(sales().dedup("other", within=DAY, name="once"))
    swapped = plain(sales().dedup("other", "size", within=DAY, name="once"))
    assert passed([(one, [at(0, size=7)]), (one, [at(1, size=7)])]) == [1, 0]
    assert passed([(one, [at(0, size=7)]), (two, [at(1, other=7, size=8)])]) == [1, 1]
    both = plain(sales().dedup("size", "other", within=DAY, name="once"))
    assert passed([(both, [at(0, size=7)]), (swapped, [at(1, other=7)])]) == [1, 1]
    text = plain(sales(Longer).dedup("size", within=DAY, name="once"))
    assert passed([(one, [at(0, size=7)]), (text, [at(1, size="7")])]) == [1, 1]
    wider = plain(sales(Floating).dedup("size", within=DAY, name="once"))
    assert passed([(one, [at(0, size=7)]), (wider, [at(1, size=7.0)])]) == [1, 0]


def test_versions_of_another_type_are_not_compared() -> None:
    numbers, times = (
        plain(sales().changed("shop", by="size")),
        plain(sales(Timed).changed("shop", by="size")),
    )
    first = at(0, size=2**40)
    rows = [at(1, size=NOON), at(2, size=NOON + HOUR), at(3, size=NOON)]
    assert passed([(numbers, [first]), (times, rows), (times, rows)]) == [1, 2, 0]


def test_contents_are_compared_by_names_in_any_order() -> None:
    class Swapped(BaseModel):
        shop: str
        at: AwareDatetime
        other: int = 0
        size: int = 0

    class Renamed(BaseModel):
        shop: str
        weight: int = 0
        other: int = 0
        at: AwareDatetime

    fixed = at(0, size=1, other=2)
    old, new = (
        plain(sales().changed("shop", by=content())),
        plain(sales(Swapped).changed("shop", by=content())),
    )
    assert passed([(old, [fixed]), (new, [fixed])]) == [1, 0]
    assert passed([(old, [fixed]), (new, [at(0, size=2, other=1)])]) == [1, 1]
    other = plain(sales(Renamed).changed("shop", by=content()))
    assert passed([(old, [at(0, size=1)]), (other, [at(0, weight=1)])]) == [1, 1]


@pytest.mark.parametrize("kind", ["dedup", "changed"])
def test_a_stage_that_was_away_begins_anew_and_nothing_of_it_stays(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inherited, "SWEPT", 3)
    stream = sales()
    with_it = stream.dedup("size", within=DAY) if kind == "dedup" else stream.changed("size")
    one, without = plain(with_it), plain(stream)
    rows = [at(0, size=n) for n in range(10)]
    assert passed([(one, rows), (without, rows[:1]), (one, rows), (one, rows)]) == [10, 1, 10, 0]

    driver = TopologyDriver(one, NOW)
    driver.send("sales", *rows)
    [store] = driver._stores.values()
    prefix = kind[:1].encode()
    assert len(store.scan(prefix, prefix + b"\xff")) == 10
    driver.deploy(without)
    for _ in range(5):
        driver.send("sales", at(0))
    assert store.scan(prefix, prefix + b"\xff") == []
    assert store.scan(b"x", b"y") == []
    driver.deploy(one)
    driver.send("sales", *rows)
    assert len(store.scan(prefix, prefix + b"\xff")) == 10
    driver.restart()
    driver.send("sales", *rows)
    assert len(driver.read("x")) == 10 + 5 + 10


def test_a_version_that_only_started_has_taken_nothing_away() -> None:
    one, without = plain(sales().dedup("size", within=DAY)), plain(sales())
    assert passed([(one, [at(0)]), (without, []), (one, [at(0)])]) == [1, 0, 0]


def test_a_threshold_that_was_away_or_is_another_one_begins_anew() -> None:
    def version(limit: int | None) -> Topology:
        threshold = Threshold(max_count=limit, last=50, action="halt") if limit else None
        rule = Rule("small", "size < 5", threshold=threshold)
        return plain(sales().gate(rule))

    driver = TopologyDriver(version(1), NOW)
    with pytest.raises(StateRefused, match="halted"):
        driver.send("sales", at(0, size=9), at(0, size=9), at(0))
    for other in (None, 1, 2):
        driver.deploy(version(other))
        driver.send("sales", at(0))
    assert len(driver.read("x")) == 4


MODELS: dict[str, Any] = {
    "int": int,
    "float": float,
    "text": str,
    "decimal": Decimal,
    "perhaps": int | None,
}


def typed(kind: str, aggregate: Any, result: Any) -> Topology:
    times: dict[str, Any] = {"shop": str, "at": AwareDatetime}
    model = create_model("Sale", **times, size=(MODELS[kind], ...))
    fields: dict[str, Any] = {"shop": str, "window_start": AwareDatetime, "made": result | None}
    made = create_model("Made", **fields)
    stream = sales(model)
    found = stream.window(Tumbling(HOUR), by="shop").aggregate(made, made=aggregate)
    return Topology("t", found.to(topic("x")), found.late.drop(), stream.rejected.drop())


@pytest.mark.parametrize(
    ("aggregate", "result", "kind", "reads"),
    [
        (Sum("size"), Decimal, "decimal", False),
        (Max("size"), int, "perhaps", True),
        (Variance("size"), float, "float", True),
        (ApproxDistinct("size"), int, "float", False),
    ],
    ids=repr,
)
def test_partials_are_read_by_aggregates_over_the_same_types(
    aggregate: Any, result: Any, kind: str, reads: bool
) -> None:
    driver = TopologyDriver(typed("int", aggregate, result), NOW)
    driver.send("sales", at(0, size=3))
    other = typed(kind, aggregate, result)
    if reads:
        driver.deploy(other)
        driver.end_of_input()
        assert len(driver.read("x")) == 1
        return
    with pytest.raises(StateRefused, match="or by windows of other aggregates, groups or types"):
        driver.deploy(other)
    driver.deploy(typed("int", aggregate, result))
    driver.end_of_input()
    assert len(driver.read("x")) == 1, "nothing was changed by the other one"


def test_windows_may_come_in_another_order() -> None:
    class Daily(Hourly):
        pass

    def version(turned: bool) -> Topology:
        stream = sales()
        made = [
            stream.window(Tumbling(size), by="shop").aggregate(model, sales=Count())
            for size, model in ((HOUR, Hourly), (DAY, Daily))
        ]
        edges = [made[0].to(topic("x")), made[1].to(topic("y"))]
        late = [one.late.drop() for one in made]
        return Topology("t", *(edges[::-1] if turned else edges), *late, stream.rejected.drop())

    driver = TopologyDriver(version(False), NOW)
    driver.send("sales", at(0))
    driver.deploy(version(True))
    driver.send("sales", at(1))
    driver.end_of_input()
    assert [row["sales"] for name in "xy" for row in driver.read(name)] == [2, 2]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Measure(Sum("size"), at_least=0), "float"),
        (Measure(ApproxDistinct("size"), at_least=0), "text"),
        (Unique("size"), "text"),
    ],
    ids=repr,
)
def test_checks_over_other_types_begin_anew(old: Any, new: str) -> None:
    def version(kind: str) -> Topology:
        times: dict[str, Any] = {"shop": str, "at": AwareDatetime}
        stream = sales(create_model("Sale", **times, size=(MODELS[kind], ...)))
        edges = stream.to(topic("y")), stream.check(old, over=3).to(topic("x"))
        return Topology("t", *edges, stream.rejected.drop())

    driver = TopologyDriver(version("int"), NOW)
    driver.send("sales", at(0, size=1), at(0, size=1))
    driver.deploy(version(new))
    driver.send("sales", *[at(0, size="2" if new == "text" else 2.5)] * 3)
    [row] = driver.read("x")
    assert (row["rows"], row["row_first"]) == (3, 0)


def test_a_share_with_other_bounds_counts_the_same_rows() -> None:
    def version(**bounds: Any) -> Topology:
        stream = sales()
        check = stream.check(Share("size > 0", **bounds), over=4)
        return Topology("t", stream.to(topic("y")), check.to(topic("x")), stream.rejected.drop())

    driver = TopologyDriver(version(at_least=0.5), NOW)
    driver.send("sales", at(0, size=1), at(0, size=1))
    driver.deploy(version(at_most=1.0))
    driver.send("sales", *[at(0, size=1)] * 4)
    [row] = driver.read("x")
    assert (row["value"], row["verdict"]) == (1.0, "pass")


def test_quality_with_other_rules_begins_anew() -> None:
    def version(name: str) -> Topology:
        stream = sales().gate(Rule(name, "size > 0"))
        quality = stream.quality_over(3)
        edges = stream.to(topic("y")), quality.to(topic("x"))
        return Topology("t", *edges, stream.rejected.drop())

    driver = TopologyDriver(version("one"), NOW)
    driver.send("sales", at(0), at(0))
    driver.deploy(version("two"))
    driver.send("sales", at(0), at(0), at(0))
    [row] = driver.read("x")
    assert (row["records"], row["issues"], row["score"]) == (3, 3, 0.0)


def test_a_version_with_new_topics_tables_and_sources_can_be_deployed() -> None:
    driver = TopologyDriver(plain(sales()), NOW)
    driver.send("sales", at(0))
    more = source(topic("more"), Sale, key="shop", event_time="at")
    stream = sales()
    edges = stream.to(topic("x")), stream.to(topic("new")), more.to(topic("newer"))
    sides = stream.rejected.to(topic("dlq")), more.rejected.drop()
    driver.deploy(Topology("t", *edges, *sides))
    driver.send("sales", at(1))
    driver.send("more", at(1))
    assert [len(driver.read(name)) for name in ("x", "new", "newer")] == [2, 1, 1]


@pytest.mark.parametrize("keeps", [True, False])
def test_an_early_result_of_another_version_is_replaced_by_the_final_one(keeps: bool) -> None:
    late = update(keep=2 * HOUR) if keeps else "side_output"

    def version(**early: Any) -> Topology:
        stream = sales()
        made = stream.window(Tumbling(HOUR), by="shop", grace=HOUR, late=late, **early)
        found = made.aggregate(Hourly, sales=Count())
        edges = found.to(delta("lake")), found.late.drop()
        return Topology("t", *edges, stream.rejected.drop())

    driver = TopologyDriver(version(early="at_end"), NOW)
    driver.send("sales", at(0), at(61))
    driver.advance(HOUR)
    assert [row["final"] for row in driver.files("lake")] == [False]
    driver.deploy(version())
    driver.send("sales", at(1), at(300))
    driver.advance(HOUR)
    rows = {row["window_start"]: (row["sales"], row["final"]) for row in driver.files("lake")}
    assert rows == {NOON: (2, True), NOON + HOUR: (1, True)}
    assert len(driver.files("lake")) == 2


def test_a_version_that_one_table_refuses_leaves_nothing_in_the_others() -> None:
    class More(Sale):
        more: int | None = None

    class Other(Sale):
        more: str | None = None

    def version(one: type[BaseModel], two: type[BaseModel]) -> Topology:
        first, second = sales(one), source(topic("more"), two, key="shop", event_time="at")
        edges = first.to(parquet("first")), second.to(parquet("second"))
        return Topology("t", *edges, first.rejected.drop(), second.rejected.drop())

    driver = TopologyDriver(version(Sale, Sale), NOW)
    with pytest.raises(SinkRefused, match="'second'"):
        driver.deploy(version(More, Longer))
    driver.deploy(version(Other, Sale))
    driver.send("sales", at(0, more="x"))
    driver.end_of_input()
    assert [row["more"] for row in driver.files("first")] == ["x"]
