"""The end of a coroutine that is to end now."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancelled(runner: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end.

    Once is not always enough: in Python 3.11 `wait_for` forgets a cancellation that comes together
    with what it waited for, and the Kafka client waits so.
    """
    while not runner.done():
        runner.cancel()
        await asyncio.wait({runner}, timeout=0.1)
