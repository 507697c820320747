"""Leap seconds, given as :60.

Unix time, Kafka's, Python's and Arrow's have none: the second 23:59:60 has the number of the one
after it. So it is read as that one, as PostgreSQL does, and its fraction is kept.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator

_LEAP = re.compile(r"(.*\d\d:\d\d):60(.*)")
_SECOND = timedelta(seconds=1)


def leap_second_moved(value: Any) -> Any:
    """The first second of the next month for text of a leap second; else the value as it is.

    A leap second has a zone, and is the last of a month in UTC. Any other :60 is no time.
    """
    found = _LEAP.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    try:
        next_one = datetime.fromisoformat(f"{found[1]}:59{found[2]}") + _SECOND
        there = next_one.astimezone(UTC) if next_one.tzinfo is not None else None
    except (ValueError, OverflowError):
        return value
    if there is None or (there.day, there.hour, there.minute, there.second) != (1, 0, 0, 0):
        return value
    return next_one


#: An `AwareDatetime` that takes leap seconds too. A model with such a field is read by pydantic,
#: at about a third of the speed of plain fields.
LeapDatetime = Annotated[AwareDatetime, BeforeValidator(leap_second_moved)]
