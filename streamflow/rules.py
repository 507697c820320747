"""Rules of a gate: a name, a condition that every record should meet, and a severity.

A condition is written as SQL (`dep_time IS NOT NULL`, `age BETWEEN 0 AND 150`,
`status IN ('new', 'paid')`, `email MATCHES '.+@.+'`) and compiled once to Arrow kernels; or it is a
function from a `pa.RecordBatch` to a boolean array. As with SQL's CHECK, a record breaks a rule
only where the condition is FALSE: NULL, unknown, passes, so say `x IS NOT NULL` where a value is
required.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.errors import TopologyError
from streamflow.sql import compile_condition

Severity = Literal["info", "warning", "error", "critical"]
Condition = Callable[[pa.RecordBatch], pa.Array]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error", "critical")


@dataclass(frozen=True, eq=False)
class Rule:
    """A named condition on one record.

    `critical` and `error` send a record that breaks it to the rejected side; `warning` and `info`
    flag it, count it and pass it on.
    """

    name: str
    condition: str | Condition
    severity: Severity = "critical"

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise TopologyError(
                f"rule {self.name!r}: severity {self.severity!r} is none of {', '.join(SEVERITIES)}"
            )

    @property
    def rejects(self) -> bool:
        """Does a record that breaks this rule leave?"""
        return self.severity in ("error", "critical")

    def compiled(self, schema: pa.Schema) -> Condition:
        """The condition as a function; tried on zero rows of `schema`.

        Raises:
            TopologyError: it does not compile, names an unknown field, or gives no column of
                booleans.
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
        return compiled


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
            f"{where}: gives {len(result)} values for zero rows; give one value per row"
        )
    return result


def broken(condition: Condition, rows: pa.RecordBatch) -> pa.Array:
    """True for each row on which the condition is FALSE; never null."""
    return pc.fill_null(pc.invert(condition(rows)), False)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
