"""How fast a lost local state comes back from its changelog, on a real Kafka, and what takes time.

One changelog partition is filled in transactions, as commits do, with keys such as `dedup` has. It
is then read, loaded into RocksDB, and restored, which is both; and restored again, where nothing
is missing. The wall clock is what counts; of the CPU time, what the restoring thread takes is the
bound where a core is free for RocksDB's own threads, and all of it is where none is.

    python bench/restore.py [--records 1000000] [--value-bytes 100] [--runs 3]

A table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from streamflow.batch import Record, TopicPartition
from streamflow.broker import running_broker
from streamflow.clock import SystemClock
from streamflow.core.keys import META
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.edges.kafka_changelog import KafkaChangelog
from streamflow.edges.kafka_outbox import KafkaOutbox
from streamflow.edges.rocksdb import StateFolder
from streamflow.engine.process import collect_seldom, keep_memory
from streamflow.engine.restore import restore

TP = TopicPartition("changelog", 0)
COMMIT = 50_000
Entries = list[tuple[bytes, bytes | None]]


@dataclass(frozen=True)
class Took:
    """Per run: records a second by the wall clock; microseconds of CPU a record, of the thread that
    restores and of the whole process.
    """

    records_per_second: float
    thread_micros: float
    process_micros: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with running_broker(install=True) as broker:
        took = asyncio.run(measure(broker.bootstrap, given.records, given.value_bytes, given.runs))
    Console(stderr=True).print(_table(took, given.records, given.value_bytes))
    print(json.dumps({name: asdict(one) for name, one in took.items()}, indent=2))


async def measure(bootstrap: str, records: int, value: int, runs: int) -> dict[str, Took]:
    """Each way so often, and its medians."""
    connection = {"bootstrap_servers": bootstrap}
    entries = _entries(records, value)
    async with KafkaAdmin(connection) as admin:
        await admin.create([TopicSpec(TP.topic, 1, {"cleanup.policy": "compact"})])
    await _fill(connection, entries)
    keep_memory()
    collect_seldom()
    found: dict[str, list[Took]] = {}
    for _ in range(runs):
        for name, took in (await _run(connection, entries)).items():
            found.setdefault(name, []).append(took)
    return {name: _median(each) for name, each in found.items()}


async def _run(connection: dict[str, Any], entries: Entries) -> dict[str, Took]:
    took: dict[str, Took] = {}
    count = len(entries)
    clock = SystemClock()
    changelog = KafkaChangelog(connection, TP)
    first, stop = await changelog.bounds()

    async def read() -> None:
        position = first
        while position < stop:
            entries, position = await changelog.fetch(position, stop)
            deque(entries, 0)

    with _store("loaded") as loaded:

        async def load() -> None:
            loaded.clear()
            for at in range(0, count, COMMIT):
                loaded.load(entries[at : at + COMMIT])
            loaded.loaded()

        took["read the changelog"] = await _timed(read, count)
        took["load RocksDB"] = await _timed(load, count)
    # Closed first, since RocksDB goes on to merge the files of what was loaded, in the background.
    with _store("restored") as restored:

        async def bring_up() -> None:
            await restore(restored, changelog, clock, "changelog")

        took["restore all"] = await _timed(bring_up, count)
        took["restore nothing"] = await _timed(bring_up, count)
        if restored.get([entries[-1][0]]) != [entries[-1][1]]:
            raise RuntimeError("the last entry was not restored")
    return took


@contextmanager
def _store(name: str) -> Generator[Any]:
    """A state of its own, which nothing else takes the time of."""
    with TemporaryDirectory(prefix="streamflow-bench-") as folder:
        states = StateFolder(Path(folder))
        store = states.store(name)
        yield store
        store.close()
        states.close()


async def _timed(go: Callable[[], Awaitable[None]], count: int) -> Took:
    start = time.perf_counter(), time.thread_time(), time.process_time()
    await go()
    wall, thread, process = (
        now - then
        for now, then in zip(
            (time.perf_counter(), time.thread_time(), time.process_time()), start, strict=True
        )
    )
    return Took(count / wall, thread / count * 1e6, process / count * 1e6)


def _median(each: list[Took]) -> Took:
    return Took(
        median(took.records_per_second for took in each),
        median(took.thread_micros for took in each),
        median(took.process_micros for took in each),
    )


def _entries(records: int, value: int) -> Entries:
    """Random keys, and values half of which can be compressed."""
    made = random.Random(1)
    rest = bytes(value - value // 2)
    return [
        (b"ddedup\0" + made.randbytes(16), made.randbytes(value // 2) + rest)
        for _ in range(records)
    ]


async def _fill(connection: dict[str, Any], entries: Entries) -> None:
    outbox = KafkaOutbox(connection, "bench", "bench")
    await outbox.fence()
    for at in range(0, len(entries), COMMIT):
        await outbox.begin()
        made = [Record(key, value) for key, value in entries[at : at + COMMIT]]
        await outbox.produce(TP, [*made, Record(META, b"{}")])
        await outbox.flush()
        await outbox.commit()
    await outbox.fence()  # all is visible when it returns
    await outbox.close()


def _table(took: dict[str, Took], records: int, value: int) -> Table:
    table = Table(title=f"{records:,} changelog records of 23 + {value} bytes")
    table.add_column("what", no_wrap=True)
    for column in ("records/s", "us CPU, thread", "us CPU, process"):
        table.add_column(column, justify="right")
    for name, one in took.items():
        cpu = f"{one.thread_micros:.2f}", f"{one.process_micros:.2f}"
        table.add_row(name, f"{one.records_per_second:,.0f}", *cpu)
    return table


if __name__ == "__main__":
    main()
