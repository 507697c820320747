"""A real worker as a process of its own, and what it leaves behind."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition

from streamflow.batch import Record, TopicPartition
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.edges.partitioner import default_partition

ROOT = Path(__file__).parents[2]
FOREVER = {"retention.ms": "-1"}


@dataclass
class WorkerUnderTest:
    """Starts, kills and awaits workers of one app on one broker."""

    bootstrap: str
    app: str
    folder: Path
    module: str = "topologies.flights"
    environment: Mapping[str, str] = field(default_factory=dict)
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return f"{self.app}."

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def connection(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap}

    def start(self, *more: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a worker; it is bounded unless the options say otherwise."""
        command = [
            *(sys.executable, "-m", "streamflow", "worker", self.module, "--json"),
            *("--log-level", "info"),
            *("--broker", self.bootstrap, "--app-id", self.app, "--topic-prefix", self.prefix),
            *("--lake", str(self.lake), "--state-dir", str(self.folder / "state"), *more),
        ]
        worker = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "STREAMFLOW_SESSION_TIMEOUT": "PT6S",
                **self.environment,
                **environment,
            },
        )
        self.started.append(worker)
        return worker

    def do_as_told(
        self, command: str, words: bytes, *more: str
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run the command that a worker has named in its words, as it stands there."""
        found = re.search(rf"`streamflow ({command} [^`]*)`", words.decode())
        assert found is not None, words.decode()
        return subprocess.run(
            [sys.executable, "-m", "streamflow", *shlex.split(found[1]), *more],
            cwd=ROOT,
            capture_output=True,
            timeout=120,
            check=False,
        )

    def close(self) -> None:
        """Leave no worker behind, whatever happened."""
        for worker in self.started:
            if worker.poll() is None:
                self.kill(worker)

    def finish(self, worker: "subprocess.Popen[bytes]", timeout: float = 240) -> dict[str, Any]:
        """Wait for a worker to end well; returns its summary."""
        try:
            out, err = worker.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.SIGUSR1)
            worker.send_signal(signal.SIGTERM)
            raise AssertionError(self.last_words(worker)) from None
        assert worker.returncode == 0, err.decode()[-4000:]
        return orjson.loads(out)

    def last_words(self, worker: "subprocess.Popen[bytes]") -> str:
        """What a worker that hangs has to say before it is killed."""
        try:
            _, err = worker.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            worker.kill()
            _, err = worker.communicate()
        return f"the worker did not end:\n{err.decode()[-20_000:]}"

    def kill(self, worker: "subprocess.Popen[bytes]") -> None:
        """Kill -9."""
        worker.send_signal(signal.SIGKILL)
        worker.communicate()

    def wait_until(self, worker: "subprocess.Popen[bytes]", reached: Callable[[], bool]) -> None:
        """Wait for a condition while the worker is at it."""
        deadline = time.monotonic() + 120
        while not reached():
            assert worker.poll() is None, (worker.communicate()[1] or b"").decode()[-4000:]
            assert time.monotonic() < deadline, "the worker did not get there in two minutes"

    def create(self, topic: str, partitions: int) -> None:
        async def go() -> None:
            async with KafkaAdmin(self.connection) as admin:
                await admin.create([TopicSpec(self.prefix + topic, partitions, FOREVER)])

        asyncio.run(go())

    def produce(
        self, topic: str, records: Iterable[Record], partitions: int, batch_bytes: int = 900_000
    ) -> None:
        asyncio.run(self._produce(self.prefix + topic, records, partitions, batch_bytes))

    def read(self, topic: str) -> list[Record]:
        """Every committed record of a topic of the topology."""
        return asyncio.run(self._read(self.prefix + topic))

    def wait_until_committed(self, topic: str, partitions: int, offset: int) -> None:
        """Wait for what a worker that has ended says it committed: it is visible a little later."""
        deadline = time.monotonic() + 30
        while (found := self.committed(topic, partitions)) != offset:
            assert time.monotonic() < deadline, f"committed {found} of {topic}, not {offset}"

    def committed(self, topic: str, partitions: int) -> int:
        """The sum of the group's offsets on a topic."""

        async def go() -> int:
            async with KafkaAdmin(self.connection) as admin:
                tps = [TopicPartition(self.prefix + topic, p) for p in range(partitions)]
                return sum([await admin.group_offset(self.app, tp) or 0 for tp in tps])

        return asyncio.run(go())

    async def _produce(
        self, topic: str, records: Iterable[Record], partitions: int, batch_bytes: int
    ) -> None:
        producer = AIOKafkaProducer(
            **self.connection, max_batch_size=batch_bytes, max_request_size=64_000_000
        )
        await producer.start()
        try:
            known: dict[bytes | None, int] = {None: 0}
            batches: dict[int, Any] = {}
            futures: list[Any] = []
            for record in records:
                if record.key not in known:
                    known[record.key] = default_partition(record.key or b"", partitions)
                to = known[record.key]
                batch = batches.setdefault(to, producer.create_batch())
                if not _append(batch, record):
                    futures.append(await producer.send_batch(batch, topic, partition=to))
                    batches[to] = producer.create_batch()
                    _append(batches[to], record)
            for to, batch in batches.items():
                futures.append(await producer.send_batch(batch, topic, partition=to))
            await asyncio.gather(*futures)
        finally:
            await producer.stop()

    async def _read(self, topic: str) -> list[Record]:
        consumer = AIOKafkaConsumer(
            **self.connection, isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        try:
            partitions = await self._partitions(topic)
            tps = [KafkaTopicPartition(topic, p) for p in range(partitions)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            ends = await self._settled(consumer, tps)
            found: list[Record] = []
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for rows in (await consumer.getmany(timeout_ms=200)).values():
                    found += [Record(r.key, r.value, r.timestamp, tuple(r.headers)) for r in rows]
            return found
        finally:
            await consumer.stop()

    async def _settled(self, committed: Any, tps: list[KafkaTopicPartition]) -> Any:
        """The ends of partitions in which no transaction is open.

        A commit is answered before its marker is written: until then its records are not readable.
        """
        every = AIOKafkaConsumer(**self.connection, enable_auto_commit=False)
        await every.start()
        try:
            deadline = time.monotonic() + 60
            while (ends := await committed.end_offsets(tps)) != await every.end_offsets(tps):
                assert time.monotonic() < deadline, f"a transaction stays open: {ends}"
            return ends
        finally:
            await every.stop()

    async def _partitions(self, topic: str) -> int:
        async with KafkaAdmin(self.connection) as admin:
            return (await admin.partitions([topic]))[topic]


def _append(batch: Any, record: Record) -> bool:
    made = batch.append(
        key=record.key, value=record.value, timestamp=record.timestamp, headers=list(record.headers)
    )
    return made is not None
