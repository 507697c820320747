"""Types of what a topology is declared with: a wrong one is told by name, where it was said."""

from __future__ import annotations

import re
from datetime import timedelta
from math import isnan
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from streamflow.errors import TopologyError

#: Ends of the names under which quality counts what became of rows and thresholds.
COUNTED = (":fixed", ":tripped", ":resumed", ":routed")


def is_duration(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a `timedelta`, or None."""
    if value is not None:
        is_some_duration(where, name, value)


def is_some_duration(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a `timedelta`."""
    if not isinstance(value, timedelta):
        raise TopologyError(
            f"{where}: {name} is {value!r}, which is no timedelta; say timedelta(hours=1)"
        )


def matches(pattern: re.Pattern[str], value: object) -> bool:
    """Is it a text, all of which the pattern describes?"""
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def in_words(duration: timedelta) -> str:
    """A duration as a person writes it: -1:00:00, where Python says -1 day, 23:00:00."""
    return f"-{-duration}" if duration < timedelta(0) else str(duration)


def is_text(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a text that says something, on one line."""
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise TopologyError(f"{where}: {name} is {value!r}, which is no text of one line")


def is_name(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless it is such a text, and none that is counted beside a name."""
    is_text(where, name, value)
    if str(value).endswith(COUNTED):
        raise TopologyError(
            f"{where}: {name} ends as what is counted beside such a name does, in"
            f" {', '.join(COUNTED)}; call it something else"
        )


def is_model(where: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a pydantic model."""
    if not (isinstance(value, type) and issubclass(value, BaseModel)):
        raise TopologyError(
            f"{where}: {value!r} is no pydantic model; give it a class that is derived from "
            "BaseModel"
        )


def is_number(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a number that a float can be, or None."""
    if value is None:
        return
    try:
        number = isinstance(value, int | float) and not isinstance(value, bool) and not isnan(value)
    except OverflowError:
        raise TopologyError(f"{where}: {name} is beyond what a float can be") from None
    if not number:
        raise TopologyError(f"{where}: {name} is {value!r}, which is no number")


def is_some_number(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a number."""
    if value is None:
        raise TopologyError(f"{where}: {name} is None, which is no number")
    is_number(where, name, value)


def is_some_whole(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a whole number."""
    if value is None:
        raise TopologyError(f"{where}: {name} is None, which is no whole number")
    is_whole(where, name, value)


def is_whole(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a whole number, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TopologyError(f"{where}: {name} is {value!r}, which is no whole number")


def is_int64(where: str, name: str, value: int | None) -> None:
    """Raises `TopologyError` unless the value is a whole number of 64 bits, or None."""
    is_whole(where, name, value)
    if value is not None and not -(2**63) <= value < 2**63:
        raise TopologyError(f"{where}: {name} is beyond 64 bits")


def is_zone(where: str, zone: Any) -> None:
    """Raises `TopologyError` unless the value names a time zone that this machine knows."""
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError, TypeError) as error:
        raise TopologyError(
            f"{where}: no time zone {zone!r}; names are like 'Europe/Berlin', and need the system's"
            " time-zone database (package tzdata)"
        ) from error
