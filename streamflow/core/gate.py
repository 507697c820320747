"""Second stage: the rules. A row that breaks one leaves, is tagged, or gets another value.

Rules are looked at in order, each on all rows at once, and see what fixes before them have made.
Where no row breaks a rule, nothing is done beyond computing its condition. Then thresholds are held
against what was found (`breaker.py`), and rows that come while one is open are routed away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.core.breaker import Came, judge
from streamflow.core.decode import Decoded
from streamflow.core.halving import each_alone
from streamflow.core.step import Breaker, Failure, Raw, Reject, first_failure
from streamflow.rules import Condition, Rule, truth_per_row
from streamflow.schema import EVENT_TIME, WARNINGS
from streamflow.stages import Gate, Watch
from streamflow.storable import unfit

Rows = pa.RecordBatch


@dataclass(frozen=True)
class Gated:
    """Rows that passed, with their warnings, and what became of the others.

    `rejects` are all so far, `rules` is how often each rule was broken, and, as `<name>:fixed`, how
    many rows its fix or default has mended; of thresholds, how often each has `:tripped` and
    `:resumed`, and how many rows it has `:routed`. `dropped` rows were left out by rules that drop,
    so rows in = rows + new rejects + dropped.

    `broken` has the places of the rows that `rules` counts, but for those of thresholds.
    `breakers` are what is remembered of the thresholds. `stop` is the offset after the row that
    tripped one that blocks: what comes from there on has to be left to another time. `failure` is
    the first record on which a rule fails that must not; all else is then for nothing.
    """

    rows: Rows
    places: pa.Array
    rejects: list[Reject]
    rules: Counter[str]
    dropped: int
    breakers: Mapping[str, Breaker]
    stop: int | None
    failure: Failure | None = None
    broken: Mapping[str, pa.Array] = field(default_factory=dict[str, pa.Array])


def gate(plan: Gate, batch: MicroBatch, decoded: Decoded, breakers: Mapping[str, Breaker]) -> Gated:
    """Check every rule on every row. The first rule that makes a row leave is its reason.

    A condition that cannot be computed on a row, as by an overflow, counts as broken there.
    """
    passage = _Passage(batch, decoded.rows, decoded.places, list(decoded.rejects))
    if decoded.rows.num_rows:
        for rule, condition in plan.rules:
            bad, why = _broken(condition, passage.rows)
            if bad is not None:
                passage.judge(rule, condition, bad, why)
        breakers = passage.watch(plan.watches, breakers)
    return passage.end(breakers)


@dataclass(frozen=True)
class _Verdict:
    """The rows that break a rule, those of them that leave by it and why, and those it has fixed.

    A row that has left by an earlier rule does not leave again.
    """

    rule: Rule
    bad: pa.Array
    leaving: pa.Array | None = None
    why: dict[int, str] = field(default_factory=dict[int, str])
    fixed: pa.Array | None = None


@dataclass
class _Passage:
    """The rows on their way through the rules; `gone` is true for those that have left.

    Rules are held against all rows first, since thresholds decide later, by what was found, which
    rows came to the rules at all: `stays` is false for those that are routed away.
    """

    batch: MicroBatch
    rows: Rows
    places: pa.Array
    rejects: list[Reject]
    gone: pa.Array | None = None
    stays: pa.Array | None = None
    dropped: int = 0
    verdicts: list[_Verdict] = field(default_factory=list[_Verdict])
    tags: list[tuple[str, pa.Array]] = field(default_factory=list[tuple[str, pa.Array]])
    counts: Counter[str] = field(default_factory=Counter[str])
    stop: int | None = None
    failure: Failure | None = None
    broken: dict[str, pa.Array] = field(default_factory=dict[str, pa.Array])

    def judge(self, rule: Rule, condition: Condition, bad: pa.Array, why: dict[int, str]) -> None:
        """Find what becomes of the rows that break a rule; `why` has those on which it fails."""
        self._fail(rule, why)
        if rule.outcome == "tag":
            self.verdicts.append(_Verdict(rule, bad))
            return
        new, fixed = bad if self.gone is None else pc.and_not(bad, self.gone), None
        if rule.outcome == "fix" and new.true_count:
            new, why, fixed = self._fix(rule, condition, new)
        self.verdicts.append(_Verdict(rule, bad, new, why, fixed))
        self.gone = new if self.gone is None else pc.or_(self.gone, new)

    def _fix(
        self, rule: Rule, condition: Condition, new: pa.Array
    ) -> tuple[pa.Array, dict[int, str], pa.Array | None]:
        """Give these rows their new values: which of them break the rule even so, and why; and
        which do not.
        """
        assert rule.field is not None
        values, why, failed = _mend(rule, rule.field, condition, self.rows.filter(new))
        at, fixed = pc.indices_nonzero(new), None
        self._fail(rule, {at[row].as_py(): words for row, words in failed.items()})
        good = pc.invert(_mask(len(at), why))
        if good.true_count:
            fixed = pc.replace_with_mask(new, new, good)
            self.rows = _with_values(self.rows, rule.field, fixed, values.filter(good))
            new = pc.and_not(new, fixed)
        return new, {at[row].as_py(): words for row, words in why.items()}, fixed

    def _fail(self, rule: Rule, why: Mapping[int, str]) -> None:
        """Remember the first row on which a rule fails that must not, of those that are here."""
        if rule.on_error == "broken":
            return
        here = [row for row in why if self.gone is None or not self.gone[row].as_py()]
        for row in sorted(here)[:1]:
            offset = self.rows.column("_offset")[row].as_py()
            words = f"rule {rule.name!r}{why[row]}"
            found = Failure(offset, "gate", words, rule.on_error)
            self.failure = first_failure(self.failure, found)

    def watch(
        self, watches: Collection[Watch], before: Mapping[str, Breaker]
    ) -> Mapping[str, Breaker]:
        """Hold thresholds against what was found; their states after all rows."""
        if not watches:
            return before
        times = pc.cast(self.rows.column(EVENT_TIME.name), pa.int64())
        came = Came(times, self.rows.column("_offset"), self.batch.fetched)
        after = dict(before)
        for watch in watches:
            known = before.get(watch.name)
            judged = judge(watch.threshold, known, self._bad(watch.rule), came)
            after[watch.name] = judged.breaker
            self._count(f"{watch.name}:tripped", judged.tripped)
            self._count(f"{watch.name}:resumed", judged.resumed)
            if watch.threshold.action == "route":
                self._route(watch, judged.open_since(self.rows.num_rows))
            if judged.stop is not None:
                stop = came.offsets[judged.stop].as_py() + 1
                self.stop = stop if self.stop is None else min(self.stop, stop)
        return after

    def _bad(self, rule: str | None) -> pa.Array:
        """True for each row that breaks this rule, or any."""
        found = [one.bad for one in self.verdicts if rule in (None, one.rule.name)]
        return reduce(pc.or_, found, _mask(self.rows.num_rows, ()))

    def _route(self, watch: Watch, since: pa.Array) -> None:
        """Refuse rows that came while a threshold was open; the first that was is the reason."""
        closed = pc.is_null(since)
        new = self._staying(pc.invert(closed))
        self._count(f"{watch.name}:routed", new.true_count)
        what = "its rules were" if watch.rule is None else f"rule {watch.rule!r} was"
        for row in pc.indices_nonzero(new).to_pylist():
            raw = Raw.of(self.batch, self.places[row].as_py())
            words = (
                f"the gate is open since offset {since[row].as_py()}, where {what} broken by "
                f"{watch.threshold.limit}"
            )
            self.rejects.append(Reject(raw, "gate", "gate-tripped", words, rule=watch.name))
        self.stays = self._staying(closed)

    def end(self, breakers: Mapping[str, Breaker]) -> Gated:
        """What came through, and what did not."""
        for verdict in self.verdicts:
            self._settle(verdict)
        warnings = _warnings(self.rows.num_rows, self.tags)
        rows, places = self.rows.append_column(WARNINGS, warnings), self.places
        passed = None if self.gone is None else pc.invert(self.gone)
        if self.stays is not None:
            passed = self.stays if passed is None else pc.and_(passed, self.stays)
        if passed is not None:
            rows, places = rows.filter(passed), places.filter(passed)
        return Gated(
            rows,
            places,
            self.rejects,
            self.counts,
            self.dropped,
            breakers,
            self.stop,
            self.failure,
            self.broken,
        )

    def _settle(self, verdict: _Verdict) -> None:
        """Do with the rows that break a rule what it says, but for those that are routed away."""
        rule, bad = verdict.rule, self._staying(verdict.bad)
        self._found(rule.name, bad)
        if rule.outcome == "tag":
            self.tags.append((rule.name, bad))
            return
        if verdict.fixed is not None:
            fixed = self._staying(verdict.fixed)
            self.tags.append((f"{rule.name}:fixed", fixed))
            self._found(f"{rule.name}:fixed", fixed)
        assert verdict.leaving is not None
        leaving = self._staying(verdict.leaving)
        if rule.outcome == "drop":
            self.dropped += leaving.true_count
        else:
            self._reject(rule, leaving, verdict.why)

    def _staying(self, mask: pa.Array) -> pa.Array:
        return mask if self.stays is None else pc.and_(mask, self.stays)

    def _found(self, name: str, rows: pa.Array) -> None:
        self._count(name, rows.true_count)
        if rows.true_count:
            self.broken[name] = self.places.filter(rows)

    def _count(self, name: str, rows: int) -> None:
        if rows:
            self.counts[name] += rows

    def _reject(self, rule: Rule, leaving: pa.Array, why: dict[int, str]) -> None:
        condition = rule.condition if isinstance(rule.condition, str) else "its condition"
        message = f"breaks rule {rule.name!r}: {condition}"
        for row in pc.indices_nonzero(leaving).to_pylist():
            raw = Raw.of(self.batch, self.places[row].as_py())
            words = message + why.get(row, "")
            self.rejects.append(
                Reject(raw, "gate", "rule", words, rule.field or "", rule.name, rule.severity)
            )


def _mend(
    rule: Rule, name: str, condition: Condition, rows: Rows
) -> tuple[pa.Array, dict[int, str], dict[int, str]]:
    """New values for rows that break a rule; for each row that these do not help, why; and for each
    on which the fix fails, or the condition after it.
    """
    word = "default" if rule.fix is None else "fix"
    index = rows.schema.get_field_index(name)
    field = rows.schema.field(index)
    values, failed = each_alone(rule.fixed, rows, field.type)
    failed = unfit(values, field.with_nullable(True)) | failed
    still, uncomputed = _broken(condition, rows.set_column(index, field, values))
    why = {
        row: f", also after its {word}" + uncomputed.get(row, "")
        for row in ([] if still is None else pc.indices_nonzero(still).to_pylist())
    }
    failures = {row: f"; its {word} fails: {words}" for row, words in failed.items()}
    return values, why | failures, uncomputed | failures


def _broken(condition: Condition, rows: Rows) -> tuple[pa.Array | None, dict[int, str]]:
    """True for each row on which the condition is FALSE or cannot be computed; None for nowhere.

    For the latter also why.
    """
    holds, failed = each_alone(lambda some: truth_per_row(condition, some), rows, pa.bool_())
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
