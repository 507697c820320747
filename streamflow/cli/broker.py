"""`streamflow broker`: a real Kafka in the foreground."""

import json
import signal
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from streamflow.broker import Broker, BrokerError, running_broker
from streamflow.broker.cluster import Cluster, running_cluster


@click.command("broker")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9092,
    show_default=True,
    help="Where to listen on 127.0.0.1; 0 for any.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the topics in this folder; without it they go when the broker goes.",
)
@click.option(
    "--nodes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="A cluster of so many brokers, on this port and the next ones: to try what happens when "
    "one of them dies.",
)
@click.option("--install", is_flag=True, help="Install Java and Maven with apt-get if missing.")
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as a line of JSON.")
def command(*, port: int, data_dir: Path | None, nodes: int, install: bool, as_json: bool) -> None:
    """Run a real single-node Kafka on this machine, without Docker.

    It listens on 127.0.0.1 only, and runs until Ctrl-C or SIGTERM. It needs Java 17 and, the
    first time, Maven to fetch Kafka; or set KAFKA_HOME to an unpacked Kafka.

    \b
    Example:
        streamflow broker --port 9092 --data-dir ./kafka-data
    """  # noqa: D301
    given: dict[str, Any] = {"port": port, "data_dir": data_dir, "install": install, "say": _say}
    with _ended_by_sigterm(), ExitStack() as stack:
        if nodes == 1:
            broker = stack.enter_context(running_broker(**given))
            _stay(broker, {"pid": broker.pid}, as_json=as_json)
        else:
            cluster = stack.enter_context(running_cluster(nodes, **given))
            _stay(cluster, {"pids": cluster.pids}, as_json=as_json)


def _stay(running: Broker | Cluster, more: dict[str, Any], *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"bootstrap": running.bootstrap, **more}))
    else:
        click.echo(f"{running.bootstrap} (Ctrl-C to stop)")
    raise BrokerError(f"Kafka ended by itself with exit code {running.wait()}")


def _say(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that the broker is stopped on the way."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
