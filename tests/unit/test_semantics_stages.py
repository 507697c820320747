"""The examples of filters, maps and windows in docs/semantics.md do what the text says."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Calendar,
    Count,
    Rule,
    Session,
    Threshold,
    Topology,
    Tumbling,
    cast,
    every,
    parquet,
    source,
    topic,
    update,
)
from streamflow.batch import TopicPartition
from streamflow.testing import TopologyDriver

SEMANTICS = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Sale(BaseModel):
    shop: str
    cents: int
    note: str | None
    at: AwareDatetime


class Busy(BaseModel):
    shop: str
    window_start: AwareDatetime
    sales: int


class Daily(Busy):
    pass


class Hourly(Busy):
    pass


sales = source(topic("sales"), Sale, key="shop", event_time="at")


def run_example(word: str, **given: Any) -> dict[str, Any]:
    """What the python block that holds `word` defines."""
    blocks = re.findall(r"```python\n(.*?)```", SEMANTICS, re.DOTALL)
    (code,) = [block for block in blocks if word in block]
    names = {"pa": pa, "pc": pc, "sales": sales, "timedelta": timedelta, "BaseModel": BaseModel}
    names |= {"Rule": Rule, "Threshold": Threshold}
    names |= {"Session": Session, "Calendar": Calendar, "Count": Count, "Busy": Busy}
    names |= {"Tumbling": Tumbling, "every": every, "update": update, "Hourly": Hourly}
    names |= {"topic": topic, "parquet": parquet}
    defined: dict[str, Any] = names | given | {"Daily": Daily, "__name__": __name__}
    exec(code, defined)
    return defined


def sale(cents: int, note: str | None, at: datetime = NOW) -> dict[str, Any]:
    return {"shop": "a", "cents": cents, "note": note, "at": at}


def test_filter_and_map() -> None:
    fares = run_example("class Fare")["fares"]
    edges = [fares.to(topic("fares")), fares.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("fares", *edges), NOW)
    driver.send("sales", sale(250, "x"), sale(0, "y"), sale(5, None))
    assert driver.read("fares") == [
        {"shop": "a", "euros": 2.5, "note": "x"},
        {"shop": "a", "euros": 0.05, "note": "none"},
    ]
    assert driver.totals["dropped"] == 1


def test_casts() -> None:
    counted = run_example("class Counted", cast=cast)["counted"]
    edges = [counted.to(topic("counted")), counted.rejected.drop()]
    driver = TopologyDriver(Topology("counted", *edges), NOW)
    driver.send("sales", *[sale(1, note) for note in ("7", "2.5", "x")])
    assert [row["number"] for row in driver.read("counted")] == [7, None, None]


def test_rows_of_rows() -> None:
    words = run_example("class Basket", source=source, AwareDatetime=AwareDatetime)["words"]
    edges = [words.to(topic("words")), words.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("words", *edges), NOW)
    for items in (["tea", "milk"], []):
        driver.send("baskets", {"shop": "a", "items": items, "at": NOW})
    assert [row["letters"] for row in driver.read("words")] == [3, 4]
    assert (driver.totals["expanded"], driver.totals["dropped"]) == (1, 1)
    (task,) = driver._tasks.values()
    assert task.state.rules == {"expand Item": 1, "expand Item:rows": 2}


def test_forks_and_branches() -> None:
    fare = run_example("class Fare")["Fare"]
    edges = run_example("known.branch(", Fare=fare)["edges"]
    driver = TopologyDriver(Topology("sales", *edges), NOW)
    driver.send(
        "sales", sale(-1, "a"), sale(0, "b"), sale(250, "c"), sale(3, None), sale(10**6, "d")
    )
    sizes = {name: len(driver.read(name)) for name in ("known", "large", "fares", "dlq")}
    assert sizes == {"known": 4, "large": 1, "fares": 1, "dlq": 1}
    totals = driver.totals
    assert (totals["in"], totals["forked"]) == (5, 4)
    assert (totals["passed"], totals["dropped"], totals["rejected"]) == (7, 1, 1)
    (task,) = driver._tasks.values()
    assert task.state.rules["branch cents > 0"] == 2


def test_thresholds() -> None:
    guarded = run_example("threshold=Threshold(")["guarded"]
    edges = [guarded.to(topic("guarded")), guarded.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("guarded", *edges), NOW)
    notes = ["a", None, "b", None, None, "c", "d", "e", None]  # the fifth makes it 3 of the last 4
    minutes = [0, 1, 2, 3, 4, 9, 14, 15, 16]
    times = [NOW + timedelta(minutes=minute) for minute in minutes]
    driver.send("sales", *[sale(1, note, at) for note, at in zip(notes, times, strict=True)])
    letters = [(row["note"], row["reason"]) for row in driver.read("dlq")]
    assert letters == [("c", "gate-tripped")]
    assert len(driver.read("guarded")) == 8
    assert driver.phase("gate", TopicPartition("sales", 0)) == "closed"
    (task,) = driver._tasks.values()
    counts = {"noted": 4, "gate:tripped": 1, "gate:routed": 1, "gate:resumed": 1}
    assert task.state.rules == counts


def test_early_and_corrected_results() -> None:
    edges = run_example("early=every")["edges"]
    driver = TopologyDriver(Topology("sales", sales.rejected.drop(), *edges), NOW)
    for minutes in (5, 20, 70, 10, 60 * 50, 15):
        driver.send("sales", sale(1, None, NOW + timedelta(minutes=minutes)))
    made = [(r["sales"], r["final"], r["revision"]) for r in driver.read("hourly")]
    assert made == [
        (2, False, 0),
        (2, True, 0),
        (1, False, 0),
        (3, True, 1),
        (1, True, 0),
        (1, False, 0),
    ]
    assert len(driver.read("too-late")) == 1
    driver.end_of_input()
    assert [row["sales"] for row in driver.files("hourly")] == [2, 1, 1]
    assert len(driver.files("hourly-history")) == 7


def test_quality_records() -> None:
    guarded = run_example("threshold=Threshold(")["guarded"]
    edges = run_example("guarded.quality.to(", guarded=guarded)["edges"]
    driver = TopologyDriver(Topology("guarded", *edges), NOW, batches=[2], commit_records=2)
    driver.send("sales", *[sale(1, note) for note in ("a", None, "b")])
    records = driver.read("quality")
    assert [(r["offset_first"], r["offset_next"], r["score"]) for r in records] == [
        (0, 2, 50.0),
        (2, 3, 100.0),
    ]
    assert [threshold["phase"] for threshold in records[0]["thresholds"]] == ["closed", "closed"]


def test_sessions_and_days() -> None:
    defined = run_example("Calendar(")
    busy, daily = defined["busy"], defined["daily"]
    driver = TopologyDriver(
        Topology(
            "sales",
            sales.rejected.drop(),
            busy.to(topic("busy")),
            busy.late.drop(),
            daily.to(topic("daily")),
            daily.late.drop(),
        ),
        NOW,
    )
    evening = datetime(2024, 10, 26, 21, 50, tzinfo=UTC)
    minutes = (0, 20, 70)
    driver.send("sales", *[sale(1, None, evening + timedelta(minutes=m)) for m in minutes])
    driver.end_of_input()

    def spans(name: str) -> list[tuple[str, str, int]]:
        rows = driver.read(name)
        ends = [(r["window_start"], r["window_end"]) for r in rows]
        texts = [tuple(f"{time:%d %H:%M}" for time in pair) for pair in ends]
        return [(*text, row["sales"]) for text, row in zip(texts, rows, strict=True)]  # type: ignore[misc]

    assert spans("busy") == [("26 21:50", "26 22:40", 2), ("26 23:00", "26 23:30", 1)]
    assert spans("daily") == [("25 22:00", "26 22:00", 1), ("26 22:00", "27 23:00", 2)]
