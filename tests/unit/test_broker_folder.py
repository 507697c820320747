"""Folders of brokers: locked while in use, cleared when their owner is dead, kept if asked."""

import tempfile
from pathlib import Path

import pytest

from streamflow.broker import BrokerError
from streamflow.broker.folder import kept_folder, temporary_folder
from streamflow.broker.ports import free_ports, is_taken
from streamflow.broker.properties import server_properties


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def leftover(root: Path) -> Path:
    path = root / "streamflow-broker-old"
    (path / "data").mkdir(parents=True)
    (path / "server.properties").touch()
    (path / "pid").write_text("1")
    return path


def test_a_temporary_folder_goes_with_its_context() -> None:
    with temporary_folder() as folder:
        folder.properties.touch()
        assert folder.path.is_dir()
    assert not folder.path.exists()


def test_what_a_dead_owner_left_is_cleared(root: Path) -> None:
    old = leftover(root)
    with temporary_folder():
        assert not old.exists()


def test_a_folder_in_use_is_not_cleared() -> None:
    with temporary_folder() as one:
        one.properties.touch()
        with temporary_folder() as other:
            other.properties.touch()
            assert one.properties.exists()


def test_a_folder_that_its_owner_has_not_locked_yet_is_not_cleared(root: Path) -> None:
    young = root / "streamflow-broker-young"
    young.mkdir()
    with temporary_folder():
        assert young.exists()


def test_a_kept_folder_is_made_and_kept(root: Path) -> None:
    with kept_folder(root / "a" / "b") as folder:
        (folder.path / "data").mkdir()
    assert (root / "a" / "b" / "data").is_dir()


def test_two_brokers_cannot_share_a_folder(root: Path) -> None:
    with (
        kept_folder(root / "data"),
        pytest.raises(BrokerError, match=r"another streamflow broker runs in .*/data"),
        kept_folder(root / "data"),
    ):
        pass


def test_a_folder_that_is_a_file_is_refused(root: Path) -> None:
    (root / "file").touch()
    for path in (root / "file", root / "file" / "data", Path("/proc/data")):
        with pytest.raises(BrokerError, match=f"cannot keep the broker's data in {path}: "):
            kept_folder(path).__enter__()


def test_what_goes_wrong_while_a_broker_runs_is_not_blamed_on_its_folder(root: Path) -> None:
    with pytest.raises(NotADirectoryError), kept_folder(root / "data"):
        raise NotADirectoryError


def test_the_broker_listens_on_loopback_only(root: Path) -> None:
    text = server_properties(port=1111, controller_port=2222, logs=root)
    listeners = [line for line in text.splitlines() if "://" in line]
    assert len(listeners) == 2
    assert all(
        address.startswith("127.0.0.1:")
        for line in listeners
        for address in (part.split("://")[1] for part in line.split(","))
    )


def test_free_ports_are_two_and_free() -> None:
    one, other = free_ports()
    assert one != other
    assert not is_taken(one)
