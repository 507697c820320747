"""What tasks cost a worker that has little to do: one source partition each, with a producer, a
changelog and a state of its own.

For each number of partitions a worker is started over one record in each; then every partition gets
one record a second, so that each commits once a second. `start` is from the process to the last
first commit.

    python bench/tasks.py [--partitions 1 10 100] [--seconds 15]

A table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from measure import ROOT
from rich.console import Console
from rich.table import Table

from streamflow.batch import TopicPartition
from streamflow.broker import running_broker
from streamflow.demo.flights import flight_records
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec

#: A worker that does not commit within this is stuck.
PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Cost:
    """A worker with so many tasks."""

    tasks: int
    start_seconds: float
    cpu_share: float
    rss_mb: float
    sockets: int


def main() -> None:
    """Measure each number of partitions and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--seconds", type=int, default=15)
    given = parser.parse_args()
    with running_broker(install=True) as broker:
        costs = [
            asyncio.run(_cost(broker.bootstrap, count, given.seconds)) for count in given.partitions
        ]
    Console(stderr=True).print(_table(costs))
    print(json.dumps([asdict(cost) for cost in costs], indent=2))


async def _cost(bootstrap: str, partitions: int, seconds: int) -> Cost:
    prefix, app = f"tasks{partitions}.", f"tasks{partitions}"
    topic = f"{prefix}flights"
    async with KafkaAdmin({"bootstrap_servers": bootstrap}) as admin:
        await admin.create([TopicSpec(topic, partitions, {"retention.ms": "-1"})])
    producer: Any = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    record = next(islice(flight_records(), 1))

    async def send() -> None:
        sent = [
            await producer.send(topic, record.value, record.key, partition=p)
            for p in range(partitions)
        ]
        await asyncio.gather(*sent)

    with tempfile.TemporaryDirectory(prefix="streamflow-bench-") as folder:
        await send()
        started = time.monotonic()
        worker = _worker(bootstrap, app, prefix, Path(folder))
        try:
            await _committed(bootstrap, app, topic, partitions, 1)
            start = time.monotonic() - started
            before = _cpu_seconds(worker.pid)
            for _ in range(seconds):
                tick = time.monotonic()
                await send()
                await asyncio.sleep(max(0.0, tick + 1 - time.monotonic()))
            used = _cpu_seconds(worker.pid) - before
            await _committed(bootstrap, app, topic, partitions, 1 + seconds)
            return Cost(
                partitions, start, used / seconds, _rss_mb(worker.pid), _sockets(worker.pid)
            )
        finally:
            worker.terminate()
            worker.wait(60)
            await producer.stop()


def _worker(bootstrap: str, app: str, prefix: str, folder: Path) -> subprocess.Popen[bytes]:
    words = ["--broker", bootstrap, "--app-id", app, "--topic-prefix", prefix]
    words += ["--lake", str(folder / "lake"), "--state-dir", str(folder / "state")]
    command = [sys.executable, "-m", "streamflow", "worker", "topologies.flights", *words, "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


async def _committed(bootstrap: str, app: str, topic: str, partitions: int, each: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    waiting = [TopicPartition(topic, p) for p in range(partitions)]
    async with KafkaAdmin({"bootstrap_servers": bootstrap}) as admin:
        while waiting:
            if (await admin.group_offset(app, waiting[0]) or 0) >= each:
                waiting.pop(0)
            elif time.monotonic() > deadline:
                raise RuntimeError(f"{waiting[0]} is not committed up to {each}")
            else:
                await asyncio.sleep(0.05)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _sockets(pid: int) -> int:
    links = (str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir())
    return sum(link.startswith("socket:") for link in links)


def _table(costs: list[Cost]) -> Table:
    table = Table(title="one record and one commit a second in each task")
    for column in ("tasks", "start s", "CPU of a core", "per commit", "RSS MB", "sockets"):
        table.add_column(column, justify="right")
    for cost in costs:
        table.add_row(
            f"{cost.tasks}",
            f"{cost.start_seconds:.1f}",
            f"{cost.cpu_share:.0%}",
            f"{cost.cpu_share / cost.tasks * 1000:.1f} ms",
            f"{cost.rss_mb:.0f}",
            f"{cost.sockets}",
        )
    return table


if __name__ == "__main__":
    main()
