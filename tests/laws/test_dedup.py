"""Deduplication keeps the laws, gives what plain Python computes, and forgets in time."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Rule, Topology, TopologyError, source, topic
from streamflow.batch import TopicPartition
from streamflow.core.keys import META
from streamflow.core.memory import keys_of
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LAG, WITHIN = 5 * SECOND, 60 * SECOND


class Click(BaseModel, frozen=True):
    user: str
    page: float | None
    good: bool
    at: AwareDatetime


clicks = source(topic("clicks"), Click, key="user", event_time="at", out_of_orderness=LAG)
once = clicks.dedup("user", "page", within=WITHIN).gate(Rule("good", "good"))
topology = Topology(
    "clicks",
    once.to(topic("once")),
    once.rejected.to(topic("dlq")),
    once.duplicates.to(topic("twice")),
)

Row = tuple[str, float | None, bool, int]
rows = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from([None, 1, 12, 0.0, -0.0]),
        st.sampled_from([True, True, True, False]),
        st.one_of(st.integers(-30, 30), st.sampled_from([0, 1, 59, 60, 65, 200, -170])),
    ),
    max_size=40,
)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def made(stream: Sequence[Row]) -> list[dict[str, Any]]:
    at, found = START, list[dict[str, Any]]()
    for user, page, good, move in stream:
        at += move * SECOND
        found.append({"user": user, "page": page, "good": good, "at": at})
    return found


def run(
    stream: Sequence[Row],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
    keep_disk: bool = True,
) -> TopologyDriver:
    driver = TopologyDriver(
        topology, NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    sent = made(stream)
    driver.send("clicks", *sent[: len(sent) // 2])
    with driver.crash(at=crash_at or "never"):
        driver.send("clicks", *sent[len(sent) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    return driver


def reference(stream: Sequence[Row]) -> tuple[list[int], list[int], list[int]]:
    """Offsets that pass, that are rejected after it, and of duplicates."""
    until: dict[tuple[str, float | None], datetime] = {}
    latest: datetime | None = None
    passed: list[int] = []
    rejected: list[int] = []
    for offset, row in enumerate(made(stream)):
        key, at = (row["user"], row["page"]), row["at"]
        forgotten = latest is not None and key in until and latest - LAG >= until[key]
        if key not in until or at >= until[key] or forgotten:
            until[key] = at + WITHIN
            (passed if row["good"] else rejected).append(offset)
        latest = at if latest is None else max(at, latest)
    return passed, rejected, sorted({*range(len(stream))} - {*passed, *rejected})


def found(driver: TopologyDriver) -> tuple[list[int], list[int], list[int]]:
    assert driver.totals["dropped"] == len(_offsets(driver, "twice"))
    return _offsets(driver, "once"), _offsets(driver, "dlq"), _offsets(driver, "twice")


def _offsets(driver: TopologyDriver, name: str) -> list[int]:
    lineage = [dict(record.headers)["streamflow.lineage"] for record in driver.records(name)]
    return [int.from_bytes((value or b"")[13:21], "big") for value in lineage]


@law()
@given(rows, cuts, st.integers(1, 20))
def test_what_comes_out_is_what_plain_python_computes(
    stream: list[Row], batches: list[int], commit_records: int
) -> None:
    driver = run(stream, batches, commit_records)
    assert found(driver) == reference(stream)
    totals = driver.totals
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"]


@law()
@given(rows, cuts, st.integers(1, 20), st.sampled_from(CRASH_POINTS), st.booleans())
def test_cuts_commits_and_crashes_are_unobservable(
    stream: list[Row], batches: list[int], commit_records: int, point: str, keep_disk: bool
) -> None:
    crashed = run(stream, batches, commit_records, point, keep_disk)
    whole = run(stream)
    assert found(crashed) == found(whole)
    assert crashed.totals == whole.totals


def entries(driver: TopologyDriver) -> list[bytes]:
    store = driver._stores[TopicPartition("clicks", 0)]
    return [k for k, _ in store.scan(b"", b"\xff") if not k.startswith(b"~") and k != META]


def click(page: int, seconds: int) -> dict[str, Any]:
    return {"user": "a", "page": page, "good": True, "at": START + seconds * SECOND}


def test_the_state_forgets_what_is_over() -> None:
    driver = TopologyDriver(topology, NOW)
    driver.send("clicks", *[click(page, 0) for page in range(50)])
    assert len(entries(driver)) == 51  # the keys, and one list of them
    driver.send("clicks", click(1, 1000))
    driver.send("clicks", click(1, 2000))
    assert len(entries(driver)) == 2
    latest = {r.key: r.value for r in driver.records("clicks-clicks-changelog")}
    assert sum(value is not None for value in latest.values()) == 3  # and the meta record


def test_a_key_that_passed_again_is_not_forgotten_with_its_first_time() -> None:
    driver = TopologyDriver(topology, NOW)
    for seconds, passed in [(0, 1), (59, 1), (60, 2), (75, 2), (119, 2), (120, 3)]:
        driver.send("clicks", click(1, seconds))
        assert len(driver.read("once")) == passed, seconds


def test_keys_of_different_values_are_different() -> None:
    texts = [None, "", "n", "1:a", "a", "1", "x" * 100, "x" * 101, "#"]
    pairs = [(a, b) for a in texts for b in texts]
    columns = [pa.array(column, pa.string()) for column in zip(*pairs, strict=True)]
    keys = keys_of(pa.RecordBatch.from_arrays(columns, names=["a", "b"]), ("a", "b")).to_pylist()
    assert len(set(keys)) == len(pairs)
    assert max(map(len, keys)) <= 40


@pytest.mark.parametrize(
    ("keys", "within", "words"),
    [
        ((), WITHIN, "name its keys"),
        (("page",), timedelta(0), "a time above zero"),
        (("pag",), WITHIN, "Click has no field 'pag'"),
    ],
)
def test_it_is_refused_in_words(keys: tuple[str, ...], within: timedelta, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        clicks.dedup(*keys, within=within)


def test_two_of_the_same_keys_are_refused() -> None:
    with pytest.raises(TopologyError, match=r"it is there already by \['user', 'page'\]"):
        once.dedup("user", "page", within=2 * WITHIN)
