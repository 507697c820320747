"""Filters, maps and gates in a chain keep the laws and give what plain Python computes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Rule, Sum, Topology, Tumbling, parquet, source, topic
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LAG, GRACE, MINUTE = 20 * SECOND, 30 * SECOND, 60 * SECOND


class Sale(BaseModel, frozen=True):
    shop: str
    pieces: int
    cents: int | None
    at: AwareDatetime


class Priced(BaseModel, frozen=True):
    shop: str
    each: int
    label: str


class PerShop(BaseModel, frozen=True):
    shop: str
    window_start: AwareDatetime
    sales: int
    each: int


def each(rows: pa.RecordBatch) -> pa.Array:
    """Raises for a whole batch when one row divides by zero."""
    return pc.divide_checked(rows["cents"], rows["pieces"])


sales = source(topic("sales"), Sale, key="shop", event_time="at", out_of_orderness=LAG)
known = sales.gate(Rule("odd", "pieces <> 7", severity="warning"), Rule("few", "pieces < 90"))
paid = known.filter("cents > 10")
priced = paid.map(Priced, each=each, label="upper(shop)").gate(
    Rule("dear", "each < 500", severity="info"), Rule("sane", "each < 5000")
)
per_shop = priced.window(Tumbling(MINUTE), by="shop", grace=GRACE).aggregate(
    PerShop, sales=Count(), each=Sum("each")
)
topology = Topology(
    "sales",
    priced.to(topic("priced")),
    priced.to(parquet("priced", partition_by="label")),
    priced.rejected.to(topic("dlq")),
    per_shop.to(topic("per-shop")),
    per_shop.late.to(topic("late")),
)

rows = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from([0, 0, 1, 1, 1, 2, 2, 7, 50, 90]),
        st.sampled_from([None, 10, 11, 12, 600, 700, 7_000, 30_000]),
        st.integers(-40, 60),
    ),
    min_size=1,
    max_size=40,
)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)
Row = tuple[str, int, int | None, int]


def made(stream: Sequence[Row]) -> list[dict[str, Any]]:
    at, found = START, list[dict[str, Any]]()
    for shop, pieces, cents, move in stream:
        at += move * SECOND
        found.append({"shop": shop, "pieces": pieces, "cents": cents, "at": at})
    return found


def run(
    stream: Sequence[Row],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
) -> TopologyDriver:
    driver = TopologyDriver(topology, NOW, batches=batches, commit_records=commit_records)
    sent = made(stream)
    driver.send("sales", *sent[: len(sent) // 2])
    with driver.crash(at=crash_at or "never"):
        driver.send("sales", *sent[len(sent) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    return driver


def reference(stream: Sequence[Row]) -> dict[str, Any]:
    """One row at a time."""
    passed: list[tuple[str, int, str]] = []
    warned: list[list[str] | None] = []
    rejected: list[tuple[int, str, str]] = []
    late: list[int] = []
    dropped = 0
    windows: dict[tuple[str, datetime], list[int]] = {}
    watermark: datetime | None = None
    for offset, row in enumerate(made(stream)):
        shop, pieces, cents, at = row["shop"], row["pieces"], row["cents"], row["at"]
        before = watermark
        moved = max(watermark or at - LAG, at - LAG)
        if pieces >= 90:
            rejected.append((offset, "rule", "few"))
        elif cents is None or cents <= 10:
            dropped += 1
            watermark = moved
        elif pieces == 0:
            rejected.append((offset, "failed", ""))
        elif cents // pieces >= 5000:
            rejected.append((offset, "rule", "sane"))
        else:
            watermark = moved
            one = cents // pieces
            passed.append((shop, one, shop.upper()))
            marks = ["odd"] * (pieces == 7) + ["dear"] * (one >= 500)
            warned.append(marks or None)
            start = at - (at - START) % MINUTE
            if before is not None and before >= start + MINUTE + GRACE:
                late.append(offset)
            else:
                windows.setdefault((shop, start), []).append(one)
    results = sorted((s, t, len(n), sum(n)) for (s, t), n in windows.items())
    return {
        "passed": passed,
        "warned": sorted(map(str, warned)),
        "rejected": rejected,
        "late": late,
        "results": results,
        "dropped": dropped,
    }


def found(driver: TopologyDriver) -> dict[str, Any]:
    passed = [(row["shop"], row["each"], row["label"]) for row in driver.read("priced")]
    tables = driver.tables("priced")
    warned = [str(marks) for table in tables for marks in table["_warnings"].to_pylist()]
    letters = driver.read("dlq")
    return {
        "passed": passed,
        "warned": sorted(warned),
        "rejected": [(row["offset"], row["reason"], row["rule"]) for row in letters],
        "late": [int.from_bytes(_lineage(r.headers)[13:21], "big") for r in driver.records("late")],
        "results": sorted(
            (row["shop"], row["window_start"], row["sales"], row["each"])
            for row in driver.read("per-shop")
        ),
        "dropped": driver.totals["dropped"],
    }


def _lineage(headers: Any) -> bytes:
    return dict(headers)["streamflow.lineage"]


@law()
@given(rows, cuts, st.integers(1, 20))
def test_what_comes_out_is_what_plain_python_computes(
    stream: list[Row], batches: list[int], commit_records: int
) -> None:
    driver = run(stream, batches, commit_records)
    assert found(driver) == reference(stream)
    totals = driver.totals
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"]
    assert totals["passed"] == len(driver.files("priced"))


@law()
@given(rows, cuts, st.integers(1, 20), st.sampled_from(CRASH_POINTS))
def test_cuts_commits_and_crashes_are_unobservable(
    stream: list[Row], batches: list[int], commit_records: int, point: str
) -> None:
    crashed = run(stream, batches, commit_records, crash_at=point)
    whole = run(stream)
    assert found(crashed) == found(whole)
    assert crashed.totals == whole.totals
