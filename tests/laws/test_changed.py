"""Change detection keeps the laws, gives what plain Python computes, and forgets in time."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, content, parquet, source, topic
from streamflow.batch import Record
from streamflow.changes import Changed
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LAG, FORGET = 5 * SECOND, 60 * SECOND


class Item(BaseModel, frozen=True):
    name: str
    price: int | None
    note: str | None
    updated: int | None
    sequence: int | None
    at: AwareDatetime | None


items = source(
    topic("items"),
    Item,
    key="name",
    event_time="at",
    out_of_orderness=LAG,
    tombstones="delete",
)
STREAMS = [
    items.changed("name", by=content("price")),
    items.changed("name", by=content("price"), sequence="sequence", forget_after=FORGET),
    items.changed("name", by="updated"),
    items.changed("name", by="updated", sequence="sequence", forget_after=FORGET),
]
TOPOLOGIES = [
    Topology(
        "items",
        s.to(topic("out")),
        s.to(parquet("out")),
        s.rejected.to(topic("dlq")),
        s.conflicts.to(topic("conflicts")),
    )
    for s in STREAMS
]
variants = st.sampled_from(range(len(STREAMS)))

#: Key, whether it is a tombstone, price, updated, sequence, and seconds since the row before.
Row = tuple[str, bool, int | None, int | None, int | None, int]
small = st.sampled_from([0, 0, 0, 1, 1, 2, 3, None])
rows = st.lists(
    st.tuples(
        st.sampled_from("aaab"),
        st.sampled_from([False, False, False, True]),
        small,
        small,
        small,
        st.one_of(st.integers(-20, 20), st.sampled_from([0, 0, 59, 60, 65, 200, -70])),
    ),
    max_size=40,
)
cuts = st.lists(st.sampled_from([1, 1, 2, 3, 7, 12]), min_size=1, max_size=5)
commits = st.sampled_from([1, 2, 5, 20, 1_000])


def records(stream: Sequence[Row]) -> list[Record]:
    at, made = START, list[Record]()
    for name, gone, price, updated, sequence, move in stream:
        at += move * SECOND
        row = {"name": name, "price": price, "note": str(len(made)), "at": at}
        value = orjson.dumps({**row, "updated": updated, "sequence": sequence})
        stamp = int(at.timestamp() * 1000)
        made.append(Record(name.encode(), None if gone else value, stamp))
    return made


def run(
    variant: int,
    stream: Sequence[Row],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
    keep_disk: bool = True,
) -> TopologyDriver:
    driver = TopologyDriver(
        TOPOLOGIES[variant],
        NOW,
        batches=batches,
        commit_records=commit_records,
        keep_disk=keep_disk,
    )
    sent = records(stream)
    driver.send("items", *sent[: len(sent) // 2])
    with driver.crash(at=crash_at or "never"):
        driver.send("items", *sent[len(sent) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    return driver


@dataclass
class Held:
    """What is known of one key."""

    heard: datetime
    version: tuple[int, int] = (-(2**63), -(2**63))
    price: int | None = None
    there: bool = False


def reference(variant: int, stream: Sequence[Row]) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Offsets that pass, with what they say, and how many rows took each exit; row by row."""
    stage = STREAMS[variant].stages[-1]
    assert isinstance(stage, Changed)
    held: dict[str, Held] = {}
    passed: list[tuple[int, str]] = []
    exits: Counter[str] = Counter()
    latest: datetime | None = None
    at = START
    for offset, (name, gone, price, updated, sequence, move) in enumerate(stream):
        at += move * SECOND
        order = sequence if stage.sequence else 0
        first = updated if stage.by == "updated" else int(at.timestamp())
        if not gone and (first is None or order is None):
            exits["rejected"] += 1
            continue
        old = held.get(name)
        if old and latest and stage.forget_after and latest - LAG >= old.heard + FORGET:
            del held[name]
        latest = at if latest is None else max(at, latest)
        known = held.setdefault(name, Held(at))
        known.heard = max(at, known.heard)
        version = None if gone else (first or 0, order or 0)
        verdict = judge(known, version, price, exact=stage.by == "updated")
        exits[verdict] += 1
        if verdict in ("new", "changed", "deleted"):
            passed.append((offset, verdict))
    return passed, exits


def judge(known: Held, version: tuple[int, int] | None, price: int | None, *, exact: bool) -> str:
    was = known.there
    if version is None:
        known.there = False
        return "deleted" if was else "unchanged"
    equal = version == known.version if exact else was and price == known.price
    if version < known.version or (exact and version == known.version):
        return "unchanged" if equal else "conflict"
    known.version, known.price, known.there = version, price, True
    if not was:
        return "new"
    return "unchanged" if equal else "changed"


def found(driver: TopologyDriver) -> tuple[list[tuple[int, str]], Counter[str]]:
    passed = [
        (int.from_bytes((headers["streamflow.lineage"] or b"")[13:21], "big"), text.decode())
        for headers in (dict(record.headers) for record in driver.records("out"))
        if (text := headers["streamflow.change"])
    ]
    assert len(driver.records("conflicts")) == sum(
        count for name, count in driver.rules.items() if name.endswith(": conflict")
    )
    rules = {name.rpartition(": ")[2]: count for name, count in driver.rules.items()}
    return passed, Counter(rules) + Counter(rejected=driver.totals["rejected"])


@law()
@given(variants, rows, cuts, commits)
def test_what_comes_out_is_what_plain_python_computes(
    variant: int, stream: list[Row], batches: list[int], commit_records: int
) -> None:
    driver = run(variant, stream, batches, commit_records)
    passed, exits = reference(variant, stream)
    assert found(driver) == (passed, +exits)
    totals = driver.totals
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"]
    tables = [table.select(["_offset", "_change"]).to_pylist() for table in driver.tables("out")]
    assert sorted((r["_offset"], r["_change"]) for rows in tables for r in rows) == passed


@law()
@given(variants, rows, cuts, commits, st.sampled_from(CRASH_POINTS), st.booleans())
def test_cuts_commits_and_crashes_are_unobservable(
    variant: int,
    stream: list[Row],
    batches: list[int],
    commit_records: int,
    point: str,
    keep_disk: bool,
) -> None:
    crashed = run(variant, stream, batches, commit_records, point, keep_disk)
    whole = run(variant, stream)
    assert found(crashed) == found(whole)
    assert crashed.totals == whole.totals


@pytest.mark.parametrize("variant", range(len(STREAMS)))
@pytest.mark.parametrize("seed", range(3))
def test_a_long_stream_is_what_plain_python_computes(variant: int, seed: int) -> None:
    chance = random.Random(seed)
    moves = [*[0] * 9, 1, 1, 2, -3, 30, 61, 70, -70]
    stream: list[Row] = [
        (
            chance.choice("aaabbc"),
            chance.random() < 0.15,
            chance.choice([0, 1, 2, None]),
            chance.choice([number // 20, number // 15, number // 20, None]),
            chance.choice([0, 1, 2]),
            chance.choice(moves),
        )
        for number in range(300)
    ]
    passed, exits = reference(variant, stream)
    assert len(exits) >= 5
    for batches, commit_records in [((1,), 1_000), ((3, 1, 8), 25), ((1_000,), 1_000)]:
        assert found(run(variant, stream, batches, commit_records)) == (passed, +exits)
