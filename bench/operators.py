"""What each kind of stage and window costs in a task: CPU microseconds per record, without Kafka.

One partition of real flights goes through a `Task` in micro-batches of 10,000 and commits of
50,000, with RocksDB under it; what it would send to Kafka is made and thrown away. Each line is a
topology of its own, next to one that only decodes. Compare the ratios: absolute numbers are this
machine's.

    python bench/operators.py [--records 100000] [--runs 3]

A table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import AwareDatetime, BaseModel
from rich.console import Console
from rich.table import Table

from streamflow import (
    Cache,
    Calendar,
    Count,
    Hopping,
    Max,
    Mean,
    Rule,
    Session,
    Sliding,
    Topology,
    Tumbling,
    content,
    source,
    topic,
)
from streamflow.batch import MicroBatch, Record, TopicPartition
from streamflow.clock import SystemClock
from streamflow.core.names import Names
from streamflow.demo.flights import flight_records
from streamflow.edges.rocksdb import StateFolder
from streamflow.engine.lookups import Lookups
from streamflow.engine.task import Task, TaskLimits
from streamflow.engine.task_ports import TaskPorts
from streamflow.stream import Stream
from topologies.flights import Flight, scheduled

HOUR = timedelta(hours=1)
TP = TopicPartition("flights", 0)
KEYS = ("origin", "carrier", "flight", "time_hour")
BATCH, COMMIT = 10_000, 50_000
RULES = [Rule(f"rule{i}", f"distance > {i} AND distance < {9_000 + i}") for i in range(10)]


class Per(BaseModel, frozen=True):
    origin: str
    window_start: AwareDatetime
    flights: int
    delay: float | None
    longest: int


class Speed(BaseModel, frozen=True):
    origin: str
    dest: str
    distance: int
    dep_delay: int | None


class Planned(BaseModel, frozen=True):
    origin: str
    dest: str
    distance: int
    gates: int | None


flights = source(
    topic("flights"), Flight, key="origin", event_time=scheduled, out_of_orderness=HOUR
)


def speed_of(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Speed`, in Python."""
    return {name: row[name] for name in Speed.model_fields}


async def gates_of(keys: list[Any]) -> dict[Any, dict[str, int]]:
    """An answer for each key, at once: what is left is the cost of asking."""
    return {key: {"gates": 1} for key in keys}


def enriched(*key: str) -> list[Any]:
    return [flights.enrich(Planned, gates_of, key=key, cache=Cache(HOUR)).drop()]


def counted(stream: Any, window: Any) -> list[Any]:
    """A window's results and what is late for it go to topics."""
    made = stream.window(window, by="origin", grace=6 * HOUR).aggregate(
        Per, flights=Count(), delay=Mean("dep_delay"), longest=Max("distance")
    )
    return [made.to(topic("counts")), made.late.drop()]


PATHS: dict[str, Callable[[], Sequence[Any]]] = {
    "decode, key, event time": lambda: [flights.drop()],
    "gate of ten rules": lambda: [flights.gate(*RULES).drop()],
    "filter": lambda: [flights.filter("distance > 300 AND dep_time IS NOT NULL").drop()],
    "map to four fields": lambda: [flights.map(Speed, distance="distance * 2").drop()],
    "map_rows to four fields": lambda: [flights.map_rows(Speed, speed_of).drop()],
    "enrich, few keys, in the cache": lambda: enriched("dest"),
    "enrich, 9 of 10 keys different": lambda: enriched("dest", "time_hour"),
    "dedup, all different": lambda: [flights.dedup(*KEYS, within=24 * HOUR).drop()],
    "dedup, nearly all equal": lambda: [flights.dedup("origin", "dest", within=24 * HOUR).drop()],
    "changed, all new": lambda: [flights.changed(*KEYS).drop()],
    "changed, nearly all equal": lambda: [
        flights.changed("origin", "dest", by=content("distance")).drop()
    ],
    "tumbling, 1 h": lambda: counted(flights, Tumbling(HOUR)),
    "hopping, 1 h every 20 min": lambda: counted(flights, Hopping(HOUR, HOUR / 3)),
    "hopping, 1 day every 15 min": lambda: counted(flights, Hopping(24 * HOUR, HOUR / 4)),
    "sliding, 1 h": lambda: counted(flights, Sliding(HOUR)),
    "calendar, days in a zone": lambda: counted(flights, Calendar("day", "America/New_York")),
    "session, gap 10 min": lambda: counted(flights, Session(HOUR / 6)),
}


def main() -> None:
    """Measure every path and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    batches = batches_of(given.records)
    took = {
        name: min(_micros(path, batches) for _ in range(given.runs)) for name, path in PATHS.items()
    }
    records = sum(map(len, batches))
    Console(stderr=True).print(_table(took, records))
    print(json.dumps({"records": records, "micros": took}, indent=2))


class Nowhere:
    """An outbox whose records go nowhere, and the changelog that it never wrote."""

    def __init__(self) -> None:
        self._ends: dict[TopicPartition, int] = {}

    async def fence(self) -> None: ...
    async def begin(self) -> None: ...
    async def commit(self) -> None: ...
    async def abort(self) -> None: ...
    async def close(self) -> None: ...
    async def offsets(self, positions: Mapping[TopicPartition, int]) -> None: ...

    async def produce(self, to: TopicPartition | str, records: Sequence[Record]) -> None:
        if isinstance(to, TopicPartition):
            self._ends[to] = self._ends.get(to, 0) + len(records)

    async def flush(self) -> Mapping[TopicPartition, int]:
        return self._ends

    async def bounds(self) -> tuple[int, int]:
        return 0, 0

    async def fetch(
        self, start: int, stop: int
    ) -> tuple[Sequence[tuple[bytes, bytes | None]], int]:
        raise AssertionError(f"there is nothing in {start}..{stop}")

    async def read(self, start: int, stop: int) -> Sequence[tuple[bytes, bytes | None]]:
        raise AssertionError(f"there is nothing in {start}..{stop}")


def _micros(path: Callable[[], Sequence[Any]], batches: Sequence[MicroBatch]) -> float:
    """CPU time per record of one task, its commits and its RocksDB included."""
    edges = path()
    origin = edges[0].origin
    stream = origin if isinstance(origin, Stream) else origin.windowed.stream
    plan = Topology("bench", *edges, stream.rejected.drop()).tasks[0]
    nowhere = Nowhere()
    with TemporaryDirectory(prefix="streamflow-bench-") as folder, asyncio.Runner() as loop:
        state = StateFolder(Path(folder))
        clock = SystemClock()
        answer = Lookups(clock).answer
        ports = TaskPorts(nowhere, nowhere, state.store("task"), clock, answer=answer)
        limits = TaskLimits(interval=HOUR, records=COMMIT)
        task = Task(plan, Names("bench"), TP, ports, partitions=1, version="", limits=limits)
        loop.run(task.open(0))
        gc.collect()
        start = time.process_time()
        for batch in batches:
            loop.run(task.receive(batch))
            if task.due:
                loop.run(task.commit())
        task.end_of_input()
        loop.run(task.commit())
        took = time.process_time() - start
        loop.run(task.close())
        state.close()
    return took / sum(map(len, batches)) * 1e6


def batches_of(count: int) -> list[MicroBatch]:
    """So many flights from one airport, as they would be fetched."""
    of_one = (record for record in flight_records() if record.key == b"EWR")
    made: list[MicroBatch] = []
    for start in range(0, count, BATCH):
        records = list(islice(of_one, min(BATCH, count - start)))
        keys, values, stamps, headers = zip(*records, strict=True)
        offsets = range(start, start + len(records))
        made.append(MicroBatch(TP, start, offsets.stop, offsets, keys, values, stamps, headers))
    return made


def _table(took: dict[str, float], records: int) -> Table:
    base = next(iter(took.values()))
    table = Table(title=f"a task without Kafka, {records:,} flights of one partition")
    table.add_column("path", no_wrap=True)
    for column in ("us/record", "more than decoding", "times decoding"):
        table.add_column(column, justify="right")
    for name, micros in took.items():
        table.add_row(name, f"{micros:.2f}", f"{micros - base:+.2f}", f"{micros / base:.2f} x")
    return table


if __name__ == "__main__":
    main()
