"""What gates take of the worker's core: ten rules, CPU microseconds per record.

Real flights of one partition are decoded, and then go through the gate alone, in micro-batches of
10,000; the best of some runs counts. Its share is of what the whole worker takes for a record,
Kafka's client included, as `run.py` measures it.

    python bench/gates.py [--records 100000] [--runs 7] [--worker 11]

A table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence

from operators import COMMIT, batches_of, flights
from rich.console import Console
from rich.table import Table

from streamflow import Rule, Threshold, Topology
from streamflow.batch import MicroBatch
from streamflow.core.decode import Decoded, decode
from streamflow.core.gate import gate
from streamflow.core.step import Breaker
from streamflow.stages import Gate

#: The share of the worker's time that ten rules may take.
TARGET = 0.05
KINDS = [
    Rule("carrier", "carrier MATCHES '[0-9A-Z]{2}'"),
    Rule("origin", "origin IN ('EWR', 'JFK', 'LGA')"),
    Rule("dest", "dest IS NOT NULL AND length(dest) = 3"),
    Rule("elsewhere", "dest <> origin"),
    Rule("distance", "distance BETWEEN 1 AND 9000"),
    Rule("flight", "flight > 0"),
    Rule("month", "month BETWEEN 1 AND 12"),
    Rule("scheduled", "sched_dep_time >= 0 AND sched_dep_time < 2400"),
    Rule("departure", "dep_time IS NULL OR dep_time <= 2400"),
    Rule("hour", "hour >= 0 AND hour < 24"),
]
#: About one record in a hundred breaks this one.
FAR = Rule("far", "distance < 2500", severity="warning")
EVERY = Threshold(max_fraction=0.5, last=10_000, name="every")
GATES = {
    "ten rules, none broken": (KINDS, None),
    "ten rules and a threshold": (KINDS, EVERY),
    "ten rules, one that some break": ([*KINDS[:-1], FAR], None),
}


def main() -> None:
    """Measure the gates and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=2 * COMMIT)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--worker", type=float, default=11.0, help="us per record of the worker")
    given = parser.parse_args()
    took = gate_micros(given.records, given.runs)
    show(Console(stderr=True), took, given.worker)
    print(json.dumps(document(took, given.worker), indent=2))


def gate_micros(records: int, runs: int) -> dict[str, float]:
    """What each gate takes of a record."""
    plan = Topology("bench", flights.drop(), flights.rejected.drop()).tasks[0]
    decoded = [(batch, decode(plan, batch)) for batch in batches_of(records)]
    gates = {
        name: flights.gate(*rules, threshold=threshold).gates[0]
        for name, (rules, threshold) in GATES.items()
    }
    took: dict[str, list[float]] = {name: [] for name in GATES}
    for _ in range(runs):
        for name, stage in gates.items():
            took[name].append(_micros(stage, decoded))
    return {name: min(found) for name, found in took.items()}


def _micros(stage: Gate, decoded: Sequence[tuple[MicroBatch, Decoded]]) -> float:
    breakers: Mapping[str, Breaker] = {}
    start = time.process_time()
    for batch, rows in decoded:
        breakers = gate(stage, batch, rows, breakers).breakers
    took = time.process_time() - start
    return took / sum(len(batch) for batch, _ in decoded) * 1e6


def document(took: dict[str, float], worker: float) -> dict[str, object]:
    """The shares as JSON."""
    shares = {name: micros / worker for name, micros in took.items()}
    return {"gates": took, "worker_micros": worker, "shares": shares, "target": TARGET}


def show(console: Console, took: dict[str, float], worker: float) -> None:
    """A table of the shares."""
    table = Table(title=f"gates: of the worker's {worker:.1f} us a record, at most {TARGET:.0%}")
    table.add_column("gate", no_wrap=True)
    for column in ("us/record", "share of the worker"):
        table.add_column(column, justify="right")
    for name, micros in took.items():
        table.add_row(name, f"{micros:.2f}", f"{micros / worker:.1%}")
    console.print(table)


if __name__ == "__main__":
    main()
