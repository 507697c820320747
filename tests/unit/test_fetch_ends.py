"""A consumer is closed whatever its fetches are doing."""

import asyncio
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import NodeNotReadyError

from streamflow.fetch_ends import _fetch, _proc_fetch_request


class Away(AIOKafkaClient):
    """A client whose broker is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.set()
        raise NodeNotReadyError


class Request:
    """One that asks for nothing."""

    topics = ()


async def closed_while_it_waits(fetch: Any) -> None:
    client = Away()
    fetcher = Fetcher(client, SubscriptionState(), retry_backoff_ms=3_600_000)
    await asyncio.sleep(0)  # it has none of its own yet, and waits for partitions
    waiting = asyncio.create_task(fetch(fetcher, None, 1, Request()))
    fetcher._pending_tasks.add(waiting)
    await client.asked.wait()
    await asyncio.wait_for(fetcher.close(), 10)
    assert waiting.result() is False


def test_a_fetch_that_waits_after_a_failure_ends_with_its_consumer() -> None:
    asyncio.run(closed_while_it_waits(_proc_fetch_request))


def test_without_it_closing_fails() -> None:
    """When this fails, aiokafka does it by itself, and `fetch_ends` can go."""
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(closed_while_it_waits(_fetch))
