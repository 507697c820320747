"""Rules: what SQL means and what is refused with a caret, actions, fixes, and the score."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow import Rule, TopologyError
from streamflow.rules import one_per_row, score
from streamflow.sql import compile_condition

SCHEMA = pa.schema(
    [
        pa.field("cents", pa.int64(), nullable=False),
        pa.field("fee", pa.int64()),
        pa.field("weight", pa.float64()),
        pa.field("price", pa.decimal128(38, 9)),
        pa.field("name", pa.string()),
        pa.field("other", pa.string()),
        pa.field("paid", pa.bool_()),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("_event_time", pa.timestamp("us", "UTC")),
    ]
)
LOSSES: list[tuple[str, str, str]] = [
    # a condition, what is said, and the line with the caret
    ("cent > 1", "there is no field 'cent'; did you mean 'cents'?", "^ here"),
    ("cents > 0 AND xyz > 1", "there is no field 'xyz'; it has", "              ^ here"),
    ("cents > 0\n  AND nam = 'x'", "no field 'nam'", "      ^ here"),
    ("cents >", "cannot be read as SQL", "      ^ here"),
    ("cents > 0 AND AND paid", "cannot be read as SQL", "              ^ here"),
    ("name = 'x", "cannot be read as SQL", "         ^ here"),
    ("cents > 0\nAND (fee >", "cannot be read as SQL", "         ^ here"),
    ("\tcents > 0 > > 1", "is not supported", "\t        ^ here"),
    ("", "the condition is empty", ""),
    ("paid; cents > 0", "more than one condition; join them by AND", "      ^ here"),
    ("paid AND name > 7", "'name > 7' cannot be computed on these fields", "         ^ here"),
    ("cents IN (1, 'x')", "\"cents = 'x'\" cannot be computed", "^ here"),
    ("tags IN ('x')", "it is of list<item: string> and string", "^ here"),
    ("cents IN (SELECT 1)", "is not supported; use a function", "^ here"),
    ("cents BETWEEN SYMMETRIC 1 AND 2", "is not supported", "^ here"),
    ("trim(name, 'x') = ''", "is not supported", "     ^ here"),
    ("t.cents > 1", "'t.cents' is not supported", "^ here"),
    ("name LIKE 'x' ESCAPE 'y'", "is not supported", "^ here"),
    ("soundex(name) = 'x'", "'SOUNDEX(name)' is not supported", "^ here"),
    ("cents > ?", "'?' is not supported", ""),
    ("name MATCHES '('", "'(' is no pattern: Invalid regular expression", "             ^ here"),
    ("name MATCHES other", "'other' must be a constant text", "             ^ here"),
    ("name NOT LIKE 7", "'7' must be a constant text", "              ^ here"),
    ("cents MATCHES '7'", "cannot be computed on these fields: it is of int64", "^ here"),
    ("cents > 99999999999999999999", "does not fit 64 bits", "        ^ here"),
    ("cents > 9223372036854775807 + 1", "cannot be computed", "        ^ here"),
    ("cents = -'x'", "cannot be computed on these fields: it is of string", "         ^ here"),
    ("cents + 1", "gives int64, not true or false", ""),
    ("1 = 1", "gives a BooleanScalar, not a pa.Array", ""),
]


@pytest.mark.parametrize(("condition", "words", "caret"), LOSSES, ids=[one[0] for one in LOSSES])
def test_a_condition_that_has_no_meaning_is_refused_at_its_place(
    condition: str, words: str, caret: str
) -> None:
    with pytest.raises(TopologyError) as caught:
        Rule("r", condition).compiled(SCHEMA)
    message = str(caught.value)
    assert message.startswith("rule 'r': ")
    assert words in message
    if caret:
        assert message.rpartition("\n")[2] == f"  {caret}"


def verdicts(condition: str, rows: list[dict[str, Any]]) -> list[bool | None]:
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    return Rule("r", condition).compiled(SCHEMA)(batch).to_pylist()


def one(condition: str, **row: Any) -> bool | None:
    return verdicts(condition, [row])[0]


@pytest.mark.parametrize(
    ("condition", "row", "holds"),
    [
        ("fee <= cents", {"fee": 2, "cents": 2}, True),
        ("fee > weight", {"fee": 2, "weight": 2.5}, False),
        ("length(name) > 0", {"name": ""}, False),
        ("length(name) > 0", {"name": "ß"}, True),
        ("length(trim(name)) > 0", {"name": " \t"}, False),
        ("price >= 0 AND price < 0.5", {"price": Decimal("0.25")}, True),
        ("price IN (0, 0.5)", {"price": Decimal("0.5")}, True),
        ("cents NOT IN (1, -2)", {"cents": -2}, False),
        ("fee IN (1, 2.5)", {"fee": 1}, True),
        ("weight IN (0.0)", {"weight": -0.0}, True),
        ("name IN ('a', other)", {"name": "b", "other": "b"}, True),
        ("name MATCHES '^[A-Z]{2}$'", {"name": "FR"}, True),
        ("name NOT MATCHES '[0-9]'", {"name": "a1"}, False),
        ("name LIKE 'F%'", {"name": "fr"}, False),
        ("name NOT LIKE 'F%'", {"name": "FR"}, False),
        ("name ILIKE 'F%'", {"name": "fr"}, True),
        ("name LIKE NULL", {"name": "a"}, None),
        ("name NOT MATCHES NULL", {"name": "a"}, None),
        ("cents >= -9223372036854775808", {"cents": -(2**63)}, True),
        ("weight > 0", {"weight": float("nan")}, False),
        ("paid = TRUE", {"paid": True}, True),
        ("1 IN (1, NULL) AND paid", {"paid": True}, True),
        ("NULL IN (1) OR paid", {"paid": None}, None),
    ],
)
def test_what_a_condition_says_of_one_row(
    condition: str, row: dict[str, Any], holds: bool | None
) -> None:
    assert one(condition, **row) is holds


PRICES = ["0.1", "-2", "12345678901.123456788", "12345678901.123456789"]
truths = st.one_of(st.none(), st.booleans())
numbers = st.one_of(st.none(), st.integers(-3, 3))
texts = st.one_of(st.none(), st.sampled_from(["", "a", "b", "A", "ab", " a ", "a\nb"]))
table = st.lists(
    st.fixed_dictionaries(
        {
            "cents": numbers,
            "fee": numbers,
            "weight": st.one_of(st.none(), st.sampled_from([-1.5, -0.0, 0.0, 0.5, 2.0])),
            "price": st.one_of(st.none(), st.sampled_from(list(map(Decimal, PRICES)))),
            "name": texts,
            "other": texts,
            "paid": truths,
        }
    ),
    max_size=8,
)

NUMBERS = [
    *("cents", "fee", "weight", "0", "1", "-2", "2.0", "cents + fee", "fee - 1"),
    *("cents * fee", "-cents", "abs(fee)", "length(name)"),
]
TEXTS = ["name", "other", "''", "'a'", "lower(name)", "upper(other)", "trim(name)"]
comparison = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
negation = st.sampled_from(["", "NOT "])


def several(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, min_size=1, max_size=4).map(", ".join)


def of_kind(values: list[str]) -> st.SearchStrategy[str]:
    left, right = st.sampled_from(values), st.sampled_from([*values, "NULL"])
    return st.one_of(
        st.builds("{} {} {}".format, left, comparison, right),
        st.builds("{} {}BETWEEN {} AND {}".format, left, negation, right, right),
        st.builds("{} {}IN ({})".format, left, negation, several(right)),
        st.builds("{} IS {}NULL".format, left, negation),
    )


numeric_set = several(st.sampled_from(["NULL", "0", "1", "-2"]))
textual_set = several(st.sampled_from(["NULL", "''", "'a'", "'ab'"]))
atoms = st.one_of(
    st.sampled_from(["paid", "TRUE", "FALSE", "NULL", "paid = TRUE"]),
    of_kind(NUMBERS),
    of_kind(TEXTS),
    of_kind(["price", "price", *PRICES, "1", "1e2"]),
    st.builds("cents {}IN ({})".format, negation, numeric_set),
    st.builds("name {}IN ({})".format, negation, textual_set),
    st.builds(
        "{} {}{} {}".format,
        st.sampled_from(["name", "lower(other)"]),
        negation,
        st.sampled_from(["LIKE", "ILIKE", "MATCHES"]),
        st.sampled_from(["'a'", "'%a'", "'_b'", "'^a'", "'[ab]$'", "NULL", "'A%B'"]),
    ),
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("(NOT ({}))".format, inner),
    ),
    max_leaves=5,
)


def in_duckdb(condition: str) -> str:
    """The same in DuckDB's words: `regexp_matches(x, p)`, and a decimal 100 where `1e2` is.

    DuckDB takes `1e2` for a float and compares all decimals beside it as floats, so that two that
    differ in the ninth place are equal; here numbers mean what is written.
    """
    pattern = r"(name|lower\(other\)) (NOT )?MATCHES ('[^']*'|NULL)"
    return re.sub(pattern, r"(\2 regexp_matches(\1, \3))", condition).replace("1e2", "100")


@given(condition=conditions, rows=table)
def test_a_condition_is_true_false_and_unknown_where_it_is_in_duckdb(
    condition: str, rows: list[dict[str, Any]]
) -> None:
    condition = f"({condition}) AND (paid OR NOT paid OR paid IS NULL)"  # never a constant
    schema = pa.schema([field.with_nullable(True) for field in SCHEMA])
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    names = ["cents", "fee", "weight", "price", "name", "other", "paid"]
    with duckdb.connect() as database:
        database.register("records", pa.Table.from_batches([batch.select(names)]))
        found = database.sql(f"SELECT {in_duckdb(condition)} FROM records").fetchall()
    made = Rule("r", condition).compiled(schema)(batch)
    assert made.to_pylist() == [row[0] for row in found]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("price = 12345678901.123456789", [False, True, False]),
        ("price < 12345678901.123456789", [True, False, True]),
        ("price BETWEEN 1e2 AND 12345678901.1234567885", [True, False, False]),
        ("price IN (12345678901.123456789, 1.5)", [False, True, False]),
        ("12345678901.123456788 IN (price, 1e2)", [True, False, False]),
        # Rounded to nine places it would be the last one.
        ("price IN (0.1234567894)", [False, False, False]),
        ("-0.5 < price", [True, True, True]),
        ("price < 1e90", [True, True, True]),
    ],
)
def test_a_decimal_is_compared_with_what_is_written_not_with_a_float(
    condition: str, holds: list[bool]
) -> None:
    values = map(Decimal, ["12345678901.123456788", "12345678901.123456789", "0.123456789"])
    rows = pa.RecordBatch.from_pydict({"price": pa.array(values, pa.decimal128(38, 9))})
    assert Rule("r", condition).compiled(rows.schema)(rows).to_pylist() == holds


def absolute(rows: pa.RecordBatch) -> pa.Array:
    return pc.abs(rows["cents"])


def gives(values: pa.Array) -> Callable[[pa.RecordBatch], pa.Array]:
    return lambda rows: values


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"severity": "fatal"}, "rule 'r': severity 'fatal' is none of info, warning, error, critical"),
    ({"action": "halt"}, "rule 'r': action 'halt' is none of dead_letter, tag, drop"),
    ({"action": "tag", "default": ("cents", 1)}, "rule 'r': has action and default; leave one"),
    ({"fix": ("cents", absolute), "default": ("cents", 1)}, "has fix and default; leave one"),
    ({"fix": absolute}, "rule 'r': fix is a field and a function, not <function absolute"),
    ({"default": 7}, "rule 'r': default is a field and a value, not 7"),
    ({"default": (7, 7)}, r"rule 'r': default is a field and a value, not \(7, 7\)"),
    ({"default": ("a", "b", "c")}, "rule 'r': default is a field and a value, not"),
    ({"fix": ("cents", "abs(cents)")}, r"fix of 'cents': 'abs\(cents\)' is no function"),
    ({"fix": ("euros", absolute)}, r"fix of 'euros': there is no such field; it has \['cents'"),
    ({"default": ("_event_time", None)}, "default of '_event_time': there is no such field"),
    ({"fix": ("name", absolute)}, "fix of 'name': gives int64, but the field is string"),
    ({"fix": ("cents", lambda _: 1)}, "fix of 'cents': gives a int, not a pa.Array"),
    ({"fix": ("cents", gives(pa.array([1])))}, "gives 1 value for zero rows; give one value"),
    ({"fix": ("cents", lambda rows: rows["x"])}, "tried on zero rows: KeyError"),
    ({"default": ("cents", None)}, "default of 'cents': is null, but the field cannot be null"),
    ({"default": ("cents", 1.5)}, "default of 'cents': 1.5 is no int64, as the field is"),
    ({"default": ("cents", "1")}, "default of 'cents': '1' is no int64, as the field is"),
    ({"default": ("cents", 2**63)}, "is no int64, as the field is"),
    ({"default": ("name", 7)}, "default of 'name': 7 is no string, as the field is"),
    ({"condition": 7}, "rule 'r': 7 is neither SQL nor a function"),
    ({"condition": lambda rows: rows["cents"]}, "rule 'r': gives int64, not true or false"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[words[:50] for _, words in REFUSED])
def test_a_rule_that_cannot_work_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        Rule(**dict[str, Any](name="r", condition="cents > 0") | changes).compiled(SCHEMA)


@pytest.mark.parametrize(
    ("given", "outcome", "rejects", "field"),
    [
        ({}, "dead_letter", True, None),
        ({"severity": "error"}, "dead_letter", True, None),
        ({"severity": "warning"}, "tag", False, None),
        ({"severity": "info"}, "tag", False, None),
        ({"severity": "info", "action": "dead_letter"}, "dead_letter", True, None),
        ({"action": "tag"}, "tag", False, None),
        ({"action": "drop"}, "drop", True, None),
        ({"fix": ("cents", absolute)}, "fix", False, "cents"),
        ({"severity": "info", "default": ("fee", None)}, "fix", False, "fee"),
    ],
)
def test_what_becomes_of_a_record_is_said_or_follows_from_the_severity(
    given: dict[str, Any], outcome: str, rejects: bool, field: str | None
) -> None:
    rule = Rule("r", "cents > 0", **given)
    assert (rule.outcome, rule.rejects, rule.field) == (outcome, rejects, field)
    rule.compiled(SCHEMA)


def fixed(field: str, function: Callable[[pa.RecordBatch], Any], n: int = 2) -> pa.Array:
    rows = pa.RecordBatch.from_pylist([{"cents": -i} for i in range(n)], schema=SCHEMA)
    return Rule("r", "cents > 0", fix=(field, function)).fixed(rows)


def test_a_fix_gives_a_column_of_its_field() -> None:
    assert fixed("cents", absolute).to_pylist() == [0, 1]
    assert fixed("weight", absolute) == pa.array([0.0, 1.0])
    assert fixed("price", absolute).type == pa.decimal128(38, 9)
    assert fixed("name", lambda rows: pa.nulls(rows.num_rows)).type == pa.string()
    chunks = pa.chunked_array([[7], [8]])
    assert fixed("fee", lambda rows: chunks) == pa.array([7, 8])


@pytest.mark.parametrize(
    ("field", "made", "words"),
    [
        ("cents", [1, 2], r"the function gives a list, not a pa\.Array"),
        ("cents", pa.array([1]), "the function gives 1 value for 2 rows"),
        ("cents", pa.array(["a", "b"]), "the fix gives string, but cents is int64"),
        ("cents", pa.array([1, None]), "the fix gives null, but cents cannot be null"),
        ("weight", pa.array([0, 2**53 + 1]), "weight: 9007199254740993 is no double without loss"),
    ],
)
def test_a_fix_that_gives_something_else_raises(field: str, made: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fixed(field, lambda _: made)


def test_a_default_is_one_value_for_each_row() -> None:
    rows = pa.RecordBatch.from_pylist([{"cents": 1}, {"cents": 2}], schema=SCHEMA)
    rule = Rule("r", "tags IS NULL", default=("tags", ["x"]))
    assert rule.fixed(rows).to_pylist() == [["x"], ["x"]]
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    times = pa.schema([pa.field("at", pa.timestamp("us", "UTC"))])
    assert Rule("r", "at IS NULL", default=("at", noon)).compiled(times)


def test_a_column_has_a_value_for_each_row() -> None:
    rows = pa.RecordBatch.from_pydict({"a": [1, 2]})
    assert one_per_row(rows["a"], rows) is not None
    with pytest.raises(ValueError, match="gives a NoneType"):
        one_per_row(None, rows)


@pytest.mark.parametrize(
    ("issues", "total", "quality"),
    [(0, 0, 100), (0, 8, 100), (2, 8, 75), (8, 8, 0), (20, 8, 0), (3, 0, 100)],
)
def test_the_score_is_the_share_of_records_without_an_issue(
    issues: int, total: int, quality: float
) -> None:
    assert score(issues, total) == quality


def test_nesting_is_bounded_and_chains_are_not() -> None:
    rows = pa.RecordBatch.from_pylist([{"cents": 2999}, {"cents": 3001}], schema=SCHEMA)

    def holds(text: str) -> list[bool | None]:
        return compile_condition(text, SCHEMA, "rule 'r'")(rows).to_pylist()

    assert holds("(" * 32 + "cents = 2999" + ")" * 32) == [True, False]
    assert holds(" OR ".join(f"cents = {i}" for i in range(3000))) == [True, False]
    assert holds(" AND ".join(f"cents <> {i}" for i in range(3000))) == [False, True]
    assert holds("cents = 1 AND cents = 2 OR cents = 3001 AND NOT cents = 5") == [False, True]
    with pytest.raises(TopologyError) as refused:
        holds("(" * 3000 + "cents = 1" + ")" * 3000)
    said = str(refused.value).splitlines()
    assert said[0] == (
        "rule 'r': parentheses are nested more than 32 deep; make a field of a part of it with map,"
        " or several rules"
    )
    assert said[2].index("^") == 2 + 32
    with pytest.raises(TopologyError, match="is nested too deeply; make a field of a part"):
        holds("NOT " * 3000 + "paid")
