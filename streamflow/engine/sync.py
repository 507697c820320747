"""Running the engine's coroutines without an event loop: memory ports never suspend. What a user's
own functions wait for is waited for in a loop beside it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

A = TypeVar("A")
T = TypeVar("T")


class Beside:
    """An event loop beside code that has none; closed with this, or by `close`."""

    def __init__(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        # Not by what an `asyncio.Runner` does then: the garbage collector may come by while
        # another loop runs, and only one can at a time.
        self.close = weakref.finalize(self, loop.close)

    def blocking(
        self, function: Callable[[A], Coroutine[Any, Any, T]]
    ) -> Callable[[A], Awaitable[T]]:
        """The same function, which stands still where the other would suspend."""
        loop = self._loop

        async def call(given: A) -> T:
            return loop.run_until_complete(function(given))

        return call


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits.

    Raises:
        RuntimeError: it did wait, so a port that is not in memory was used.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("a memory port suspended; only memory ports can be driven without a loop")
