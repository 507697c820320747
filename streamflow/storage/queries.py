"""Which columns queries look for, read from their SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlglot import exp

from streamflow.storage.statements import Unread, is_query, statements

Kind = Literal["equal", "range"]
_EQUAL: tuple[Any, ...] = (exp.EQ, exp.In)
_RANGE: tuple[Any, ...] = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)


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


@dataclass(frozen=True, slots=True)
class Predicate:
    """A column that a query compares with values; `table` is None where that is not told."""

    table: str | None
    column: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class QueryLog:
    """What the queries of a log look for, of whatever tables."""

    predicates: Counter[Predicate] = field(default_factory=Counter[Predicate])
    queries: int = 0
    unread: tuple[Unread, ...] = ()

    @property
    def tables(self) -> set[str]:
        """The tables that columns are looked for of, where that is told."""
        return {found.table for found in self.predicates if found.table is not None}

    def of(self, table: str | None) -> Access:
        """What is looked for of this table, and where it is not told of which; of all: None."""
        equal, ranges = Counter[str](), Counter[str]()
        for found, times in self.predicates.items():
            if table is None or found.table in (None, table):
                (equal if found.kind == "equal" else ranges)[found.column] += times
        return Access(equal, ranges, self.queries, len(self.unread))


def filtered(columns: Sequence[str]) -> Access:
    """What a person says: each is looked for, by value and by range."""
    return Access(Counter(columns), Counter(columns))


def read_log(text: str) -> QueryLog:
    """The predicates of SQL statements, which are ended by `;` or by lines.

    What a WHERE says counts, also that of a DELETE or UPDATE or of a query within another one. A
    HAVING is of what was computed, and of NOT only ranges are left, which are ranges again.
    """
    predicates = Counter[Predicate]()
    unread: list[Unread] = []
    queries = 0
    for tree in statements(text):
        if isinstance(tree, Unread):
            unread.append(tree)
        elif is_query(tree):
            queries += 1
            for where in tree.find_all(exp.Where):
                predicates.update(set(_of_where(where, _names(tree))))
    return QueryLog(predicates, queries, tuple(unread))


def _names(tree: Any) -> Mapping[str, str | None]:
    """The tables of a statement by what they are called in it; None for what is no table."""
    made = {one.alias.lower(): None for one in tree.find_all(exp.CTE, exp.Subquery) if one.alias}
    tables = {one.alias_or_name.lower(): _table(one) for one in tree.find_all(exp.Table)}
    return {**tables, **made}


def _table(table: Any) -> str | None:
    """Its name; of files none, which are named by their paths."""
    name = table.name.lower()
    return name if isinstance(table.this, exp.Identifier) and not set("/*.") & set(name) else None


def _of_where(where: Any, names: Mapping[str, str | None]) -> Iterator[Predicate]:
    by_kind: dict[Kind, tuple[Any, ...]] = {"equal": _EQUAL, "range": _RANGE}
    for kind, nodes in by_kind.items():
        for node in where.find_all(*nodes):
            within = node.find_ancestor(exp.Where) is where
            denied = isinstance(node, (*_EQUAL, exp.Between)) and _is_denied(node, where)
            column = _compared(node) if within and not denied else None
            if column is not None:
                yield Predicate(_owner(column, where, names), column.name, kind)


def _is_denied(node: Any, where: Any) -> bool:
    """Is it within an odd number of NOT?"""
    times, parent = 0, node.parent
    while parent is not None and parent is not where:
        times += isinstance(parent, exp.Not)
        parent = parent.parent
    return times % 2 == 1


def _compared(predicate: Any) -> Any:
    """The column that a predicate compares with values; one with another column finds nothing."""
    if predicate.args.get("query"):  # in what another query finds
        return None
    sides = [predicate.this, *predicate.args.get("expressions", [])]
    sides += [
        predicate.args[name] for name in ("expression", "low", "high") if predicate.args.get(name)
    ]
    columns = [side for side in sides if isinstance(side, exp.Column)]
    others = [side for side in sides if not isinstance(side, exp.Column)]
    if len(columns) != 1 or any(True for side in others for _ in side.find_all(exp.Column)):
        return None
    return columns[0]


def _owner(column: Any, where: Any, names: Mapping[str, str | None]) -> str | None:
    """The table of a column: the one it names, or the only one of its query."""
    if column.table:
        return names.get(column.table.lower(), column.table.lower())
    query = where.parent
    joined = query.args.get("joins") or query.args.get("using")
    source = query.args.get("from_") or query.args.get("from") or query
    table = source.this
    if joined or not isinstance(table, exp.Table):
        return None
    return names.get(table.alias_or_name.lower())
