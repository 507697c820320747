"""Running the engine's coroutines without an event loop: memory ports never suspend."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


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
