"""A disk that fills up, really: a small file system in memory, where this user may mount one."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamflow.batch import TopicPartition
from streamflow.check import Finding
from streamflow.check.folders import check_lake, check_state
from streamflow.cli.folders import wait_for_folders
from streamflow.clock import SimulatedClock
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory_files import MemoryFiles
from streamflow.edges.rocksdb import RocksStore
from streamflow.engine.disk_watch import DiskWatch, percent_used
from streamflow.engine.failures import is_disk_full
from streamflow.engine.pauses import Pauses
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.upkeep import on_disk
from streamflow.errors import CheckFailed, SinkUnavailable
from streamflow.ports import StateStore
from streamflow.retry import RetryPolicy
from tests.unit.sink_log import Log, ids, partition, spec
from tests.unit.test_enrich_lanes import FIRST, SECOND, Service, Worker, go, until
from tests.unit.test_lanes import Consumer

SOON = RetryPolicy(None, timedelta(milliseconds=5), timedelta(milliseconds=20))
MIB = 1024 * 1024


class Disk:
    """A disk of 8 MiB that can be filled up, and emptied again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            for size in (MIB, 4096, 1):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


class OnDisk(Worker):
    """Tasks whose local states are on a disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        super().__init__(Service())

    def store(self, tp: TopicPartition) -> StateStore:
        return RocksStore(self.disk.path / str(tp.partition))


def test_a_state_whose_disk_is_full_waits_and_goes_on_when_there_is_room(disk: Disk) -> None:
    async def test() -> None:
        worker = OnDisk(disk)
        for tp in (FIRST, SECOND):
            worker.lanes[tp] = worker.lane(tp, retry=SOON)
        await worker.start()
        await worker.send(FIRST, "tea")
        await until(lambda: worker.out(FIRST) == [("tea", 3)])
        await worker.send(SECOND, "tea")
        await until(lambda: worker.out(SECOND) == [("tea", 3)])
        disk.fill()
        sent = 1
        while "disk" not in worker.pauses.reasons(FIRST):
            # Until the log of the state needs more room than it has.
            await worker.send(FIRST, *["milk"] * 20)
            sent += 20
            await asyncio.sleep(0.001)
        assert "No space left" in worker.pauses.words()[FIRST]["disk"]
        disk.empty()
        await until(lambda: "disk" not in worker.pauses.reasons(FIRST))
        await until(lambda: len(worker.out(FIRST)) >= sent)
        await worker.send(FIRST, "last")
        await until(lambda: len(worker.out(FIRST)) == sent + 1)
        wanted = [("tea", 3), *[("milk", 4)] * (sent - 1), ("last", 4)]
        assert worker.out(FIRST) == wanted  # once each
        await worker.close()

    go(test)


def test_a_state_that_cannot_be_opened_on_a_full_disk_is_not_thrown_away(disk: Disk) -> None:
    store = RocksStore(disk.path / "state")
    store.apply([(b"key", b"value")])
    store.close()
    disk.fill()
    with pytest.raises(OSError, match="the state cannot be opened") as caught:
        RocksStore(disk.path / "state")
    assert is_disk_full(caught.value)
    disk.empty()
    again = RocksStore(disk.path / "state")
    assert again.get([b"key"]) == [b"value"]
    again.close()


def test_a_table_whose_disk_is_full_waits_and_is_whole_when_there_is_room(disk: Disk) -> None:
    files = LocalFiles(disk.path, "flights")
    log = Log()
    for count in (4, 5):
        log.commit(count)
    sink = partition(files)
    sink.open(0, log.end)
    disk.fill()
    with pytest.raises(SinkUnavailable, match="No space left on device; make room") as caught:
        sink.receive(log.fetch(0, log.end))
    assert is_disk_full(caught.value)
    disk.empty()
    sink.receive(log.fetch(0, log.end))
    assert ids(files) == list(range(9))
    files.close()


def test_how_full_a_disk_is_can_be_asked_before_its_folder_is_made(disk: Disk) -> None:
    folder = disk.path / "lake" / "not" / "yet"
    assert percent_used(folder) < 5
    disk.fill()
    assert percent_used(folder) > 99


def test_partitions_wait_while_a_disk_is_nearly_full_and_the_others_do_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    state, lake = Path("state"), Path("lake")
    percent = {state: 50.0, lake: 50.0}
    log: list[str] = []
    pauses = Pauses(Consumer(log))
    watch = DiskWatch(
        {state: lambda: [FIRST], lake: lambda: [SECOND]},
        pauses,
        warn=85,
        pause=95,
        used=percent.__getitem__,
    )

    def told() -> int:
        return sum("make room" in record.message for record in caplog.records)

    async def test() -> None:
        for at, waits, warnings in [
            (84.9, False, 0),
            (85, False, 1),
            (94.9, False, 1),  # it is said once
            (95, True, 1),
            (93.1, True, 1),  # a little room is none
            (92.9, False, 1),
            (50, False, 1),
            (99, True, 2),
        ]:
            percent[state] = at
            await watch.turn()
            assert (pauses.reasons(FIRST) == {"space"}) == waits, at
            assert told() == warnings, at
        assert pauses.words() == {FIRST: {"space": "the disk of state is 99 % full"}}
        pauses.forget()  # a rebalance
        await watch.turn()
        assert pauses.reasons(FIRST) == {"space"}

    go(test)
    assert log == [f"{what} sales[0]" for what in ("pause", "resume", "pause", "pause")]


def test_a_disk_that_cannot_be_asked_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamflow.engine.disk_watch.PERIOD_SECONDS", 0.001)
    asked: list[Path] = []

    def gone(folder: Path) -> float:
        asked.append(folder)
        raise OSError("stale file handle")

    async def test() -> None:
        log: list[str] = []
        pauses = Pauses(Consumer(log))
        state = Path("state")
        watch = DiskWatch({state: lambda: [FIRST]}, pauses, warn=85, pause=95, used=gone)
        running = asyncio.create_task(watch.run())
        while len(asked) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert (log, running.done()) == ([], False)
        running.cancel()

    go(test)


def test_a_full_disk_holds_no_table_that_lies_in_a_store() -> None:
    async def unused(*_: object) -> Any:
        raise AssertionError

    lanes: dict[TopicPartition, SinkLane] = {}
    for number, path in enumerate(["s3://my-bucket/flights", "flights", None]):
        tp, pauses = TopicPartition("rows", number), Pauses(Consumer([]))
        lanes[tp] = SinkLane(tp, lambda: partition(MemoryFiles()), unused, unused, pauses, print)
        if path is not None:
            lanes[tp].sink = partition(MemoryFiles(), replace(spec(), path=path))
    assert on_disk(lanes) == [TopicPartition("rows", 1)]


def test_a_worker_that_starts_on_a_full_disk_waits_for_room(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(timedelta(seconds=seconds))
        if len(waits) == 10:
            disk.empty()

    def look() -> list[Finding]:
        state, lake = disk.path / "state", disk.path / "lake"
        return [check_lake(lake), check_state(state)]

    disk.fill()
    found = [finding for finding in look() if finding.level == "problem"]
    assert found
    wait_for_folders(look, clock, sleep)
    assert len(waits) == 10
    words = [record.getMessage() for record in caplog.records]
    assert len(words) == 2 * len(found) + 1  # at once, and half a minute later
    assert "cannot be written: " in words[0]
    assert "No space left on device" in words[0]
    assert "; make room, or name another folder with --" in words[0]
    assert words[-1] == "there is room again: the worker starts"


def test_what_else_is_wrong_is_refused_also_while_a_disk_is_full(disk: Disk) -> None:
    disk.fill()
    with pytest.raises(CheckFailed, match=r"No space left(.|\n)*No such file"):
        wait_for_folders(
            lambda: [check_lake(disk.path / "lake"), check_state(Path("/proc/state"))],
            SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC)),
        )


def test_a_worker_that_waits_for_room_can_be_stopped(disk: Disk) -> None:
    disk.fill()
    command = [sys.executable, "-m", "streamflow", "worker", "topologies.flights"]
    folders = ["--lake", str(disk.path / "lake"), "--state-dir", str(disk.path / "state")]
    with subprocess.Popen([*command, *folders], stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        said = worker.stderr.readline()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert "the worker starts when it can" in said
