"""A threshold's state over the rows of a partition: closed, open, half open (`thresholds.py`).

Rows are walked in stretches of one phase, each found at once by running sums. A stretch is looked
for in parts that grow, so that one that ends soon costs little; a part that does not end it leaves
the same state as a micro-batch that ends there, so neither can be seen in what comes out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.checks import Brake
from streamflow.core.rounding import floor_to
from streamflow.core.step import Breaker
from streamflow.stages import Watch
from streamflow.thresholds import Threshold
from streamflow.windows import micros

#: Rows that are looked at first, and twice as many each time nothing is found.
FIRST_PART = 256


@dataclass(frozen=True)
class Stretch:
    """Rows `[start, stop)` of those given came while it was open, since the row at an offset."""

    start: int
    stop: int
    tripped: int


@dataclass
class Judged:
    """What became of a threshold over some rows.

    `tripped` and `resumed` are how often it opened and closed. `stop` is the row that tripped a
    threshold that blocks: nothing after it was looked at.
    """

    breaker: Breaker
    open: list[Stretch] = field(default_factory=list[Stretch])
    tripped: int = 0
    resumed: int = 0
    stop: int | None = None

    def open_since(self, n: int) -> pa.Array:
        """For each of `n` rows the offset of the row that has tripped it, null where it is not
        open.
        """
        parts, at = [pa.array([], pa.int64())], 0
        for one in self.open:
            parts.append(pa.nulls(one.start - at, pa.int64()))
            parts.append(pa.repeat(pa.scalar(one.tripped, pa.int64()), one.stop - one.start))
            at = one.stop
        return pa.concat_arrays([*parts, pa.nulls(n - at, pa.int64())])


@dataclass(frozen=True)
class Came:
    """Rows that come to a gate: their event times (int64 microseconds), their offsets, and when
    they were fetched (milliseconds).
    """

    times: pa.Array
    offsets: pa.Array
    fetched: int


def judge(threshold: Threshold, before: Breaker | None, bad: pa.Array, came: Came) -> Judged:
    """Hold a threshold against rows.

    Args:
        threshold: What is declared.
        before: The state that the rows before have left; None, or that of another threshold, is
            none.
        bad: True for each row that breaks the rules, without nulls.
        came: The rows.
    """
    known = before is not None and before.of == threshold.signature
    walk = _Walk(threshold, before if known and before else Breaker(threshold.signature), bad, came)
    if len(bad):
        walk.over_all()
    return walk.judged


def blocked(
    watches: Iterable[Watch | Brake], breakers: Mapping[str, Breaker]
) -> dict[Watch | Brake, Breaker]:
    """The thresholds and checks that stop a partition, where they are open."""
    found = {
        watch: breakers[watch.name]
        for watch in watches
        if watch.threshold.blocks and watch.name in breakers
    }
    return {
        watch: one
        for watch, one in found.items()
        if one.phase == "open" and one.of == watch.threshold.signature
    }


def half_open(breaker: Breaker, now_ms: int) -> Breaker:
    """One that stopped its partition, when that goes on."""
    return replace(breaker, phase="half_open", rows=0, bad=0, resumed=now_ms)


class _Walk:
    """The walk over the rows; `at` is the first that has not been looked at."""

    def __init__(self, threshold: Threshold, breaker: Breaker, bad: pa.Array, came: Came) -> None:
        self.threshold = threshold
        self.judged = Judged(breaker)
        self.bad = pc.cast(bad, pa.int64())
        self.came = came
        start = {} if breaker.clock is None else {"start": breaker.clock}
        self.clock = pc.cumulative_max(came.times, **start)
        self.at = 0

    def over_all(self) -> None:
        """Walk over all rows, or to the one that trips a threshold that blocks."""
        while self.at < len(self.bad) and self.judged.stop is None:
            match self.judged.breaker.phase:
                case "closed":
                    self._closed()
                case "open":
                    self._open()
                case "half_open":
                    self._half_open()
        self._become(clock=self.clock[self.at - 1].as_py())

    def _become(self, **changes: object) -> None:
        self.judged.breaker = replace(self.judged.breaker, **changes)  # type: ignore[arg-type]

    def _closed(self) -> None:
        part = FIRST_PART
        while self.at < len(self.bad) and self.judged.breaker.phase == "closed":
            look = self._last if self.threshold.last is not None else self._within
            look(self.bad.slice(self.at, part))
            part *= 2

    def _last(self, bad: pa.Array) -> None:
        """Rows of an extent of rows: each is judged with the `last - 1` before it."""
        last, breaker = self.threshold.last, self.judged.breaker
        assert last is not None
        held, new = breaker.rows, len(bad)
        every = pa.concat_arrays([_bits(breaker.recent, held), bad])
        sums = pc.cumulative_sum(every)
        zeros = min(last - held, new)
        gone = pa.concat_arrays([pa.repeat(pa.scalar(0), zeros), sums.slice(0, new - zeros)])
        count = pc.subtract(sums.slice(held), gone)
        rows = pc.min_element_wise(pa.arange(held + 1, held + new + 1), last)
        if not self._tripped(count, rows):
            kept = every.slice(max(len(every) - last, 0))
            self._become(rows=len(kept), bad=pc.sum(kept).as_py(), recent=_packed(kept))
            self.at += new

    def _within(self, bad: pa.Array) -> None:
        """Rows of windows of time: each is judged with those before it in its window."""
        breaker, new = self.judged.breaker, len(bad)
        assert self.threshold.within is not None
        windows = floor_to(self.clock.slice(self.at, new), micros(self.threshold.within))
        before = pa.concat_arrays([pa.array([breaker.window], pa.int64()), windows[:-1]])
        begins = pc.fill_null(pc.not_equal(windows, before), True)
        sums, numbers = pc.cumulative_sum(bad), pa.arange(0, new)
        # What the sums had reached where each row's window begins; of one that began before these
        # rows, less what it held already.
        count = pc.subtract(sums, _base(begins, pc.subtract(sums, bad), breaker.bad))
        rows = pc.add(pc.subtract(numbers, _base(begins, numbers, breaker.rows)), 1)
        if not self._tripped(count, rows):
            ends = windows[-1].as_py(), rows[-1].as_py(), count[-1].as_py()
            self._become(window=ends[0], rows=ends[1], bad=ends[2])
            self.at += new

    def _tripped(self, count: pa.Array, rows: pa.Array) -> bool:
        """Does one of the next rows trip it, with so many broken in an extent of so many?"""
        threshold = self.threshold
        if threshold.max_fraction is None:
            over = pc.greater(count, threshold.max_count)
        else:
            # Divided, as 29 of 100 is the float that 0.29 is; 100 * 0.29 is below 29.
            share = pc.divide(pc.cast(count, pa.float64()), rows)
            over = pc.greater(share, threshold.max_fraction)
            over = pc.and_(over, pc.greater_equal(rows, threshold.judged_from))
        first: int = pc.index(over, True).as_py()
        if first >= 0:
            self._trip(self.at + first)
        return first >= 0

    def _trip(self, row: int) -> None:
        """Open from the row after this one on."""
        self.judged.breaker = Breaker(
            self.threshold.signature,
            "open",
            opened=self.clock[row].as_py(),
            tripped=self.came.offsets[row].as_py(),
            fetched=self.came.fetched,
        )
        self.judged.tripped += 1
        self.judged.stop = row if self.threshold.blocks else None
        self.at = row + 1

    def _open(self) -> None:
        """Rows until the cool-down is over."""
        breaker, start, wait = self.judged.breaker, self.at, self.threshold.cool_down
        assert not self.threshold.blocks, "nothing comes while it stops the partition"
        assert breaker.opened is not None
        assert breaker.tripped is not None
        if isinstance(wait, int):
            self.at = min(start + wait - breaker.rows, len(self.bad))
            over = breaker.rows + self.at - start == wait
        else:
            until = breaker.opened + micros(wait)
            rows = range(start, len(self.bad))
            self.at = start + bisect_left(rows, until, key=lambda row: self.clock[row].as_py())
            over = self.at < len(self.bad)
        if self.at > start:
            self.judged.open.append(Stretch(start, self.at, breaker.tripped))
        if over:
            self._become(phase="half_open", rows=0)
        else:
            self._become(rows=breaker.rows + self.at - start)

    def _half_open(self) -> None:
        """Rows that show whether it can close."""
        breaker, probe = self.judged.breaker, self.threshold.probe
        bad = self.bad.slice(self.at, probe - breaker.rows)
        sums = pc.add(pc.cumulative_sum(bad), breaker.bad)
        share = pc.divide(pc.cast(sums, pa.float64()), probe)
        over = pc.greater(share, self.threshold.max_fraction or 0)
        first: int = pc.index(over, True).as_py()
        if first >= 0:
            self._trip(self.at + first)
            return
        self.at += len(bad)
        if breaker.rows + len(bad) < probe:
            self._become(rows=breaker.rows + len(bad), bad=sums[-1].as_py())
            return
        self._become(phase="closed", rows=0, bad=0)
        self.judged.resumed += 1


def _base(begins: pa.Array, reached: pa.Array, held: int) -> pa.Array:
    return pc.cumulative_max(pc.if_else(begins, reached, -held))


def _packed(bits: pa.Array) -> bytes:
    """Zeros and ones as bits, the first in the lowest."""
    packed = pc.cast(bits, pa.bool_())
    whole = int.from_bytes(packed.buffers()[1].to_pybytes(), "little") >> packed.offset
    mask = (1 << len(bits)) - 1
    return (whole & mask).to_bytes((len(bits) + 7) // 8, "little")


def _bits(packed: bytes, n: int) -> pa.Array:
    """The first `n` bits as zeros and ones."""
    if not n:
        return pa.array([], pa.int64())
    bits = pa.Array.from_buffers(pa.bool_(), n, [None, pa.py_buffer(packed)])
    return pc.cast(bits, pa.int64())
