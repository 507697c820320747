"""Small files of a plain table in a real S3 server become larger ones, as on a disk: each row is
there once at the end, and no row is ever missing.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from streamflow.cli import main
from streamflow.clock import SimulatedClock, SystemClock
from streamflow.edges.object_files import ObjectFiles
from streamflow.engine.compact import CRASH_POINTS, Compactor
from streamflow.engine.lease import LONGEST, lease
from streamflow.errors import SinkUnavailable, StateRefused
from streamflow.ports import ReplaceableFiles
from streamflow.testing.contracts_files import REPLACEABLE
from tests.stores.exactly_once import Faults, crash_at, log_of, no_faults
from tests.stores.proxy import Proxy, Trouble
from tests.stores.server import WHERE, S3Server
from tests.unit.sink_log import Crash, drain, ids, partition

MIB = 1024 * 1024
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000


def filled(files: ObjectFiles) -> None:
    """24 rows in 12 files, of which compaction joins six."""
    drain(partition(files), log_of(5, 9, 4, 6))


def work(files: ObjectFiles, faults: Faults = no_faults, days: int = 0) -> Compactor:
    return Compactor(files, "none", SimulatedClock(START + timedelta(days=days)), faults)


@pytest.mark.parametrize("law", REPLACEABLE, ids=lambda law: law.__name__)
def test_the_contract_is_kept(law: Callable[[ReplaceableFiles], None], files: ObjectFiles) -> None:
    law(files)


@pytest.mark.parametrize("point", [*CRASH_POINTS, "temp", "linked"])
def test_a_crash_at_each_step_ends_with_the_same_rows(
    s3: S3Server, fresh: str, files: ObjectFiles, point: str
) -> None:
    filled(files)
    for time in range(20):
        faults = crash_at(point, time)
        shaken = ObjectFiles(s3.store(), WHERE, f"{fresh}/flights", faults=faults)
        try:
            work(shaken, faults).run(MIB)
        except Crash:
            assert set(ids(files)) == set(range(24)), "a row is missing"
            continue
        break
    assert ids(files) == list(range(24))
    assert not work(files).unfinished()
    assert len(files.names()) == 12 + 3


def test_two_at_once_make_one_table(s3: S3Server, fresh: str, files: ObjectFiles) -> None:
    """As when a lease has run out under a command that is slow. Both stand before each step."""
    filled(files)
    gate = threading.Barrier(2, timeout=30)

    def one(_: int) -> None:
        def together(point: str) -> None:
            if point == "joined":
                assert set(ids(files)) == set(range(24)), "a row is missing"
            if not gate.broken:
                gate.wait()

        mine = ObjectFiles(s3.store(), WHERE, f"{fresh}/flights")
        try:
            work(mine, together).run(MIB)
        finally:
            gate.abort()

    with ThreadPoolExecutor(2) as pool:
        failures = [f.exception() for f in [pool.submit(one, i) for i in range(2)]]
    assert all(f is None or isinstance(f, threading.BrokenBarrierError) for f in failures)
    work(files).run(MIB)
    assert ids(files) == list(range(24))
    assert sum("compacted" in name for name in files.names()) == 3


def puts(part: str) -> Callable[[str, str], bool]:
    return lambda method, path: method == "PUT" and part in path


@pytest.mark.parametrize("lost", ["compacted-", "-00000001-00000.par"])
def test_one_that_never_hears_of_its_put_is_run_again(
    s3: S3Server, fresh: str, files: ObjectFiles, proxy: Proxy, lost: str
) -> None:
    filled(files)
    far = ObjectFiles(s3.store(proxy.endpoint), WHERE, f"{fresh}/flights")
    proxy.troubles.append(Trouble(puts(lost), times=2))
    with pytest.raises(SinkUnavailable):
        work(far).run(MIB)
    assert set(ids(files)) == set(range(24))
    work(far).run(MIB)
    assert ids(files) == list(range(24))
    assert work(files).run(MIB) == []


def test_emptied_files_are_deleted_days_later(files: ObjectFiles) -> None:
    filled(files)
    [plan] = work(files).run(MIB)
    assert work(files, days=6).vacuum(7 * DAY_MS) == []
    gone = work(files, days=7).vacuum(7 * DAY_MS)
    assert sorted(gone) == sorted(source.name for pack in plan.packs for source in pack.of)
    assert not set(gone) & set(files.names())
    assert ids(files) == list(range(24))


def test_a_lease_that_has_run_out_is_taken_over_by_one(
    s3: S3Server, fresh: str, files: ObjectFiles, proxy: Proxy
) -> None:
    clock = SimulatedClock(START)
    far = ObjectFiles(s3.store(proxy.endpoint), WHERE, f"{fresh}/flights")
    far.create("before.json", b"", private=True)
    with lease(files, "a", clock):
        clock.advance(LONGEST)
        proxy.troubles.append(Trouble(puts("lease.json")))  # its answer is lost
        with (
            lease(far, "b", clock),
            pytest.raises(StateRefused, match="b is rewriting"),
            lease(files, "c", clock),
        ):
            pass
        with lease(files, "d", clock):
            pass
    assert files.names(private=True) == ["before.json"]


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["compact", *words])


def test_the_command_compacts_a_table_in_a_store(
    s3: S3Server, fresh: str, files: ObjectFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(files)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"{WHERE}/{fresh}/flights"
    shown = run(url, "--no-broker", "--dry-run")
    assert "6 files would become 3, with 14 rows" in shown.output, shown.output
    with lease(files, "another", SystemClock()):
        refused = run(url, "--no-broker")
        assert (refused.exit_code, "another is rewriting this table" in refused.output) == (2, True)
    done = run("flights", "--lake", f"{WHERE}/{fresh}", "--no-broker")
    assert "flights: 6 files are 3, with 14 rows" in done.output
    assert ids(files) == list(range(24))
    assert "there is nothing to join" in run(url, "--no-broker").output
    assert "0 files without rows deleted" in run(url, "--no-broker", "--vacuum").output
    files.create("_delta_log/00000000000000000009.json", b"{}")
    assert "is a Delta table" in run(url, "--no-broker").output
    other = run(f"{url}-other", "--no-broker")
    assert "there is no flights-other.streamflow/owner.json" in other.output
