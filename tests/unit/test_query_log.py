"""What a log of SQL looks for: which columns, of which tables."""

import pytest

from streamflow.cli.storage_analysis import of_table
from streamflow.errors import SettingsError
from streamflow.storage.queries import Access, read_log


def found(text: str, table: str | None = "t") -> dict[str, str]:
    access = read_log(text).of(table)
    kinds = [("=", access.equal), ("<", access.range)]
    return {name: "".join(k for k, c in kinds if c[name]) for name in sorted(access.columns)}


def select(where: str) -> str:
    return f"SELECT * FROM t WHERE {where}"


def test_a_log_of_queries_tells_what_is_looked_for_and_how_often() -> None:
    log = read_log(
        "SELECT a FROM t WHERE a = 1 AND b IN ('x', 'y') AND t.c BETWEEN 1 AND 2;\n"
        "SELECT * FROM t JOIN u ON t.k = u.k WHERE t.x = u.x AND 5 < t.a;\n"
        "SELECT * FRO t WHERE;\n"
        "DELETE FROM t WHERE a = 7"
    )
    access = log.of("t")
    assert access.equal == {"a": 2, "b": 1}
    assert access.range == {"c": 1, "a": 1}
    assert (access.queries, access.unread) == (3, 1)
    assert access.columns == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (f"{select('a > 1')}\n\n{select('b >= 2')}\n", {"a": "<", "b": "<"}),
        (f"{select('a = 1')};{select('b = 1')}", {"a": "=", "b": "="}),
        ("SELECT *\nFROM t\nWHERE a = 1;\n" + select("b = 1"), {"a": "=", "b": "="}),
        (
            f"{select('a = 1')};\n{select('b = 1')}\n{select('c = 1')};\n{select('d = 1')}",
            dict.fromkeys("abcd", "="),
        ),
        ("WITH x AS (SELECT 1)\n" + select("a = 1") + "\n" + select("b = 1"), {"a": "=", "b": "="}),
        (select("a = 'x;y' AND b = 1") + "; " + select("c = 1"), dict.fromkeys("abc", "=")),
        (
            f"{select('a = 1')} -- no; b = 1\n;/* ; {select('c = 1')} */{select('d = 1')}",
            {"a": "=", "d": "="},
        ),
        (select("a = 'it''s; ok'") + ";" + select('"b;c" = 1'), {"a": "=", "b;c": "="}),
        (select("a = $$x;'y$$") + ";" + select("b = 1"), {"a": "=", "b": "="}),
        (f"{select('a = 1')}\nthis isn't SQL\n{select('b = 1')}", {"a": "=", "b": "="}),
    ],
)
def test_statements_end_with_semicolons_or_lines_or_some_with_each(
    text: str, columns: dict[str, str]
) -> None:
    assert found(text) == columns


@pytest.mark.parametrize(
    ("where", "columns"),
    [
        ("NOT a = 1", {}),
        ("NOT (a IN (1, 2) OR b BETWEEN 1 AND 2)", {}),
        ("a NOT IN (1) AND b <> 2 AND c NOT BETWEEN 1 AND 2", {}),
        ("NOT a > 5", {"a": "<"}),
        ("NOT (NOT a = 1)", {"a": "="}),
        ("a = b", {}),
        ("a = b + 1 AND lower(c) = 'x'", {}),
        ("a = 1 + 1 AND b = ? AND c > now()", {"a": "=", "b": "=", "c": "<"}),
        ("a = 1 GROUP BY b HAVING b = 2 AND count(*) > 5", {"a": "="}),
        ("a IN (SELECT b FROM u WHERE c = 1)", {}),
        ("EXISTS (SELECT 1 FROM t AS s WHERE s.a = 1)", {"a": "="}),
        ("A = 1", {"A": "="}),
    ],
)
def test_what_a_where_compares_with_values_counts(where: str, columns: dict[str, str]) -> None:
    assert found(select(where)) == columns


def test_each_column_is_of_its_table() -> None:
    log = read_log(
        "SELECT * FROM t x JOIN u USING (k) WHERE x.a = 1 AND u.b = 1 AND c = 1;"
        "UPDATE u SET d = 2 WHERE e = 1; SELECT * FROM (SELECT * FROM u) AS s WHERE s.f = 1;"
        "WITH w AS (SELECT * FROM t WHERE g = 1) SELECT * FROM w WHERE h = 1;"
        "SELECT * FROM 'lake/t/*.parquet' WHERE i = 1;"
        "SELECT * FROM read_parquet('a.parquet') WHERE j = 1;"
        "COPY (SELECT 1 FROM t WHERE k = 1) TO 'x'"
    )
    assert log.tables == {"t", "u"}
    assert sorted(log.of("t").equal) == ["a", "c", "f", "g", "h", "i", "j", "k"]
    assert sorted(log.of("u").equal) == ["b", "c", "e", "f", "h", "i", "j"]
    assert log.of(None).queries == 7


def test_explained_statements_are_statements() -> None:
    text = ";".join(
        f"{word} {select(f'{column} = 1')}"
        for word, column in zip(
            ["EXPLAIN", "explain analyze", "EXPLAIN (FORMAT json)", "DESCRIBE"], "abcd", strict=True
        )
    )
    log = read_log(f"{text}; VACUUM; SET x = 1; CALL f()")
    assert dict(log.of("t").equal) == dict.fromkeys("abcd", 1)
    assert (log.queries, log.unread) == (4, ())


def test_nesting_is_bounded_and_said() -> None:
    deep = select("(" * 3000 + "a = 1" + ")" * 3000)
    log = read_log(f"{deep};{select('NOT ' * 3000 + 'b = 1')};{select('((c = 1))')}")
    assert dict(log.of("t").equal) == {"c": 1}
    assert [one.why for one in log.unread] == [
        "its parentheses are nested more than 32 deep",
        "it is nested too deeply",
    ]
    assert found(select(" OR ".join(["a = 1"] * 3000))) == {"a": "="}
    assert found(select("a = '" + "(" * 3000 + "'")) == {"a": "="}


def test_the_table_is_the_one_that_is_called_as_the_data() -> None:
    log = read_log(f"{select('a = 1')}; SELECT * FROM u WHERE b = 1; x y z")
    assert of_table(log, None, "T")[0].columns == ["a"]
    assert of_table(log, "u", "t")[0].columns == ["b"]
    access, notes = of_table(log, None, "exports")
    assert access.columns == ["a", "b"]
    assert notes[0].startswith(
        "of the query log 1 statement is no SQL that is known here, the first: 'x y z' (Invalid"
    )
    assert notes[1] == (
        "the query log looks for columns of t, u, and none is called 'exports': all of them are"
        " taken for this one; say which it is with --table"
    )
    with pytest.raises(SettingsError, match="--table v: the query log looks for columns of t, u"):
        of_table(log, "v", "t")
    assert of_table(read_log(""), None, "t") == (Access(), [])
