"""Idleness: which watermark a partition gets that has nothing to give.

A partition is idle when fetches have shown for `idle_after` that nothing follows its position. Its
watermark then becomes a value, in this order:

- not all of the source's partitions are idle: the smallest watermark of those that are not. Where
  one of these has none, or nobody knows it, there is no value: no partition is ever left out;
- all are idle: its own when it fell silent, plus the time since;
- all are idle and it had none: the smallest of those that have one.

The value is a `Decision` of `step.py`, which `advance.decide` applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from streamflow.core.step import INFINITY


@dataclass(frozen=True)
class Mark:
    """What is known of a partition: its committed watermark, None for none yet; and is it idle?"""

    watermark: int | None
    idle: bool


@dataclass(frozen=True)
class Silence:
    """How long a partition has had nothing to give. Times in microseconds.

    `since` is the first time at which a fetch has shown its end, None while none has; `until` the
    last. `own` is the watermark it had at `since`, or would have had by the first one that it got
    later. A record, lag, a pause, an outage and a new
    assignment each end a silence: the next one is a new `Silence`.
    """

    since: int | None = None
    until: int = 0
    own: int | None = None

    def at_end(self, at: int, watermark: int | None) -> Silence:
        """A fetch has succeeded and shown that nothing follows the position."""
        if self.since is None:
            return Silence(at, at, watermark)
        own = self.own
        if own is None and watermark is not None:
            own = watermark - (at - self.since)
        return replace(self, until=at, own=own)

    @property
    def lasted(self) -> int:
        """For how long."""
        return 0 if self.since is None else self.until - self.since


def idle_watermark(silence: Silence, others: Sequence[Mark | None]) -> int | None:
    """The watermark of a partition that is idle, None where none can be told.

    Args:
        silence: That of the partition.
        others: The source's other partitions; None for one of which nothing is known.
    """
    busy = [mark for mark in others if mark is None or not mark.idle]
    if not busy and silence.own is not None:
        return silence.own + silence.lasted
    marks = [None if mark is None else mark.watermark for mark in busy or others]
    if busy and None in marks:
        return None
    # Where the input has ended the watermark is infinite, which says nothing of the time.
    return min((mark for mark in marks if mark not in (None, INFINITY)), default=None)
