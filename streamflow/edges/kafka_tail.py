"""A changelog on Kafka that is looked at again and again, at its end."""

from __future__ import annotations

from typing import Any

from streamflow.edges.kafka_changelog import KafkaChangelog

#: Small pieces: what is done with one holds the event loop up for some milliseconds.
PIECE_BYTES = 512 * 1024


class KafkaTail(KafkaChangelog):
    """A `Tail`. While it is closed its consumer is paused, and asks the broker for nothing."""

    fetch_bytes = PIECE_BYTES

    async def close(self) -> None:
        """See `Tail.close`."""
        if self._consumer is not None:
            self._consumer.pause(self._tp)

    async def stop(self) -> None:
        """See `Tail.stop`."""
        await super().close()

    async def _started(self) -> Any:
        consumer = await super()._started()
        if consumer.paused():
            consumer.resume(self._tp)
        return consumer
