"""Second stage: the rules. A row that breaks a rejecting one leaves, others are flagged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.core.decode import Decoded, row_by_row
from streamflow.core.step import Raw, Reject
from streamflow.rules import Rule, broken
from streamflow.schema import WARNINGS
from streamflow.stages import Gate


@dataclass(frozen=True)
class Gated:
    """Rows that passed, with their warnings; rejects so far; and how often each rule was broken."""

    rows: pa.RecordBatch
    places: pa.Array
    rejects: list[Reject]
    rules: Counter[str]


def gate(plan: Gate, batch: MicroBatch, decoded: Decoded) -> Gated:
    """Check every rule on every row. The first rejecting rule that a row breaks is its reason.

    A condition that cannot be computed on a row, as by an overflow, counts as broken there.
    """
    rows = decoded.rows
    counts: Counter[str] = Counter()
    leaves: pa.Array | None = None
    flagged: list[tuple[str, pa.Array]] = []
    rejects = list(decoded.rejects)
    for rule, condition in plan.rules:
        bad = pc.fill_null(row_by_row(lambda r, c=condition: broken(c, r), rows, pa.bool_()), True)
        if not bad.true_count:
            continue
        counts[rule.name] += bad.true_count
        if not rule.rejects:
            flagged.append((rule.name, bad))
            continue
        new = bad if leaves is None else pc.and_not(bad, leaves)
        rejects += _rejects(batch, decoded.places, new, rule)
        leaves = bad if leaves is None else pc.or_(leaves, bad)
    rows = rows.append_column(WARNINGS, _warnings(rows.num_rows, flagged))
    if leaves is None:
        return Gated(rows, decoded.places, rejects, counts)
    passed = pc.invert(leaves)
    return Gated(rows.filter(passed), decoded.places.filter(passed), rejects, counts)


def _rejects(batch: MicroBatch, places: pa.Array, bad: pa.Array, rule: Rule) -> list[Reject]:
    condition = rule.condition if isinstance(rule.condition, str) else "its condition"
    message = f"breaks rule {rule.name!r}: {condition}"
    rows = places.take(pc.indices_nonzero(bad)).to_pylist()
    return [
        Reject(Raw.of(batch, row), "gate", "rule", message, "", rule.name, rule.severity)
        for row in rows
    ]


def _warnings(n: int, flagged: list[tuple[str, pa.Array]]) -> pa.Array:
    """Per row the names of the rules it breaks, in the order of the rules; null for none."""
    names: list[list[str] | None] = [None] * n
    for name, bad in flagged:
        for row in pc.indices_nonzero(bad).to_pylist():
            names[row] = [*(names[row] or ()), name]
    return pa.array(names, WARNINGS.type) if flagged else pa.nulls(n, WARNINGS.type)
