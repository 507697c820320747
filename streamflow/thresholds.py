"""Thresholds of gates: how many broken rules are too many, over which records, and what then.

A threshold looks at the rows that come to its gate, in the order of their partition, and is closed,
open or half open, as a circuit breaker is. Closed, it counts over its extent: the last n rows, or
the rows of an event-time window, never whatever was fetched together. The row that takes it over
the limit trips it, and from the next row on it is open. After a cool-down it is half open: a
bounded number of rows are judged, and it closes again when they are good, else it opens again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from streamflow.arguments import in_words, is_duration, is_int64, is_name, is_number, is_some_whole
from streamflow.counted import counted
from streamflow.errors import TopologyError

ThresholdAction = Literal["warn", "route", "pause", "halt"]
ACTIONS: tuple[ThresholdAction, ...] = ("warn", "route", "pause", "halt")
#: The last rows are kept in the state, one bit each.
MOST_ROWS = 100_000


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """When too many rows break a rule, or a gate's rules, and what happens from the next row on.

    Say one of `max_count` and `max_fraction`, and one of `last` and `within`.

    Attributes:
        max_count: This many broken rows in the extent are allowed; one more trips it.
        max_fraction: This share of the extent's rows may be broken, from 0 to 1; more trips it.
        last: The extent is the last n rows, or all since it closed where those are fewer.
        within: The extent is a window of event time; windows follow each other from 1970 on. A row
            counts in the window that the largest event time so far, its own included, lies in.
        at_least: A fraction is judged when the extent has this many rows; all `last` if left out.
        action: "warn", count and report; "route", while open all rows leave on the rejected side as
            `gate-tripped`; "pause", process nothing of the partition after the row that tripped
            it; "halt", stop the worker after that row, until it is started with `--resume`.
        resume_after: The cool-down, in rows or in event time; as long as the extent if left out.
            For "pause" the time of the clock since the row was fetched; left out, it waits until
            the worker is started with `--resume`. Not for "halt".
        probe: This many rows are judged when it is half open. They are good when no larger share
            than `max_fraction` is broken; with `max_count`, when none is.
        name: What a gate's own threshold is counted and reported under, "gate" if left out; a
            rule's has its name.
    """

    max_count: int | None = None
    max_fraction: float | None = None
    last: int | None = None
    within: timedelta | None = None
    at_least: int | None = None
    action: ThresholdAction = "warn"
    resume_after: int | timedelta | None = None
    probe: int = 10
    name: str | None = None

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise TopologyError(
                f"threshold: action {self.action!r} is none of {', '.join(ACTIONS)}"
            )
        for name in ("max_count", "last", "at_least", "probe"):
            is_int64("threshold", name, getattr(self, name))
        is_number("threshold", "max_fraction", self.max_fraction)
        if self.within is not None:
            is_duration("threshold", "within", self.within)
        if self.name is not None:
            is_name("threshold", "name", self.name)
        if isinstance(self.resume_after, int):
            is_int64("threshold", "resume_after", self.resume_after)
        elif self.resume_after is not None:
            is_duration("threshold", "resume_after", self.resume_after)
        self._one_of("max_count", "max_fraction")
        self._one_of("last", "within")
        self._check_extent()
        self._check_limit()
        self._check_resume()

    @property
    def judged_from(self) -> int:
        """Rows that the extent must have before a limit is held against it."""
        if self.max_fraction is None:
            return 1
        return self.at_least or self.last or 1

    @property
    def durations(self) -> dict[str, timedelta]:
        """The times that it names."""
        named = {"within": self.within, "resume_after": self.resume_after}
        return {name: time for name, time in named.items() if isinstance(time, timedelta)}

    @property
    def signature(self) -> str:
        """What its state depends on; a threshold with another one begins anew."""
        limit = (self.max_count, self.max_fraction, self.last, self.within, self.at_least)
        return f"{self.action} {limit} {self.resume_after} {self.probe}"

    @property
    def cool_down(self) -> int | timedelta:
        """How long it is open: rows, or event time."""
        found = self.resume_after if self.resume_after is not None else self.last or self.within
        assert found is not None
        return found

    @property
    def blocks(self) -> bool:
        """Is no further row of the partition processed while it is open?"""
        return self.action in ("pause", "halt")

    @property
    def pause(self) -> timedelta | None:
        """How long a partition is paused by the clock; None until somebody says so."""
        return self.resume_after if isinstance(self.resume_after, timedelta) else None

    @property
    def limit(self) -> str:
        """The limit and its extent in words."""
        rows = (
            f"the last {counted(self.last, 'row')}" if self.last else f"the rows of {self.within}"
        )
        limit = self.max_fraction if self.max_count is None else self.max_count
        return f"more than {limit:g} of {rows}"

    def _one_of(self, one: str, other: str) -> None:
        given = [name for name in (one, other) if getattr(self, name) is not None]
        if len(given) != 1:
            both = "has both; leave one" if given else "has neither; say one"
            raise TopologyError(f"threshold: of {one} and {other} it {both}")

    def _check_limit(self) -> None:
        if self.max_count is not None and self.max_count < 0:
            raise TopologyError(f"threshold: max_count {self.max_count} is below zero")
        if self.max_fraction is not None and not 0 <= self.max_fraction < 1:
            raise TopologyError(
                f"threshold: max_fraction {self.max_fraction} is not from 0 to below 1"
            )
        if self.max_count is not None and self.last is not None and self.max_count >= self.last:
            raise TopologyError(
                f"threshold: the last {counted(self.last, 'row')} never hold more than"
                f" {self.max_count}; "
                "lower max_count"
            )

    def _check_extent(self) -> None:
        if self.last is not None and not 1 <= self.last <= MOST_ROWS:
            raise TopologyError(f"threshold: last {self.last} is not from 1 to {MOST_ROWS:,} rows")
        if self.within is not None and self.within <= timedelta(0):
            raise TopologyError(f"threshold: within {in_words(self.within)} is no time above zero")
        if self.at_least is None:
            if self.max_fraction is not None and self.within is not None:
                raise TopologyError(
                    "threshold: a fraction of a window of time needs at_least, the rows that the "
                    "window must have; the first row alone would be all or nothing"
                )
            return
        if self.max_fraction is None:
            raise TopologyError("threshold: at_least goes with max_fraction; leave it out")
        if not 1 <= self.at_least <= (self.last or self.at_least):
            raise TopologyError(
                f"threshold: at_least {self.at_least} is not from 1 to the rows of the extent"
            )

    def _check_resume(self) -> None:
        is_some_whole("threshold", "probe", self.probe)
        if self.probe < 1:
            raise TopologyError(f"threshold: probe {self.probe} is no number of rows above zero")
        after = self.resume_after
        if after is None:
            return
        if self.action == "halt":
            raise TopologyError(
                "threshold: a halted task goes on when it is started with --resume; leave "
                "resume_after out"
            )
        if self.action == "pause" and not isinstance(after, timedelta):
            raise TopologyError(
                "threshold: no rows pass while a partition is paused; give resume_after a time, or "
                "leave it out to wait for --resume"
            )
        if isinstance(after, timedelta):
            if after <= timedelta(0):
                raise TopologyError(
                    f"threshold: resume_after {in_words(after)} is no time above zero"
                )
        elif after < 1:
            raise TopologyError(f"threshold: resume_after {after} is no number of rows above zero")


def is_threshold(where: str, given: object) -> None:
    """Raises `TopologyError` unless it is a threshold, or None."""
    if given is not None and not isinstance(given, Threshold):
        raise TopologyError(
            f"{where}: threshold is {given!r}; say Threshold(max_count=3, last=100)"
        )
