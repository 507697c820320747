"""When a window gives results besides its final one, and what becomes of rows after it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from streamflow.arguments import in_words, is_some_duration
from streamflow.errors import TopologyError
from streamflow.windows import Session, Sliding, Window


@dataclass(frozen=True)
class Every:
    """Early results whenever the watermark passes a multiple of `interval`, counted from 1970."""

    interval: timedelta


@dataclass(frozen=True)
class Update:
    """Late rows still count for `keep` after a window is final: they correct its result."""

    keep: timedelta


Early = Literal["at_end"] | Every
LatePolicy = Literal["side_output", "dead_letter"] | Update


def every(interval: timedelta) -> Every:
    """Early results whenever the watermark passes a multiple of `interval`; for `early=`."""
    return Every(interval)


def update(*, keep: timedelta) -> Update:
    """Late rows correct results for `keep` of event time; for `late=`."""
    return Update(keep)


def check_triggers(
    where: str, window: Window, grace: timedelta, early: Early | None, late: LatePolicy
) -> None:
    """Raises `TopologyError` for what cannot be kept, or would never show."""
    _check_early(where, window, grace, early)
    _check_late(where, window, late)


def _check_early(where: str, window: Window, grace: timedelta, early: Early | None) -> None:
    if early is not None and isinstance(window, Session | Sliding):
        raise TopologyError(
            f"{where}: {type(window).__name__} has no early results, since a row that comes later "
            "can still change its bounds; leave early out, or take Tumbling or Hopping windows"
        )
    match early:
        case None:
            pass
        case "at_end":
            if not grace:
                raise TopologyError(
                    f'{where}: early="at_end" without grace would come together with the final '
                    "result; give it a grace, or leave early out"
                )
        case Every(interval):
            is_some_duration(where, "every(...)", interval)
            if interval <= timedelta(0):
                raise TopologyError(f"{where}: every({in_words(interval)}) must be above zero")
        case _:
            raise TopologyError(f'{where}: early={early!r}; it is "at_end" or every(timedelta)')


def _check_late(where: str, window: Window, late: LatePolicy) -> None:
    match late:
        case "side_output" | "dead_letter":
            pass
        case Update(keep):
            if isinstance(window, Session | Sliding):
                raise TopologyError(
                    f"{where}: late rows cannot update {type(window).__name__}: one of them can "
                    'join or change many results that are out already; take "side_output" or '
                    '"dead_letter"'
                )
            is_some_duration(where, "update(keep=...)", keep)
            if keep <= timedelta(0):
                raise TopologyError(f"{where}: update(keep={in_words(keep)}) must be above zero")
        case _:
            raise TopologyError(
                f'{where}: late={late!r}; it is "side_output", "dead_letter" or '
                "update(keep=timedelta); to lose late rows on purpose, end their side with "
                ".late.drop()"
            )
