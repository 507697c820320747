"""`_SUCCESS` is there once every row on time can be read, in whatever order the partitions come."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Hopping, Topology, hour, parquet, source, topic
from streamflow.batch import Record
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

pytestmark = pytest.mark.slow

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
LAG = timedelta(minutes=7)
#: With them no partition stays empty, which would hold back everything.
KEYS = "abcdefghij"


class Visit(BaseModel, frozen=True):
    key: str
    at: AwareDatetime


class Visits(BaseModel, frozen=True):
    key: str
    window_start: AwareDatetime
    visits: int


visits = source(topic("visits"), Visit, key="key", event_time="at", out_of_orderness=LAG)
counted = visits.window(
    Hopping(timedelta(minutes=30), every=timedelta(minutes=15)),
    by="key",
    grace=timedelta(minutes=20),
).aggregate(Visits, visits=Count())
topology = Topology(
    "visits",
    visits.to(parquet("visits", partition_by=(hour("at"), "key"), target_bytes=1)),
    visits.to(parquet("by-key", partition_by=("key", hour("at")), target_bytes=1)),
    visits.rejected.to(topic("dlq")),
    counted.to(parquet("counts", partition_by=hour("window_start"), target_bytes=1)),
    counted.to(parquet("ends", partition_by=hour("window_end"), target_bytes=1)),
    counted.late.to(topic("late")),
)
TABLES = ("visits", "by-key", "counts", "ends")

#: A key, which its partition depends on, and minutes after noon.
STREAM = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(-20, 300)), max_size=20)

Row = tuple[str, int, int]
"""Where a row lies: its folder, and the partition and the (first) offset it was made from."""


def record(key: str, minute: int) -> Record:
    at = NOON + timedelta(minutes=minute)
    return Record(key.encode(), orjson.dumps({"key": key, "at": at}))


def rows(driver: TopologyDriver, table: str) -> set[tuple[Any, ...]]:
    """The visible rows of a table, each with its folder first."""
    files = driver._tables.files[table]
    parquet = [name for name in files.names() if name.endswith(".parquet")]
    return {(name.rsplit("/", 1)[0], *row) for name in parquet for row in rows_in(files.read(name))}


@lru_cache(1000)
def rows_in(file: bytes) -> list[tuple[Any, ...]]:
    """The same bytes are looked at after every record, and read once."""
    found = pq.ParquetFile(pa.BufferReader(file)).read(use_threads=False)
    lineage = [name for name in found.column_names if name.startswith("_")]
    return [
        (row.get("key"), row.get("window_start"), *(row[name] for name in lineage))
        for row in found.to_pylist()
    ]


def marked(driver: TopologyDriver, table: str) -> set[str]:
    names = driver._tables.files[table].names()
    return {name.rsplit("/", 1)[0] for name in names if name.endswith("/_SUCCESS")}


def late(stream: Sequence[Record], driver: TopologyDriver) -> set[tuple[int, int]]:
    """Partition and offset of those records that came below the watermark of their partition."""
    highest: dict[int, datetime] = {}
    found: set[tuple[int, int]] = set()
    counts: dict[int, int] = {}
    for one in stream:
        tp = driver.broker.place("visits", one.key)
        at = datetime.fromisoformat(orjson.loads(one.value or b"")["at"])
        offset = counts.get(tp.partition, 0)
        counts[tp.partition] = offset + 1
        if tp.partition in highest and at < highest[tp.partition] - LAG:
            found.add((tp.partition, offset))
        highest[tp.partition] = max(at, highest.get(tp.partition, at))
    return found


@law()
@given(STREAM, st.integers(1, 3), st.sampled_from([None, *CRASH_POINTS]), st.integers(0, 3))
def test_what_is_marked_has_every_row_that_comes_on_time(
    stream: list[tuple[str, int]], partitions: int, point: str | None, after: int
) -> None:
    driver = TopologyDriver(topology, NOON, partitions=partitions)
    first = [record(key, 0) for key in KEYS]
    rest = [record(*one) for one in sorted_by_parts(stream)]
    then: dict[tuple[str, str], set[tuple[Any, ...]]] = {}

    def look() -> None:
        for table in TABLES:
            new = {folder for folder in marked(driver, table) if (table, folder) not in then}
            there = rows(driver, table) if new else set[tuple[Any, ...]]()
            then.update({(table, f): {r for r in there if _in(r[0], f)} for f in new})

    driver.send("visits", *first)
    for number, one in enumerate(rest):
        if point is not None and number == 2:
            with driver.crash(at=point, after=after):
                driver.send("visits", one)
            driver.process()
        else:
            driver.send("visits", one)
        look()
    driver.end_of_input()
    look()
    too_late = late([*first, *rest], driver)
    for (table, folder), before in then.items():
        later = {r for r in rows(driver, table) if _in(r[0], folder)} - before
        if table in ("visits", "by-key"):
            later = {r for r in later if (r[4], r[5]) not in too_late}
        assert not later, (table, folder)
    for table in TABLES:
        folders = {row[0] for row in rows(driver, table)}
        assert all(any(_in(f, m) for m in marked(driver, table)) for f in folders), table


def sorted_by_parts(stream: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Mostly in order of time, so that partitions come to the ends of hours one after the other."""
    half = len(stream) // 2
    return sorted(stream[:half], key=itemgetter(1)) + sorted(stream[half:], key=itemgetter(1))


def _in(folder: str, prefix: str) -> bool:
    return folder == prefix or folder.startswith(f"{prefix}/")


def test_an_hour_is_marked_when_the_last_partition_has_passed_it() -> None:
    driver = TopologyDriver(topology, NOON, partitions=3)
    homes = {driver.broker.place("visits", key.encode()).partition: key for key in KEYS}
    assert sorted(homes) == [0, 1, 2]
    for key in homes.values():
        driver.send("visits", record(key, 10))
    for key in list(homes.values())[:2]:
        driver.send("visits", record(key, 200))
    assert not marked(driver, "visits")
    driver.send("visits", record(list(homes.values())[2], 67))
    assert marked(driver, "visits") == {"hour=2024-05-01-12"}
    assert marked(driver, "counts") == {"hour=2024-05-01-11"}, "windows of the hour are open"


def test_a_partition_without_records_holds_everything_back_until_the_end() -> None:
    driver = TopologyDriver(topology, NOON, partitions=3)
    for minute in (10, 200):
        driver.send("visits", record("a", minute))
    assert not marked(driver, "visits")
    driver.end_of_input()
    assert marked(driver, "visits") == {"hour=2024-05-01-12", "hour=2024-05-01-15"}
