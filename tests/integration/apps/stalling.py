"""The flights, in a worker whose Faust stops to fetch after the first records, without a word.

A cancellation that reaches its fetcher outside of a rebalance ends that, and nothing starts it
again: the consumer stays in its group and heartbeats go on, the agents and lanes wait for batches.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from streamflow.engine.transport import BatchConsumer
from topologies.flights import topology

__all__ = ["topology"]

#: Set to let it happen.
STALLS = "TEST_STALLS"
_getmany = BatchConsumer.getmany


async def _once(
    consumer: Any,
    timeout: float,  # noqa: ASYNC109  (Faust's signature)
) -> AsyncIterator[tuple[Any, Any]]:
    fetched = 0
    async for tp, message in _getmany(consumer, timeout):
        fetched += len(message.batch)
        yield tp, message
    if fetched:
        raise asyncio.CancelledError


if STALLS in os.environ:
    consumer: Any = BatchConsumer
    consumer.getmany = _once
