"""The files of a table: one contract for all, and what only a disk can do wrong."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory_files import MemoryFiles
from streamflow.edges.object_files import ObjectFiles
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import ReplaceableFiles, TableFiles
from streamflow.testing.contracts_files import LAWS, REPLACEABLE


class Crash(BaseException):
    """The process is gone."""


def files_in(place: str, root: Path) -> ReplaceableFiles:
    if place == "local":
        return LocalFiles(root, "lake/flights")
    if place == "store":
        return ObjectFiles(MemoryStore(), "memory://", "lake/flights")
    return MemoryFiles()


@pytest.fixture(params=["memory", "local", "store"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> ReplaceableFiles:
    return files_in(request.param, tmp_path)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_contract_is_kept(law: Callable[[TableFiles], None], files: TableFiles) -> None:
    law(files)


@pytest.mark.parametrize("law", REPLACEABLE, ids=lambda law: law.__name__)
def test_the_contract_of_files_that_a_command_replaces_is_kept(
    law: Callable[[ReplaceableFiles], None], files: ReplaceableFiles
) -> None:
    law(files)


def crash_at(point: str) -> Callable[[str], None]:
    def faults(name: str) -> None:
        if name == point:
            raise Crash

    return faults


def temps(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*.tmp"))


def test_a_crash_before_the_link_leaves_no_name(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path, "t", faults=crash_at("temp"))
    with pytest.raises(Crash):
        files.create("a.parquet", b"abc")
    assert not files.exists("a.parquet")
    assert files.names() == files.names(private=True) == []
    assert LocalFiles(tmp_path, "t").create("a.parquet", b"abc")


def test_a_crash_after_the_link_leaves_a_whole_file(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path, "t", faults=crash_at("linked"))
    with pytest.raises(Crash):
        files.create("a.parquet", b"abc")
    assert files.read("a.parquet") == b"abc"
    assert not LocalFiles(tmp_path, "t").create("a.parquet", b"other")


def test_the_leftovers_of_the_dead_are_cleaned_and_those_of_the_living_are_not(
    tmp_path: Path,
) -> None:
    dead = LocalFiles(tmp_path, "t", faults=crash_at("temp"))
    living = LocalFiles(tmp_path, "t", faults=crash_at("temp"))
    for owner in (dead, living):
        with pytest.raises(Crash):
            owner.create("a.parquet", b"abc")
    foreign = tmp_path / "t.streamflow" / "tmp" / "notes.tmp"
    foreign.write_text("not ours")
    assert len(temps(tmp_path)) == 3
    dead.close()
    LocalFiles(tmp_path, "t").create("b.parquet", b"")
    assert len(temps(tmp_path)) == 2
    assert foreign.exists()
    assert not temps(tmp_path)[0].endswith(".parquet")


@pytest.mark.slow
def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from streamflow.edges.local_files import LocalFiles\n"
        "die = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "LocalFiles(Path(sys.argv[1]), 't', faults=die).create('a.parquet', b'abc')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert len(temps(tmp_path)) == 1
    LocalFiles(tmp_path, "t").create("b.parquet", b"")
    assert temps(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EACCES, "let this user write"),
        (errno.EROFS, "let this user write"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_does_not_take_it_is_unavailable_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    files = LocalFiles(tmp_path, "t")
    files.create("before.parquet", b"")

    def fails(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(SinkUnavailable, match=words):
            files.create("a.parquet", b"abc")
    assert files.names() == ["before.parquet"]
    assert temps(tmp_path) == []
    assert files.create("a.parquet", b"abc")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EPERM, "no hard links"), (errno.EXDEV, "different file systems")]
)
def test_a_file_system_that_cannot_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fails(_source: Path, _target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fails)
    with pytest.raises(SinkRefused, match=words):
        LocalFiles(tmp_path, "t").create("a.parquet", b"abc")
    assert temps(tmp_path) == []


def test_a_link_whose_answer_was_lost_is_seen_as_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def answers_twice(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "exists")

    monkeypatch.setattr(os, "link", answers_twice)
    assert LocalFiles(tmp_path, "t").create("a.parquet", b"abc")


def test_who_finds_a_name_taken_makes_it_durable_before_relying_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = LocalFiles(tmp_path, "t", faults=crash_at("linked"))
    with pytest.raises(Crash):
        first.create("month=1/a.parquet", b"abc")
    synced: list[int] = []
    fsync = os.fsync

    def noted(opened: int) -> None:
        synced.append(os.fstat(opened).st_ino)
        fsync(opened)

    monkeypatch.setattr(os, "fsync", noted)
    folders = {path.stat().st_ino for path in (tmp_path / "t/month=1", tmp_path / "t", tmp_path)}
    second = LocalFiles(tmp_path, "t")
    assert second.exists("month=1/a.parquet")
    assert folders <= set(synced)
    synced.clear()
    assert not second.create("month=1/a.parquet", b"abc")
    assert folders <= set(synced)


def test_a_name_that_leaves_through_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "month=1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkRefused, match="through a symbolic link"):
        LocalFiles(tmp_path, "t").create("month=1/a.parquet", b"abc")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path, "t")
    files.create("a", b"")
    with pytest.raises(SinkRefused, match="never take this name"):
        files.create("a/b.parquet", b"")


def test_looking_makes_nothing_on_disk(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path, "t")
    assert files.names() == []
    assert not files.exists("a.parquet")
    assert list(tmp_path.iterdir()) == []
