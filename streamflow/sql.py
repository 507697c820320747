"""Conditions in SQL, compiled to Arrow kernels.

sqlglot parses; this file gives the parsed tree its meaning in `pyarrow.compute`, with SQL's
three-valued logic (Kleene). What it does not know it refuses when the topology is built.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import TokenType

from streamflow.errors import TopologyError

Column = Callable[[pa.RecordBatch], Any]


class RuleDialect(DuckDB):
    """DuckDB's grammar with `x MATCHES 'regex'`."""

    class Tokenizer(DuckDB.Tokenizer):
        KEYWORDS = {**DuckDB.Tokenizer.KEYWORDS, "MATCHES": TokenType.RLIKE}  # noqa: RUF012


_BINARY: dict[type[Any], Callable[[Any, Any], Any]] = {
    exp.And: pc.and_kleene,
    exp.Or: pc.or_kleene,
    exp.EQ: pc.equal,
    exp.NEQ: pc.not_equal,
    exp.GT: pc.greater,
    exp.GTE: pc.greater_equal,
    exp.LT: pc.less,
    exp.LTE: pc.less_equal,
    exp.Add: pc.add_checked,
    exp.Sub: pc.subtract_checked,
    exp.Mul: pc.multiply_checked,
}
_UNARY: dict[type[Any], Callable[[Any], Any]] = {
    exp.Not: pc.invert,
    exp.Length: pc.utf8_length,
    exp.Lower: pc.utf8_lower,
    exp.Upper: pc.utf8_upper,
    exp.Trim: pc.utf8_trim_whitespace,
    exp.Abs: pc.abs_checked,
    exp.Neg: pc.negate_checked,
}


def compile_condition(text: str, schema: pa.Schema, where: str) -> Callable[[pa.RecordBatch], Any]:
    """Compile a condition over the fields of `schema`; `where` starts every message.

    Raises:
        TopologyError: with a caret under the place that cannot be read.
    """
    try:
        tree = RuleDialect().parse(text)[0]
    except (ParseError, TokenError) as error:
        raise TopologyError(f"{where}: cannot be read as SQL\n{_caret(text, error)}") from error
    if tree is None:
        raise TopologyError(f"{where}: the condition is empty")
    return _compile(tree, schema, where)


def _caret(text: str, error: Exception) -> str:
    details = getattr(error, "errors", None) or [{}]
    column = int(details[0].get("col") or len(text) + 1)
    width = len(details[0].get("highlight") or "^")
    return f"  {text}\n  {' ' * max(column - width, 0)}^ here"


def _compile(node: Any, schema: pa.Schema, where: str) -> Column:
    def sub(part: Any) -> Column:
        return _compile(part, schema, where)

    kind = type(node)
    if kind is exp.Paren:
        return sub(node.this)
    if kind is exp.Column:
        return _column(node, schema, where)
    if kind in (exp.Literal, exp.Boolean, exp.Null) or _is_negative_number(node):
        scalar = pa.scalar(_constant(node, where))
        return lambda rows: scalar
    if kind in _BINARY:
        left, right, kernel = sub(node.left), sub(node.right), _BINARY[kind]
        return lambda rows: kernel(left(rows), right(rows))
    if kind in _UNARY:
        inner, unary = sub(node.this), _UNARY[kind]
        return lambda rows: unary(inner(rows))
    return _special(node, sub, where)


def _special(node: Any, sub: Callable[[Any], Column], where: str) -> Column:
    match node:
        case exp.Is(this=this, expression=exp.Null()):
            inner = sub(this)
            return lambda rows: pc.is_null(inner(rows))
        case exp.Between():
            value, low, high = sub(node.this), sub(node.args["low"]), sub(node.args["high"])
            return lambda rows: pc.and_kleene(
                pc.greater_equal(value(rows), low(rows)), pc.less_equal(value(rows), high(rows))
            )
        case exp.In() if node.expressions:
            value = sub(node.this)
            options = pa.array([_constant(option, where) for option in node.expressions])
            return lambda rows: _is_in(value(rows), options)
        case exp.RegexpLike() | exp.Like():
            value, pattern = sub(node.this), _constant(node.expression, where)
            matches = pc.match_like if isinstance(node, exp.Like) else pc.match_substring_regex
            return lambda rows: matches(value(rows), pattern)
        case _:
            raise TopologyError(f"{where}: {node.sql()!r} is not supported; use a function instead")


def _is_in(values: Any, options: pa.Array) -> Any:
    """SQL's IN, unlike Arrow's `is_in`: unknown where the value is, and where the value is none of
    the options but one of these is unknown.
    """
    found = pc.is_in(values, options.drop_null().cast(values.type))
    known = pc.is_valid(values)
    return pc.if_else(pc.and_(known, found) if options.null_count else known, found, None)


def _column(node: Any, schema: pa.Schema, where: str) -> Column:
    name = node.name
    if name not in schema.names:
        near = get_close_matches(name, schema.names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {sorted(schema.names)}"
        raise TopologyError(f"{where}: there is no field {name!r}{hint}")
    return lambda rows: rows.column(name)


def _is_negative_number(node: Any) -> bool:
    return isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal)


def _constant(node: Any, where: str) -> Any:
    match node:
        case exp.Literal(is_string=True):
            return node.this
        case exp.Literal():
            return float(node.this) if set(node.this) & set(".eE") else int(node.this)
        case exp.Neg():
            return -_constant(node.this, where)
        case exp.Boolean():
            return bool(node.this)
        case exp.Null():
            return None
        case _:
            raise TopologyError(f"{where}: {node.sql()!r} must be a constant")
