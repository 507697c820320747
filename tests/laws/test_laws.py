"""The laws of the core (DESIGN 5), on a topology that has every exit."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.batch import Record, TopicPartition
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law
from tests.laws import reference
from tests.laws.orders import records, topology

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = ("orders.clean", "orders.dlq", "orders.late")
COMMIT_HEADERS = {"streamflow.lineage", "traceparent"}  # these name the commit, which may differ

streams = st.lists(records(), max_size=40)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def run(
    stream: Sequence[Record],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
    keep_disk: bool = True,
) -> TopologyDriver:
    """Send everything, perhaps crash on the way, and end the input."""
    driver = TopologyDriver(
        topology,
        NOW,
        partitions=2,
        batches=batches,
        commit_records=commit_records,
        keep_disk=keep_disk,
    )
    half = len(stream) // 2
    if crash_at is None:
        driver.send("orders", *stream)
    else:
        driver.send("orders", *stream[:half])
        with driver.crash(at=crash_at):
            driver.send("orders", *stream[half:])
            driver.end_of_input()
        driver.process()
    driver.end_of_input()
    return driver


def in_order(driver: TopologyDriver, topic: str) -> list[list[tuple[Any, ...]]]:
    """What a reader of each partition sees, without what names the commit."""
    return [
        [
            (r.key, r.value, r.timestamp, [h for h in r.headers if h[0] not in COMMIT_HEADERS])
            for _, r in log.records
        ]
        for log in driver.broker.topics[topic]
    ]


def outcome(driver: TopologyDriver) -> dict[str, Any]:
    """Everything that a law compares, exactly."""
    exact = [
        {name: value for name, value in row.items() if name != "mean_weight"}
        for row in driver.read("per-minute")
    ]
    return {
        **{topic: in_order(driver, topic) for topic in TOPICS},
        "results": sorted(exact, key=str),
        "rows": sorted(map(str, driver.files("orders"))),
        "totals": dict(driver.totals),
    }


def means(driver: TopologyDriver) -> list[float]:
    found = sorted(driver.read("per-minute"), key=lambda r: (r["window_start"], r["country"]))
    return [row["mean_weight"] for row in found]


@law()
@given(streams, cuts, st.integers(1, 20))
def test_batch_cuts_and_commits_are_unobservable(
    stream: list[Record], batches: list[int], commit_records: int
) -> None:
    whole, cut = run(stream), run(stream, batches, commit_records)
    assert outcome(cut) == outcome(whole)
    assert means(cut) == pytest.approx(means(whole), rel=1e-9, abs=1e-5)


@law()
@given(streams, cuts, st.integers(1, 20), st.sampled_from(CRASH_POINTS), st.booleans())
def test_replaying_after_a_crash_is_unobservable(
    stream: list[Record], batches: list[int], commit_records: int, point: str, keep_disk: bool
) -> None:
    whole = run(stream)
    crashed = run(stream, batches, commit_records, crash_at=point, keep_disk=keep_disk)
    assert outcome(crashed) == outcome(whole)


@law()
@given(streams, cuts, st.integers(1, 20))
def test_every_record_is_in_one_named_exit(
    stream: list[Record], batches: list[int], commit_records: int
) -> None:
    driver = run(stream, batches, commit_records)
    totals = driver.totals
    assert totals["in"] == len(stream) == totals["passed"] + totals["rejected"]
    assert totals["assigned"] == totals["passed"] == totals["accumulated"] + totals["late"]
    assert totals["rejected"] == len(driver.records("orders.dlq"))
    assert totals["late"] == len(driver.records("orders.late"))
    assert totals["passed"] == len(driver.files("orders")) == len(driver.records("orders.clean"))
    assert totals["accumulated"] == sum(row["orders"] for row in driver.read("per-minute"))


@law()
@given(streams, cuts)
def test_what_comes_out_is_what_plain_python_computes(
    stream: list[Record], batches: list[int]
) -> None:
    driver = run(stream, batches, commit_records=7)
    found: list[tuple[Any, ...]] = []
    for partition in range(2):
        log = driver.broker.partition(TopicPartition("orders", partition))
        expected = reference.reference([record for _, record in log.records])
        for topic, values in zip(
            TOPICS, (expected.clean, expected.rejected, expected.late), strict=True
        ):
            written = driver.broker.partition(TopicPartition(topic, partition)).records
            mine = [r.value for _, r in written]
            if topic == "orders.clean":  # keys put these where they came from
                assert mine == values
            else:
                assert sorted(map(str, values)) == sorted(map(str, _of(driver, topic, partition)))
        found += reference.rows(expected)
    made = [_as_tuple(row) for row in driver.read("per-minute")]
    found.sort(key=lambda row: row[:2])
    made.sort(key=lambda row: row[:2])
    assert [row[:-1] for row in made] == [row[:-1] for row in found]
    assert [row[-1] for row in made] == pytest.approx([row[-1] for row in found], abs=1e-5)


def _of(driver: TopologyDriver, topic: str, partition: int) -> list[bytes | None]:
    """Values of a side topic that came from this source partition."""
    found: list[bytes | None] = []
    for record in driver.records(topic):
        headers = dict(record.headers)
        lineage = headers["streamflow.lineage"] or b""
        if int.from_bytes(lineage[9:13], "big") == partition:
            found.append(record.value)
    return found


def _as_tuple(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["window_start"],
        row["country"],
        row["orders"],
        row["cents"],
        Decimal(row["total_price"]),
        row["smallest"],
        row["largest"],
        row["products"],
        row["mean_weight"],
    )
