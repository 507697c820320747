"""What is read of a condition and what is not: comments, odd signs, backslashes, times."""

from contextlib import suppress
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow import TopologyError
from streamflow.sql import compile_condition

SCHEMA = pa.schema(
    [
        pa.field("n", pa.int64()),
        pa.field("f", pa.float64()),
        pa.field("s", pa.string()),
        pa.field("day", pa.date32()),
        pa.field("day2", pa.date32()),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("at2", pa.timestamp("us", "UTC")),
    ]
)


def values(condition: str, rows: list[dict[str, Any]]) -> list[Any]:
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    return compile_condition(condition, SCHEMA, "rule 'r'")(batch).to_pylist()


def refused(condition: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        compile_condition(condition, SCHEMA, "rule 'r'")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "condition",
    [
        "f > 2.5 -- euros",
        "f > 2.5 /* euros */ AND n > 1",
        "/* euros */ f > 2.5",
        "f > /* at least */ 2.5",
        "f > -- at least\n2.5",
        "n IN (1 /* one */, 2.5 /* two and a half */, 2)",
        "f > -2.5 /* euros */ AND n = 2 -- pieces",
        "f > -/* minus */2.5",
        "s LIKE 'a%' -- a",
        "s /* text */ IS /* not */ NOT NULL",
    ],
)
def test_a_comment_says_nothing(condition: str) -> None:
    assert values(condition, [{"n": 2, "f": 3.0, "s": "a"}]) == [True]


@pytest.mark.parametrize(
    ("condition", "caret"),
    [
        ("f > 1e", "    ^ here"),
        ("f > 1e5.5", "    ^ here"),
        ("n > 1 AND f > -1e5.5 -- euros", "               ^ here"),
        ("f > 1e99999999999999999999", "    ^ here"),
        ("1e", "^ here"),
        ("n > @", "    ^ here"),
        ("@", "^ here"),
        ("(n > @)", "     ^ here"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(condition: str, caret: str) -> None:
    said = refused(condition)
    assert said[0] == "rule 'r': cannot be read as SQL"
    assert said[1] == f"  {condition}"
    assert said[2].endswith("^ here")
    assert said[2] == f"  {caret}"


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("s = E'x'", "is not supported"),
        ("E'x'", "is not supported"),
        ("f > 0x1F", "is not supported"),
        ("n > 1 /* one */ % 2", "'1 % 2' is not supported"),
        (f"n > {'9' * 5000}", "does not fit 64 bits"),
    ],
)
def test_what_has_no_meaning_is_refused_in_words(condition: str, words: str) -> None:
    assert words in refused(condition)[0]


signs = (
    "n f s 1 2.5 1e 1e5.5 0x1 'x' E'x' x'41' $1 ? @ : ; , ( ) [ ] { } + - * / % = < > AND OR NOT"
)
words = 'IN BETWEEN LIKE IS NULL CASE WHEN THEN END abs( CAST( AS int SELECT FROM date -- /* */ " `'
pieces = st.lists(st.sampled_from([*signs.split(), *words.split(), "\n", "é"]), max_size=6)


@given(pieces=pieces, start=st.sampled_from(["", "n > ", "f > 2.5 ", "(n > 1) AND ", "n IN (1, "]))
def test_whatever_is_written_compiles_or_is_refused_in_words(pieces: list[str], start: str) -> None:
    with suppress(TopologyError):
        compile_condition(start + " ".join(pieces), SCHEMA, "rule 'r'")


LIKE = [
    # a text, a pattern, and whether the one is like the other
    ("C:\\temp", r"C:\%", True),
    ("a\\b", r"a\b", True),
    ("ab", r"a\b", False),
    ("x\\", "%\\", True),
    ("x\\", "x\\", True),
    ("\\x", "\\%", True),
    ("a\\b", "%\\%", True),
    ("a\\\\b", r"a\\b", True),
    ("a\\b", r"a\\b", False),
    ("50%", r"50\%", False),
    ("50\\ and more", r"50\%", True),
    ("a_", r"a\_", False),
    ("a\\c", r"a\_", True),
    ("\\\\srv\\x", r"\\srv\%", True),
    ("a\n\\b", r"a_\b", True),
    ("a\\b\n", r"a\b", False),
    (".\\(é", r".\(_", True),
]


def in_duckdb(condition: str, texts: list[str]) -> list[bool]:
    with duckdb.connect() as database:
        database.register("records", pa.table({"s": pa.array(texts, pa.string())}))
        return [row[0] for row in database.sql(f"SELECT {condition} FROM records").fetchall()]


@pytest.mark.parametrize(("text", "pattern", "holds"), LIKE)
def test_a_backslash_in_a_pattern_stands_for_itself(text: str, pattern: str, holds: bool) -> None:
    for condition, wanted in (
        (f"s LIKE '{pattern}'", holds),
        (f"s NOT LIKE '{pattern}'", not holds),
    ):
        assert values(condition, [{"s": text}, {"s": None}]) == [wanted, None]
        assert in_duckdb(condition, [text]) == [wanted]
    assert values(f"s ILIKE '{pattern.upper()}'", [{"s": text}]) == [holds]


letters = st.text(st.sampled_from("aB%_\\.*(^$\n é+?|-# "), max_size=6)


@given(
    pattern=letters, others=st.lists(letters, max_size=4), how=st.sampled_from(["LIKE", "ILIKE"])
)
def test_a_pattern_means_what_it_means_in_duckdb(pattern: str, others: list[str], how: str) -> None:
    texts = [pattern, pattern.replace("%", "x").replace("_", "\\"), *others]
    condition = f"s {how} '{pattern}'"
    assert values(condition, [{"s": text} for text in texts]) == in_duckdb(condition, texts)


@pytest.mark.parametrize(
    ("expression", "caret"),
    [
        ("day - day2", "^ here"),
        ("at - at2", "^ here"),
        ("n > 1 AND at - at2 > at2 - at", "          ^ here"),
        ("day + 1", "^ here"),
        ("2 * day", "^ here"),
        ("at - day", "^ here"),
        ("-at = at", " ^ here"),
        ("abs(day) = day", "^ here"),
    ],
)
def test_dates_and_times_are_not_computed_with(expression: str, caret: str) -> None:
    said = refused(expression)
    assert "computes with a date or a time; use a function instead" in said[0]
    assert said[2] == f"  {caret}"


def test_dates_and_times_are_compared() -> None:
    row = {"day": 3, "day2": 3, "at": 5, "at2": 6}
    assert values("day = day2 AND at < at2 AND at IN (at2, at)", [row]) == [True]
    assert values("at BETWEEN at AND at2 AND day >= day2", [row]) == [True]
