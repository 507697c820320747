"""Second stage: the rules. A row that breaks one leaves, is tagged, or gets another value.

Rules are looked at in order, each on all rows at once, and see what fixes before them have made.
Where no row breaks a rule, nothing is done beyond computing its condition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.core.decode import Decoded
from streamflow.core.halving import each_alone
from streamflow.core.step import Raw, Reject
from streamflow.rules import Condition, Rule, one_per_row
from streamflow.schema import WARNINGS
from streamflow.stages import Gate

Rows = pa.RecordBatch


@dataclass(frozen=True)
class Gated:
    """Rows that passed, with their warnings, and what became of the others.

    `rejects` are all so far, `rules` is how often each rule was broken, and, as `<name>:fixed`, how
    many rows its fix or default has mended. `dropped` rows were left out by rules that drop, so
    rows in = rows + new rejects + dropped.
    """

    rows: Rows
    places: pa.Array
    rejects: list[Reject]
    rules: Counter[str]
    dropped: int


def gate(plan: Gate, batch: MicroBatch, decoded: Decoded) -> Gated:
    """Check every rule on every row. The first rule that makes a row leave is its reason.

    A condition that cannot be computed on a row, as by an overflow, counts as broken there.
    """
    passage = _Passage(batch, decoded.rows, decoded.places, list(decoded.rejects))
    for rule, condition in plan.rules if decoded.rows.num_rows else ():
        bad, why = _broken(condition, passage.rows)
        if bad is not None:
            passage.take(rule, condition, bad, why)
    return passage.end()


@dataclass
class _Passage:
    """The rows on their way through the rules; `gone` is true for those that have left."""

    batch: MicroBatch
    rows: Rows
    places: pa.Array
    rejects: list[Reject]
    gone: pa.Array | None = None
    dropped: int = 0
    tags: list[tuple[str, pa.Array]] = field(default_factory=list[tuple[str, pa.Array]])
    counts: Counter[str] = field(default_factory=Counter[str])

    def take(self, rule: Rule, condition: Condition, bad: pa.Array, why: dict[int, str]) -> None:
        """Do with the rows that break a rule what it says."""
        self.counts[rule.name] += bad.true_count
        if rule.outcome == "tag":
            self.tags.append((rule.name, bad))
            return
        new = bad if self.gone is None else pc.and_not(bad, self.gone)
        if rule.outcome == "fix" and new.true_count:
            new, why = self._fix(rule, condition, new)
        if rule.outcome == "drop":
            self.dropped += new.true_count
        else:
            self._reject(rule, new, why)
        self.gone = new if self.gone is None else pc.or_(self.gone, new)

    def _fix(
        self, rule: Rule, condition: Condition, new: pa.Array
    ) -> tuple[pa.Array, dict[int, str]]:
        """Give these rows their new values; which of them break the rule even so, and why."""
        assert rule.field is not None
        values, why = _mend(rule, rule.field, condition, self.rows.filter(new))
        at = pc.indices_nonzero(new)
        good = pc.invert(_mask(len(at), why))
        if good.true_count:
            fixed, name = pc.replace_with_mask(new, new, good), f"{rule.name}:fixed"
            self.rows = _with_values(self.rows, rule.field, fixed, values.filter(good))
            self.tags.append((name, fixed))
            self.counts[name] += good.true_count
            new = pc.and_not(new, fixed)
        return new, {at[row].as_py(): words for row, words in why.items()}

    def _reject(self, rule: Rule, new: pa.Array, why: dict[int, str]) -> None:
        condition = rule.condition if isinstance(rule.condition, str) else "its condition"
        message = f"breaks rule {rule.name!r}: {condition}"
        for row in pc.indices_nonzero(new).to_pylist():
            raw = Raw.of(self.batch, self.places[row].as_py())
            words = message + why.get(row, "")
            self.rejects.append(
                Reject(raw, "gate", "rule", words, rule.field or "", rule.name, rule.severity)
            )

    def end(self) -> Gated:
        """What came through, and what did not."""
        warnings = _warnings(self.rows.num_rows, self.tags)
        rows, places = self.rows.append_column(WARNINGS, warnings), self.places
        if self.gone is not None:
            passed = pc.invert(self.gone)
            rows, places = rows.filter(passed), places.filter(passed)
        return Gated(rows, places, self.rejects, self.counts, self.dropped)


def _mend(
    rule: Rule, name: str, condition: Condition, rows: Rows
) -> tuple[pa.Array, dict[int, str]]:
    """New values for rows that break a rule; and for each row that these do not help, why."""
    word = "default" if rule.fix is None else "fix"
    index = rows.schema.get_field_index(name)
    field = rows.schema.field(index)
    values, failed = each_alone(rule.fixed, rows, field.type)
    still, uncomputed = _broken(condition, rows.set_column(index, field, values))
    why = {
        row: f", also after its {word}" + uncomputed.get(row, "")
        for row in ([] if still is None else pc.indices_nonzero(still).to_pylist())
    }
    return values, why | {row: f"; its {word} fails: {words}" for row, words in failed.items()}


def _broken(condition: Condition, rows: Rows) -> tuple[pa.Array | None, dict[int, str]]:
    """True for each row on which the condition is FALSE or cannot be computed; None for nowhere.

    For the latter also why.
    """

    def truth(some: Rows) -> pa.Array:
        values = one_per_row(condition(some), some)
        if not pa.types.is_boolean(values.type):
            raise ValueError(f"the condition gives {values.type}, not true or false")
        return values

    holds, failed = each_alone(truth, rows, pa.bool_())
    if not holds.false_count and not failed:
        return None, {}
    bad = pc.fill_null(pc.invert(holds), False)
    if failed:
        bad = pc.or_(bad, _mask(rows.num_rows, failed))
    return bad, {row: f"; it cannot be computed: {words}" for row, words in failed.items()}


def _with_values(rows: Rows, name: str, mask: pa.Array, values: pa.Array) -> Rows:
    """The rows with other values of a field where the mask is true."""
    index = rows.schema.get_field_index(name)
    column, n = rows.column(index), rows.num_rows
    if pa.types.is_nested(column.type):  # Arrow replaces no lists
        new = pa.array(range(n, n + len(values)), pa.int64())
        places = pc.replace_with_mask(pa.array(range(n), pa.int64()), mask, new)
        made = pa.concat_arrays([column, values]).take(places)
    else:
        made = pc.replace_with_mask(column, mask, values)
    return rows.set_column(index, rows.schema.field(index), made)


def _mask(n: int, rows: Collection[int]) -> pa.Array:
    """True at these of `n` places."""
    if not rows:
        return pa.repeat(pa.scalar(value=False), n)
    return pc.is_in(pa.array(range(n), pa.int64()), value_set=pa.array(list(rows), pa.int64()))


def _warnings(n: int, tags: list[tuple[str, pa.Array]]) -> pa.Array:
    """Per row the names of the rules it breaks, in the order of the rules; null for none."""
    if not tags:
        return pa.nulls(n, WARNINGS.type)
    at = [pc.cast(pc.indices_nonzero(bad), pa.int64()) for _, bad in tags]
    tag = pa.concat_arrays([pa.repeat(pa.scalar(i), len(rows)) for i, rows in enumerate(at)])
    # By row, then by rule.
    order = pc.sort_indices(pc.add(pc.multiply(pa.concat_arrays(at), len(tags)), tag))
    names = pa.array([name for name, _ in tags], pa.string()).take(tag.take(order))
    many = pc.cast(tags[0][1], pa.int32())
    for _, bad in tags[1:]:
        many = pc.add(many, pc.cast(bad, pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(many)])
    return pa.ListArray.from_arrays(offsets, names, type=WARNINGS.type, mask=pc.equal(many, 0))
