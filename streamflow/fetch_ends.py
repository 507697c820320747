"""A fetch that waits after a failure ends when its consumer does.

aiokafka cancels its fetches when a consumer is closed, and awaits the end of each; but where one
waits after a failed attempt, it ends with the cancellation, and so does the closing. Faust's
consumer thread did not end then: a worker that was told to stop while a connection was down had to
be left half a minute later, with exit code 1.

`Fetcher._proc_fetch_request` is replaced for the whole process: Faust makes consumers of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.consumer.fetcher import Fetcher

_fetch = Fetcher._proc_fetch_request


async def _proc_fetch_request(fetcher: Any, assignment: Any, node_id: Any, request: Any) -> bool:
    """As a fetch that is cancelled while it waits for its answer: nobody needs to be woken."""
    try:
        return await _fetch(fetcher, assignment, node_id, request)
    except asyncio.CancelledError:
        return False


def end_waiting_fetches() -> None:
    """From now on for all consumers of this process."""
    replaced: Any = Fetcher
    replaced._proc_fetch_request = _proc_fetch_request
