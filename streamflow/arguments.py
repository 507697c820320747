"""Types of what a topology is declared with: a wrong one is told by name, where it was said."""

from __future__ import annotations

from datetime import timedelta

from streamflow.errors import TopologyError


def is_duration(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a `timedelta`, or None."""
    if value is not None and not isinstance(value, timedelta):
        raise TopologyError(
            f"{where}: {name} is {value!r}, which is no timedelta; say timedelta(hours=1)"
        )


def is_number(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a number, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TopologyError(f"{where}: {name} is {value!r}, which is no number")


def is_whole(where: str, name: str, value: object) -> None:
    """Raises `TopologyError` unless the value is a whole number, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TopologyError(f"{where}: {name} is {value!r}, which is no whole number")
