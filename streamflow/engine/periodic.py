"""What is looked at again and again beside the work, and harms nothing where it cannot be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable


async def again_and_again(
    turn: Callable[[], Awaitable[None]], seconds: float, log: logging.Logger, failed: str
) -> None:
    """Take turns, with a rest of so many seconds between them, until cancelled.

    One that fails is told of, as `failed`, and leaves all as it is: nothing is known then.
    """
    while True:
        try:
            await turn()
        except Exception as error:
            log.warning("%s: %r", failed, error)
        await asyncio.sleep(seconds)
