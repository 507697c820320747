"""A plan in words that a person reads at a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from streamflow.counted import counted
from streamflow.storage.plan import ColumnPlan, Plan
from streamflow.storage.profile import ColumnProfile
from streamflow.storage.trial import Trial

_HEAD = ("column", "type", "values", "encoding", "codec", "bytes", "zstd", "snappy", "why")


def plan_lines(plan: Plan) -> list[str]:
    """What a plan does, column by column, next to pyarrow's defaults."""
    rows = [_HEAD, *[_row(column, plan) for column in plan.columns]]
    made = (
        f"plan {plan.number} for {plan.aim} files, of {counted(plan.rows, 'row')} ({plan.reason})"
    )
    zstd = f"{plan.zstd_bytes:,} with pyarrow's zstd ({_less(plan.bytes, plan.zstd_bytes)})"
    snappy = f"{plan.snappy_bytes:,} with its snappy ({_less(plan.bytes, plan.snappy_bytes)})"
    lines = [
        f"{made}, in {plan.seconds * 1e3:,.0f} ms of a processor",
        *table_lines(rows, right={5, 6, 7}),
        f"the sample as a file: {plan.bytes:,} bytes; {zstd}, {snappy}",
    ]
    if not plan.settings.columns:
        lines.append("no choice was smaller than pyarrow's zstd, so files are written with that")
    return lines


def table_lines(rows: Sequence[Sequence[str]], right: frozenset[int] | set[int]) -> list[str]:
    """Rows of cells under each other; those of the columns `right` end together."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def describe_values(profile: ColumnProfile) -> str:
    """What the values are like, in a few words."""
    if not profile.values or profile.nulls == 1:
        return "none"
    words = ["constant"] if profile.constant else []
    if not profile.constant and profile.distinct is not None:
        words.append(f"{profile.distinct:,} distinct")
    if not profile.constant and profile.ordered is not None and profile.ordered >= 0.999:
        words.append("ascending")
    if not profile.constant and profile.run is not None and profile.run >= 2:
        words.append(f"runs of {profile.run:,.0f}")
    if profile.spread_bits is not None and not profile.constant:
        words.append(f"{counted(profile.spread_bits, 'bit')}")
    if profile.mean_length is not None:
        words.append(f"{profile.mean_length:,.0f} B each")
    if profile.nulls:
        words.append(f"{profile.nulls:.1%} null")
    return ", ".join(words) or profile.physical.lower()


def _row(column: ColumnPlan, plan: Plan) -> tuple[str, ...]:
    chosen = column.chosen if plan.settings.columns else column.trials[0]
    return (
        column.path,
        column.profile.type,
        describe_values(column.profile),
        chosen.encoding,
        _codec(chosen),
        f"{chosen.bytes:,}",
        _less(chosen.bytes, column.zstd_bytes),
        _less(chosen.bytes, column.snappy_bytes),
        _why(column, chosen),
    )


def _why(column: ColumnPlan, chosen: Trial) -> str:
    """What the way that was chosen is held against: the best of another encoding."""
    others = [trial for trial in column.trials if trial.encoding != chosen.encoding]
    if not others:
        return "nothing else fits" if not column.profile.constant else "one value"
    best = min(others, key=lambda trial: trial.bytes)
    return f"{best.encoding} {_codec(best)} takes {best.bytes:,}"


def _codec(trial: Trial) -> str:
    return trial.compression if trial.level is None else f"{trial.compression} {trial.level}"


def _less(size: int, other: int) -> str:
    return f"{size / other - 1:+.0%}" if other else "="
