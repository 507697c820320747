"""A record on which a function fails holds its partition, and nothing else: nothing before it is
lost, nothing after it is done, and once the function does it all is as if it had never failed.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Rule, Sum, Topology, Tumbling, source, topic
from streamflow.errors import StateRefused, TaskLost
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)

#: What a row is: its number `n`, which is what functions fail on while it is out of order, and the
#: seconds that event time moves on.
Row = tuple[int, int]
rows = st.lists(st.tuples(st.integers(0, 9), st.integers(-20, 40)), min_size=1, max_size=30)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=4)


class Item(BaseModel):
    k: str
    n: int
    at: AwareDatetime


class Per(BaseModel):
    k: str
    window_start: AwareDatetime
    items: int
    total: int


class Service:
    """What the functions depend on: while it is out of order they raise for these numbers."""

    def __init__(self, bad: frozenset[int]) -> None:
        self.bad = bad

    def refuse(self, rows: pa.RecordBatch) -> None:
        bad = sorted(self.bad & set(rows["n"].to_pylist()))
        if bad:
            raise ConnectionError(f"no answer for {bad[0]}")

    def odd(self, rows: pa.RecordBatch) -> pa.Array:
        self.refuse(rows)
        return pc.equal(pc.bit_wise_and(rows["n"], 1), 1)

    def doubled(self, rows: pa.RecordBatch) -> pa.Array:
        self.refuse(rows)
        return pc.multiply(rows["n"], 2)

    def twice(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
        self.refuse(rows)
        parents = pa.array([i for i in range(rows.num_rows) for _ in range(2)], pa.int64())
        return parents, pa.RecordBatch.from_arrays([rows["n"].take(parents)], names=["n"])

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] in self.bad:
            raise ConnectionError(f"no answer for {row['n']}")
        return row | {"n": row["n"] + 100}


Stage = Callable[[Stream, Service, Any], Stream]
#: A stage of each kind, and what it makes of a number.
STAGES: dict[str, tuple[Stage, Callable[[int], list[int]]]] = {
    "filter": (lambda s, f, e: s.filter(f.odd, on_error=e), lambda n: [n] if n % 2 else []),
    "map": (lambda s, f, e: s.map(Item, on_error=e, n=f.doubled), lambda n: [2 * n]),
    "map_rows": (lambda s, f, e: s.map_rows(Item, f.row, on_error=e), lambda n: [n + 100]),
    "expand": (lambda s, f, e: s.expand(Item, f.twice, on_error=e), lambda n: [n, n]),
    "branch": (
        lambda s, f, e: s.branch("n = 4", f.odd, on_error=e)[1],
        lambda n: [n] if n % 2 else [],
    ),
    "rule": (
        lambda s, f, e: s.gate(Rule("odd", f.odd, action="drop", on_error=e)),
        lambda n: [n] if n % 2 else [],
    ),
    "fix": (
        lambda s, f, e: s.gate(Rule("small", "n < 5", fix=("n", f.doubled), on_error=e)),
        lambda n: [n] if n < 5 else [],
    ),
}


def fails(kind: str, n: int) -> bool:
    """Does the stage ask its function about this number? Not below a rule that is not broken."""
    return not (kind == "fix" and n < 5) and not (kind == "branch" and n == 4)


def built(kind: str, service: Service, on_error: str) -> Topology:
    items = source(topic("items"), Item, key="k", event_time="at")
    # One stage holds the partition, and another one does what it does beside it.
    made = STAGES[kind][0](items.filter("n <> 3"), service, on_error)
    results = made.window(Tumbling(60 * SECOND), by="k").aggregate(
        Per, items=Count(), total=Sum("n")
    )
    edges = [made.to(topic("out")), results.to(topic("per")), results.late.to(topic("late"))]
    edges += [items.to(topic("all")), items.rejected.to(topic("dlq"))]
    if kind == "branch":
        first, _, rest = _arms(made)
        edges += [first.drop(), rest.drop()]
    return Topology("t", *edges)


def _arms(arm: Stream) -> list[Stream]:
    """All streams of the branch that this one is of."""
    stage: Any = arm.stages[-1]
    return [
        Stream(arm.source, (*arm.stages[:-1], type(stage)(stage.branch, number)))
        for number in range(3)
    ]


def sent(stream: Sequence[Row]) -> list[dict[str, Any]]:
    at, made = START, list[dict[str, Any]]()
    for n, move in stream:
        at += move * SECOND
        made.append({"k": "a", "n": n, "at": at})
    return made


def found(driver: TopologyDriver) -> dict[str, Any]:
    topics = {name: driver.read(name) for name in ("out", "all", "per", "late", "dlq")}
    return {**topics, "totals": {k: v for k, v in driver.totals.items() if v}}


def whole(kind: str, stream: Sequence[Row], on_error: str = "halt") -> dict[str, Any]:
    driver = TopologyDriver(built(kind, Service(frozenset()), on_error), NOW)
    driver.send("items", *sent(stream))
    return found(driver)


@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize(("on_error", "raised"), [("halt", StateRefused), ("retry", TaskLost)])
@law(350, cases=2 * len(STAGES))
@given(rows, cuts, st.integers(1, 20), st.sets(st.integers(0, 9), max_size=4), st.booleans())
def test_what_is_before_it_is_done_and_what_is_after_it_waits(
    kind: str,
    on_error: str,
    raised: type[Exception],
    stream: list[Row],
    batches: list[int],
    commit_records: int,
    bad: set[int],
    keep_disk: bool,
) -> None:
    service = Service(frozenset(bad))
    driver = TopologyDriver(
        built(kind, service, on_error),
        NOW,
        batches=batches,
        commit_records=commit_records,
        keep_disk=keep_disk,
    )
    reached = [n != 3 and n in bad and fails(kind, n) for n, _ in stream]
    if not any(reached):
        driver.send("items", *sent(stream))
    else:
        at = reached.index(True)
        for trial in range(2):  # it is tried again, and fails again
            with pytest.raises(raised, match=rf"items\[0\]@{at}: .*{stream[at][0]}"):
                driver.process() if trial else driver.send("items", *sent(stream))
            assert found(driver) == whole(kind, stream[:at])
            driver.restart()
    service.bad = frozenset()
    driver.process()
    assert found(driver) == whole(kind, stream)
    outs = [row["n"] for row in driver.read("out")]
    plain = [made for n, _ in stream if n != 3 for made in STAGES[kind][1](n)]
    assert outs == plain


@pytest.mark.parametrize("kind", STAGES)
@law(cases=len(STAGES))
@given(rows, cuts, st.integers(1, 20), st.sets(st.integers(0, 9), max_size=4))
def test_a_dead_letter_lets_its_neighbours_go_on(
    kind: str, stream: list[Row], batches: list[int], commit_records: int, bad: set[int]
) -> None:
    on_error = "broken" if kind in ("rule", "fix") else "dead_letter"
    topology = built(kind, Service(frozenset(bad)), on_error)
    driver = TopologyDriver(topology, NOW, batches=batches, commit_records=commit_records)
    driver.send("items", *sent(stream))
    failed = [at for at, (n, _) in enumerate(stream) if n != 3 and n in bad and fails(kind, n)]
    if kind == "fix":  # what its fix does not mend is a dead letter too
        failed = [at for at, (n, _) in enumerate(stream) if n >= 5]
    letters = [] if kind == "rule" else failed  # this rule drops what breaks it
    assert [row["offset"] for row in driver.read("dlq")] == letters
    good = [n for at, (n, _) in enumerate(stream) if at not in failed and n != 3]
    plain = [made for n in good for made in STAGES[kind][1](n)]
    assert [row["n"] for row in driver.read("out")] == plain
