"""Folders of brokers: locked while in use, cleared when their owner is dead, kept if asked."""

import tempfile
from pathlib import Path

import pytest

from streamflow import broker
from streamflow.broker import BrokerError, cluster, running_broker
from streamflow.broker.folder import kept_folder, temporary_folder
from streamflow.broker.ports import free_ports, is_taken
from streamflow.broker.properties import Node, server_properties


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


NODES = [Node(number, 1110 + number, 2220 + number) for number in (1, 2, 3)]


def test_the_broker_listens_on_loopback_only(root: Path) -> None:
    text = server_properties(NODES[0], NODES, root)
    listeners = [line for line in text.splitlines() if "://" in line]
    assert len(listeners) == 2
    assert all(
        address.startswith("127.0.0.1:")
        for line in listeners
        for address in (part.split("://")[1] for part in line.split(","))
    )


@pytest.mark.parametrize(("nodes", "replicas", "in_sync"), [(1, 1, 1), (2, 2, 1), (3, 3, 2)])
def test_every_topic_has_a_replica_on_each_node_and_bears_that_one_is_away(
    root: Path, nodes: int, replicas: int, in_sync: int
) -> None:
    lines = server_properties(NODES[nodes - 1], NODES[:nodes], root).splitlines()
    for name, value in {
        "node.id": nodes,
        "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:222{n}" for n in range(1, nodes + 1)),
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
    }.items():
        assert f"{name}={value}" in lines


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(6)
    assert len(set(ports)) == 6
    assert not any(is_taken(port) for port in ports)


def test_what_a_dead_owner_of_several_left_is_cleared(root: Path) -> None:
    with kept_folder(root / "streamflow-broker-old") as folder:
        for number in (1, 2):
            folder.node(number).properties.touch()
        assert folder.nodes == 2
        with temporary_folder():
            assert folder.path.exists(), "it is in use"
    with temporary_folder():
        assert not folder.path.exists()


def test_a_folder_of_another_number_of_brokers_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (broker, cluster):
        monkeypatch.setattr(module, "equip", lambda **_: (Path("java"), Path("jars")))
    with kept_folder(root / "three") as folder:
        for number in (1, 2, 3):
            folder.node(number)
    (root / "one" / "data").mkdir(parents=True)
    (root / "one" / "data" / "meta.properties").touch()
    with pytest.raises(BrokerError, match="holds the data of 3 brokers; give another folder"):
        running_broker(data_dir=root / "three").__enter__()
    with pytest.raises(BrokerError, match="holds the data of 3 brokers, not of 2"):
        cluster.running_cluster(2, data_dir=root / "three").__enter__()
    with pytest.raises(BrokerError, match="holds the data of 1 broker, not of 3"):
        cluster.running_cluster(3, data_dir=root / "one").__enter__()
