"""A Delta table has the newest result of each window and group, whatever came before it."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow import Count, First, Sum, Topology, day, delta, every, topic, update
from streamflow.engine.optimize import optimize
from streamflow.engine.rewrite import Rewriter
from streamflow.partition_by import PartitionBy
from streamflow.ports import LoggedTable
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

from .test_window_policies import (
    EVERY,
    GRACE,
    KEEP,
    NOW,
    WINDOWS,
    Group,
    Made,
    Reference,
    Summary,
    cuts,
    events,
    last_of,
    moves,
    readings,
    results,
    sent,
)

FOLDERS: dict[str, str | PartitionBy | Sequence[str]] = {
    "none": (),
    "of a group": "sensor",
    "of a day": day("window_start"),
}
NAMES = ("sensor", "window_start", "window_end", "rows", "total", "first", "revision", "final")


@cache
def merging(kind: str, folders: str, soon: bool, target_bytes: int) -> Topology:
    stream = readings()
    when = every(EVERY) if soon else None
    by = {"early": when, "late": update(keep=KEEP)}
    windowed = stream.window(WINDOWS[kind], by="sensor", grace=GRACE, **by)  # type: ignore[arg-type]
    summary = windowed.aggregate(Summary, rows=Count(), total=Sum("value"), first=First("value"))
    parts: Any = FOLDERS[folders]
    table = delta("newest", partition_by=parts, target_bytes=target_bytes, storage="none")
    return Topology(
        "merging",
        stream.rejected.drop(),
        summary.to(topic("summaries")),
        summary.to(table),
        summary.late.drop(),
    )


def table_of(driver: TopologyDriver) -> LoggedTable:
    return LoggedTable(driver._tables.files["newest"], driver._tables.logs["newest"])


def rows_of(driver: TopologyDriver) -> list[Made]:
    """The rows that readers see, with the values that name their folders."""
    table, found = table_of(driver), list[Made]()
    loaded = table.log.load()
    assert loaded is not None
    for file in loaded.files():
        data = pa.BufferReader(table.files.read(file.name))
        for row in pq.read_table(data).to_pylist():
            whole: dict[str, Any] = {**file.values, **row}
            found.append(Made(*(whole[name] for name in NAMES)))
    return found


def newest(made: Sequence[Made]) -> dict[Group, Made]:
    return {(row.group, row.start, row.end): row for row in made}


def join(driver: TopologyDriver) -> None:
    table = table_of(driver)
    optimize(table, Rewriter(table.files, "none"), 1024 * 1024)


@pytest.mark.parametrize("folders", FOLDERS)
@pytest.mark.parametrize("soon", [True, False])
@law(240, cases=len(FOLDERS) * 2)
@given(
    kind=st.sampled_from(sorted(WINDOWS)),
    steps=moves,
    batches=cuts,
    commit_records=st.integers(1, 20),
    parts=st.integers(1, 4),
)
def test_after_each_roll_the_newest_result_is_there_once(
    folders: str,
    soon: bool,
    kind: str,
    steps: list[tuple[int, str, int]],
    batches: list[int],
    commit_records: int,
    parts: int,
) -> None:
    topology = merging(kind, folders, soon, 1)
    driver = TopologyDriver(topology, NOW, batches=batches, commit_records=commit_records)
    rows, reference = events(steps), Reference(WINDOWS[kind], KEEP)
    size = len(rows) // parts + 1
    for start in range(0, len(rows), size):
        driver.send("readings", *sent(rows[start : start + size]))
        assert sorted(rows_of(driver)) == sorted(newest(results(driver)).values())
        join(driver)
    driver.end_of_input()
    for row in rows:
        reference.take(row)
    assert last_of(rows_of(driver)) == reference.last()
    assert sorted(rows_of(driver)) == sorted(newest(results(driver)).values())


@pytest.mark.parametrize("soon", [True, False])
@law(cases=2)
@given(
    kind=st.sampled_from(sorted(WINDOWS)),
    folders=st.sampled_from(sorted(FOLDERS)),
    steps=moves,
    batches=cuts,
    commit_records=st.integers(1, 20),
    crashes=st.lists(
        st.tuples(st.sampled_from([*CRASH_POINTS, "files-written"]), st.integers(0, 3)), max_size=3
    ),
    target_bytes=st.sampled_from([1, 5_000, 10**9]),
)
def test_crashes_and_cuts_change_no_newest_result(
    soon: bool,
    kind: str,
    folders: str,
    steps: list[tuple[int, str, int]],
    batches: list[int],
    commit_records: int,
    crashes: list[tuple[str, int]],
    target_bytes: int,
) -> None:
    topology = merging(kind, folders, soon, target_bytes)
    driver = TopologyDriver(topology, NOW, batches=batches, commit_records=commit_records)
    rows, reference = events(steps), Reference(WINDOWS[kind], KEEP)
    size = len(rows) // (len(crashes) + 1) + 1
    for i, start in enumerate(range(0, len(rows), size)):
        part = sent(rows[start : start + size])
        if i < len(crashes):
            with driver.crash(at=crashes[i][0], after=crashes[i][1]):
                driver.send("readings", *part)
            driver.process()
        else:
            driver.send("readings", *part)
    driver.end_of_input()
    for row in rows:
        reference.take(row)
    found = rows_of(driver)
    assert last_of(found) == reference.last()
    assert sorted(found) == sorted(newest(results(driver)).values())
