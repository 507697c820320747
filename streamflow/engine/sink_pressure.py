"""Pauses source partitions while too many of their rows wait for a table.

Rows that are committed and not yet in a file wait in Kafka, so a table that is slow or away loses
nothing; but it must not fall behind without end. What waits is measured from the end of the chain
of cuts, in offsets, and told in bytes by the mean size of the records that have been read.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from streamflow.batch import TopicPartition
from streamflow.engine.pauses import Pauses
from streamflow.engine.periodic import again_and_again
from streamflow.engine.sink_lane import SinkLane

log = logging.getLogger(__name__)

PERIOD_SECONDS = 2.0
#: Partitions go on when no more than this share of the bound waits.
RELIEVED = 0.5

Bounds = Callable[[Sequence[TopicPartition]], Awaitable[dict[TopicPartition, tuple[int, int]]]]


class SinkPressure:
    """Watches the lag of sinks, from assignment to revocation.

    Args:
        limit: Bytes of rows that may wait for a table, of one partition.
        sources: Of each rows partition the source partitions that fill it.
        bounds: First offsets and ends of rows partitions.

    Affects: the pauses of the source partitions, with the reason `pressure`.
    """

    def __init__(
        self,
        limit: int,
        sinks: Mapping[TopicPartition, SinkLane],
        sources: Mapping[TopicPartition, Collection[TopicPartition]],
        pauses: Pauses,
        bounds: Bounds,
    ) -> None:
        self._limit = limit
        self._sinks = sinks
        self._sources = sources
        self._pauses = pauses
        self._bounds = bounds

    async def run(self) -> None:
        """Look until cancelled."""
        failed = "the lag of the sinks is not known now"
        await again_and_again(self.turn, PERIOD_SECONDS, log, failed)

    async def turn(self) -> None:
        """Look once."""
        ends = await self._bounds(list(self._sinks))
        waiting: dict[TopicPartition, dict[TopicPartition, int]] = {}
        for rows, lane in self._sinks.items():
            for source in self._sources[rows]:
                waiting.setdefault(source, {})[rows] = lane.lag_bytes(ends[rows][1])
        for source, lags in waiting.items():
            await self._settle(source, lags)

    async def _settle(self, source: TopicPartition, lags: Mapping[TopicPartition, int]) -> None:
        held = "pressure" in self._pauses.reasons(source)
        slowest = max(lags, key=lambda rows: lags[rows])
        most = lags[slowest]
        words = f"about {most:,} bytes of {slowest} wait for their table"
        if most > self._limit and not held:
            log.warning("%s: paused: %s", source, words)
            await self._pauses.add(source, "pressure", words)
        elif held and most <= self._limit * RELIEVED:
            log.warning("%s: goes on: %s", source, words)
            await self._pauses.remove(source, "pressure")
