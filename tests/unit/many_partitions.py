"""A program: two partitions of a worker's sink stage gather and roll rows of 1,000 folders.

Prints the most memory the process has had, in MB, the rows it wrote, and the files. It has imported
what a worker imports, and not pandas, which no worker needs, but pyarrow loads where it is
installed. Files go nowhere: on a real disk they would take no memory either.
"""

# ruff: noqa: E402

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path


class NoPandas:
    """Finds that there is no pandas."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name, name=name)


sys.meta_path.insert(0, NoPandas())
import_module("streamflow.cli.worker")

import pyarrow as pa

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.rows import Layout, Trailer, encode_rows, encode_trailer
from streamflow.core.sink_spec import SinkSpec
from streamflow.engine.holdings import Holdings
from streamflow.engine.roll_memory import MIB, RollMemory
from streamflow.engine.sink import SinkPartition
from streamflow.schema import schema_id

from .nowhere import Nowhere

FOLDERS = 1_000
SCHEMA = pa.schema(
    [("folder", pa.string()), ("i", pa.int64()), ("text", pa.string()), ("more", pa.string())]
)
LAYOUT = Layout(schema_id(SCHEMA), ("folder",), "1")
SPEC = SinkSpec(
    name="many",
    path="many",
    schema=SCHEMA,
    schema_id=LAYOUT.schema_id,
    topology="many",
    topology_version="1",
    partition_by=LAYOUT.partition_by,
    storage="auto",
)


def commit(number: int, count: int) -> pa.RecordBatch:
    """Rows of all folders, of about 150 B, which are encoded to some 20."""
    places = range(number * count, (number + 1) * count)
    columns = [
        pa.array([f"{i * 7919 % FOLDERS:04d}" for i in places]),
        pa.array(places),
        pa.array([f"{i * 2654435761 % 2**32:x} " + "text " * 18 for i in places]),
        pa.array(["more of the same"] * count),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def run(partition: int, commits: int, count: int, holdings: Holdings) -> tuple[int, int]:
    """The rows and files that one partition wrote; it rolls when the worker holds too much."""
    tp = TopicPartition("many-rows", partition)
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    sink = SinkPartition(SPEC, tp, Nowhere(), clock=clock, owner="many", holdings=holdings)
    position = sink.open(0, 10**9)
    for number in range(commits):
        rows = encode_rows([commit(number, count)], number + 1)
        last = number == commits - 1
        trailer = Trailer(number + 1, number or None, len(rows), LAYOUT, end_of_input=last)
        records = [*rows, encode_trailer(trailer)]
        offsets = list(range(position, position + len(records)))
        batch = MicroBatch(
            tp,
            position,
            position + len(records),
            offsets,
            [None] * len(records),
            [record.value for record in records],
            [0] * len(records),
            [record.headers for record in records],
        )
        sink.receive(batch)
        position += len(records)
    assert sink.done
    return sink.written.rows, sink.written.files


def most_memory() -> float:
    """MB of memory at the most, as the kernel counts it."""
    status = Path("/proc/self/status").read_text()
    found = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(found.split()[1]) * 1024 / 1e6


def main() -> None:
    """Takes the numbers of commits and of rows in each."""
    commits, count = (int(given) for given in sys.argv[1:])
    holdings = Holdings(32 * MIB, RollMemory(32 * MIB))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda i: run(i, commits, count, holdings), range(2)))
    rows, files = (sum(numbers) for numbers in zip(*found, strict=True))
    sys.stdout.write(f"{most_memory()} {rows} {files}\n")


main()
