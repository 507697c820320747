"""Checks: what must hold of many rows at once, such as how many there are, or how many are null.

A check is judged once for each *extent* of a partition: a window of event time, or n rows in the
order of their offsets, counted in the state; never whatever was fetched together. Its value has to
lie within its bounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from fractions import Fraction
from math import isinf
from typing import Any, Literal

from streamflow.aggregates import Aggregate, AggregateFunction, fields_of, name_of
from streamflow.aggregates.function import UserDefined
from streamflow.arguments import (
    is_duration,
    is_int64,
    is_name,
    is_number,
    is_some_number,
    is_some_whole,
)
from streamflow.errors import TopologyError
from streamflow.rules import SEVERITIES, Condition, Severity

CheckAction = Literal["warn", "pause", "halt"]
ACTIONS: tuple[CheckAction, ...] = ("warn", "pause", "halt")
#: The smallest and the largest value that are good; None for any.
Bounds = tuple[float | Fraction | None, float | Fraction | None]
#: How many extents a volume is held against at most; their row counts are in the state.
MOST_AGAINST = 1_000


@dataclass(frozen=True)
class Stop:
    """What a check does to its partition when its value is out of bounds; as a `Threshold` does."""

    action: Literal["pause", "halt"]
    pause: timedelta | None
    limit: str
    blocks: bool = True

    @property
    def signature(self) -> str:
        """Which check it is of; a partition that another one has stopped goes on."""
        return f"{self.action} {self.pause} {self.limit}"

    @property
    def durations(self) -> dict[str, timedelta]:
        """The times that it names."""
        return {} if self.pause is None else {"resume_after": self.pause}


@dataclass(frozen=True)
class Brake:
    """A check that stops its partition, under the name that this is kept under."""

    name: str
    threshold: Stop

    def words(self, how: str) -> str:
        """Who did this to a partition, and why."""
        return f"the check {self.name!r} has {how}: its value is out of bounds"


@dataclass(frozen=True, kw_only=True)
class Check(ABC):
    """What all checks have in common.

    Attributes:
        severity: Of a check that fails: of `critical` and `error` the verdict is "fail", of
            `warning` and `info` it is "warn".
        name: What it is reported and counted under, instead of what it says of itself.
        action: What happens when its value is out of bounds, whatever the severity: "warn", it is
            reported and counted; "pause", nothing of the partition is processed after the record
            that ended the extent; "halt", the worker stops after that record, until it is started
            with `--resume`.
        resume_after: Of a pause, by the clock since that record was fetched; left out, it waits
            until the worker is started with `--resume`.
    """

    severity: Severity = "error"
    name: str | None = None
    action: CheckAction = "warn"
    resume_after: timedelta | None = None

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise TopologyError(
                f"{self.label}: severity {self.severity!r} is none of {', '.join(SEVERITIES)}"
            )
        if self.name is not None:
            is_name(type(self).__name__, "name", self.name)
        self._check()
        self._check_action()

    @property
    def label(self) -> str:
        """Its name, or what it says of itself."""
        return self.name or self._words

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """The smallest and the largest value that are good; None for any."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it needs by name."""
        return ()

    @property
    @abstractmethod
    def _words(self) -> str:
        """What it says of itself."""

    @property
    def stop(self) -> Stop | None:
        """What it does to a partition; None for nothing."""
        if self.action == "warn":
            return None
        return Stop(self.action, self.resume_after, f"{self.label}: {self._words} {self._limit}")

    @property
    def _limit(self) -> str:
        """What tells its bounds from others."""
        return " to ".join(repr(bound) for bound in self.bounds)

    @abstractmethod
    def _check(self) -> None:
        """Raises `TopologyError` for what it cannot be held with."""

    def _check_action(self) -> None:
        if self.action not in ACTIONS:
            raise TopologyError(
                f"{self.label}: action {self.action!r} is none of {', '.join(ACTIONS)}; the rows "
                "of an extent have passed when it is judged, so it can route none of them"
            )
        is_duration(self.label, "resume_after", self.resume_after)
        if self.resume_after is None:
            return
        if self.action != "pause":
            raise TopologyError(f"{self.label}: resume_after is for a pause; leave it out")
        if self.resume_after <= timedelta(0):
            raise TopologyError(
                f"{self.label}: resume_after {self.resume_after} is no time above zero"
            )


@dataclass(frozen=True, kw_only=True)
class RowCount(Check):
    """The number of rows. A window of time without any has 0."""

    at_least: int | None = None
    at_most: int | None = None

    @property
    def bounds(self) -> Bounds:
        return self.at_least, self.at_most

    @property
    def _words(self) -> str:
        return "row count"

    def _check(self) -> None:
        is_int64(self.label, "at_least", self.at_least)
        is_int64(self.label, "at_most", self.at_most)
        _check_bounds(self)


@dataclass(frozen=True)
class NullRate(Check):
    """The share of rows in which a field is null, from 0 to 1."""

    field: str
    _: KW_ONLY
    at_most: float = 0.0

    @property
    def bounds(self) -> Bounds:
        return None, self.at_most

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.field,)

    @property
    def _words(self) -> str:
        return f"null rate of {self.field}"

    def _check(self) -> None:
        _check_shares(self)


@dataclass(frozen=True)
class Share(Check):
    """The share of rows on which a condition is true, from 0 to 1.

    The condition is SQL, as in a `Rule`, or a function from a `pa.RecordBatch` to truth values;
    where it is null, or cannot be computed, it is not true.
    """

    condition: str | Condition
    _: KW_ONLY
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bounds(self) -> Bounds:
        return self.at_least, self.at_most

    @property
    def _words(self) -> str:
        given = self.condition
        text = given if isinstance(given, str) else getattr(given, "__name__", "a function")
        return f"share of {text}"

    def _check(self) -> None:
        _check_shares(self)


@dataclass(frozen=True, init=False)
class Unique(Check):
    """The number of rows whose key, these fields together, an earlier one of the extent has; null
    is a value. As with every check, a partition is looked at alone. Each key of the extents that
    are open is in the state.
    """

    keys: tuple[str, ...]
    at_most: int

    def __init__(
        self,
        *keys: str,
        at_most: int = 0,
        severity: Severity = "error",
        name: str | None = None,
        action: CheckAction = "warn",
        resume_after: timedelta | None = None,
    ) -> None:
        given = {"keys": keys, "at_most": at_most, "severity": severity, "name": name}
        for word, value in (given | {"action": action, "resume_after": resume_after}).items():
            object.__setattr__(self, word, value)
        self.__post_init__()

    @property
    def bounds(self) -> Bounds:
        return None, self.at_most

    @property
    def fields(self) -> tuple[str, ...]:
        return self.keys

    @property
    def _words(self) -> str:
        return f"duplicates of {', '.join(map(str, self.keys))}"

    def _check(self) -> None:
        given: tuple[Any, ...] = self.keys
        if not all(isinstance(key, str) for key in given):
            raise TopologyError(f"{self.label}: keys are names of fields, not {self.keys!r}")
        if not self.keys:
            raise TopologyError("Unique: name the fields that have to be unique together")
        is_int64(self.label, "at_most", self.at_most)
        _check_bounds(self)


@dataclass(frozen=True)
class Measure(Check):
    """What an aggregate of numbers gives for the rows, such as `Mean("cents")`.

    It is held against its bounds as a float. NaN is in no bounds.
    """

    aggregate: Aggregate | AggregateFunction
    _: KW_ONLY
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bounds(self) -> Bounds:
        return self.at_least, self.at_most

    @property
    def computed(self) -> Aggregate:
        """The aggregate, a user's own too."""
        given = self.aggregate
        return UserDefined(given) if isinstance(given, AggregateFunction) else given

    @property
    def fields(self) -> tuple[str, ...]:
        return fields_of(self.computed)

    @property
    def _words(self) -> str:
        of = ", ".join(self.fields)
        what = name_of(self.computed).lower()
        quantile = getattr(self.computed, "q", None)
        what += "" if quantile is None else f" {quantile:g}"
        return f"{what} of {of}" if of else what

    def _check(self) -> None:
        given: Any = self.aggregate
        if not isinstance(given, Aggregate | AggregateFunction):
            raise TopologyError(
                f"Measure: {given!r} is no aggregate; say Mean(...), or an instance of an "
                "AggregateFunction"
            )
        is_number(self.label, "at_least", self.at_least)
        is_number(self.label, "at_most", self.at_most)
        _check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class Freshness(Check):
    """How old the newest row was when the extent was complete, in seconds: its largest event time
    against the largest timestamp of its records in Kafka. No clock is read.
    """

    at_most: timedelta | None = None

    @property
    def bounds(self) -> Bounds:
        return None, None if self.at_most is None else self.at_most.total_seconds()

    @property
    def _words(self) -> str:
        return "freshness"

    def _check(self) -> None:
        is_duration(self.label, "at_most", self.at_most)
        _check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class Volume(Check):
    """The number of rows against its mean over the extents before, windows without rows too.

    Attributes:
        against: How many extents before it; where there are fewer so far, nothing is said.
        within: How far from the mean it may be, as a share of it: 0.5 is from half to one and a
            half times.
    """

    against: int
    within: float

    @property
    def bounds(self) -> Bounds:
        """None: they follow from the extents before; see `around`."""
        return None, None

    def around(self, counts: tuple[int, ...]) -> Bounds | None:
        """The bounds after extents of these row counts, newest last, exactly; None for too few."""
        if len(counts) < self.against:
            return None
        within = Fraction(repr(self.within))
        mean = Fraction(sum(counts[-self.against :]), self.against)
        return mean * (1 - within), mean * (1 + within)

    @property
    def _words(self) -> str:
        return f"volume against {self.against}"

    @property
    def _limit(self) -> str:
        return f"within {self.within!r}"

    def _check(self) -> None:
        is_some_whole(self.label, "against", self.against)
        is_some_number(self.label, "within", self.within)
        if isinf(self.within):
            raise TopologyError(f"{self.label}: within {self.within} would take every volume")
        if not 1 <= self.against <= MOST_AGAINST:
            raise TopologyError(f"{self.label}: against is not from 1 to {MOST_AGAINST:,} extents")
        if self.within < 0:
            raise TopologyError(f"{self.label}: within {self.within} is below zero")


def _check_bounds(check: Check) -> None:
    low, high = check.bounds
    if low is None and high is None:
        raise TopologyError(f"{check.label}: every value would do; say at_least or at_most")
    if low is not None and high is not None and low > high:
        raise TopologyError(f"{check.label}: at_least {low:g} is above at_most {high:g}")


def _check_shares(check: Check) -> None:
    for name, bound in zip(("at_least", "at_most"), check.bounds, strict=True):
        is_number(check.label, name, bound)
        if bound is not None and not 0 <= bound <= 1:
            raise TopologyError(f"{check.label}: {name} {bound:g} is a share, from 0 to 1")
    _check_bounds(check)
