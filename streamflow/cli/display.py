"""The live display of a worker on a terminal, and plain lines where there is none."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from streamflow.clock import Clock, SystemClock
from streamflow.engine.status import Status

#: Without a terminal a line is written this often.
LINE_SECONDS = 5.0
#: The rate is that of the last seconds.
RATE_SECONDS = 3.0


class Display:
    """Shows a status each time it is told; use it as a context manager."""

    def __init__(self, console: Console, title: str, clock: Clock | None = None) -> None:
        self._console = console
        self._title = title
        self._clock = clock or SystemClock()
        self._live: Live | None = None
        self._last_line = self._clock.monotonic()
        self._counts: deque[tuple[float, int]] = deque()
        self._opened = 0

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: Status) -> None:
        """Show a status."""
        now = self._clock.monotonic()
        rate = self._rate(now, status)
        if self._live is not None:
            self._live.update(self._table(status, rate))
        elif now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            cells = [f"{name} {value}" for name, value in _cells(status, rate)]
            self._console.print(
                f"{self._title}: " + ", ".join(cells), highlight=False, soft_wrap=True
            )

    def _rate(self, now: float, status: Status) -> float:
        count = status.totals["in"]
        if status.opened != self._opened or (self._counts and count < self._counts[-1][1]):
            # Partitions came or went, and with them all that was ever counted in them.
            self._counts.clear()
            self._opened = status.opened
        self._counts.append((now, count))
        while len(self._counts) > 2 and now - self._counts[0][0] > RATE_SECONDS:
            self._counts.popleft()
        then, before = self._counts[0]
        return (count - before) / (now - then) if now > then else 0.0

    def _table(self, status: Status, rate: float) -> Table:
        cells = _cells(status, rate)
        table = Table(title=self._title, title_justify="left", show_edge=False, pad_edge=False)
        for name, _ in cells:
            table.add_column(name, justify="right")
        table.add_row(*(value for _, value in cells))
        return table


def _cells(status: Status, rate: float) -> list[tuple[str, str]]:
    totals = status.totals
    idle = [("idle", f"{status.idle} of {status.tasks}")] if status.idle else []
    dropped = [("dropped", f"{totals['dropped']:,}")] if totals["dropped"] else []
    return [
        ("records", f"{totals['in']:,}"),
        ("records/s", f"{rate:,.0f}"),
        ("lag", "?" if status.lag is None else f"{status.lag:,}"),
        ("watermark", _time(status.watermark, status)),
        *idle,
        ("windows", f"{totals['results']:,}"),
        ("late", f"{totals['late']:,}"),
        ("dead letters", f"{totals['rejected']:,}"),
        *dropped,
        ("rows in files", f"{status.rows:,}"),
        *([("delivery", "at least once")] if status.delivery == "at_least_once" else []),
        *([("paused", _paused(status))] if status.paused else []),
        *([("standbys", _standbys(status))] if status.standbys else []),
        *((name, str(counts)) for name, counts in sorted(status.lookups.items())),
    ]


def _time(watermark: datetime | None, status: Status) -> str:
    if watermark is None:
        return "end of input" if status.ended and status.ended == status.tasks else "none yet"
    return watermark.strftime("%Y-%m-%d %H:%M")


def _standbys(status: Status) -> str:
    """How many there are, and how far the one that is furthest behind is."""
    lags = [standby["records"] for standby in status.standbys.values()]
    known = [lag for lag in lags if lag is not None]
    most = f"{max(known):,} behind" if len(known) == len(lags) else "not there yet"
    return f"{len(lags)}, {most}"


def _paused(status: Status) -> str:
    """Which partitions wait, and why: of more than three only how many."""
    told = [f"{tp} ({', '.join(sorted(by))})" for tp, by in sorted(status.paused.items())]
    return ", ".join(told) if len(told) <= 3 else f"{len(told)} partitions"
