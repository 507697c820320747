"""The demonstration on a real Kafka: its own broker, topics and worker, all gone afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console

from streamflow.batch import Record
from streamflow.broker import running_broker
from streamflow.clock import Clock
from streamflow.demo.flights import FLIGHTS, flight_records
from streamflow.demo.outcome import LETTERS, Outcome, some_row, table_size
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.errors import StreamflowError
from streamflow.lineage.trace import original
from streamflow.produce import produce_records

MODULE = "topologies.flights"
TOPIC = "flights"
PARTITIONS = 4
#: A worker that was told to leave has this long before it is killed.
LEAVE_SECONDS = 30.0


@dataclass(frozen=True)
class Run:
    """One run: its app id and its folder. Its broker is its own, so its topics are new as well."""

    name: str
    folder: Path


def demo_on_kafka(run: Run, console: Console, clock: Clock) -> Outcome:
    """Start a broker, produce, run the worker to the end, look at the result, stop everything."""
    with running_broker(install=True, say=console.print) as broker:
        connection = {"bootstrap_servers": broker.bootstrap}
        asyncio.run(_produce(connection, console, clock))
        started = clock.monotonic()
        summary = _work(run, broker.bootstrap)
        seconds = clock.monotonic() - started
        lake = run.folder / "lake"
        traced = some_row(lake, "flights")
        return Outcome(
            totals=Counter(summary["totals"]),
            tables=[table_size(lake, "flights"), table_size(lake, "hourly")],
            letters=asyncio.run(_first(connection, "flights.dlq", LETTERS)),
            traced=traced,
            original=asyncio.run(original(connection, traced.tp, traced.offset)),
            seconds=seconds,
            lake=lake,
        )


async def _produce(connection: Mapping[str, Any], console: Console, clock: Clock) -> None:
    async with KafkaAdmin(connection) as admin:
        await admin.create([TopicSpec(TOPIC, PARTITIONS, {"retention.ms": "-1"})])
    started = clock.monotonic()
    with console.status(f"producing {FLIGHTS:,} flights to {TOPIC}"):
        sent = await produce_records(
            connection, TOPIC, flight_records(), PARTITIONS, lambda count: None
        )
    seconds = clock.monotonic() - started
    console.print(f"produced {sent:,} flights in {seconds:.1f} s", highlight=False)


def _work(run: Run, bootstrap: str) -> dict[str, Any]:
    """Run the worker as anyone would, as a process of its own; its display is on stderr."""
    options = {
        "--broker": bootstrap,
        "--app-id": run.name,
        "--lake": str(run.folder / "lake"),
        "--state-dir": str(run.folder / "state"),
    }
    words = [word for pair in options.items() for word in pair]
    command = [
        sys.executable,
        "-m",
        "streamflow",
        "worker",
        MODULE,
        "--until-end",
        "--json",
        *words,
    ]
    with _process(command) as worker:
        out, _ = worker.communicate()
    if worker.returncode != 0:
        raise StreamflowError(f"the worker left with exit code {worker.returncode}; see above")
    return orjson.loads(out)


@contextmanager
def _process(command: list[str]) -> Generator[subprocess.Popen[bytes]]:
    """A child that is gone when the block is left, however it is left."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


async def _first(connection: Mapping[str, Any], topic: str, count: int) -> list[Record]:
    """The first records of a topic, partition by partition."""
    consumer = AIOKafkaConsumer(
        **connection, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        found: list[Record] = []
        for partition in range(PARTITIONS):
            tp = TopicPartition(topic, partition)
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            end = (await consumer.end_offsets([tp]))[tp]
            while len(found) < count and await consumer.position(tp) < end:
                for records in (await consumer.getmany(tp, timeout_ms=1000)).values():
                    found += [
                        Record(r.key, r.value, r.timestamp, tuple(r.headers)) for r in records
                    ]
        return found[:count]
    finally:
        await consumer.stop()
