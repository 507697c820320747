"""What has arrived for a lane and is not taken yet.

One agent brings the batches of all partitions of a topic, so nobody's batches come while it waits
to hand one over. A lane that computes lets it wait: nothing else goes on then either, and what
waits in memory stays bounded. A lane that itself waits, for an answer or to be taken up again, must
not let it: its partition is paused when there is enough, and what is on its way by then is taken.
While a lane is lost it is forgotten, since the seek brings it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.engine.pauses import Pauses

#: Batches that wait for a task; with the fetch size the bound on its memory, but for those that are
#: on their way when its partition is paused.
QUEUE_BATCHES = 2
#: A wait that is shorter than this holds nobody up: a pause for each would cost more.
PATIENCE_SECONDS = 0.1
#: The same for a commit, most of which is computing.
COMMIT_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Arrival:
    """A micro-batch and what to call when a commit covers it."""

    batch: MicroBatch
    ack: Callable[[], None]


class Inbox:
    """The batches of one partition, in the order they came.

    Caller: `put`, whoever brings batches; all else, the lane.
    Affects: the pause of the partition.
    """

    def __init__(self, tp: TopicPartition, pauses: Pauses) -> None:
        self._tp = tp
        self._pauses = pauses
        self._queue: asyncio.Queue[Arrival] = asyncio.Queue()
        self._moved = asyncio.Event()
        #: Does the lane wait for something else than its batches?
        self.held_up = False
        #: For how long whoever brings batches waits then.
        self.patience = PATIENCE_SECONDS
        self._forgets = False
        self._closed = False

    async def put(self, arrival: Arrival) -> None:
        """Take a batch; waits while there is no room, but not for long while the lane waits too."""
        waited = 0.0
        while self._full and not self._forgets and not self._paused:
            self._moved.clear()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._moved.wait()
            except TimeoutError:
                waited += PATIENCE_SECONDS
                if self.held_up and waited >= self.patience:
                    await self._pauses.add(self._tp, "inbox")
        if not self._forgets:
            self._queue.put_nowait(arrival)
        elif not self._closed and not self._paused:
            await self._pauses.add(self._tp, "inbox")

    async def get(self, within: float) -> Arrival | None:
        """The next batch; None when there was none for so many seconds."""
        try:
            arrival = await asyncio.wait_for(self._queue.get(), within)
        except TimeoutError:
            return None
        self._moved.set()
        await self.relieve()
        return arrival

    def forget(self) -> None:
        """Forget all there is, and whatever comes."""
        self._forgets = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._moved.set()

    def expect(self) -> None:
        """Take what comes again. Call it before the seek that brings it, and `relieve` after."""
        self._forgets = False

    async def relieve(self) -> None:
        """Let the partition run again where there is room."""
        if self._paused and not self._full:
            await self._pauses.remove(self._tp, "inbox")

    async def close(self) -> None:
        """Forget everything, for good; whoever waits to hand something over goes on."""
        self._closed = True
        self.forget()
        await self.relieve()

    @property
    def _full(self) -> bool:
        return self._queue.qsize() >= QUEUE_BATCHES

    @property
    def _paused(self) -> bool:
        return "inbox" in self._pauses.reasons(self._tp)
