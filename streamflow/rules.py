"""Rules of a gate: a name, a condition that every record should meet, and what becomes of one that
does not.

A condition is written as SQL (`dep_time IS NOT NULL`, `age BETWEEN 0 AND 150`,
`status IN ('new', 'paid')`, `email MATCHES '.+@.+'`) and compiled once to Arrow kernels; or it is a
function from a `pa.RecordBatch` to a boolean array. As with SQL's CHECK, a record breaks a rule
only where the condition is FALSE: NULL, unknown, passes, so say `x IS NOT NULL` where a value is
required.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from streamflow.arguments import is_name
from streamflow.counted import counted
from streamflow.errors import TopologyError
from streamflow.exact_cast import cast_exactly, sound
from streamflow.on_error import BROKEN, OnRuleError, is_on_error
from streamflow.sql import compile_condition
from streamflow.thresholds import Threshold, is_threshold

Severity = Literal["info", "warning", "error", "critical"]
Action = Literal["dead_letter", "tag", "drop"]
Condition = Callable[[pa.RecordBatch], pa.Array]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error", "critical")
ACTIONS: tuple[Action, ...] = ("dead_letter", "tag", "drop")


@dataclass(frozen=True, eq=False)
class Rule:
    """A named condition on one record, and what becomes of a record that breaks it.

    Without more, the severity decides: `critical` and `error` make it a dead letter; `warning` and
    `info` tag it, count it and pass it on. At most one of these says otherwise:

    Attributes:
        action: "dead_letter"; "tag", to pass with the rule's name in `_warnings`; or "drop", to
            leave and be counted, sent nowhere.
        fix: A field and a function from a `pa.RecordBatch` of the broken rows to its new column.
        default: A field and its new value.
        threshold: How often it may be broken, and what happens then, beside all this.
        on_error: What a record does on which the condition or the fix fails: "broken", it breaks
            the rule; "retry" and "halt" as in `OnError`, unless an earlier rule made it leave.

    After `fix` and `default` the condition is looked at again: a row that still breaks it is a
    dead letter, any other passes with `<name>:fixed` in `_warnings`.
    """

    name: str
    condition: str | Condition
    severity: Severity = "critical"
    action: Action | None = None
    fix: tuple[str, Condition] | None = None
    default: tuple[str, Any] | None = None
    threshold: Threshold | None = None
    on_error: OnRuleError = "broken"

    def __post_init__(self) -> None:
        where = f"rule {self.name!r}"
        is_name(where, "its name", self.name)
        if self.severity not in SEVERITIES:
            raise TopologyError(
                f"{where}: severity {self.severity!r} is none of {', '.join(SEVERITIES)}"
            )
        if self.action is not None and self.action not in ACTIONS:
            raise TopologyError(f"{where}: action {self.action!r} is none of {', '.join(ACTIONS)}")
        is_on_error(where, self.on_error, BROKEN)
        said = {"action": self.action, "fix": self.fix, "default": self.default}
        given = [name for name, value in said.items() if value is not None]
        if len(given) > 1:
            raise TopologyError(f"{where}: has {' and '.join(given)}; leave one")
        self._check_pair(where)
        is_threshold(where, self.threshold)
        if self.threshold is not None and self.threshold.name is not None:
            raise TopologyError(f"{where}: its threshold has the rule's name; leave the other out")

    @property
    def outcome(self) -> Literal["dead_letter", "tag", "drop", "fix"]:
        """What becomes of a record that breaks it; `fix` also stands for `default`."""
        if self.field is not None:
            return "fix"
        if self.action is not None:
            return self.action
        return "dead_letter" if self.severity in ("error", "critical") else "tag"

    @property
    def rejects(self) -> bool:
        """Does every record that breaks this rule leave? Else those that pass are tagged."""
        return self.outcome in ("dead_letter", "drop")

    @property
    def field(self) -> str | None:
        """The field that `fix` or `default` gives new values."""
        pair = self.fix or self.default
        return pair[0] if pair else None

    def compiled(self, schema: pa.Schema) -> Condition:
        """The condition as a function; it and a fix are tried on zero rows of `schema`.

        Raises:
            TopologyError: it does not compile, names an unknown field, or gives no column of
                booleans; or the fix gives no column for its field.
        """
        where = f"rule {self.name!r}"
        condition = self.condition
        if isinstance(condition, str):
            compiled: Condition = compile_condition(condition, schema, where)
        elif callable(condition):
            compiled = condition
        else:
            raise TopologyError(f"{where}: {condition!r} is neither SQL nor a function")
        kind = tried(compiled, schema, where).type
        if not pa.types.is_boolean(kind):
            raise TopologyError(f"{where}: gives {kind}, not true or false")
        self._check_fix(schema)
        return compiled

    def fixed(self, rows: pa.RecordBatch) -> pa.Array:
        """New values of `field` for these rows, as `fix` or `default` has them.

        Raises:
            ValueError: they are not one value per row, of another type, not what later steps can
                take, or null where the field cannot be.
            Exception: whatever the function raises.
        """
        assert self.field is not None
        to = rows.schema.field(self.field)
        if self.fix is None:
            assert self.default is not None
            return pa.repeat(pa.scalar(self.default[1], to.type), rows.num_rows)
        made = one_per_row(self.fix[1](rows), rows)
        if made.type != to.type:
            if not _fits(made.type, to.type):
                raise ValueError(f"the fix gives {made.type}, but {to.name} is {to.type}")
            made = cast_exactly(made, to.type, to.name)
        made = sound(made, to.name)
        if made.null_count and not to.nullable:
            raise ValueError(f"the fix gives null, but {to.name} cannot be null")
        return made

    def _check_pair(self, where: str) -> None:
        for word, value in (("fix", self.fix), ("default", self.default)):
            pair: Any = value
            if pair is None:
                continue
            if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
                made = "a function" if word == "fix" else "a value"
                raise TopologyError(f"{where}: {word} is a field and {made}, not {pair!r}")
            if word == "fix" and not callable(pair[1]):
                raise TopologyError(f"{where}: fix of {pair[0]!r}: {pair[1]!r} is no function")

    def _check_fix(self, schema: pa.Schema) -> None:
        if self.field is None:
            return
        where = f"rule {self.name!r}: {'default' if self.fix is None else 'fix'} of {self.field!r}"
        fields = [name for name in schema.names if not name.startswith("_")]
        if self.field not in fields:
            raise TopologyError(f"{where}: there is no such field; it has {sorted(fields)}")
        to = schema.field(self.field)
        if self.fix is not None:
            made = tried(self.fix[1], schema, where).type
            if not _fits(made, to.type):
                raise TopologyError(f"{where}: gives {made}, but the field is {to.type}")
            return
        assert self.default is not None
        if self.default[1] is None and not to.nullable:
            raise TopologyError(f"{where}: is null, but the field cannot be null")
        if not _holds(self.default[1], to.type):
            raise TopologyError(f"{where}: {self.default[1]!r} is no {to.type}, as the field is")


def tried(function: Condition, schema: pa.Schema, where: str) -> pa.Array:
    """The column that a function makes of zero rows, as it must when every record is refused.

    Raises:
        TopologyError: it raises, or gives anything but a column with a value for each row.
    """
    try:
        result: Any = function(_empty(schema))
    except Exception as error:
        raise TopologyError(
            f"{where}: cannot be computed on these fields, tried on zero rows: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(result, pa.Array | pa.ChunkedArray):
        raise TopologyError(
            f"{where}: gives a {type(result).__name__}, not a pa.Array with one value per row"
        )
    if len(result):
        raise TopologyError(
            f"{where}: gives {counted(len(result), 'value')} for zero rows; give one value per row"
        )
    return result


def one_per_row(values: Any, rows: pa.RecordBatch) -> pa.Array:
    """What a function gave for rows, as one array. Raises `ValueError` when that is not a column
    with a value for each.
    """
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        raise ValueError(f"the function gives a {type(values).__name__}, not a pa.Array")
    if len(values) != rows.num_rows:
        raise ValueError(
            f"the function gives {counted(len(values), 'value')} for"
            f" {counted(rows.num_rows, 'row')}"
        )
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def truth_per_row(condition: Condition, rows: pa.RecordBatch) -> pa.Array:
    """What a condition says of each row. Raises `ValueError` for anything but a column of booleans
    with one for each.
    """
    values = one_per_row(condition(rows), rows)
    if not pa.types.is_boolean(values.type):
        raise ValueError(f"the condition gives {values.type}, not true or false")
    return values


def check_rules(where: str, rules: Sequence[object]) -> None:
    """Raises `TopologyError` for what is no rule."""
    for rule in rules:
        if not isinstance(rule, Rule):
            raise TopologyError(f'{where}: {rule!r} is no rule; say Rule("name", "amount >= 0")')


def score(issues: int, total: int) -> float:
    """The quality of `total` records with `issues` among them, from 0 to 100.

    Nothing came, nothing is wrong: 100. A record can break several rules, so there can be more
    issues than records: 0.
    """
    return max(0.0, 100 - issues / total * 100) if total else 100.0


def _fits(made: pa.DataType, wanted: pa.DataType) -> bool:
    """Is a column of one type as good as one of the other? So are integers for other numbers."""
    if made == wanted or pa.types.is_null(made):
        return True
    return pa.types.is_integer(made) and (
        pa.types.is_integer(wanted) or pa.types.is_floating(wanted) or pa.types.is_decimal(wanted)
    )


def _holds(value: Any, kind: pa.DataType) -> bool:
    """Is this value the same in a column of this type? 1.5 is 1 among integers."""
    try:
        return pa.scalar(value, kind).as_py(maps_as_pydicts="strict") == value
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return False


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
