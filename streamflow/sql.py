"""Conditions in SQL, compiled to Arrow kernels.

sqlglot parses; this file gives the parsed tree its meaning in `pyarrow.compute`, with SQL's
three-valued logic (Kleene). Each part is computed on zero rows while it is compiled, so what it
does not know, or what does not fit the fields, is refused when the topology is built, with a caret
under the place. NaN is compared as IEEE says: it equals nothing and is in no range.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import partial, reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.tokenizer_core import TokenType

from streamflow.errors import TopologyError
from streamflow.sql_numbers import COMPARING, between, fitted, is_exact, written

Column = Callable[[pa.RecordBatch], Any]


class RuleDialect(DuckDB):
    """DuckDB's grammar with `x MATCHES 'regex'`."""

    class Tokenizer(DuckDB.Tokenizer):
        KEYWORDS = {**DuckDB.Tokenizer.KEYWORDS, "MATCHES": TokenType.RLIKE}  # noqa: RUF012


def _truth(value: Any) -> Any:
    """A bare NULL as an unknown truth value: Arrow's logic takes only booleans."""
    return pc.cast(value, pa.bool_()) if pa.types.is_null(value.type) else value


def _invert(value: Any) -> Any:
    return pc.invert(_truth(value))


def _and(left: Any, right: Any) -> Any:
    return pc.and_kleene(_truth(left), _truth(right))


def _or(left: Any, right: Any) -> Any:
    return pc.or_kleene(_truth(left), _truth(right))


def _like(values: Any, pattern: str, ignore_case: bool = False) -> Any:
    """A backslash stands for itself, as in DuckDB; to Arrow it is an escape in some patterns."""
    if "\\" not in pattern:
        return pc.match_like(values, pattern, ignore_case=ignore_case)
    wild = {"%": ".*", "_": "."}
    regex = "".join(wild.get(char) or re.escape(char) for char in pattern)
    return pc.match_substring_regex(values, f"(?s)^{regex}$", ignore_case=ignore_case)


_BINARY: dict[type[Any], Callable[[Any, Any], Any]] = {
    exp.And: _and,
    exp.Or: _or,
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
    exp.Not: _invert,
    exp.Length: pc.utf8_length,
    exp.Lower: pc.utf8_lower,
    exp.Upper: pc.utf8_upper,
    exp.Trim: pc.utf8_trim_whitespace,
    exp.Abs: pc.abs_checked,
    exp.Neg: pc.negate_checked,
}
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Abs, exp.Neg)
_MATCHING: dict[type[Any], Callable[[Any, str], Any]] = {
    exp.Like: _like,
    exp.ILike: partial(_like, ignore_case=True),
    exp.RegexpLike: pc.match_substring_regex,
}
_UNKNOWN = pa.scalar(None, pa.bool_())
#: Parentheses within parentheses; the parser calls itself some twenty times for each.
NESTED = 32
_UNREADABLE = "cannot be read as SQL"
_SIMPLER = "make a field of a part of it with map, or several rules"


def compile_condition(text: str, schema: pa.Schema, where: str) -> Callable[[pa.RecordBatch], Any]:
    """Compile a condition over the fields of `schema`; `where` starts every message.

    Raises:
        TopologyError: with a caret under the place that cannot be read, or has no meaning here.
    """
    try:
        return _compiled(text, schema, where)
    except RecursionError as error:
        raise TopologyError(f"{where}: the condition is nested too deeply; {_SIMPLER}") from error


def fields_in(text: str) -> set[str]:
    """The names of the fields that a condition, which compiles, looks at."""
    trees = [tree for tree in RuleDialect().parse(text) if tree is not None]
    return {column.name for tree in trees for column in tree.find_all(exp.Column)}


def _compiled(text: str, schema: pa.Schema, where: str) -> Callable[[pa.RecordBatch], Any]:
    try:
        _check_nesting(text, where)
        trees = [tree for tree in RuleDialect().parse(text) if tree is not None]
    except (TopologyError, RecursionError):
        raise
    except Exception as error:  # sqlglot's own, and whatever it stumbles over
        place = _caret(text, _offset_of(text, error))
        raise TopologyError(f"{where}: {_UNREADABLE}\n{place}") from error
    if not trees:
        raise TopologyError(f"{where}: the condition is empty")
    compiler = _Compiler(text, schema, where)
    if len(trees) > 1:
        raise compiler.refused(trees[1], "there is more than one condition; join them by AND")
    return compiler.part(trees[0]).of


def _check_nesting(text: str, where: str) -> None:
    depth = 0
    for token in RuleDialect().tokenize(text):
        depth += token.token_type is TokenType.L_PAREN
        depth -= token.token_type is TokenType.R_PAREN
        if depth > NESTED:
            place = _caret(text, token.start)
            raise TopologyError(
                f"{where}: parentheses are nested more than {NESTED} deep; {_SIMPLER}\n{place}"
            )


def _offset_of(text: str, error: Exception) -> int:
    """Where the token begins that the parser stopped at; the end where it does not say."""
    details = getattr(error, "errors", None)
    if not details or not details[0].get("col"):
        return len(text)
    before = text.splitlines(keepends=True)[: details[0]["line"] - 1]
    width = len(details[0].get("highlight") or "^")
    return sum(map(len, before)) + max(details[0]["col"] - width, 0)


def _caret(text: str, offset: int) -> str:
    """The line of the text that holds `offset`, and a caret under it."""
    start = text.rfind("\n", 0, offset) + 1
    line = text[start:].partition("\n")[0]
    indent = "".join("\t" if char == "\t" else " " for char in text[start:offset])
    return f"  {line}\n  {indent}^ here"


@dataclass(frozen=True)
class _Part:
    """A part of a condition as a function, and what that gives for zero rows."""

    of: Column
    sample: Any
    #: What is written, of a number with a fraction: a float is only near it.
    digits: Decimal | None = None

    @property
    def constant(self) -> bool:
        return isinstance(self.sample, pa.Scalar)

    def exact(self, beside: list[pa.DataType]) -> _Part:
        """The same, but a number with a fraction as a decimal of just its digits."""
        scalar = None if self.digits is None else written(self.digits, beside)
        return self if scalar is None else _Part(lambda _: scalar, scalar)


@dataclass(frozen=True)
class _Compiler:
    text: str
    schema: pa.Schema
    where: str

    def part(self, node: Any) -> _Part:
        kind = type(node)
        if node is None:  # of the signs that sqlglot reads, `@`, abs, is let stand alone
            at = [token.start for token in RuleDialect().tokenize(self.text) if token.text == "@"]
            place = _caret(self.text, at[-1] if at else len(self.text))
            raise TopologyError(f"{self.where}: {_UNREADABLE}\n{place}")
        if node.args.get("negate"):  # sqlglot's form of NOT LIKE
            positive = node.copy()
            positive.set("negate", None)
            return self._apply(node, _invert, self.part(positive))
        if kind is exp.Paren:
            return self.part(node.this)
        if kind is exp.Column:
            return self._column(node)
        if kind in (exp.Literal, exp.Boolean, exp.Null) or _is_negative_number(node):
            return self._constant(node)
        if kind in _BINARY:
            return self._binary(node, kind)
        if kind in _UNARY:
            self._only(node, "this")
            return self._apply(node, _UNARY[kind], self.part(node.this))
        if kind in _MATCHING:
            self._only(node, "this", "expression")
            return self._matching(node, _MATCHING[kind])
        return self._special(node)

    def _binary(self, node: Any, kind: type[Any]) -> _Part:
        if kind in (exp.And, exp.Or):
            return self._chain(node, kind)
        self._only(node, "this", "expression")
        return self._apply(node, _BINARY[kind], self.part(node.left), self.part(node.right))

    def _chain(self, node: Any, kind: type[Any]) -> _Part:
        """A chain of AND, or of OR, as a balanced tree: however long it is, calls are few."""
        found: list[tuple[Any, _Part]] = []
        while type(node) is kind:
            found.append((node, self.part(node.right)))
            node = node.left
        found.append((node, self.part(node)))
        parts = found[::-1]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=False)
            odd = parts[-1:] if len(parts) % 2 else []
            parts = [(at, self._apply(at, _BINARY[kind], a, b)) for (_, a), (at, b) in pairs] + odd
        return parts[0][1]

    def _special(self, node: Any) -> _Part:
        match node:
            case exp.Is(this=this, expression=exp.Null()):
                return self._apply(node, pc.is_null, self.part(this))
            case exp.Between():
                self._only(node, "this", "low", "high")
                parts = [self.part(node.args[name]) for name in ("this", "low", "high")]
                return self._apply(node, between, *parts)
            case exp.In() if node.expressions:
                return self._in(node)
            case _:
                raise self.refused(node, f"{_sql(node)!r} is not supported; use a function instead")

    def _apply(self, node: Any, kernel: Callable[..., Any], *parts: _Part) -> _Part:
        """The kernel over parts, tried on what they give for zero rows."""
        others = [part.sample.type for part in parts if part.digits is None]
        if kernel in COMPARING and all(map(is_exact, others)):
            parts = tuple(part.exact(others) for part in parts)
        samples = [part.sample for part in parts]
        timed = any(pa.types.is_temporal(each.type) for each in samples)
        if timed and isinstance(node, _ARITHMETIC):
            # Arrow gives a duration, a bare integer to whoever casts it, of a unit unsaid.
            why = f"{_sql(node)!r} computes with a date or a time; use a function instead"
            raise self.refused(node, why)
        try:
            kernel = fitted(kernel, samples)
            sample = kernel(*samples)
        except (pa.ArrowException, OverflowError) as error:
            kinds = " and ".join(str(each.type) for each in samples)
            words = f"; {error}" if isinstance(error, OverflowError) else ""
            raise self.refused(
                node, f"{_sql(node)!r} cannot be computed on these fields: it is of {kinds}{words}"
            ) from error
        functions = [part.of for part in parts]
        if len(functions) == 1:
            (only,) = functions
            return _Part(lambda rows: kernel(only(rows)), sample)
        return _Part(lambda rows: kernel(*[function(rows) for function in functions]), sample)

    def _in(self, node: Any) -> _Part:
        """SQL's IN is a chain of `=` and OR: unknown where the value is, or where it equals none
        of the options and one of them is NULL. One lookup where the options are constants.
        """
        value, parts = self.part(node.this), [self.part(option) for option in node.expressions]
        equal = [
            self._apply(exp.EQ(this=node.this, expression=option), pc.equal, value, part)
            for option, part in zip(node.expressions, parts, strict=True)
        ]
        known = _as_set(value.sample.type, parts)
        if known is None:
            return reduce(lambda one, other: self._apply(node, pc.or_kleene, one, other), equal)
        has_null, known = known.null_count > 0, known.drop_null()

        def found(values: Any) -> Any:
            among = pc.is_in(values, value_set=known)
            return pc.if_else(among if has_null else pc.is_valid(values), among, _UNKNOWN)

        return self._apply(node, found, value)

    def _matching(self, node: Any, kernel: Callable[[Any, str], Any]) -> _Part:
        value, pattern = self.part(node.this), node.expression
        if isinstance(pattern, exp.Null):
            return self._apply(node, lambda v: pc.if_else(pc.is_null(v), None, _UNKNOWN), value)
        if not (isinstance(pattern, exp.Literal) and pattern.is_string):
            raise self.refused(pattern, f"{_sql(pattern)!r} must be a constant text")
        text = pattern.this
        try:  # Arrow does not look at the pattern before there is a row
            kernel(pa.array([""]), text)
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise self.refused(pattern, f"{text!r} is no pattern: {error}") from error
        return self._apply(node, lambda values: kernel(values, text), value)

    def _column(self, node: Any) -> _Part:
        self._only(node, "this")
        name, names = node.name, self.schema.names
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {sorted(names)}"
            raise self.refused(node, f"there is no field {name!r}{hint}")
        return _Part(lambda rows: rows.column(name), pa.array([], self.schema.field(name).type))

    def _constant(self, node: Any) -> _Part:
        try:
            value = _value(node)
            fraction = value if isinstance(value, Decimal) else None
            scalar = pa.scalar(value if fraction is None else float(fraction))
        except InvalidOperation as error:
            raise self.refused(node, _UNREADABLE) from error
        except OverflowError as error:
            raise self.refused(node, f"{_sql(node)} does not fit 64 bits") from error
        except UnicodeEncodeError as error:
            raise self.refused(node, f"{node.name!a} is no text: {error.reason}") from error
        return _Part(lambda _: scalar, scalar, fraction)

    def _only(self, node: Any, *known: str) -> None:
        """Refuse what the grammar allows beside the parts that have a meaning here."""
        if any(value for name, value in node.args.items() if name not in known):
            raise self.refused(node, f"{_sql(node)!r} is not supported; use a function instead")

    def refused(self, node: Any, why: str) -> TopologyError:
        starts = [part.meta["start"] for part in node.walk() if "start" in part.meta]
        place = _caret(self.text, min(starts)) if starts else f"  {self.text}"
        return TopologyError(f"{self.where}: {why}\n{place}")


def _as_set(kind: pa.DataType, options: list[_Part]) -> pa.Array | None:
    """Constant options as values of one type; None where not all are, or equality is not identity:
    0.0 equals -0.0, and a float is no decimal.
    """
    rounded = pa.types.is_floating(kind) or any(option.digits is not None for option in options)
    if rounded or not all(option.constant for option in options):
        return None
    try:
        return pa.array([option.sample.cast(kind).as_py() for option in options], kind)
    except pa.ArrowException:
        return None


def _is_negative_number(node: Any) -> bool:
    return isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and node.this.is_number


def _value(node: Any) -> Any:
    """A constant; a number with a fraction as a decimal."""
    match node:
        case exp.Literal(is_string=True):
            return node.this
        case exp.Literal():
            return _number(node.this)
        case exp.Neg():
            return _number(f"-{node.this.this}")
        case exp.Boolean():
            return bool(node.this)
        case _:
            return None


def _number(text: str) -> Decimal | int:
    number = Decimal(text)
    return number if set(text) & set(".eE") else int(number)


def _sql(node: Any) -> str:
    """How a part is written, without its comments."""
    try:
        return node.sql(comments=False)
    except Exception:  # sqlglot reads some of what it cannot write
        return type(node).__name__
