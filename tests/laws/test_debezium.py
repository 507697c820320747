"""Debezium's change events keep the laws, and give what plain Python computes of them."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

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
    price: int | None
    lsn: int | None
    ts: int


items = source(
    topic("items"),
    Item,
    key="name",
    event_time=epoch("ts", "ms"),
    envelope=debezium(lsn="source.lsn", ts="source.ts_ms"),
)
changes = items.changed("name", by="lsn")
TOPOLOGY = Topology(
    "items",
    changes.to(topic("out")),
    changes.to(parquet("out")),
    changes.rejected.to(topic("dlq")),
    changes.conflicts.to(topic("conflicts")),
)

#: The name, what happened (`-` is no value, `?` no event), the price, the lsn, and how it is
#: wrapped and keyed.
Event = tuple[str, str, int | None, int | None, bool]
events = st.lists(
    st.tuples(
        st.sampled_from("aab"),
        st.sampled_from("cuuurdd-?t"),
        st.sampled_from([1, 2, None]),
        st.sampled_from([1, 2, 3, 4, 5, None]),
        st.booleans(),
    ),
    max_size=40,
)
cuts = st.lists(st.sampled_from([1, 2, 3, 7, 12]), min_size=1, max_size=5)
commits = st.sampled_from([1, 2, 5, 20, 1_000])


def record(event: Event) -> Record:
    name, op, price, lsn, wrapped = event
    row = {"name": name, "price": price}
    before, after = (row, None) if op == "d" else (None, row)
    origin = {"lsn": lsn, "ts_ms": START_MS + (lsn or 0)}
    value = {"before": before, "after": after, "op": op, "source": origin}
    sent = orjson.dumps({"schema": {}, "payload": value} if wrapped else value)
    key = orjson.dumps({"name": name}) if wrapped else name.encode()
    return Record(key, None if op == "-" else b"{" if op == "?" else sent, START_MS)


def run(
    stream: Sequence[Event],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str = "never",
    keep_disk: bool = True,
) -> TopologyDriver:
    driver = TopologyDriver(
        TOPOLOGY, NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    sent = list(map(record, stream))
    driver.send("items", *sent[: len(sent) // 2])
    with driver.crash(at=crash_at):
        driver.send("items", *sent[len(sent) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    return driver


def reference(stream: Sequence[Event]) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Offsets that pass, with what they say, and how many records took each exit; one by one."""
    newest: dict[str, int] = {}
    there: set[str] = set()
    passed: list[tuple[int, str]] = []
    exits: Counter[str] = Counter()
    for offset, (name, op, _, lsn, _) in enumerate(stream):
        if op == "-":
            verdict = "tombstone"
        elif op in "?t" or (lsn is None and op != "d"):
            verdict = "rejected"
        elif op == "d":
            verdict = "deleted" if name in there else "unchanged"
            if lsn is not None and lsn < newest.get(name, lsn):
                verdict = "conflict"
            else:
                there.discard(name)
                newest[name] = newest.get(name, -1) if lsn is None else lsn
        else:
            assert lsn is not None
            before = newest.get(name, -1)
            verdict = "conflict" if lsn < before else "unchanged" if lsn == before else "changed"
            if lsn > before:
                verdict = "changed" if name in there else "new"
                there.add(name)
                newest[name] = lsn
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
@given(events, cuts, commits)
def test_what_comes_out_is_what_plain_python_computes(
    stream: list[Event], batches: list[int], commit_records: int
) -> None:
    driver = run(stream, batches, commit_records)
    passed, exits = reference(stream)
    assert found(driver) == (passed, +exits)
    totals = driver.totals
    assert totals["in"] == len(stream)
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"]
    values = [record(event).value for event in stream]
    letters = [letter["offset"] for letter in driver.read("dlq")]
    assert [letter.value for letter in driver.records("dlq")] == [values[at] for at in letters]


@law()
@given(events, cuts, commits, st.sampled_from(CRASH_POINTS), st.booleans())
def test_cuts_commits_and_crashes_are_unobservable(
    stream: list[Event], batches: list[int], commit_records: int, point: str, keep_disk: bool
) -> None:
    crashed, whole = run(stream, batches, commit_records, point, keep_disk), run(stream)
    assert found(crashed) == found(whole)
    assert crashed.totals == whole.totals
    for name in ("dlq", "conflicts"):
        sent = [(r.key, r.value) for r in crashed.records(name)]
        assert sent == [(r.key, r.value) for r in whole.records(name)]
