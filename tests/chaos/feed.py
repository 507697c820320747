"""Sends readings all the time, and watches how far the app is."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamflow.batch import TopicPartition
from streamflow.edges.kafka_admin import KafkaAdmin, KafkaOffsets, TopicSpec
from tests.chaos.readings import readings

#: Readings sent at once, and how often.
BURST, EVERY_SECONDS = 60, 0.1
LOOK_SECONDS = 0.2


@dataclass
class Feed:
    """The source topic of one app.

    `recoveries` are the seconds from each call of `fault` until all records that were there at that
    moment are committed.
    """

    bootstrap: str
    app: str
    topic: str
    partitions: int
    seed: int
    sent: int = 0
    recoveries: list[float] = field(default_factory=list)
    committed: Sequence[int] = ()
    ends: Sequence[int] = ()
    longest_stall: float = 0.0
    _moved: float = 0.0
    _faults: list[tuple[float, Sequence[int]]] = field(default_factory=list)

    async def create(self) -> None:
        async with KafkaAdmin({"bootstrap_servers": self.bootstrap}) as admin:
            await admin.create([TopicSpec(self.topic, self.partitions, {"retention.ms": "-1"})])

    async def send(self, until: asyncio.Event) -> None:
        """Send until told to stop; what the broker did not answer for is sent again."""
        source = readings(self.seed)
        producer = await self._producer()
        try:
            while not until.is_set():
                with suppress(KafkaError):  # the oracle goes by what is in the log, not by this
                    await self._burst(producer, islice(source, BURST))
                with suppress(TimeoutError):
                    await asyncio.wait_for(until.wait(), EVERY_SECONDS)
        finally:
            await producer.stop()

    async def watch(self, until: asyncio.Event) -> None:
        """Look at the group's offsets until told to stop."""
        tps = [TopicPartition(self.topic, number) for number in range(self.partitions)]
        while not until.is_set():
            with suppress(Exception):  # a broker that is away is looked at again
                await self._watch(tps, until)

    async def _watch(self, tps: list[TopicPartition], until: asyncio.Event) -> None:
        connection = {"bootstrap_servers": self.bootstrap}
        offsets = KafkaOffsets(connection)
        await offsets.start()
        try:
            async with KafkaAdmin(connection) as admin:
                while not until.is_set():
                    bounds = await offsets.bounds(tps)
                    self.ends = [bounds[tp][1] for tp in tps]
                    self._moves([await admin.group_offset(self.app, tp) or 0 for tp in tps])
                    self._recover()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(until.wait(), LOOK_SECONDS)
        finally:
            await offsets.stop()

    def fault(self) -> None:
        """Something happens now."""
        self._faults.append((time.monotonic(), list(self.ends)))

    @property
    def behind(self) -> int:
        """Records that are not committed."""
        return sum(self.ends) - sum(self.committed)

    def _moves(self, committed: Sequence[int]) -> None:
        now = time.monotonic()
        if sum(committed) != sum(self.committed):
            if self._moved:
                self.longest_stall = max(self.longest_stall, now - self._moved)
            self._moved = now
        self.committed = committed

    def _recover(self) -> None:
        now, left = time.monotonic(), []
        for since, ends in self._faults:
            if all(at >= end for at, end in zip(self.committed, ends, strict=False)):
                self.recoveries.append(now - since)
            else:
                left.append((since, ends))
        self._faults = left

    async def _producer(self) -> Any:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, enable_idempotence=True, linger_ms=5
        )
        await producer.start()
        return producer

    async def _burst(self, producer: Any, burst: Iterator[tuple[bytes, bytes]]) -> None:
        futures = [await producer.send(self.topic, value, key) for key, value in burst]
        for result in await asyncio.gather(*futures, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, KafkaError):
                raise result
            self.sent += not isinstance(result, BaseException)
