"""What a log says last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from streamflow.ports import Changelog

T = TypeVar("T")

#: Records at the end that are read first, and how many times more each time nothing was found.
SPAN, MORE = 16, 16


async def last_in(log: Changelog, found_in: Callable[[bytes, bytes | None], T | None]) -> T | None:
    """What is found in the last record, key and value, in which there is something; None where it
    is in none. Gives the log's connections up.
    """
    first, stop = await log.bounds()
    span = SPAN
    found: T | None = None
    while stop > first and found is None:
        start = max(first, stop - span)
        told = [found_in(key, value) for key, value in await log.read(start, stop)]
        found = next((one for one in reversed(told) if one is not None), None)
        if start == first:
            break
        span *= MORE
    await log.close()
    return found
