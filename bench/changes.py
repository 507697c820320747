"""What change detection saves: a data set is processed again, in which one record of ten changed.

One partition of real flights goes through a `Task`, as in `operators.py`: into windows of a day, a
topic and the rows of a table. `without changed` does it all again each time; `changed, first time`
has only new records, and `changed, again` those that it was given before, but for the changes.
What follows the task, Kafka and the Parquet files, is not in it: the more an output costs, the more
is saved.

    python bench/changes.py [--records 100000] [--runs 3]

A table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from operators import COMMIT, HOUR, KEYS, TP, Nowhere, Per, batches_of, flights
from rich.console import Console
from rich.table import Table

from streamflow import Count, Max, Mean, Topology, Tumbling, parquet, topic
from streamflow.batch import MicroBatch
from streamflow.clock import SystemClock
from streamflow.core.names import Names
from streamflow.edges.rocksdb import StateFolder
from streamflow.engine.sync import run_sync
from streamflow.engine.task import Task, TaskLimits
from streamflow.engine.task_ports import TaskPorts
from streamflow.stream import Stream

#: One record of so many has changed.
CHANGED = 10
#: Windows stay open, so that no record is late the second time.
GRACE = timedelta(days=3650)


def main() -> None:
    """Measure both ways and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    first = batches_of(given.records)
    second = [_again(batch, given.records) for batch in first]
    # The input is held all along, as it is by no worker, which each full collection would show.
    gc.collect()
    gc.freeze()
    runs = range(given.runs)
    plain = [_micros(flights, first, second) for _ in runs]
    detecting = [_micros(flights.changed(*KEYS), first, second) for _ in runs]
    took = {
        "without changed": min(again for _, again in plain),
        "changed, first time": min(once for once, _ in detecting),
        "changed, again": min(again for _, again in detecting),
    }
    Console(stderr=True).print(_table(took, given.records))
    print(json.dumps({"records": given.records, "micros": took}, indent=2))


def _again(batch: MicroBatch, by: int) -> MicroBatch:
    """The batch as it comes the second time, `by` offsets later."""
    values = list(batch.values)
    for row in range(0, len(values), CHANGED):
        flight = orjson.loads(values[row] or b"{}")
        flight["distance"] += 1
        values[row] = orjson.dumps(flight)
    offsets = [offset + by for offset in batch.offsets]
    start, stop = batch.start + by, batch.stop + by
    return replace(batch, start=start, stop=stop, offsets=offsets, values=values)


def _topology(stream: Stream) -> Topology:
    daily: Any = stream.window(Tumbling(24 * HOUR), by="origin", grace=GRACE).aggregate(
        Per, flights=Count(), delay=Mean("dep_delay"), longest=Max("distance")
    )
    sides = stream.rejected.drop(), daily.late.drop()
    outputs = stream.to(topic("out")), stream.to(parquet("out")), daily.to(topic("daily"))
    return Topology("bench", *outputs, *sides)


def _micros(
    stream: Stream, first: Sequence[MicroBatch], second: Sequence[MicroBatch]
) -> tuple[float, float]:
    """CPU time per record of the first and of the second time."""
    plan = _topology(stream).tasks[0]
    nowhere = Nowhere()
    with TemporaryDirectory(prefix="streamflow-bench-") as folder:
        state = StateFolder(Path(folder))
        ports = TaskPorts(nowhere, nowhere, state.store("task"), SystemClock())
        limits = TaskLimits(interval=HOUR, records=COMMIT)
        task = Task(plan, Names("bench"), TP, ports, partitions=1, version="", limits=limits)
        run_sync(task.open(0))
        took = _run(task, first), _run(task, second)
        run_sync(task.close())
        state.close()
    return took


def _run(task: Task, batches: Sequence[MicroBatch]) -> float:
    """CPU time per record."""
    gc.collect()
    start = time.process_time()
    for batch in batches:
        run_sync(task.receive(batch))
        if task.due:
            run_sync(task.commit())
    run_sync(task.commit())
    return (time.process_time() - start) / sum(map(len, batches)) * 1e6


def _table(took: dict[str, float], records: int) -> Table:
    table = Table(title=f"{records:,} flights again, {100 // CHANGED} % of them changed")
    table.add_column("path", no_wrap=True)
    table.add_column("us/record", justify="right")
    table.add_column("times what again takes", justify="right")
    for name, micros in took.items():
        table.add_row(name, f"{micros:.2f}", f"{micros / took['changed, again']:.2f} x")
    return table


if __name__ == "__main__":
    main()
