"""What holds for a sink in whatever store its table lies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.chain import chain_of
from streamflow.engine.sink import SinkPartition
from streamflow.errors import SinkUnavailable
from streamflow.ports import LoggedTable, TableFiles
from tests.unit.sink_log import Crash, Log, drain, ids, partition, spec

Faults = Callable[[str], None]


def no_faults(_point: str) -> None:
    pass


def crash_at(point: str, time: int) -> Faults:
    """Crash when `point` is passed for the `time`th time, counted from 0."""
    seen = [0]

    def faults(name: str) -> None:
        seen[0] += name == point
        if seen[0] > time:
            raise Crash

    return faults


def log_of(*sizes: int) -> Log:
    """One commit of so many rows for each size; the last one ends the input."""
    log = Log()
    for i, size in enumerate(sizes):
        log.commit(size, end_of_input=i == len(sizes) - 1)
    return log


def crashes_leave_no_trace(opened: Callable[[str, Faults], TableFiles], point: str) -> None:
    """Byte for byte as in memory; `temp` and `linked` are before and after each put."""
    log = log_of(5, 0, 9, 3)
    calm = MemoryFiles()
    drain(partition(calm), log)
    in_a_put = point in ("temp", "linked")
    for time in range(10 if in_a_put else 3):
        log.first = 0
        faults = crash_at(point, time)
        mine, theirs = (faults, no_faults) if in_a_put else (no_faults, faults)
        with pytest.raises(Crash):
            drain(partition(opened(f"{time}", mine), faults=theirs), log)
        again = opened(f"{time}", no_faults)
        drain(partition(again), log)
        for private in (False, True):
            names = again.names(private=private)
            assert names == calm.names(private=private)
            for name in names:
                assert again.read(name, private=private) == calm.read(name, private=private)


def one_owner_wins_each_cut(opened: Callable[[], TableFiles]) -> None:
    """Two stand before the put of the same cut, and are let go together."""
    log = log_of(4, 4, 4, 1)
    gate = threading.Barrier(2, timeout=30)

    def owner() -> SinkPartition:
        def together(point: str) -> None:
            if point == "cut-temp":
                gate.wait()

        sink = partition(opened(), faults=together)
        drain(sink, log)
        return sink

    with ThreadPoolExecutor(2) as pool:
        both = [future.result() for future in [pool.submit(owner) for _ in range(2)]]
    files = opened()
    assert ids(files) == list(range(13))
    assert all(sink.done for sink in both)
    assert sum(sink.written.files for sink in both) == len(files.names())


def delta_crashes_leave_every_row_once(
    opened: Callable[[], LoggedTable], seen: Callable[[], list[int]], point: str
) -> None:
    """The second time that `point` is passed."""
    log = log_of(5, 0, 9, 3)
    chain_of(opened()).agree(spec())
    with pytest.raises(Crash):
        drain(partition(opened(), faults=crash_at(point, 1)), log)
    again = partition(opened())
    drain(again, log)
    assert again.done
    assert seen() == list(range(17))


def of_delta_owners_one_commits_each_row(
    opened: Callable[[], LoggedTable], seen: Callable[[], list[int]]
) -> None:
    """Each with rolls of its own size; who comes too late follows."""
    chain_of(opened()).agree(spec())

    def owner(target: int) -> bool:
        sink, log = partition(opened(), spec(target_bytes=target)), log_of(4, 4, 4, 4, 1)
        place = sink.open(0, log.end)
        while not sink.done:
            try:
                sink.receive(log.fetch(place, log.end))
            except SinkUnavailable:
                continue
            place = log.end
        return sink.done

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(owner, [1, 2500, 10**9]))
    assert seen() == list(range(17))
