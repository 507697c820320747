"""The memory of rolls: rows that are unpacked to be written, under one bound for a whole worker.

A roll takes what it needs, up to half of all, and waits for it in turn; so two large rolls go on at
once, or many small ones, and nobody waits for ever. What is more than its share it unpacks in parts
(`sink_rows.py`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

MIB = 1024 * 1024
ROLL_MEMORY = 256 * MIB
#: No more of the rows is unpacked at once to look at them.
PIECE_BYTES = 4 * MIB


class RollMemory:
    """Shares bytes out among rolls. For use by several threads.

    A share holds the rows for files twice, as they come and as they are written, and two pieces
    beside them.

    Args:
        limit: Bytes of all shares together.
    """

    def __init__(self, limit: int = ROLL_MEMORY) -> None:
        self._largest = max(limit // 2, 1)
        self._free = 2 * self._largest
        self._turns: deque[object] = deque()
        self._changed = threading.Condition()  # guards _free and _turns
        #: Rows are unpacked in pieces of this, or of one chunk where that is larger.
        self.piece = max(min(PIECE_BYTES, limit // 32), 1)
        #: The room for rows in the largest share.
        self.room = self._room(self._largest)

    @property
    def waiting(self) -> int:
        """How many rolls wait for their share."""
        with self._changed:
            return len(self._turns)

    @contextmanager
    def share(self, unpacked: int) -> Generator[int]:
        """Room to have so many bytes of rows unpacked, or some of them; waits until there is."""
        mine = min(2 * unpacked + 2 * self.piece, self._largest)
        turn = object()
        with self._changed:
            self._turns.append(turn)
            try:
                self._changed.wait_for(lambda: self._turns[0] is turn and mine <= self._free)
                self._free -= mine
            finally:
                self._turns.remove(turn)
                self._changed.notify_all()
        try:
            yield self._room(mine)
        finally:
            with self._changed:
                self._free += mine
                self._changed.notify_all()

    def _room(self, share: int) -> int:
        return max((share - 2 * self.piece) // 2, self.piece)
