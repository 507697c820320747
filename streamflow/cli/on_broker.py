"""Commands for people on a broker: where none answers, they say so after a short time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streamflow.engine.settings import Settings
from streamflow.service import broker_answers

T = TypeVar("T")


def run_on_broker(settings: Settings, work: Callable[[], Awaitable[T]]) -> T:
    """Do it when a broker answers, in an event loop of its own.

    Raises:
        NoBroker: none has answered within `STREAMFLOW_BROKER_WAIT`.
    """

    async def go() -> T:
        await broker_answers(settings)
        return await work()

    return asyncio.run(go())
