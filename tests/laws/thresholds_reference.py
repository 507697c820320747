"""What a threshold means, one row at a time in plain Python, without the engine."""

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from streamflow import Threshold


@dataclass
class Reference:
    """Takes rows in order; `open` has the numbers of those that came while it was open."""

    threshold: Threshold
    phase: str = "closed"
    number: int = 0
    clock: int | None = None
    open: list[int] = field(default_factory=list)
    tripped: list[int] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._close()

    def row(self, bad: bool, time: int) -> str:
        """The phase that this row meets; time in microseconds."""
        t = self.threshold
        self.clock = time if self.clock is None else max(self.clock, time)
        cool: Any = t.resume_after if t.resume_after is not None else t.last or t.within
        if (
            self.phase == "open"
            and isinstance(cool, timedelta)
            and self.clock >= self.opened + cool // timedelta(microseconds=1)
        ):
            self._half_open()
        met = self.phase
        if met == "open":
            self.open.append(self.number)
            self.waited += 1
            if self.waited == cool:
                self._half_open()
        elif met == "half_open":
            self._probe(bad)
        else:
            self._count(bad)
        self.number += 1
        return met

    def _close(self) -> None:
        self.phase, self.window = "closed", None
        self.extent: deque[bool] = deque()

    def _trip(self) -> None:
        assert self.clock is not None
        self.phase, self.waited, self.opened = "open", 0, self.clock
        self.tripped.append(self.number)
        if self.threshold.blocks:  # nothing comes until it goes on
            self._half_open()

    def _half_open(self) -> None:
        self.phase, self.probed, self.spoiled = "half_open", 0, 0

    def _probe(self, bad: bool) -> None:
        self.probed += 1
        self.spoiled += bad
        if self.spoiled / self.threshold.probe > (self.threshold.max_fraction or 0):
            self._trip()
        elif self.probed == self.threshold.probe:
            self._close()
            self.resumed.append(self.number)

    def _count(self, bad: bool) -> None:
        t = self.threshold
        if t.within is not None:
            assert self.clock is not None
            window = self.clock // (t.within // timedelta(microseconds=1))
            if window != self.window:
                self.extent.clear()
            self.window = window
        self.extent.append(bad)
        if t.last is not None and len(self.extent) > t.last:
            self.extent.popleft()
        broken, rows = sum(self.extent), len(self.extent)
        if t.max_count is not None:
            over = broken > t.max_count
        else:
            assert t.max_fraction is not None
            enough = t.at_least if t.at_least is not None else t.last
            assert enough is not None
            over = rows >= enough and broken / rows > t.max_fraction
        if over:
            self._trip()
