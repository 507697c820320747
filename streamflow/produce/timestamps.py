"""Reads a record's timestamp from a JSON value.

Text is ISO 8601, in UTC where it names no zone; a leap second, given as :60, is the second after
it. A number is an epoch time, and its unit is told by its size: below 1e11 it counts seconds (up to
the year 5138), below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. So times in
milliseconds are understood from March 1973 on.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

from streamflow.leap_second import leap_second_moved

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_millis(value: object) -> int:
    """The time as whole milliseconds since the epoch, rounded down.

    Raises:
        ValueError: it is no time, or one before 1970, which Kafka cannot store.
    """
    if isinstance(value, str):
        millis = _from_text(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        millis = _from_number(value)
    else:
        raise ValueError(f"{value!r} is no time; give ISO 8601 text or an epoch number")
    if millis < 0:
        raise ValueError(f"{value!r} is before 1970, which Kafka cannot store")
    return millis


def _from_text(text: str) -> int:
    try:
        moved = leap_second_moved(text)
        moment = moved if isinstance(moved, datetime) else datetime.fromisoformat(moved)
    except ValueError:
        raise ValueError(f"{text!r} is no ISO 8601 time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MILLISECOND


def _from_number(number: float) -> int:
    size = abs(number)
    if size < 1e11:
        # Exactly: a float of seconds times 1000 can fall just short of its millisecond.
        seconds = number if isinstance(number, int) else Decimal(repr(number))
        return int((Decimal(seconds) * 1000).to_integral_value(ROUND_FLOOR))
    if size < 1e14:
        return int(number // 1)
    if size < 1e17:
        return int(number // 1000)
    return int(number // 1_000_000)
