"""Windows as values. Intervals are half open and aligned to the epoch (plus `offset`), in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from streamflow.errors import TopologyError

MICROSECOND = timedelta(microseconds=1)


def micros(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // MICROSECOND


@dataclass(frozen=True)
class Tumbling:
    """Windows of one size that meet: each row is in exactly one."""

    size: timedelta
    offset: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.size <= timedelta(0):
            raise TopologyError(f"Tumbling({self.size}): the size must be above zero")
