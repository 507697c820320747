"""Debezium's change events keep the laws, and give what plain Python computes of them."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from streamflow import Topology, debezium, epoch, parquet, source, topic
from streamflow.batch import Record
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START_MS = 1_714_521_600_000


class Item(BaseModel, frozen=True):
    name: str
    shelf: int | None
    price: int | None
    lsn: int | None
    ts: int


Keys = tuple[str, ...]


def topology(keys: Keys) -> Topology:
    items = source(
        topic("items"),
        Item,
        key=keys,
        event_time=epoch("ts", "ms"),
        envelope=debezium(lsn="source.lsn", ts="source.ts_ms"),
    )
    changes = items.changed(*keys, by="lsn")
    return Topology(
        "items",
        changes.to(topic("out")),
        changes.to(parquet("out")),
        changes.rejected.to(topic("dlq")),
        changes.conflicts.to(topic("conflicts")),
    )


KEYS: tuple[Keys, ...] = ("name",), ("name", "shelf")
TOPOLOGIES: dict[Keys, Topology] = {keys: topology(keys) for keys in KEYS}

#: The name and the shelf, what happened (`-` is no value, `?` no event), the price, the lsn, and
#: how it is wrapped and keyed.
Event = tuple[str, int, str, int | None, int | None, bool]
keyed = st.sampled_from(KEYS)
events = st.lists(
    st.tuples(
        st.sampled_from("aab"),
        st.sampled_from([1, 1, 2]),
        st.sampled_from("cuuurdd-?t"),
        st.sampled_from([1, 2, None]),
        st.sampled_from([1, 2, 3, 4, 5, None]),
        st.booleans(),
    ),
    max_size=40,
)
cuts = st.lists(st.sampled_from([1, 2, 3, 7, 12]), min_size=1, max_size=5)
commits = st.sampled_from([1, 2, 5, 20, 1_000])


def record(event: Event, keys: Keys) -> Record:
    name, shelf, op, price, lsn, wrapped = event
    row = {"name": name, "shelf": shelf, "price": price}
    # A deletion says its row as it was, or leaves it to the record's key.
    before, after = (row if lsn != 2 else None, None) if op == "d" else (None, row)
    origin = {"lsn": lsn, "ts_ms": START_MS + (lsn or 0)}
    value = {"before": before, "after": after, "op": op, "source": origin}
    sent = orjson.dumps({"schema": {}, "payload": value} if wrapped else value)
    key = orjson.dumps({name: row[name] for name in reversed(keys)})
    if len(keys) == 1 and not wrapped:
        key = name.encode()
    return Record(key, None if op == "-" else b"{" if op == "?" else sent, START_MS)


def run(
    stream: Sequence[Event],
    keys: Keys,
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str = "never",
    keep_disk: bool = True,
) -> TopologyDriver:
    driver = TopologyDriver(
        TOPOLOGIES[keys], NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    sent = [record(event, keys) for event in stream]
    driver.send("items", *sent[: len(sent) // 2])
    with driver.crash(at=crash_at):
        driver.send("items", *sent[len(sent) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    return driver


def reference(stream: Sequence[Event], keys: Keys) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Offsets that pass, with what they say, and how many records took each exit; one by one."""
    newest: dict[Any, int] = {}
    there: set[Any] = set()
    passed: list[tuple[int, str]] = []
    exits: Counter[str] = Counter()
    for offset, (name, shelf, op, _, lsn, _) in enumerate(stream):
        which = (name, shelf) if len(keys) > 1 else name
        if op == "-":
            verdict = "tombstone"
        elif op in "?t" or (lsn is None and op != "d"):
            verdict = "rejected"
        elif op == "d":
            verdict = "deleted" if which in there else "unchanged"
            if lsn is not None and lsn < newest.get(which, lsn):
                verdict = "conflict"
            else:
                there.discard(which)
                newest[which] = newest.get(which, -1) if lsn is None else lsn
        else:
            assert lsn is not None
            before = newest.get(which, -1)
            verdict = "conflict" if lsn < before else "unchanged" if lsn == before else "changed"
            if lsn > before:
                verdict = "changed" if which in there else "new"
                there.add(which)
                newest[which] = lsn
        exits[verdict] += 1
        if verdict in ("new", "changed", "deleted"):
            passed.append((offset, verdict))
    return passed, exits


def found(driver: TopologyDriver) -> tuple[list[tuple[int, str]], Counter[str]]:
    rows = [row for table in driver.tables("out") for row in table.to_pylist()]
    passed = sorted((row["_offset"], row["_change"]) for row in rows)
    assert len(driver.records("out")) == len(passed)
    rules = {name.rpartition(": ")[2]: count for name, count in driver.rules.items()}
    assert len(driver.records("conflicts")) == rules.get("conflict", 0)
    return passed, Counter(rules) + Counter(rejected=driver.totals["rejected"])


@law()
@given(events, keyed, cuts, commits)
def test_what_comes_out_is_what_plain_python_computes(
    stream: list[Event], keys: Keys, batches: list[int], commit_records: int
) -> None:
    driver = run(stream, keys, batches, commit_records)
    passed, exits = reference(stream, keys)
    assert found(driver) == (passed, +exits)
    totals = driver.totals
    assert totals["in"] == len(stream)
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"]
    values = [record(event, keys).value for event in stream]
    letters = [letter["offset"] for letter in driver.read("dlq")]
    assert [letter.value for letter in driver.records("dlq")] == [values[at] for at in letters]


@law()
@given(events, keyed, cuts, commits, st.sampled_from(CRASH_POINTS), st.booleans())
def test_cuts_commits_and_crashes_are_unobservable(
    stream: list[Event],
    keys: Keys,
    batches: list[int],
    commit_records: int,
    point: str,
    keep_disk: bool,
) -> None:
    crashed = run(stream, keys, batches, commit_records, point, keep_disk)
    whole = run(stream, keys)
    assert found(crashed) == found(whole)
    assert crashed.totals == whole.totals
    for name in ("dlq", "conflicts"):
        sent = [(r.key, r.value) for r in crashed.records(name)]
        assert sent == [(r.key, r.value) for r in whole.records(name)]
