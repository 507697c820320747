"""The statements of a log of SQL, as parsed trees.

A log has one statement a line, or statements of several lines that end with `;`, or some of both.
Text in quotes and comments may hold anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

#: Parentheses nested deeper are not read: the parser recurses for each.
DEPTH: Final = 32
#: A statement that no `;` ends has at most so many lines that begin as a statement does.
_JOINED: Final = 4

_PIECE = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*+'|\"(?:[^\"]|\"\")*+\"|\$(\w*)\$.*?\$\1\$|[;()]"
    r"|[^-/'\"$;()]+|.",
    re.DOTALL,
)
_BEGINS = re.compile(
    r"(?im)^\s*(?=(?:select|with|insert|update|delete|merge|create|drop|alter|explain|copy|set|show"
    r"|use|describe|truncate|vacuum|analyze|call|begin|commit|rollback|from|values)\b)"
)
_EXPLAIN = re.compile(r"(?is)\A\s*(?:explain|desc(?:ribe)?)\s+(?:analyze\s+|\([^()]*\)\s*)?(?=\w)")


@dataclass(frozen=True, slots=True)
class Unread:
    """A statement that is no SQL that is known here, and why."""

    text: str
    why: str


def statements(text: str) -> Iterator[Any]:
    """The statements of a log: trees of sqlglot, or `Unread`."""
    for part in _ended(text):
        whole = _parsed(part)
        yield from _by_lines(part) if isinstance(whole, Unread) else whole


def _ended(text: str) -> Iterator[str]:
    """What lies between `;`, without comments."""
    found: list[str] = []
    for piece in _PIECE.finditer(text):
        word = piece[0]
        if word == ";":
            yield "".join(found)
            found = []
        else:
            found.append(" " if word.startswith(("--", "/*")) else word)
    yield "".join(found)


def _by_lines(part: str) -> Iterator[Any]:
    """Statements that are not ended by `;`: each begins on a line of its own."""
    starts = [0, *(match.end() for match in _BEGINS.finditer(part) if match.end())]
    pieces = [part[a:b] for a, b in zip(starts, [*starts[1:], len(part)], strict=True)]
    pieces = [piece for piece in pieces if piece.strip()]
    while pieces:
        for count in range(1, min(_JOINED, len(pieces)) + 1):
            found = _parsed("".join(pieces[:count]))
            if not isinstance(found, Unread):
                break
        else:  # maybe what follows on other lines is none
            first, end, rest = pieces[0].lstrip().partition("\n")
            found, count = _parsed(first), 1
            if end and not isinstance(found, Unread):
                pieces[0] = rest
                count = 0 if rest.strip() else 1
            else:
                found = [_parsed(pieces[0])]
        yield from found
        pieces = pieces[count:]


def _parsed(text: str) -> list[Any] | Unread:
    text = _EXPLAIN.sub("", text)
    if _depth(text) > DEPTH:
        return Unread(text, f"its parentheses are nested more than {DEPTH} deep")
    try:
        return [tree for tree in sqlglot.parse(text, dialect="duckdb") if tree]
    except SqlglotError as error:
        return Unread(text, str(error).partition("\n")[0])
    except RecursionError:
        return Unread(text, "it is nested too deeply")


def _depth(text: str) -> int:
    deepest = depth = 0
    for piece in _PIECE.finditer(text):
        depth += (piece[0] == "(") - (piece[0] == ")")
        deepest = max(deepest, depth)
    return deepest


def is_query(tree: Any) -> bool:
    """Does it look for rows?"""
    changing = (exp.Update, exp.Delete, exp.Merge)
    return isinstance(tree, changing) or tree.find(exp.Query) is not None
