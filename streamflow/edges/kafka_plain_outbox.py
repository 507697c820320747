"""A task's producer on Kafka without transactions, for delivery at least once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer

from streamflow.batch import TopicPartition
from streamflow.edges.kafka_outbox import (
    BATCH_BYTES,
    REQUEST_BYTES,
    TRANSACTION_TIMEOUT_MS,
    KafkaOutbox,
    usual_bytes,
)


class KafkaPlainOutbox(KafkaOutbox):
    """An `Outbox` whose records are there as soon as the broker has them, and cannot be taken back.

    `fence` keeps out owners that use transactions: it initialises their id, where the broker knows
    of ids (`has_ids`). Owners like this one it cannot keep out; what they write is void by its
    epoch (`engine/takeover.py`). The group's offsets are left to the consumer.
    """

    _transactional = False

    def __init__(
        self,
        connection: Mapping[str, Any],
        transactional_id: str,
        group: str,
        batch_bytes: Callable[[str], int] = usual_bytes,
        *,
        has_ids: bool = True,
    ) -> None:
        super().__init__(connection, transactional_id, group, batch_bytes)
        self._has_ids = has_ids

    async def fence(self) -> None:
        """See `Outbox.fence`."""
        await self.close()
        self._sent = []
        async with self._errors("fence"):
            if self._has_ids:
                await self._keep_out_transactions()
            # Without ids a record that was not answered may come twice; sinks know it by its place.
            self._producer = AIOKafkaProducer(
                **self._connection,
                enable_idempotence=self._has_ids,
                acks="all",
                max_batch_size=BATCH_BYTES,
                max_request_size=REQUEST_BYTES,
            )
            await self._producer.start()

    async def begin(self) -> None:
        """See `Outbox.begin`; nothing is opened."""
        self._sent = []

    async def offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `Outbox.offsets`; the consumer commits what is acknowledged to it."""

    async def commit(self) -> None:
        """See `Outbox.commit`; nothing is left to do."""
        self._sent = []

    async def abort(self) -> None:
        """See `Outbox.abort`; nothing can be taken back."""
        self._sent = []

    async def _keep_out_transactions(self) -> None:
        fencing = AIOKafkaProducer(
            **self._connection,
            transactional_id=self._id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        )
        try:
            await fencing.start()
        finally:
            with suppress(Exception):
                async with asyncio.timeout(5):
                    await fencing.stop()
