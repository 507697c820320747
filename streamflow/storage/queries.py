"""Which columns queries look for, read from their SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

_EQUAL = (exp.EQ, exp.In)
_RANGE = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)


@dataclass(frozen=True, slots=True)
class Access:
    """How often columns are looked for, by name: one value or a few of it, or a range.

    `unread` are statements that are no SQL that is known here; `queries` those that are.
    """

    equal: Counter[str] = field(default_factory=Counter[str])
    range: Counter[str] = field(default_factory=Counter[str])
    queries: int = 0
    unread: int = 0

    @property
    def columns(self) -> list[str]:
        """All of them, the one that is looked for most often first."""
        both = self.equal + self.range
        return [name for name, _ in sorted(both.items(), key=lambda item: (-item[1], item[0]))]


def filtered(columns: Sequence[str]) -> Access:
    """What a person says: each is looked for, by value and by range."""
    return Access(Counter(columns), Counter(columns))


def read_log(text: str) -> Access:
    """The predicates of SQL statements, which are separated by `;` or, one a line, by lines."""
    equal, ranges = Counter[str](), Counter[str]()
    queries = unread = 0
    for statement in _statements(text):
        try:
            trees = [tree for tree in sqlglot.parse(statement, dialect="duckdb") if tree]
        except SqlglotError:
            unread += 1
            continue
        queries += len(trees)
        for tree in trees:
            for where in tree.find_all(exp.Where, exp.Having):
                for found, kinds in ((equal, _EQUAL), (ranges, _RANGE)):
                    for predicate in where.find_all(*kinds):
                        found.update(_columns(predicate))
    return Access(equal, ranges, queries, unread)


def _statements(text: str) -> Iterator[str]:
    """A log has one statement a line, or several lines that end with `;`."""
    parts = text.split(";") if ";" in text else text.splitlines()
    for part in parts:
        if part.strip():
            yield part


def _columns(predicate: Any) -> set[str]:
    """The columns that a predicate compares with values; one with another column finds nothing."""
    sides = [predicate.this, *predicate.args.get("expressions", [])]
    sides += [
        predicate.args[name] for name in ("expression", "low", "high") if predicate.args.get(name)
    ]
    columns = [side.name for side in sides if isinstance(side, exp.Column)]
    return set(columns) if len(columns) == 1 else set()
