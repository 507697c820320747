"""Throughput of this project's worker against plain Faust and bare aiokafka, on one core.

The broker is pinned to one core and the engine under test to the other. All engines read the same
topic, in turn, each run a process of its own under a new group; plain Faust reads a part. What an
engine takes on an empty topic, to start and stop, is measured and subtracted. Compare the
ratios: absolute numbers are this machine's. Each run of the worker is followed by one that delivers
at least once: what exactly-once costs is told from these pairs. Then what share of its time the
worker takes for ten rules (`gates.py`).

    python bench/run.py [--runs 3] [--years 3] [--limit N] [--faust-records N]

A table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from measure import ROOT, Cost, Result, Usage, cost, run_engine, summarize
from rich.console import Console
from rich.table import Table

from streamflow.broker import running_broker

ENGINES = Path(__file__).parent / "engines"
PLAIN = {"STREAMFLOW_DELIVERY": "at_least_once"}
#: What exactly-once may cost.
GOAL = 0.15
OURS, FAUST, BARE = "streamflow_worker", "plain_faust", "bare_aiokafka"


def main() -> None:
    """Measure all three and print them."""
    given = _arguments()
    console = Console(stderr=True)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pinned = len(cores) >= 2
    if not pinned:
        console.print("fewer than two cores to pin to: broker and engines share what there is")
    with running_broker(cpus={cores[0]} if pinned else None, install=True) as broker:
        total = _produce(broker.bootstrap, given.years, given.limit)
        results: list[Result] = []
        dearer: Cost | None = None
        for engine in (BARE, OURS, FAUST):
            records = min(total, given.faust_records) if engine == FAUST else total
            console.print(f"{engine}: {given.runs} runs over {records:,} records", highlight=False)
            cpu = cores[1] if pinned else None
            run = partial(_run, engine, broker.bootstrap, cpu)
            if engine == OURS:
                result, dearer = _measure_pairs(run, records, given.runs)
                results.append(result)
                console.print(_words(dearer), highlight=False)
            else:
                results.append(_measure(engine, run, records, given.runs))
    assert dearer is not None
    console.print(_table(results))
    worker = next(r.cpu_seconds_per_million for r in results if r.engine == OURS)
    more = {"exactly_once_costs": asdict(dearer), "gates": _gates(worker)}
    print(json.dumps(_document(results) | more, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--years", type=int, default=3, help="of 336,776 flights each")
    parser.add_argument("--limit", type=int, help="flights of each year; all by default")
    parser.add_argument("--faust-records", type=int, default=60_000)
    return parser.parse_args()


def _produce(broker: str, years: int, limit: int | None) -> int:
    words = ["--broker", broker, "--years", str(years)]
    words += ["--limit", str(limit)] if limit else []
    command = [sys.executable, str(ROOT / "bench" / "produce_input.py"), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return int(made.stdout)


def _run(
    engine: str,
    broker: str,
    cpu: int | None,
    name: str,
    records: int,
    settings: dict[str, str] | None = None,
) -> Usage:
    """One run of an engine under a group of its own; without records on an empty topic."""
    prefix = "years." if records else "empty."
    with tempfile.TemporaryDirectory(prefix="streamflow-bench-") as folder:
        options = {"--broker": broker, "--prefix": prefix, "--records": str(records)}
        options |= {"--name": f"{engine}-{name}", "--folder": folder}
        words = [word for pair in options.items() for word in pair]
        run = run_engine(ENGINES / f"{engine}.py", words, cpu, settings)
    if run.records < records:
        raise RuntimeError(f"{engine} handled {run.records:,} of {records:,} records")
    return run


def _measure(engine: str, run: Callable[..., Usage], records: int, runs: int) -> Result:
    idle = run("idle", 0)
    return summarize(engine, idle, [run(f"{n}", records) for n in range(runs)])


def _measure_pairs(run: Callable[..., Usage], records: int, runs: int) -> tuple[Result, Cost]:
    idle = run("idle", 0), run("idle-plain", 0, PLAIN)
    pairs = [(run(f"{n}", records), run(f"{n}-plain", records, PLAIN)) for n in range(runs)]
    return summarize(OURS, idle[0], [once for once, _ in pairs]), cost(pairs, idle)


def _words(dearer: Cost) -> str:
    return (
        f"exactly once next to at least once: {dearer.cpu:+.1%} CPU, {dearer.seconds:+.1%} time "
        f"(at most {GOAL:.0%} is the goal), medians of {dearer.pairs} pairs"
    )


def _gates(worker: float) -> dict[str, object]:
    """What gates take of the worker's time; by a process of its own, since this one stays small."""
    command = [sys.executable, str(ROOT / "bench" / "gates.py"), "--worker", str(worker)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return json.loads(made.stdout)


def _ratios(results: list[Result]) -> dict[str, dict[str, float]]:
    """How many times as fast, and how much CPU, each engine is next to each other one."""
    by_name = {result.engine: result for result in results}
    ours = by_name[OURS]
    return {
        f"{OURS} / {other}": {
            "speed": ours.records_per_second / by_name[other].records_per_second,
            "cpu": ours.cpu_seconds_per_million / by_name[other].cpu_seconds_per_million,
        }
        for other in (FAUST, BARE)
    }


def _document(results: list[Result]) -> dict[str, object]:
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    return {
        "machine": machine | {"platform": platform.platform()},
        "engines": [asdict(result) for result in results],
        "ratios": _ratios(results),
    }


def _table(results: list[Result]) -> Table:
    table = Table(title="speed: times plain Faust")
    table.add_column("engine", no_wrap=True)
    for column in ("records", "records/s", "CPU s/million", "peak MB", "speed"):
        table.add_column(column, justify="right")
    faust = next(result for result in results if result.engine == FAUST)
    for result in results:
        table.add_row(
            result.engine,
            f"{result.records:,}",
            f"{result.records_per_second:,.0f}",
            f"{result.cpu_seconds_per_million:,.1f}",
            f"{result.peak_mb:,.0f}",
            f"{result.records_per_second / faust.records_per_second:,.1f} x",
        )
    return table


if __name__ == "__main__":
    main()
