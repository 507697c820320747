"""The state of a task on disk: the contract of every store, and what only a disk can do wrong."""

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from streamflow.edges.memory import MemoryStore
from streamflow.edges.rocksdb import IDENTITY, RocksStore, StateFolder, StateMemory
from streamflow.errors import SettingsError, StateDamaged, TaskLost
from streamflow.testing.contracts_store import LAWS, OpenStore


@pytest.fixture(params=["memory", "rocksdb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    if request.param == "rocksdb":
        return lambda: RocksStore(tmp_path / "state" / "flights-0")
    store = MemoryStore()
    return lambda: store


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_contract_is_kept(law: Callable[[OpenStore], None], open_store: OpenStore) -> None:
    law(open_store)


def test_a_killed_process_leaves_whole_commits(tmp_path: Path) -> None:
    path = tmp_path / "flights-0"
    dying = f"""
import os, signal
from pathlib import Path
from streamflow.edges.rocksdb import RocksStore

def torn():
    yield b"a", b"torn"
    yield b"c", b"torn"
    os.kill(os.getpid(), signal.SIGKILL)

store = RocksStore(Path({str(path)!r}))
store.apply([(b"a", b"whole"), (b"b", b"whole")])
store.apply(torn())
"""
    died = subprocess.run([sys.executable, "-c", dying], check=False)
    assert died.returncode == -9
    with closing(RocksStore(path)) as store:
        assert store.scan(b"", b"\xff") == [(b"a", b"whole"), (b"b", b"whole")]


@pytest.mark.parametrize("damage", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_a_damaged_database_is_made_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "flights-0"
    with closing(RocksStore(path)) as store:
        store.apply([(b"a", b"1")])
        store._db.flush()
    (damaged,) = path.glob(damage)
    damaged.write_bytes(b"garbage")
    with closing(RocksStore(path)) as store:
        assert store.scan(b"", b"\xff") == []
        store.apply([(b"b", b"2")])
    with closing(RocksStore(path)) as store:
        assert store.scan(b"", b"\xff") == [(b"b", b"2")]


def test_a_folder_of_garbage_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "flights-0"
    path.mkdir()
    for name in ("CURRENT", "IDENTITY", "MANIFEST-000001", "000004.log", "rocksdict-config.json"):
        (path / name).write_bytes(b"\xff\x00garbage")
    with closing(RocksStore(path)) as store:
        store.apply([(b"a", b"1")])
        assert store.get([b"a"]) == [b"1"]


def test_a_file_in_the_place_of_a_database_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "flights-0"
    path.write_text("not a folder")
    with closing(RocksStore(path)) as store:
        store.apply([(b"a", b"1")])
        assert store.get([b"a"]) == [b"1"]
    assert path.is_dir()


def test_a_disk_that_takes_no_state_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StateDamaged, match="no state can be made in"):
        RocksStore(tmp_path / "file" / "flights-0")


def test_corruption_that_is_found_later_costs_the_state_but_not_the_task(tmp_path: Path) -> None:
    path = tmp_path / "flights-0"
    with closing(RocksStore(path)) as store:
        store.apply([(b"%05d" % i, b"x" * 100) for i in range(1000)])
        store._db.flush()
    (table,) = path.glob("*.sst")
    data = bytearray(table.read_bytes())
    data[100:2000] = bytes(1900)
    table.write_bytes(data)
    with closing(RocksStore(path)) as store, pytest.raises(StateDamaged, match="corrupt"):
        store.scan(b"", b"\xff")
    with closing(RocksStore(path)) as anew:
        assert anew.scan(b"", b"\xff") == []


def test_a_database_that_another_one_holds_is_not_deleted(tmp_path: Path) -> None:
    """A task that is opened twice in one process is a defect, and must not cost its state."""
    path = tmp_path / "flights-0"
    with closing(RocksStore(path)) as store:
        store.apply([(b"a", b"1")])
        with pytest.raises(TaskLost, match="in use"):
            RocksStore(path)
        assert store.get([b"a"]) == [b"1"]
    with closing(RocksStore(path)) as again:
        assert again.get([b"a"]) == [b"1"]


def test_two_workers_cannot_have_one_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "app" / "worker")
    with pytest.raises(SettingsError, match="--worker-id"):
        StateFolder(tmp_path / "app" / "worker")
    StateFolder(tmp_path / "app" / "other").close()
    folder.close()
    folder.close()
    StateFolder(tmp_path / "app" / "worker").close()


def test_the_folder_of_a_killed_worker_is_free(tmp_path: Path) -> None:
    dying = f"""
import os, signal
from pathlib import Path
from streamflow.edges.rocksdb import StateFolder

folder = StateFolder(Path({str(tmp_path)!r}))
store = folder.store("flights-0")
store.apply([(b"a", b"1")])
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", dying], check=False)
    assert died.returncode == -9
    folder = StateFolder(tmp_path)
    with closing(folder.store("flights-0")) as store:
        assert store.get([b"a"]) == [b"1"]
    folder.close()


def test_the_stores_of_a_worker_are_apart_and_share_their_memory(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with closing(folder.store("a-0")) as one, closing(folder.store("a-1")) as other:
        one.apply([(b"k", b"1")])
        assert other.get([b"k"]) == [None]
        assert one._memory is other._memory is folder.memory
    folder.close()


@pytest.mark.parametrize("of", ["other-orders-changelog[0]", "app-orders-changelog[1]", ""])
def test_a_database_of_something_else_is_made_anew(tmp_path: Path, of: str) -> None:
    """As one that was copied into the place of another: of another app, partition or cluster."""
    folder = StateFolder(tmp_path)
    with closing(folder.store("orders-1", of)) as other:
        other.apply([(b"a", b"1")])
    shutil.copytree(tmp_path / "orders-1", tmp_path / "orders-0")
    for _ in range(2):
        with closing(folder.store("orders-0", "app-orders-changelog[0]")) as store:
            assert store.scan(b"", b"~") == []
    with closing(folder.store("orders-0", "app-orders-changelog[0]")) as store:
        store.apply([(b"b", b"2")])
        store.clear()
        store.load([(b"c", b"3")])
        store.loaded()
    with closing(folder.store("orders-0", "app-orders-changelog[0]")) as again:
        assert again.scan(b"", b"~") == [(b"c", b"3")]
    folder.close()


def test_a_database_of_another_format_or_of_before_it_was_said_is_made_anew(
    tmp_path: Path,
) -> None:
    for identity in (None, b"2 app-orders-changelog[0]"):
        with closing(RocksStore(tmp_path / "a", of="app-orders-changelog[0]")) as store:
            store.apply([(b"a", b"1"), (IDENTITY, identity)])
        with closing(RocksStore(tmp_path / "a", of="app-orders-changelog[0]")) as again:
            assert again.scan(b"", b"~") == []


@pytest.mark.parametrize("damage", ["*.sst", "*.log", "MANIFEST-*", "CURRENT", "OPTIONS-*"])
@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
def test_whatever_happens_to_a_file_no_wrong_state_is_read(
    tmp_path: Path, damage: str, how: str
) -> None:
    """It is whole, an earlier whole one, or made anew; in these the changelog has the rest."""
    path = tmp_path / "flights-0"
    commits = [[(b"n", b"%d" % n), (b"k%d" % n, b"%d" % n * 500)] for n in range(20)]
    with closing(RocksStore(path)) as store:
        for number, changes in enumerate(commits):
            store.apply(changes)
            if number == 9:
                store._db.flush()
    for file in path.glob(damage):
        data = bytearray(file.read_bytes())
        if how == "gone":
            file.unlink()
            continue
        middle = len(data) // 2
        data = data[:middle] if how == "cut" else data
        if how == "flipped" and data:
            data[middle] ^= 0xFF
        file.write_bytes(data)
    whole = [dict(change for part in commits[:n] for change in part) for n in range(21)]
    for _ in range(2):
        try:
            with closing(RocksStore(path)) as store:
                assert dict(store.scan(b"", b"~")) in whole
                break
        except StateDamaged:
            continue
    else:
        raise AssertionError("a damaged state was not made anew")


@pytest.mark.parametrize("databases", [2, 30])
def test_all_databases_of_a_worker_keep_within_one_bound(tmp_path: Path, databases: int) -> None:
    """Also those that are opened again, and loaded; and none waits for the others."""
    limit = max(16, databases) * 4 * 1024 * 1024
    folder = StateFolder(tmp_path, StateMemory(limit, databases))
    names = [f"a-{number}" for number in range(databases)]
    for name in names:
        folder.store(name).close()
    stores = [folder.store(name) for name in names]
    values = [random.randbytes(1000) for _ in range(100)]
    most = 0
    for turn in range(600 // databases):
        for store in stores:
            store.apply([(b"%d %d" % (turn, i), value) for i, value in enumerate(values)])
            most = max(most, folder.memory.writes.get_usage())
    assert limit / 16 < most <= limit * 5 / 8  # a commit that is being written comes on top
    for store in stores:
        assert len(store.scan(b"", b"~")) == 600 // databases * 100
        assert number(store, "block-cache-capacity") == limit * 3 // 4
    used = [number(store, "block-cache-usage") for store in stores]
    assert 0 < used[0] <= limit
    assert used == [used[0]] * databases
    one = stores[0]
    one.clear()
    one.load([(b"%d" % i, bytes(100)) for i in range(1000)])
    assert number(one, "block-cache-capacity") == limit * 3 // 4
    one.loaded()
    assert number(one, "block-cache-capacity") == limit * 3 // 4
    for store in stores:
        store.close()
    folder.close()


def test_what_is_loaded_may_be_larger_than_memory(tmp_path: Path) -> None:
    limit = 8 * 1024 * 1024
    folder = StateFolder(tmp_path, StateMemory(limit))
    with closing(folder.store("a")) as store:
        store.clear()
        most = 0
        for turn in range(30):
            store.load((b"%d %d" % (turn, i), random.randbytes(1000)) for i in range(1000))
            most = max(most, folder.memory.writes.get_usage())
        store.loaded()
        assert limit / 8 < most <= limit * 3 / 2  # four shares, and room that lists keep
        assert len(store.scan(b"", b"~")) == 30 * 1000
    folder.close()


def test_a_process_that_is_killed_while_it_loads_leaves_nothing_that_is_trusted(
    tmp_path: Path,
) -> None:
    """Files of what was loaded are there, but not how far the changelog was applied."""
    dying = f"""
import os, random, signal
from pathlib import Path
from streamflow.edges.rocksdb import StateFolder, StateMemory

store = StateFolder(Path({str(tmp_path)!r}), StateMemory(2**23)).store("a")
store.apply([(b"~applied", b"7")])
store.clear()
for turn in range(20):
    store.load((b"%d %d" % (turn, i), random.randbytes(1000)) for i in range(1000))
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", dying], check=False)
    assert died.returncode == -9
    assert list((tmp_path / "a").glob("*.sst"))
    with closing(RocksStore(tmp_path / "a")) as store:
        assert store.get([b"~applied"]) == [None]


def number(store: RocksStore, name: str) -> int:
    found = store._db.property_int_value(f"rocksdb.{name}")
    assert isinstance(found, int)
    return found
