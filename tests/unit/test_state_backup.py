"""Copies of local states: made while they are written to, put back elsewhere, and never trusted."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from streamflow.batch import TopicPartition
from streamflow.cli import main
from streamflow.clock import SimulatedClock, millis
from streamflow.edges.memory import MemoryBroker
from streamflow.edges.rocksdb import RocksStore, StateFolder, identity_of
from streamflow.edges.state_backup import (
    MANIFEST,
    Backup,
    Manifest,
    Stopped,
    back_up,
    backups,
    put_back,
)
from streamflow.engine.backups import Backups
from streamflow.engine.commit import APPLIED, APPLIED_AT
from streamflow.engine.restore import STALE_AFTER
from streamflow.engine.settings import Settings
from streamflow.errors import StateDamaged
from streamflow.state.backup import why_not
from streamflow.states import WorkerStates
from tests.unit.local_states import MemoryStates

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TP = TopicPartition("orders", 0)
OF = "cluster app-orders-changelog[0]"
HELD = "1 cluster app-orders-changelog[0]"


def write(store: RocksStore, upto: int, at: datetime = NOW, first: int = 0) -> None:
    entries = [(b"k%06d" % n, b"v" * 100) for n in range(first, upto)]
    marks = [(APPLIED, b"%d" % upto), (APPLIED_AT, b"%d" % millis(at))]
    store.apply([*entries, *marks])


def copied(store: RocksStore, folder: Path, made: int = 1) -> Backup | None:
    return back_up(store.database, folder / "scratch", folder / "copies", made, threading.Event())


def held(path: Path, of: str = OF) -> dict[bytes, bytes]:
    with closing(RocksStore(path, of=of)) as store:
        return dict(store.scan(b"", b"\xff"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    with closing(RocksStore(tmp_path / "orders-0", of=OF)) as opened:
        write(opened, 100)
        yield opened


def test_a_copy_is_the_state_as_it_was_and_is_not_written_to_again(
    store: RocksStore, tmp_path: Path
) -> None:
    made = copied(store, tmp_path)
    assert made is not None
    write(store, 200)
    assert (made.manifest.of, made.manifest.applied, made.manifest.at) == (HELD, 100, millis(NOW))
    for place in (tmp_path / "one", tmp_path / "two"):
        put_back(made, place, threading.Event())
        found = held(place)
        assert len([key for key in found if key.startswith(b"k")]) == 100
        assert found[APPLIED] == b"100"
        with closing(RocksStore(place, of=OF)) as other:
            write(other, 500)
    put_back(made, tmp_path / "three", threading.Event())
    assert held(tmp_path / "three") == found
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_copy_that_is_made_while_commits_go_on_has_whole_ones(
    store: RocksStore, tmp_path: Path
) -> None:
    found: list[Backup | None] = []
    copying = threading.Thread(target=lambda: found.append(copied(store, tmp_path)))
    copying.start()
    upto = 100
    while copying.is_alive():
        write(store, upto + 50, first=upto)
        upto += 50
    copying.join()
    assert found[0] is not None
    put_back(found[0], tmp_path / "back", threading.Event())
    state = held(tmp_path / "back")
    applied = int(state[APPLIED])
    assert len([key for key in state if key.startswith(b"k")]) == applied
    assert applied == found[0].manifest.applied


def test_what_has_not_changed_is_written_once_and_the_last_two_are_kept(
    store: RocksStore, tmp_path: Path
) -> None:
    store.database.flush()
    first = copied(store, tmp_path, 1)
    write(store, 200, first=100)
    second = copied(store, tmp_path, 2)
    assert first is not None
    assert second is not None
    (table,) = first.path.glob("*.sst")
    assert (second.path / table.name).stat().st_ino == table.stat().st_ino
    third = copied(store, tmp_path, 3)
    assert third is not None
    assert [one.path for one in backups(tmp_path / "copies")] == [third.path, second.path]
    assert not first.path.exists()
    put_back(second, tmp_path / "back", threading.Event())
    assert len(held(tmp_path / "back")) == 202


@pytest.mark.parametrize("harm", ["changed", "cut", "gone"])
def test_a_copy_with_a_damaged_file_is_refused_and_nothing_is_put_there(
    store: RocksStore, tmp_path: Path, harm: str
) -> None:
    made = copied(store, tmp_path)
    assert made is not None
    victim = max(made.path.iterdir(), key=lambda path: path.stat().st_size)
    data = victim.read_bytes()
    if harm == "gone":
        victim.unlink()
    else:
        middle = len(data) // 2
        victim.write_bytes(
            data[:middle] if harm == "cut" else data[:middle] + b"?" + data[middle + 1 :]
        )
    with pytest.raises(StateDamaged, match=victim.name):
        put_back(made, tmp_path / "back", threading.Event())
    assert not (tmp_path / "back").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_manifest_that_is_not_as_it_was_made_is_none(store: RocksStore, tmp_path: Path) -> None:
    made = copied(store, tmp_path)
    assert made is not None
    path = made.path / MANIFEST
    body = orjson.loads(path.read_bytes())
    for changed in ({**body, "applied": 99}, {**body, "format": 2}, {"applied": 1}, []):
        path.write_bytes(orjson.dumps(changed))
        assert backups(tmp_path / "copies") == []
    path.write_bytes(made.manifest.encoded())
    assert backups(tmp_path / "copies") == [made]
    assert backups(tmp_path / "none") == []


def test_there_is_nothing_to_copy_of_a_state_without_a_commit(tmp_path: Path) -> None:
    with closing(RocksStore(tmp_path / "orders-0", of=OF)) as empty:
        assert copied(empty, tmp_path) is None
        empty.load([(b"k", b"v")])
        assert empty.database is None, "nothing of it may be used yet"
    assert not (tmp_path / "copies").exists()


def test_copying_that_is_given_up_leaves_nothing(store: RocksStore, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        back_up(store.database, tmp_path / "scratch", tmp_path / "copies", 1, stop)
    assert list((tmp_path / "copies").iterdir()) == []
    made = copied(store, tmp_path)
    assert made is not None
    with pytest.raises(Stopped):
        put_back(made, tmp_path / "back", stop)
    assert not (tmp_path / "back").exists()


def test_why_a_copy_cannot_be_gone_on_from() -> None:
    made = Manifest(HELD, 100, millis(NOW), 1, {})
    held_of = identity_of(OF)
    assert why_not(made, held_of, (0, 100), NOW + STALE_AFTER) is None
    later = NOW + STALE_AFTER + timedelta(seconds=1)
    for words, of, bounds, now in [
        ("another cluster, app, partition", identity_of("other"), (0, 100), NOW),
        ("of a changelog that is not there", held_of, None, NOW),
        ("up to changelog offset 100, and the changelog ends at 99", held_of, (0, 99), NOW),
        ("up to changelog offset 100, and the changelog begins at 101", held_of, (101, 200), NOW),
        ("the state of 2026-01-01 00:00 UTC: since then, more than 12 h", held_of, (0, 100), later),
    ]:
        assert words in (why_not(made, of, bounds, now) or ""), words


class Copying:
    """The states of one worker, and the time."""

    def __init__(self, folder: Path, worker: str = "one", cluster: str = "cluster") -> None:
        self.clock = SimulatedClock(NOW)
        settings = Settings.load(
            state_dir=folder / "state", worker_id=worker, backup_dir=folder / "backups"
        )
        logs = {"orders": ("app-orders-changelog", 2)}
        self.states = WorkerStates(settings, "app", logs, cluster, self.clock, {})

    def brought(self) -> dict[bytes, bytes]:
        """What a task finds when it opens its state."""
        asyncio.run(self.states.bring(TP))
        with closing(self.states.store(TP)) as store:
            return dict(store.scan(b"", b"~"))


def backed_up(folder: Path) -> None:
    """A worker that has made a backup of its state, and is gone."""
    it = Copying(folder)
    with closing(it.states), closing(it.states.store(TP)) as store:
        write(store, 10)
        assert it.states.last_backup(TP) is None
        asyncio.run(it.states.back_up(TP))
        assert it.states.last_backup(TP) == millis(NOW)


def test_a_worker_without_a_state_begins_from_the_backup_of_another_one(tmp_path: Path) -> None:
    backed_up(tmp_path)
    other = Copying(tmp_path, "two")
    with closing(other.states):
        assert len(other.brought()) == 10
        assert asyncio.run(other.states.found()) == {TP: (10, millis(NOW))}
        assert other.states.changelog(TP) == TopicPartition("app-orders-changelog", 0)


def test_a_state_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    backed_up(tmp_path)
    other = Copying(tmp_path, "two")
    with closing(other.states):
        with closing(other.states.store(TP)) as store:
            write(store, 3)
        assert len(other.brought()) == 3


def test_a_backup_that_is_old_foreign_or_damaged_is_not_used(tmp_path: Path) -> None:
    backed_up(tmp_path)
    foreign = Copying(tmp_path, "two", cluster="another")
    with closing(foreign.states):
        assert foreign.brought() == {}
        assert asyncio.run(foreign.states.found()) == {TP: (0, 0)}
    late = Copying(tmp_path, "three")
    late.clock.advance(STALE_AFTER + timedelta(seconds=1))
    with closing(late.states):
        assert late.brought() == {}
    (made,) = backups(tmp_path / "backups" / "app" / "orders-0")
    (made.path / "CURRENT").write_bytes(b"?")
    harmed = Copying(tmp_path, "four")
    with closing(harmed.states):
        assert harmed.brought() == {}


def test_what_a_copy_that_was_broken_off_left_is_removed_by_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "state" / "app" / "one" / ".orders-0-1.tmp"
    scratch = tmp_path / "state" / "app" / "one" / ".backup" / "backup-1"
    for folder in (left, scratch):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
    it = Copying(tmp_path)
    it.states.close()
    assert not scratch.exists()
    assert not left.exists()


def test_states_are_copied_when_they_are_due_and_what_fails_is_tried_again() -> None:
    async def go() -> None:
        clock = SimulatedClock(NOW)
        states = MemoryStates(MemoryBroker(), {"orders": "log"}, clock)
        states.store(TP)
        lanes: Any = {TP: SimpleNamespace(is_open=False)}
        it = Backups(states, timedelta(hours=1), lanes, clock)
        await it.turn()
        assert states.backups == {}, "it is not open"
        lanes[TP].is_open = True
        states.no_room = "the disk is full"
        await it.turn()
        assert states.backups == {}
        states.no_room = None
        await it.turn()
        assert states.backups == {TP: millis(NOW)}
        clock.advance(timedelta(minutes=59))
        await it.turn()
        assert states.backups == {TP: millis(NOW)}
        clock.advance(timedelta(minutes=1))
        await it.turn()
        assert states.backups == {TP: millis(clock.now())}

    asyncio.run(go())


def command(tmp_path: Path, *words: str) -> Any:
    return CliRunner().invoke(
        main, ["state", *words, "--state-dir", str(tmp_path / "state"), "--worker-id", "one"]
    )


def test_the_command_copies_what_a_stopped_worker_has(tmp_path: Path) -> None:
    to = ("backup", "topologies.flights", "--app-id", "app", "--to", str(tmp_path / "copies"))
    none = command(tmp_path, *to)
    assert none.exit_code == 2
    assert "there is no state folder" in none.stderr
    folder = tmp_path / "state" / "app" / "one"
    with closing(StateFolder(folder)) as used:
        in_use = command(tmp_path, *to)
        assert in_use.exit_code == 2
        assert "is in use by another worker" in in_use.stderr
        with closing(used.store("orders-0", OF)) as store:
            write(store, 10)
        used.store("orders-1", OF).close()
        (folder / "other").write_text("no database")
    done = command(tmp_path, *to)
    assert done.exit_code == 0, done.output
    copied_one, not_copied = done.stdout.splitlines()
    assert copied_one.startswith("orders-0: ")
    assert "up to changelog offset 10, in" in copied_one
    assert not_copied == "orders-1: no state that is whole, not copied"
    (made,) = backups(tmp_path / "copies" / "app" / "orders-0")
    assert made.manifest.of == HELD
    with closing(StateFolder(folder)) as again:
        assert len(dict(again.store("orders-0", OF).scan(b"", b"~"))) == 10
