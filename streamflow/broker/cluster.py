"""Several brokers on this machine, one cluster: for chaos, where leaders and coordinators move.

    with running_cluster(3) as cluster:
        connect_to(cluster.bootstrap)
        cluster.kill(2)
        cluster.launch(2)
        cluster.wait_until_whole()

Each node is broker and controller; a majority of them has to live. Topics have a replica on each of
three, and take writes while two of them are there.
"""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import TimeoutExpired

from streamflow.broker import equip, say_to_stderr
from streamflow.broker.errors import BrokerError
from streamflow.broker.folder import Folder, kept_folder, temporary_folder
from streamflow.broker.ports import free_ports
from streamflow.broker.process import (
    Broker,
    cluster_id,
    format_node,
    jvm_command,
    launch_node,
    refuse_taken,
    wait_until_it_answers,
)
from streamflow.broker.properties import Node
from streamflow.counted import counted

#: The largest heap of one node, unless it is given.
HEAP_MB = 256
_LOOK_SECONDS = 0.2
_STOP_SECONDS = 4.0


class Cluster:
    """Running brokers; nodes are numbered from 1. Use `running_cluster`."""

    def __init__(
        self, folder: Folder, nodes: list[Node], launch: Callable[[Folder, Node], Broker]
    ) -> None:
        self._folder = folder
        self._nodes = nodes
        self._launch = launch
        self._brokers: dict[int, Broker] = {}

    @property
    def bootstrap(self) -> str:
        """What clients connect to: `host:port`, comma separated."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self._nodes]

    @property
    def pids(self) -> list[int]:
        return [broker.pid for broker in self._brokers.values()]

    def start(self) -> None:
        """Start all nodes, and wait until each knows of all.

        Raises:
            BrokerError: one gave up, or did not answer.
        """
        for node in self._nodes:
            self.launch(node.id)
        self.wait_until_whole()

    def kill(self, number: int) -> None:
        """End one node at once, as a power cut would."""
        self._brokers[number].kill()

    def launch(self, number: int) -> None:
        """Start one that has ended, at its own address; returns at once."""
        node = self._nodes[number - 1]
        self._brokers[number] = self._launch(self._folder.node(number), node)

    def wait_until_whole(self) -> None:
        """Wait until each node knows of all.

        Raises:
            BrokerError: one gave up, or did not answer.
        """
        for broker in self._brokers.values():
            wait_until_it_answers(broker, len(self._nodes))

    def wait(self) -> int:
        """Wait until one of them ends by itself, which none should; returns its exit code."""
        while True:
            for broker in self._brokers.values():
                with suppress(TimeoutExpired):
                    return broker._process.wait(timeout=_LOOK_SECONDS)

    def stop(self) -> None:
        """Shut all down at the same time, and by force those that wait for a controller that is
        gone already: what they have acknowledged is in their logs.
        """
        with ThreadPoolExecutor(len(self._nodes)) as pool:
            list(pool.map(partial(Broker.stop, within=_STOP_SECONDS), self._brokers.values()))


@contextmanager
def running_cluster(
    nodes: int,
    *,
    port: int | None = None,
    data_dir: Path | None = None,
    heap_mb: int = HEAP_MB,
    install: bool = False,
    say: Callable[[str], None] = say_to_stderr,
) -> Generator[Cluster]:
    """So many brokers that know of each other, stopped at the end of the block; see
    `running_broker`. With a `port` they listen on that and the next ones.

    Raises:
        BrokerError: it cannot be had here; one sentence says why and what to do.
    """
    java, jars = equip(install=install, say=say)
    with temporary_folder() if data_dir is None else kept_folder(data_dir) as folder:
        if folder.formatted or folder.nodes not in (0, nodes):
            there = folder.nodes or 1
            raise BrokerError(
                f"{folder.path} holds the data of {counted(there, 'broker')}, not of "
                f"{nodes}; give another folder, or the number that fits"
            )
        chosen = _nodes(nodes, port)
        jvm = jvm_command(java, jars, heap_mb)
        _format(folder, chosen, jvm)
        cluster = Cluster(folder, chosen, partial(launch_node, jvm=jvm))
        try:
            cluster.start()
            say(f"Kafka listens on {cluster.bootstrap}")
            yield cluster
        finally:
            cluster.stop()


def _nodes(count: int, port: int | None) -> list[Node]:
    given = [port + number for number in range(count)] if port else []
    refuse_taken(given)
    free = free_ports(2 * count)
    ports = given or free[:count]
    return [Node(n, *both) for n, both in enumerate(zip(ports, free[count:], strict=True), 1)]


def _format(folder: Folder, nodes: list[Node], jvm: list[str]) -> None:
    """All at once: each takes a JVM some seconds, once."""
    cluster = cluster_id()

    def one(node: Node) -> None:
        format_node(folder.node(node.id), node, nodes, jvm, cluster)

    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(one, nodes))
