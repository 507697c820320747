"""Gates: what becomes of rows that break a rule, one batch at a time."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Rule, Topology, parquet, source, topic
from streamflow.batch import MicroBatch, TopicPartition
from streamflow.core.decode import Decoded
from streamflow.core.gate import Gated, gate
from streamflow.core.step import Raw, Reject
from streamflow.stages import Gate
from streamflow.testing import TopologyDriver

SEMANTICS = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
SCHEMA = pa.schema(
    [
        pa.field("n", pa.int64(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
    ]
)
Row = tuple[int, str | None]


def run(rows: list[Row], *rules: Rule, refused: int = 0) -> Gated:
    """Rows at places after `refused` records that decoding has refused."""
    records = refused + len(rows)
    batch = MicroBatch(
        tp=TopicPartition("rows", 0),
        start=100,
        stop=100 + records,
        offsets=range(100, 100 + records),
        keys=[None] * records,
        values=[b"%d" % i for i in range(records)],
        timestamps=[0] * records,
        headers=[()] * records,
    )
    columns = pa.RecordBatch.from_pylist(
        [{"n": n, "name": name, "tags": [str(n)]} for n, name in rows], schema=SCHEMA
    )
    before = [Reject(Raw.of(batch, i), "decode", "invalid", "") for i in range(refused)]
    places = pa.array(range(refused, records), pa.int64())
    plan = Gate(tuple((rule, rule.compiled(SCHEMA)) for rule in rules))
    gated = gate(plan, batch, Decoded(columns, places, before), {})
    assert gated.rows.num_rows == len(gated.places)
    assert len(rows) == len(gated.places) + len(gated.rejects) - refused + gated.dropped
    return gated


def seen(gated: Gated) -> list[tuple[int, str | None, list[str] | None]]:
    columns = [gated.rows.column(name).to_pylist() for name in ("n", "name", "_warnings")]
    return list(zip(*columns, strict=True))


def letters(gated: Gated) -> list[tuple[int, str]]:
    return [(reject.raw.offset, reject.message) for reject in gated.rejects]


def absolute(rows: pa.RecordBatch) -> pa.Array:
    return pc.abs(rows["n"])


POSITIVE = "n >= 0"


def test_rows_that_break_nothing_pass_as_they_are() -> None:
    gated = run([(1, "a"), (2, None)], Rule("positive", POSITIVE), Rule("named", "name <> 'x'"))
    assert seen(gated) == [(1, "a", None), (2, None, None)]
    assert (gated.rejects, gated.rules, gated.dropped) == ([], Counter(), 0)
    assert gated.rows.schema.field("_warnings").type == pa.list_(pa.string())


def test_no_rows_are_no_trouble() -> None:
    def first(rows: pa.RecordBatch) -> pa.Array:
        assert rows.num_rows == 0, "tried when the topology is built, not asked again"
        return pa.array([], pa.bool_())

    assert seen(run([], Rule("first", first), refused=2)) == []


def test_a_row_that_breaks_a_rule_is_a_dead_letter_with_its_bytes() -> None:
    gated = run([(1, "a"), (-1, "b")], Rule("positive", POSITIVE, severity="error"), refused=3)
    assert seen(gated) == [(1, "a", None)]
    assert gated.places.to_pylist() == [3]
    (reject,) = gated.rejects[3:]
    assert (reject.raw.offset, reject.raw.value) == (104, b"4")
    assert (reject.stage, reject.reason, reject.field) == ("gate", "rule", "")
    assert (reject.rule, reject.severity) == ("positive", "error")
    assert reject.message == "breaks rule 'positive': n >= 0"


def test_tags_are_the_names_of_all_broken_rules_in_their_order() -> None:
    rules = [Rule(str(k), f"n <> {k} AND n <> 9", severity="warning") for k in range(3)]
    gated = run([(5, None), (9, None), (1, None), (7, None), (2, None)], *rules)
    assert [tags for _, _, tags in seen(gated)] == [None, ["0", "1", "2"], ["1"], None, ["2"]]
    assert gated.rules == {"0": 1, "1": 2, "2": 2}


def test_a_row_that_is_dropped_is_counted_and_sent_nowhere() -> None:
    gated = run([(1, "a"), (-1, "b"), (-2, "c")], Rule("positive", POSITIVE, action="drop"))
    assert seen(gated) == [(1, "a", None)]
    assert (gated.rejects, gated.rules, gated.dropped) == ([], {"positive": 2}, 2)


def test_the_first_rule_that_makes_a_row_leave_decides() -> None:
    small = Rule("small", "n > -3", action="drop")
    positive, named = Rule("positive", POSITIVE), Rule("named", "name IS NOT NULL", action="drop")
    rows: list[Row] = [(-5, None), (-1, None), (1, None), (2, "a")]
    gated = run(rows, small, positive, named)
    assert letters(gated) == [(101, "breaks rule 'positive': n >= 0")]
    assert gated.dropped == 2
    assert gated.rules == {"small": 1, "positive": 2, "named": 3}
    other = run(rows, positive, small, named)
    assert [offset for offset, _ in letters(other)] == [100, 101]


def test_a_fix_gives_broken_rows_new_values_which_later_rules_see() -> None:
    gated = run(
        [(1, "a"), (-2, "b"), (-30, "c")],
        Rule("positive", POSITIVE, fix=("n", absolute)),
        Rule("small", "n < 10"),
        Rule("two", "n <> 2", severity="warning"),
    )
    assert seen(gated) == [(1, "a", None), (2, "b", ["positive:fixed", "two"])]
    assert letters(gated) == [(102, "breaks rule 'small': n < 10")]
    assert gated.rules == {"positive": 2, "positive:fixed": 2, "small": 1, "two": 1}


def test_a_fix_sees_only_the_rows_that_break_the_rule_and_are_still_there() -> None:
    asked: list[list[int]] = []

    def noted(rows: pa.RecordBatch) -> pa.Array:
        asked.append(rows["n"].to_pylist())
        return absolute(rows)

    rules = [Rule("named", "name IS NOT NULL"), Rule("positive", POSITIVE, fix=("n", noted))]
    gated = run([(1, "a"), (-2, "b"), (-3, None), (-4, "c")], *rules)
    assert asked == [[], [-2, -4]]
    assert seen(gated) == [
        (1, "a", None),
        (2, "b", ["positive:fixed"]),
        (4, "c", ["positive:fixed"]),
    ]
    asked.clear()
    run([(1, "a"), (-3, None)], *rules)
    assert asked == [[]]


def test_a_row_that_breaks_the_rule_after_its_fix_is_a_dead_letter() -> None:
    rule = Rule("range", "n BETWEEN 0 AND 9", severity="info", fix=("n", absolute))
    gated = run([(-3, "a"), (-30, "b"), (3, "c")], rule)
    assert seen(gated) == [(3, "a", ["range:fixed"]), (3, "c", None)]
    assert letters(gated) == [(101, "breaks rule 'range': n BETWEEN 0 AND 9, also after its fix")]
    assert (gated.rejects[0].field, gated.rejects[0].severity) == ("n", "info")
    assert gated.rules == {"range": 2, "range:fixed": 1}


def test_a_default_fills_what_is_not_there() -> None:
    named = Rule("named", "name IS NOT NULL AND name <> ''", default=("name", "none"))
    gated = run([(1, None), (2, ""), (3, "x")], named)
    assert seen(gated) == [
        (1, "none", ["named:fixed"]),
        (2, "none", ["named:fixed"]),
        (3, "x", None),
    ]


def test_a_default_that_breaks_its_own_rule_mends_nothing() -> None:
    gated = run([(1, "a"), (-1, "b")], Rule("positive", POSITIVE, default=("n", -7)))
    assert seen(gated) == [(1, "a", None)]
    assert letters(gated) == [(101, "breaks rule 'positive': n >= 0, also after its default")]
    assert gated.rules == {"positive": 1}


def test_a_fix_of_a_list_is_a_fix_like_any_other() -> None:
    def few(rows: pa.RecordBatch) -> pa.Array:
        return pc.not_equal(pc.list_element(rows["tags"], 0), "2")

    gated = run([(1, None), (2, None)], Rule("few", few, default=("tags", ["x", "y"])))
    assert gated.rows["tags"].to_pylist() == [["1"], ["x", "y"]]


def test_a_fix_that_fails_on_a_row_makes_it_a_dead_letter_and_no_other() -> None:
    def picky(rows: pa.RecordBatch) -> pa.Array:
        if -3 in rows["n"].to_pylist():
            raise RuntimeError("no threes")
        return absolute(rows)

    rows: list[Row] = [(n, None) for n in (1, -1, -2, -3, -4, -30, 5)]
    gated = run(rows, Rule("range", "n BETWEEN 0 AND 9", fix=("n", picky)))
    assert [n for n, _, _ in seen(gated)] == [1, 1, 2, 4, 5]
    words = "breaks rule 'range': n BETWEEN 0 AND 9"
    assert letters(gated) == [
        (103, f"{words}; its fix fails: RuntimeError: no threes"),
        (105, f"{words}, also after its fix"),
    ]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (pa.array([1, 2, 3]), "ValueError: the function gives 3 values for 1 row"),
        (pa.array(["x"]), "ValueError: the fix gives string, but n is int64"),
        (pa.array([None], pa.int64()), "ValueError: the fix gives null, but n cannot be null"),
        ([1], "ValueError: the function gives a list, not a pa.Array"),
    ],
)
def test_a_fix_that_gives_something_else_only_at_run_time(made: Any, words: str) -> None:
    def changing(rows: pa.RecordBatch) -> Any:
        return made if rows.num_rows else pa.array([], pa.int64())

    rows: list[Row] = [(1, None), (-2, None), (-3, None)]
    gated = run(rows, Rule("positive", POSITIVE, fix=("n", changing)))
    assert [n for n, _, _ in seen(gated)] == [1]
    said = f"breaks rule 'positive': n >= 0; its fix fails: {words}"
    assert letters(gated) == [(101, said), (102, said)]


def test_a_condition_that_cannot_be_computed_on_a_row_is_broken_there_and_says_why() -> None:
    gated = run([(1, None), (2**62, None), (3, None)], Rule("small", "n * 4 < 100"))
    assert [n for n, _, _ in seen(gated)] == [1, 3]
    ((offset, message),) = letters(gated)
    assert (offset, message.partition(": ArrowInvalid")[0]) == (
        101,
        "breaks rule 'small': n * 4 < 100; it cannot be computed",
    )


def test_a_condition_that_cannot_be_computed_can_be_fixed_or_fails_again() -> None:
    rule = Rule("small", "n * 4 < 100", fix=("n", lambda rows: pc.subtract(rows["n"], 2**61)))
    gated = run([(2**61 + 1, None), (2**62, None)], rule)
    assert [n for n, _, _ in seen(gated)] == [1]
    ((offset, message),) = letters(gated)
    assert offset == 101
    assert "n * 4 < 100, also after its fix; it cannot be computed: ArrowInvalid" in message


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (pa.array([True, False]), "the function gives 2 values for 1 row"),
        (pa.array([1]), "the condition gives int64, not true or false"),
        (True, "the function gives a bool, not a pa.Array"),
    ],
)
def test_a_function_that_gives_no_truths_at_run_time_is_broken(made: Any, words: str) -> None:
    def odd(rows: pa.RecordBatch) -> Any:
        return made if rows.num_rows else pa.array([], pa.bool_())

    gated = run([(1, None)], Rule("odd", odd))
    said = f"breaks rule 'odd': its condition; it cannot be computed: ValueError: {words}"
    assert letters(gated) == [(100, said)]


def test_chunks_are_taken_for_a_column() -> None:
    def chunked(rows: pa.RecordBatch) -> pa.ChunkedArray:
        return pa.chunked_array([pc.greater(rows["n"], 1)])

    assert [n for n, _, _ in seen(run([(1, None), (2, None)], Rule("big", chunked)))] == [2]


def test_no_memory_is_no_fault_of_a_row() -> None:
    def hungry(rows: pa.RecordBatch) -> pa.Array:
        if rows.num_rows:
            raise MemoryError
        return pa.array([], pa.bool_())

    with pytest.raises(MemoryError):
        run([(1, None)], Rule("hungry", hungry))


class Sale(BaseModel):
    shop: str
    cents: int
    note: str | None
    at: AwareDatetime


def test_the_example_in_the_documents_does_what_the_text_says() -> None:
    blocks = re.findall(r"```python\n(.*?)```", SEMANTICS, re.DOTALL)
    (code,) = [block for block in blocks if "checked = sales.gate" in block]
    sales = source(topic("sales"), Sale, key="shop", event_time="at")
    names: dict[str, Any] = {"sales": sales, "Rule": Rule, "pc": pc, "__name__": __name__}
    exec(code, names)
    checked = names["checked"]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    edges = [checked.to(parquet("sales")), checked.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("sales", *edges), now)
    found = [("a", 5, "x"), ("test", 5, "x"), ("a", -5, "x"), ("a", 200_000, None)]
    found.append(("a", -(2**63), "x"))  # which has no absolute value of 64 bits, and stays negative
    at = now - timedelta(hours=1)
    driver.send("sales", *[{"shop": s, "cents": c, "note": n, "at": at} for s, c, n in found])
    driver.end_of_input()
    assert [
        (row["cents"], row["note"], row["_warnings"])
        for table in driver.tables("sales")
        for row in table.to_pylist()
    ] == [
        (5, "x", None),
        (5, "x", ["positive:fixed"]),
        (200_000, "none", ["noted:fixed", "small"]),
    ]
    assert [row["offset"] for row in driver.read("dlq")] == [4]
