"""What checks find, row by row in plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

MOST_EMPTY = 1_000


@dataclass(frozen=True)
class Row:
    """A row with its offset and when it was written to Kafka."""

    offset: int
    at: datetime
    written: datetime
    n: int | None
    kind: str


@dataclass
class Bounds:
    """What the checks of the law allow."""

    rows: tuple[int, int] = (2, 5)
    nulls: float = 0.25
    share: tuple[float | None, float | None] = (0.5, None)
    duplicates: int = 1
    mean: tuple[float, float] = (0.5, 2.5)
    fresh: float = 60
    against: int = 2
    within: float = 0.5


@dataclass
class Walk:
    """The extents that are over so far, and what was said of them."""

    counted: bool
    bounds: Bounds = field(default_factory=Bounds)
    said: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    counts: list[int] = field(default_factory=list[int])
    empty: int = 0
    offset: int = 0

    def say(self, start: Any, stop: Any, rows: Sequence[Row], ended_by: int | None) -> None:
        if rows:
            self.empty, self.offset = 0, max(row.offset for row in rows) + 1
        else:
            self.empty += 1
        first = min((row.offset for row in rows), default=self.offset)
        for check, value, low, high, examples in self._found(rows):
            unknown = value is None or (check == "volume" and low is None)
            good = value is not None and (low is None or value >= low)
            good = good and (high is None or value <= high)
            bad = "warn" if check == "nulls" else "fail"
            self.said.append(
                {
                    "check": check,
                    "verdict": "unknown" if unknown else "pass" if good else bad,
                    "value": value,
                    "at_least": low,
                    "at_most": high,
                    "rows": len(rows),
                    "extent": (start, stop),
                    "examples": examples,
                    "offsets": (first, self.offset),
                    "ended by": ended_by,
                }
            )
        self.counts.append(len(rows))

    def _found(self, rows: Sequence[Row]) -> Iterator[tuple[str, Any, Any, Any, list[int]]]:
        bounds, n = self.bounds, len(rows)
        by_time = sorted(rows, key=lambda row: (row.at, row.offset))
        nulls = [row.offset for row in by_time if row.n is None]
        yield "nulls", len(nulls) / n if n else None, None, bounds.nulls, nulls[:3]
        low, high = bounds.share
        others = [row.offset for row in by_time if row.kind != "a"]
        yield "share", (n - len(others)) / n if n else None, low, high, others[:3]
        seen: dict[Any, int] = {}
        twice: dict[Any, int] = {}
        for row in rows:
            if (row.n, row.kind) in seen:
                twice[row.n, row.kind] = seen[row.n, row.kind]
            seen.setdefault((row.n, row.kind), row.offset)
        duplicates = float(n - len(seen))
        yield "unique", duplicates, None, bounds.duplicates, sorted(twice.values())[:3]
        numbers = [row.n for row in rows if row.n is not None]
        mean = sum(numbers) / len(numbers) if numbers else None
        yield "mean", mean, *bounds.mean, []
        age = None
        if rows:
            newest = max(row.at for row in rows)
            age = (max(row.written for row in rows) - newest).total_seconds()
        yield "fresh", age, None, bounds.fresh, []
        if self.counted:
            return
        yield "rows", float(n), *bounds.rows, []
        around: tuple[Any, Any] = (None, None)
        if len(self.counts) >= bounds.against:
            usual = Fraction(sum(self.counts[-bounds.against :]), bounds.against)
            within = Fraction(str(bounds.within))
            around = usual * (1 - within), usual * (1 + within)
        yield "volume", float(n), *around, []


def over_rows(rows: Sequence[Row], size: int) -> Walk:
    """Extents of `size` rows; one that is not full is not over."""
    walk = Walk(counted=True)
    for start in range(0, len(rows) - size + 1, size):
        walk.say(start, start + size, rows[start : start + size], rows[start + size - 1].offset)
    return walk


def over_time(
    rows: Sequence[Row], size: timedelta, grace: timedelta, lag: timedelta, epoch: datetime
) -> tuple[Walk, int]:
    """Windows of `size`, and how many rows were late for theirs; the input ends after the rows."""
    walk, late = Walk(counted=False), 0
    held: dict[datetime, list[Row]] = {}
    watermark: datetime | None = None
    following: datetime | None = None

    def judge(until: datetime, ended_by: int | None) -> None:
        nonlocal following
        while following is not None and following + size + grace <= until:
            if following not in held and walk.empty >= MOST_EMPTY:
                later = [start for start in held if start + size + grace <= until]
                if not later:
                    return
                following = min(later)
            walk.say(following, following + size, held.pop(following, []), ended_by)
            following += size

    for row in rows:
        start = epoch + (row.at - epoch) // size * size
        if watermark is not None and start + size + grace <= watermark:
            late += 1
        else:
            held.setdefault(start, []).append(row)
        watermark = max(watermark or row.at - lag, row.at - lag)
        if following is None:
            over = [start for start in held if start + size + grace <= watermark]
            following = min(over, default=None)
        judge(watermark, row.offset)
    if held:
        following = following or min(held)
        judge(max(held) + size + grace, None)
    return walk, late
