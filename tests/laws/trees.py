"""Random trees of stages, what they do to one row at a time, and runs of the same on the driver."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Rule, Sum, Topology, Tumbling, parquet, source, topic
from streamflow.edge import Edge
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LAG, WITHIN, MINUTE = 5 * SECOND, 30 * SECOND, 60 * SECOND


class Item(BaseModel, frozen=True):
    k: str
    n: int
    m: int | None
    at: AwareDatetime


class Per(BaseModel, frozen=True):
    k: str
    window_start: AwareDatetime
    items: int
    total: int


@dataclass
class Spec:
    """A node: what is done, where rows leave, what follows. A branch has a list for each arm."""

    kind: str
    table: bool = False
    window: bool = False
    after: list["Spec"] = field(default_factory=list)
    number: int = 0

    @property
    def outlet(self) -> bool:
        return self.kind != "branch" and (not self.after or self.table or self.window)


KINDS = ["reject", "drop", "tag", "filter", "map", "dedup", "expand", "expand", "map_rows"]


def _node(after: st.SearchStrategy[list[Spec]]) -> st.SearchStrategy[Spec]:
    return st.builds(Spec, st.sampled_from(KINDS), st.booleans(), st.booleans(), after)


def _branch(child: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    arm = st.builds(Spec, st.just("arm"), st.booleans(), st.booleans(), st.lists(child, max_size=1))
    arms = st.lists(arm, min_size=3, max_size=3)
    return st.builds(Spec, st.just("branch"), st.just(False), st.just(False), arms)


def _more(child: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    return st.one_of(_node(st.lists(child, max_size=3)), _branch(child))


nodes = st.recursive(_node(st.just([])), _more, max_leaves=5)
trees = st.builds(Spec, st.just("arm"), st.booleans(), st.booleans(), st.lists(nodes, max_size=3))

Row = tuple[str, int, int | None, int]
rows = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(0, 9),
        st.sampled_from([None, 0, 1, 2, 3, 5]),
        st.integers(-20, 40),
    ),
    min_size=1,
    max_size=30,
)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def numbered(tree: Spec) -> list[Spec]:
    """All nodes, each before what follows it."""
    found = [tree]
    for spec in tree.after:
        found += numbered(spec)
    for number, spec in enumerate(found):
        spec.number = number
    return found


def halved(rows: pa.RecordBatch) -> pa.Array:
    """Raises for a whole batch when one row divides by zero; null where `m` is."""
    return pc.divide_checked(pc.multiply(rows["n"], 2), rows["m"])


def large(rows: pa.RecordBatch) -> pa.Array:
    """Raises where `halved` does."""
    return pc.greater(halved(rows), 6)


def several(rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
    """`m` rows, with `n`, `n + 1` and so on; at most three. Raises for all where one `n` is 6."""
    if pc.any(pc.equal(rows["n"], 6)).as_py():
        raise ValueError("six")
    pairs = zip(rows["n"].to_pylist(), rows["m"].to_pylist(), strict=True)
    made = [(i, n + j) for i, (n, m) in enumerate(pairs) for j in range(min(m or 0, 3))]
    parents, values = zip(*made, strict=True) if made else ((), ())
    columns = pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], names=["n"])
    return pa.array(parents, pa.int64()), columns


def plus_one(row: dict[str, Any]) -> dict[str, Any]:
    """Fails where `m` is 5."""
    return row | {"n": row["n"] + 10 // (5 - (row["m"] or 0)) - 1}


def built(tree: Spec) -> Topology:
    items = source(topic("items"), Item, key="k", event_time="at", out_of_orderness=LAG)
    numbered(tree)
    edges: list[Edge] = []
    _build(tree, items, edges)
    return Topology("t", *edges, items.rejected.to(topic("dlq")))


def joined() -> Topology:
    """Arms of a branch that lead into one topic again, on ways of different lengths."""
    items = source(topic("items"), Item, key="k", event_time="at", out_of_orderness=LAG)
    two, high, rest = items.branch("m = 2", large)
    arms = two.expand(Item, several), high.map(Item, n="n + 10"), rest
    edges = [arm.to(topic("all")) for arm in arms]
    return Topology("joined", *edges, items.rejected.drop())


def joined_reference(stream: Sequence[Row]) -> list[tuple[int, int]]:
    """The offset and `n` of each row that comes to the topic, in order."""
    found: list[tuple[int, int]] = []
    for offset, (_, n, m, _) in enumerate(stream):
        if m == 2:
            found += [(offset, n), (offset, n + 1)] if n != 6 else []
        elif m != 0:
            found.append((offset, n + 10 if m is not None and 2 * n // m > 6 else n))
    return found


def offsets_and_numbers(driver: TopologyDriver, name: str) -> list[tuple[int, int]]:
    """Of each record of a topic."""
    rows = zip(driver.records(name), driver.read(name), strict=True)
    return [(_offset(record), row["n"]) for record, row in rows]


def _build(spec: Spec, came: Stream, edges: list[Edge]) -> None:
    if spec.kind == "branch":
        for arm, stream in zip(spec.after, came.branch("m = 2", large), strict=True):
            _build(arm, stream, edges)
        return
    stream, i = _stage(spec, came), spec.number
    if spec.outlet:
        edges.append(stream.to(topic(f"t{i}")))
    if spec.table:
        edges.append(stream.to(parquet(f"t{i}")))
    if spec.window:
        model = type(f"Per{i}", (Per,), {})
        made = stream.window(Tumbling(MINUTE), by="k")
        results = made.aggregate(model, items=Count(), total=Sum("n"))
        edges += [results.to(topic(f"w{i}")), results.late.to(topic("late"))]
    for child in spec.after:
        _build(child, stream, edges)


def _stage(spec: Spec, came: Stream) -> Stream:
    i = spec.number
    warned = Rule(f"s{i}", "m < 5", severity="warning")
    stages: dict[str, Callable[[], Stream]] = {
        "reject": lambda: came.gate(Rule(f"r{i}", "n < 8"), warned),
        "drop": lambda: came.gate(Rule(f"r{i}", "n <> 7", action="drop")),
        "tag": lambda: came.gate(Rule(f"r{i}", "n <> 1 AND m <> 1", severity="info")),
        "filter": lambda: came.filter("n < 9 AND m < 5"),
        "map": lambda: came.map(Item, n=halved),
        "expand": lambda: came.expand(Item, several),
        "map_rows": lambda: came.map_rows(Item, plus_one),
        "dedup": lambda: came.dedup("k", "n", within=WITHIN, name=f"d{i}"),
        "arm": lambda: came,
    }
    return stages[spec.kind]()


def made(stream: Sequence[Row]) -> list[dict[str, Any]]:
    at, found = START, list[dict[str, Any]]()
    for k, n, m, move in stream:
        at += move * SECOND
        found.append({"k": k, "n": n, "m": m, "at": at})
    return found


#: An offset, and whether the row is one of several that were made of its record.
At = tuple[int, bool]


class Reference:
    """The same, one row at a time."""

    def __init__(self, tree: Spec) -> None:
        self.tree, self.specs = tree, numbered(tree)
        self.topics: dict[int, list[tuple[str, int, int | None]]] = {}
        self.tables: dict[int, list[tuple[int, int, Any]]] = {}
        self.late: list[tuple[int, int]] = []
        self.windows: dict[int, dict[tuple[str, datetime], list[int]]] = {}
        self.rejected: list[tuple[int, str]] = []
        self.totals: Counter[str] = Counter()
        self._marks: dict[int, datetime] = {}
        self._known: dict[int, dict[tuple[str, int], datetime]] = {}
        self._latest: dict[int, datetime] = {}

    def run(self, stream: Sequence[Row]) -> dict[str, Any]:
        for offset, row in enumerate(made(stream)):
            refused: set[int] = set()
            self.totals["in"] += 1
            self._walk(self.tree, (offset, False), row, [], refused)
            for spec in self.specs:
                if spec.number not in refused:
                    mark = self._marks.get(spec.number, row["at"])
                    self._marks[spec.number] = max(mark, row["at"])
        return {
            "topics": self.topics,
            "tables": {i: sorted(found, key=str) for i, found in self.tables.items()},
            "late": sorted(self.late),
            "windows": {
                i: sorted((k, at, len(n), sum(n)) for (k, at), n in groups.items())
                for i, groups in self.windows.items()
            },
            "rejected": sorted(self.rejected),
            "totals": {k: v for k, v in self.totals.items() if v},
        }

    def _walk(
        self, spec: Spec, at: At, row: dict[str, Any], tags: list[str], refused: set[int]
    ) -> None:
        if spec.kind == "branch":
            m = row["m"]
            if m == 0:
                self._refuse(spec, at, "failed", refused)
                return
            arm = 0 if m == 2 else 1 if m is not None and row["n"] * 2 // m > 6 else 2
            self._walk(spec.after[arm], at, row, tags, refused)
            return
        row, tags = dict(row), list(tags)
        left = self._exit(spec, row, tags)
        if left == "dropped":
            self.totals["dropped"] += 1
            return
        if left is not None:
            self._refuse(spec, at, left, refused)
            return
        made = [row | {"n": row["n"] + i} for i in range(row.pop("times", 1))]
        self.totals["expanded"] += len(made) - 1
        self.totals["forked"] += len(made) * (len(spec.after) + spec.outlet - 1)
        for one in made:
            if spec.outlet:
                self._arrive(spec, at[0], one, tags)
            for child in spec.after:
                self._walk(child, (at[0], at[1] or spec.kind == "expand"), one, tags, refused)

    def _refuse(self, spec: Spec, at: At, why: str, refused: set[int]) -> None:
        self.totals["rejected"] += 1
        self.rejected.append((at[0], why))
        if not at[1]:
            refused.update(below.number for below in _all(spec))

    def _exit(self, spec: Spec, row: dict[str, Any], tags: list[str]) -> str | None:
        n, m, i = row["n"], row["m"], spec.number
        if spec.kind == "tag":
            tags += [f"r{i}"] * (n == 1 or m == 1)
        if spec.kind == "reject":
            tags += [f"s{i}"] * (m is not None and m >= 5)
        exits = {
            "reject": (n >= 8, f"r{i}"),
            "drop": (n == 7, "dropped"),
            "filter": (n >= 9 or m is None or m >= 5, "dropped"),
            "map": (not m, "failed"),
            "expand": (n == 6 or not m, "failed" if n == 6 else "dropped"),
            "map_rows": (m == 5, "failed"),
            "dedup": (spec.kind == "dedup" and not self._first(spec, row), "dropped"),
        }
        leaves, where = exits.get(spec.kind, (False, ""))
        if leaves:
            return where
        if spec.kind == "map":
            row["n"] = n * 2 // int(m or 1)
        if spec.kind == "map_rows":
            row["n"] = n + 10 // (5 - (m or 0)) - 1
        if spec.kind == "expand":
            row["times"] = min(m or 0, 3)
        return None

    def _first(self, spec: Spec, row: dict[str, Any]) -> bool:
        known = self._known.setdefault(spec.number, {})
        latest = self._latest.get(spec.number)
        key, at = (row["k"], row["n"]), row["at"]
        forgotten = key in known and latest is not None and latest - LAG >= known[key]
        first = key not in known or at >= known[key] or forgotten
        if first:
            known[key] = at + WITHIN
        self._latest[spec.number] = at if latest is None else max(at, latest)
        return first

    def _arrive(self, spec: Spec, offset: int, row: dict[str, Any], tags: list[str]) -> None:
        i, at = spec.number, row["at"]
        self.totals["passed"] += 1
        self.topics.setdefault(i, []).append((row["k"], row["n"], row["m"]))
        if spec.table:
            self.tables.setdefault(i, []).append((offset, row["n"], tags or None))
        if spec.window:
            self.totals["assigned"] += 1
            start, mark = at - (at - START) % MINUTE, self._marks.get(i)
            if mark is not None and mark - LAG >= start + MINUTE:
                self.totals["late"] += 1
                self.late.append((offset, i))
                return
            self.totals["accumulated"] += 1
            groups = self.windows.setdefault(i, {})
            groups.setdefault((row["k"], start), []).append(row["n"])
            self.totals["results"] = sum(len(found) for found in self.windows.values())


def _all(spec: Spec) -> list[Spec]:
    return [spec, *(below for child in spec.after for below in _all(child))]


def found(tree: Spec, driver: TopologyDriver) -> dict[str, Any]:
    """What the reference says, of a run."""
    outlets = [spec for spec in numbered(tree) if spec.outlet]
    tables = {s.number: _rows(driver, f"t{s.number}") for s in outlets if s.table}
    windows = [spec.number for spec in outlets if spec.window]
    topics = {
        s.number: [(row["k"], row["n"], row["m"]) for row in driver.read(f"t{s.number}")]
        for s in outlets
    }
    results = {
        i: sorted((r["k"], r["window_start"], r["items"], r["total"]) for r in driver.read(f"w{i}"))
        for i in windows
    }
    late = [(_offset(record), _window(record)) for record in driver.records("late")]
    letters = [(row["offset"], row["rule"] or row["reason"]) for row in driver.read("dlq")]
    return {
        "topics": {i: found for i, found in topics.items() if found},
        "tables": {i: found for i, found in tables.items() if found},
        "late": late,
        "windows": {i: found for i, found in results.items() if found},
        "rejected": sorted(letters),
        "totals": {k: v for k, v in driver.totals.items() if v},
    }


def _rows(driver: TopologyDriver, table: str) -> list[Any]:
    rows = [row for part in driver.tables(table) for row in part.to_pylist()]
    return sorted(((r["_offset"], r["n"], r.get("_warnings")) for r in rows), key=str)


def _window(record: Any) -> int:
    return int(dict(record.headers)["streamflow.late.window"].removeprefix(b"items.per"))


def _offset(record: Any) -> int:
    return int.from_bytes(dict(record.headers)["streamflow.lineage"][13:21], "big")
