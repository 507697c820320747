"""A real single-node Kafka on this machine, without Docker.

    with running_broker() as kafka:
        connect_to(kafka.bootstrap)

Java 17 runs it; its jars come through Maven or from `KAFKA_HOME`. It listens on loopback only.
"""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from streamflow.broker import java
from streamflow.broker.errors import BrokerError
from streamflow.broker.folder import kept_folder, temporary_folder
from streamflow.broker.jars import broker_jars
from streamflow.broker.process import Broker, start

__all__ = ["Broker", "BrokerError", "equip", "running_broker"]


def say_to_stderr(line: str) -> None:
    """The default voice of a broker that is being started."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def running_broker(
    *,
    port: int | None = None,
    data_dir: Path | None = None,
    cpus: set[int] | None = None,
    heap_mb: int = 512,
    install: bool = False,
    say: Callable[[str], None] = say_to_stderr,
) -> Generator[Broker]:
    """A broker that answers, stopped at the end of the block and killed if this process dies.

    Call it from a thread that lives as long as the broker should: on Linux the broker dies with
    the thread that started it.

    Args:
        port: where to listen on 127.0.0.1; any free port if left out or 0.
        data_dir: kept for the next start; a temporary folder, deleted at the end, if left out.
        cpus: the cores it may use (Linux), for benchmarks.
        heap_mb: the JVM's largest heap.
        install: install Java and Maven with apt-get where they are missing.
        say: told, one line at a time, what takes long and where the broker listens.

    Raises:
        BrokerError: it cannot be had here; one sentence says why and what to do.
    """
    jvm, jars = equip(install=install, say=say)
    with temporary_folder() if data_dir is None else kept_folder(data_dir) as folder:
        if folder.nodes:
            raise BrokerError(
                f"{folder.path} holds the data of {folder.nodes} brokers; give another folder"
            )
        broker = start(folder, java=jvm, jars=jars, port=port, cpus=cpus, heap_mb=heap_mb, say=say)
        try:
            yield broker
        finally:
            broker.stop()


def equip(*, install: bool, say: Callable[[str], None]) -> tuple[Path, Path]:
    """What a broker needs on this machine: a Java and the folder of its jars.

    Raises:
        BrokerError: as `running_broker`.
    """
    if install:
        try:
            java.find_java()
            java.find_maven()
        except BrokerError:
            java.install(say)
    return java.find_java(), broker_jars(say)
