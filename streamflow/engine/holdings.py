"""What the sinks of a worker hold in memory, under one bound: who holds most rolls early."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from streamflow.engine.roll_memory import RollMemory


class Holdings:
    """Bytes of rows that are held, by whom. For use by several threads.

    Args:
        limit: More than this is too much; None for any amount.
        rolls: What bounds the rows that are unpacked to be written.
    """

    def __init__(self, limit: int | None = None, rolls: RollMemory | None = None) -> None:
        self.rolls = rolls or RollMemory()
        self._limit = limit
        self._held: dict[Hashable, int] = {}
        self._lock = threading.Lock()  # guards _held

    def hold(self, who: Hashable, nbytes: int) -> None:
        """One of them now holds so much."""
        with self._lock:
            self._held[who] = nbytes

    def forget(self, who: Hashable) -> None:
        """One of them is gone."""
        with self._lock:
            self._held.pop(who, None)

    @property
    def total(self) -> int:
        """What all hold together."""
        with self._lock:
            return sum(self._held.values())

    def too_much(self, who: Hashable) -> bool:
        """Is it for this one to give room? It is when no other holds more."""
        with self._lock:
            mine = self._held.get(who, 0)
            if self._limit is None or sum(self._held.values()) <= self._limit:
                return False
            return mine == max(self._held.values())
