"""How much of a micro-batch is worked on at once: all of it, unless memory is short.

Where batches are cut cannot be seen in any result, so a batch that memory does not suffice for is
done in halves, down to single records, and each part is committed before the next one. After a
while of success the parts grow again.
"""

from __future__ import annotations

import logging

from streamflow.batch import MicroBatch
from streamflow.errors import TaskLost

log = logging.getLogger(__name__)

#: Parts of one size that are done before larger ones are tried.
TRIED = 8


class Portions:
    """The size of the parts of one task's batches, in records.

    Caller: the lane, for all lives of its task.
    """

    def __init__(self) -> None:
        self._size: int | None = None
        self._whole = 0  # what was too much when it began
        self._done = 0

    @property
    def small(self) -> bool:
        """Is memory short, so that what is in hand is to be committed soon?"""
        return self._size is not None

    def first_of(self, batch: MicroBatch) -> MicroBatch:
        """The part of a batch that is worked on now."""
        if self._size is None or len(batch) <= self._size:
            return batch
        return batch.cut(batch.start, batch.offsets[self._size])

    def done(self, part: MicroBatch) -> None:
        """A part has been worked on."""
        if self._size is None or len(part) < self._size:
            return
        self._done += 1
        if self._done == TRIED:
            self._done = 0
            self._size *= 2
            if self._size >= self._whole:
                self._size = None

    def too_much(self, part: MicroBatch, error: MemoryError) -> None:
        """Memory did not suffice for a part.

        Raises:
            TaskLost: it was a single record, which is tried again after a pause.
        """
        records = len(part)
        if records <= 1:
            raise TaskLost(
                f"{part.tp}@{part.start}: memory does not suffice even for this record alone: "
                f"{error!r}. It is tried again; give the worker more memory"
            ) from error
        self.halve(part, records)

    def halve(self, what: object, records: int) -> None:
        """Half of so many records at once from here on."""
        if self._size is None:
            self._whole = records
        self._size, self._done = max(records // 2, 1), 0
        log.warning("%s: memory is short; going on with %d records at once", what, self._size)
