"""Runs one engine as a process of its own, and says what it used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
#: An engine that takes longer is stuck.
TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Usage:
    """One run of an engine: what it did by its own clock, and what the kernel says it used.

    The peak is of resident memory. Linux counts from what the starting process had, so whatever
    measures has to stay small.
    """

    records: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Result:
    """An engine's medians over its runs, less what it takes to start and stop."""

    engine: str
    records: int
    runs: int
    records_per_second: float
    cpu_seconds_per_million: float
    peak_mb: float
    start_stop_seconds: float
    start_stop_cpu_seconds: float


def run_engine(
    script: Path, words: Sequence[str], cpu: int | None, settings: Mapping[str, str] | None = None
) -> Usage:
    """Run a script to its end, on one core if `cpu` is given, with more environment variables.

    Raises:
        RuntimeError: it failed or took too long; its output says why.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    environment |= settings or {}
    command = [sys.executable, str(script), *words]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        with _on_core(cpu):
            child = subprocess.Popen(command, stdout=out, stderr=log, cwd=ROOT, env=environment)
        watchdog = threading.Timer(TIMEOUT_SECONDS, child.kill)
        watchdog.start()
        try:
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            watchdog.cancel()
        if child.returncode != 0:
            log.seek(0)
            words_left = log.read().decode(errors="replace")[-4000:]
            raise RuntimeError(f"{script.name} left with {child.returncode}:\n{words_left}")
        out.seek(0)
        said = json.loads(out.read().splitlines()[-1])
    peak_kb = used.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    cpu_seconds = used.ru_utime + used.ru_stime
    return Usage(said["records"], said["seconds"], cpu_seconds, peak_kb / 1024)


@contextmanager
def _on_core(cpu: int | None) -> Generator[None]:
    """Be on one core for as long as it takes to start a process, which inherits it."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def summarize(engine: str, idle: Usage, runs: Sequence[Usage]) -> Result:
    """Medians of the runs; `idle` is a run of the same engine on an empty topic."""
    records = runs[0].records
    return Result(
        engine=engine,
        records=records,
        runs=len(runs),
        records_per_second=median(_rate(run, idle) for run in runs),
        cpu_seconds_per_million=median(
            (run.cpu_seconds - idle.cpu_seconds) / run.records * 1e6 for run in runs
        ),
        peak_mb=median(run.peak_mb for run in runs),
        start_stop_seconds=idle.seconds,
        start_stop_cpu_seconds=idle.cpu_seconds,
    )


@dataclass(frozen=True)
class Cost:
    """What one way of running an engine takes more than another, in parts of the other: medians
    over pairs of runs, one right after the other, less what it takes to start and stop.
    """

    pairs: int
    cpu: float
    seconds: float


def cost(pairs: Sequence[tuple[Usage, Usage]], idle: tuple[Usage, Usage]) -> Cost:
    """The cost of the first of each pair over the second; `idle` are runs on an empty topic."""

    def more(of: Callable[[Usage], float]) -> float:
        start, other = (of(usage) for usage in idle)
        return median((of(a) - start) / max(of(b) - other, 1e-3) - 1 for a, b in pairs)

    return Cost(
        len(pairs), more(lambda usage: usage.cpu_seconds), more(lambda usage: usage.seconds)
    )


def _rate(run: Usage, idle: Usage) -> float:
    return run.records / max(run.seconds - idle.seconds, 1e-3)
