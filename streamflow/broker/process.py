"""One Kafka, as a child process that does not outlive its parent.

Operations: `format_node` readies a folder, `launch_node` starts the JVM, and
`wait_until_it_answers` returns when Kafka answers a metadata request; `start` does all of it for
one broker. `stop` asks with SIGTERM and insists with SIGKILL.

The broker has a session of its own, so that Ctrl-C in a terminal reaches only the parent, which
then stops the broker after its clients. If the parent dies without a word, the kernel kills the
broker (see `launch.py`); where the kernel cannot, the next start does (see `folder.py`).
"""

import base64
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from streamflow.broker import launch
from streamflow.broker.errors import BrokerError
from streamflow.broker.folder import Folder
from streamflow.broker.ports import LOOPBACK, answers, free_ports, is_taken
from streamflow.broker.properties import Node, server_properties

_POLL_SECONDS = 0.1
_START_POLLS = 600
_STOP_SECONDS = 15.0

_JVM = ("-XX:+UseSerialGC", "-Xshare:auto", "-Dlog4j2.level=WARN")
_SERVER_LOG = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)


class Broker:
    """A running broker. Whoever holds it may stop it; stopping twice is harmless."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self.port = port
        self.log = log

    @property
    def bootstrap(self) -> str:
        """What clients connect to: `host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How the broker ended, or None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait until the broker ends by itself, which it should not."""
        return self._process.wait()

    def stop(self, within: float = _STOP_SECONDS) -> None:
        """Shut down cleanly, or by force after so many seconds."""
        self._process.terminate()
        try:
            self._process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End at once, as a power cut would."""
        self._process.kill()
        self._process.wait()


def start(
    folder: Folder,
    *,
    java: Path,
    jars: Path,
    port: int | None,
    cpus: set[int] | None,
    heap_mb: int,
    say: Callable[[str], None],
) -> Broker:
    """Start a broker in `folder` and wait until it answers.

    Raises:
        BrokerError: the port is taken, the folder cannot be formatted, or Kafka gave up.
    """
    refuse_taken([port] if port else [])
    jvm = jvm_command(java, jars, heap_mb)
    free, controller_port = free_ports(2)
    node = Node(1, port or free, controller_port)
    format_node(folder, node, [node], jvm, cluster_id())
    broker = launch_node(folder, node, jvm, cpus)
    try:
        wait_until_it_answers(broker)
    except BaseException:
        broker.kill()
        raise
    say(f"Kafka listens on {broker.bootstrap}")
    return broker


def refuse_taken(ports: Sequence[int]) -> None:
    """Raises `BrokerError` where somebody listens already."""
    for port in ports:
        if is_taken(port):
            raise BrokerError(
                f"port {port} on {LOOPBACK} is taken; give another one, or stop what listens there"
            )


def jvm_command(java: Path, jars: Path, heap_mb: int) -> list[str]:
    """What starts a JVM that has Kafka's classes."""
    heap = [f"-Xms{min(heap_mb, 256)}m", f"-Xmx{heap_mb}m"]
    return [str(java), *heap, *_JVM, "-cp", f"{jars}/*"]


def format_node(
    folder: Folder, node: Node, nodes: Sequence[Node], jvm: Sequence[str], cluster: str
) -> None:
    """Write a node's properties, and make its folder one of this cluster if it is new.

    Raises:
        BrokerError: Kafka cannot.
    """
    folder.properties.write_text(server_properties(node, nodes, folder.data))
    if not folder.formatted:
        _format(folder, jvm, cluster)


def launch_node(
    folder: Folder, node: Node, jvm: Sequence[str], cpus: set[int] | None = None
) -> Broker:
    """Start the JVM of a node that has been formatted; returns at once."""
    command = [*jvm[:-2], *_SERVER_LOG, *jvm[-2:], "kafka.Kafka", str(folder.properties)]
    return Broker(_spawn(command, folder, cpus), node.port, folder.log)


def _format(folder: Folder, jvm: Sequence[str], cluster: str) -> None:
    # It lives for a second: what is compiled well for later would cost it as much as its work.
    command = [*jvm[:-2], "-XX:TieredStopAtLevel=1", *jvm[-2:], "kafka.tools.StorageTool", "format"]
    arguments = ["--cluster-id", cluster, "--config", str(folder.properties)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BrokerError(
            f"Kafka cannot format {folder.data}: {_last_line(done.stdout + done.stderr)}"
        )


def _spawn(
    command: Sequence[str], folder: Folder, cpus: set[int] | None
) -> subprocess.Popen[bytes]:
    launcher = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid())]
    wanted = ",".join(str(cpu) for cpu in sorted(cpus or ()))
    with folder.log.open("wb") as log:
        process = subprocess.Popen(
            [*launcher, wanted, *command],
            cwd=folder.path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    folder.pid.write_text(str(process.pid))
    return process


def wait_until_it_answers(broker: Broker, brokers: int = 1) -> None:
    """Wait until it knows of so many brokers, itself included.

    Raises:
        BrokerError: Kafka gave up, or did not answer within a minute.
    """
    for _ in range(_START_POLLS):
        if broker.returncode is not None:
            raise BrokerError(f"Kafka gave up while starting: {_cause(broker.log)}")
        if answers(broker.port, brokers):
            return
        try:
            broker._process.wait(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    raise BrokerError(
        f"Kafka did not answer on {broker.bootstrap} within a minute: {_cause(broker.log)}"
    )


def _cause(log: Path) -> str:
    """The last line of the log that names an exception, else its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    told = [line for line in lines if "Exception: " in line or "Error: " in line]
    return (told or [line for line in lines if line] or ["it gave no reason"])[-1]


def _last_line(output: str) -> str:
    return ([line.strip() for line in output.splitlines() if line.strip()] or ["no reason"])[-1]


def cluster_id() -> str:
    """Kafka's form of a UUID. It must not begin with a dash, or it would read as an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))[0] == "-":
        pass
    return made
