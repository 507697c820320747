"""A lane of the sink stage: feeds one rows partition to its `SinkPartition`, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.engine.cancelled import cancelled
from streamflow.engine.inbox import Arrival, Inbox
from streamflow.engine.opening import until_it_passes
from streamflow.engine.overtaken import overtaken
from streamflow.engine.pauses import Pauses, Reason
from streamflow.engine.retries import TABLE, Retries
from streamflow.engine.sink import SinkPartition
from streamflow.engine.watchdog import Standing
from streamflow.errors import SinkRefused, SinkUnavailable, StreamflowError, TableAway
from streamflow.retry import RetryPolicy

log = logging.getLogger(__name__)

#: How often a sink looks at the clock.
TICK_SECONDS = 1.0
#: Why the partition of a table waits that does not take writes.
_REASONS: tuple[Reason, Reason] = ("breaker", "disk")


class SinkLane:
    """Runs one partition of the sink stage until it is closed. Closing drops its buffers."""

    def __init__(
        self,
        tp: TopicPartition,
        make: Callable[[], SinkPartition],
        bounds: Callable[[], Awaitable[tuple[int, int]]],
        trim: Callable[[TopicPartition, int], Awaitable[None]],
        pauses: Pauses,
        on_refused: Callable[[StreamflowError], None],
        retry: RetryPolicy = TABLE,
    ) -> None:
        self.tp = tp
        self.sink: SinkPartition | None = None
        self._make = make
        self._bounds = bounds
        self._trim = trim
        self._on_refused = on_refused
        self._pauses = pauses
        self._inbox = Inbox(tp, pauses)
        self._inbox.held_up = True  # what writes is a thread: nobody else has to wait for it
        self._runner: asyncio.Task[None] | None = None
        self._closing = False
        self._held: Arrival | None = None
        self._retry = retry
        self._retries: Retries | None = None
        #: The next offset to read, and that up to which all is visible; also of one that is closed.
        self.read = self.rolled = 0

    @property
    def is_open(self) -> bool:
        """Is the sink at work?"""
        return self.sink is not None and self._runner is not None and not self._closing

    @property
    def is_archive(self) -> bool:
        """Does it read a topic of others? Told once it has been opened."""
        return self.sink is not None and self.sink.spec.source is not None

    @property
    def done(self) -> bool:
        """Is everything of an ended input in visible files?"""
        return self.sink is not None and self.sink.done

    @property
    def standing(self) -> Standing | None:
        """How far it is; rows that are held wait for their roll, and are nobody's fault."""
        sink = self.sink
        return sink and Standing(sink.wanted, sink.wanted, idle=True)

    async def open(self) -> int:
        """Open the chain; returns the position to seek to. Then call `start`."""
        first, stop = await self._bounds()
        sink = self._make()
        position = await asyncio.to_thread(sink.open, first, stop)
        self.sink = sink
        self._note(sink)
        return position

    def start(self) -> None:
        """Begin to work on what arrives."""
        self._runner = asyncio.create_task(self._run(), name=f"sink lane {self.tp}")

    async def put(self, arrival: Arrival) -> None:
        """Hand a batch over; see `Inbox.put`. A closed lane forgets it."""
        await self._inbox.put(arrival)

    def lag_bytes(self, end: int) -> int:
        """About how many bytes of rows before this end of the topic are in no visible file."""
        return round((end - self.sink.position) * self.sink.mean_bytes) if self.sink else 0

    async def close(self) -> None:
        """Stop at once, without a roll; Kafka has the rows."""
        self._closing = True
        if self._runner is not None:
            await cancelled(self._runner)
        await self._inbox.close()
        if self.sink is not None:
            self.sink.close()

    async def _run(self) -> None:
        while not self._closing:
            try:
                await self._work()
            except SinkUnavailable as error:
                log.warning("%s: the table does not take writes, trying again: %s", self.tp, error)
                await self._stand(error)
            except StreamflowError as error:
                self._on_refused(error)
                return
            except Exception as error:  # nobody would see that this lane has ended
                log.error("%s: the sink failed", self.tp, exc_info=error)
                self._on_refused(SinkRefused(f"{self.tp}: the sink failed: {error!r}"))
                return

    async def _stand(self, error: SinkUnavailable) -> None:
        """Wait, for as long as its circuit breaker is open, or by the retry policy."""
        now = asyncio.get_running_loop().time()
        self._retries = self._retries or Retries(self._retry, Random(), now)
        is_away = isinstance(error, TableAway)
        reason, other = _REASONS if is_away else _REASONS[::-1]
        await self._pauses.add(self.tp, reason, str(error))
        await self._pauses.remove(self.tp, other)
        left = error.seconds if is_away else 0
        await asyncio.sleep(left or self._retries.wait(now) or 0)

    async def _work(self) -> None:
        """Feed the sink; after `SinkUnavailable` the next turn repeats what was in hand."""
        sink = self.sink
        assert sink is not None
        while not self._closing:
            if self._held is None:
                self._held = await self._inbox.get(TICK_SECONDS)
            if self._held is None:
                done = await asyncio.to_thread(sink.tick)
            else:
                await self._see_that_all_came(sink, self._held.batch)
                done = await asyncio.to_thread(sink.receive, self._held.batch)
                self._held.ack()
                self._held = None
            self._note(sink)
            if self._retries is not None:
                self._retries = None
                log.warning("%s: the table takes writes again", self.tp)
                for reason in _REASONS:
                    await self._pauses.remove(self.tp, reason)
            if done is not None:
                await self._trim_log(done)

    def _note(self, sink: SinkPartition) -> None:
        self.read, self.rolled = sink.wanted, sink.position

    async def _see_that_all_came(self, sink: SinkPartition, batch: MicroBatch) -> None:
        """Of a topic that is not ours, which may forget what was not read.

        Raises:
            SinkRefused: it has; what was read before is rolled by then.
        """
        if not self.is_archive:
            return
        found: list[int | None] = []

        async def look() -> None:
            found.append(await overtaken(batch, sink.wanted, self._bounds))

        await until_it_passes(f"the beginning of {self.tp}", look)
        if found[-1] is not None:
            await asyncio.to_thread(sink.roll)
            raise sink.deleted(found[-1])

    async def _trim_log(self, before: int) -> None:
        try:
            await self._trim(self.tp, before)
        except Exception as error:  # trimming saves room only; the next roll tries again
            log.warning("%s: not trimmed up to %d: %s", self.tp, before, error)
