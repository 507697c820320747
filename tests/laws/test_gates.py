"""Gates keep the laws: how rows are cut cannot be seen, and each is in exactly one exit, as plain
Python says.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Rule, Topology, parquet, source, topic
from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.decode import Decoded
from streamflow.core.gate import gate
from streamflow.stages import Gate
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema([pa.field("n", pa.int64(), nullable=False), pa.field("name", pa.string())])


class Item(BaseModel, frozen=True):
    n: int
    name: str | None
    at: AwareDatetime


def mended(rows: pa.RecordBatch) -> pa.Array:
    """Raises for all rows that it is asked about when one of them is -6."""
    if pc.any(pc.equal(rows["n"], -6)).as_py():
        raise ValueError("six")
    return pc.negate(rows["n"])


RULES = (
    Rule("odd", "n <> 5", severity="warning"),
    Rule("known", "name <> 'x'", action="drop"),
    Rule("small", "n * 1500000000000000000 < 9100000000000000000", severity="error"),
    Rule("positive", "n >= 0", severity="info", fix=("n", mended)),
    Rule("named", "name IS NOT NULL", default=("name", "none")),
    Rule("two", "n <> 2 OR name = 'none'", severity="info"),
    Rule("few", "n <= 3"),
)
Row = tuple[int, str | None]
rows = st.lists(
    st.tuples(st.integers(-8, 8), st.sampled_from([None, "x", "a", "a", "none"])), max_size=30
)
cuts = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def reference(stream: Sequence[Row]) -> dict[str, Any]:
    """One row at a time."""
    passed: list[tuple[int, int, str | None, list[str] | None]] = []
    rejected: list[tuple[int, str]] = []
    dropped = 0
    for offset, row in enumerate(stream):
        n, name = row
        tags = ["odd"] * (n == 5)
        if name == "x":
            dropped += 1
            continue
        if abs(n) >= 7:  # which is beyond 64 bits
            rejected.append((offset, "small"))
            continue
        if n == -6:
            rejected.append((offset, "positive"))
            continue
        if n < 0:
            n, tags = -n, [*tags, "positive:fixed"]
        if name is None:
            name, tags = "none", [*tags, "named:fixed"]
        tags += ["two"] * (n == 2 and name != "none")
        if n > 3:
            rejected.append((offset, "few"))
        else:
            passed.append((offset, n, name, tags or None))
    return {"passed": passed, "rejected": rejected, "dropped": dropped}


def run(stream: Sequence[Row], batches: Sequence[int]) -> dict[str, Any]:
    """The rows through one gate, cut into batches of these sizes in turn."""
    plan = Gate(tuple((rule, rule.compiled(SCHEMA)) for rule in RULES))
    found: dict[str, Any] = {"passed": [], "rejected": [], "dropped": 0}
    counts: Counter[str] = Counter()
    start = 0
    while start < len(stream):
        part = stream[start : start + batches[start % len(batches)]]
        n = len(part)
        offsets = range(start, start + n)
        batch = MicroBatch(
            TopicPartition("items", 0),
            *(start, start + n, offsets),
            *([None] * n, [b""] * n, [0] * n, [()] * n),
        )
        columns = pa.RecordBatch.from_pylist([{"n": i, "name": s} for i, s in part], schema=SCHEMA)
        gated = gate(plan, batch, Decoded(columns, pa.array(range(n), pa.int64()), []), {})
        assert n == gated.rows.num_rows + len(gated.rejects) + gated.dropped
        values = [gated.rows.column(name).to_pylist() for name in ("n", "name", "_warnings")]
        at = [start + place for place in gated.places.to_pylist()]
        found["passed"] += zip(at, *values, strict=True)
        found["rejected"] += [(reject.raw.offset, reject.rule) for reject in gated.rejects]
        found["dropped"] += gated.dropped
        counts += gated.rules
        start += n
    found["rejected"].sort()
    return found | {"counts": counts}


@law()
@given(stream=rows, batches=cuts)
@example(stream=[(-6, "a"), (-5, "a"), (-6, None), (-1, None)], batches=[4])
def test_a_gate_does_to_each_row_what_plain_python_does_however_rows_are_cut(
    stream: list[Row], batches: list[int]
) -> None:
    found = run(stream, batches)
    counts = found.pop("counts")
    assert found == reference(stream)
    assert counts == run(stream, [1_000])["counts"]


items = source(topic("items"), Item, event_time="at").gate(*RULES)
topology = Topology("items", items.to(parquet("items")), items.rejected.to(topic("dlq")))


@law()
@given(
    stream=rows,
    batches=cuts,
    commit_records=st.integers(1, 10),
    point=st.sampled_from([None, *CRASH_POINTS]),
)
def test_what_a_gate_has_fixed_is_in_tables_once_whatever_crashes(
    stream: list[Row], batches: list[int], commit_records: int, point: str | None
) -> None:
    driver = TopologyDriver(topology, NOW, batches=batches, commit_records=commit_records)
    sent = [
        {"n": n, "name": name, "at": NOW - timedelta(days=1) + i * timedelta(seconds=1)}
        for i, (n, name) in enumerate(stream)
    ]
    with driver.crash(at=point or "never"):
        driver.send("items", *sent)
        driver.end_of_input()
    driver.process()
    driver.end_of_input()

    expected = reference(stream)
    tables = [table.to_pylist() for table in driver.tables("items")]
    made = sorted(
        (row["_offset"], row["n"], row["name"], row["_warnings"])
        for table in tables
        for row in table
    )
    assert made == expected["passed"]
    letters = [(row["offset"], row["rule"]) for row in driver.read("dlq")]
    assert letters == expected["rejected"]
    totals = driver.totals
    assert totals["dropped"] == expected["dropped"]
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"] == len(stream)
