"""The folder a broker lives in, and the lock that says whether its owner still lives.

    FOLDER/lock                held (flock) by the process that runs the broker
    FOLDER/pid                 the broker
    FOLDER/server.properties   rewritten at each start
    FOLDER/broker.log          what Kafka says
    FOLDER/data/               Kafka's own
    FOLDER/node-1/ ...         the same without a lock, for each node of a cluster

The kernel drops the lock when its holder dies, however it dies. A temporary folder whose lock can
be had is therefore a leftover, and the next start clears it away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from streamflow.broker.errors import BrokerError

_PREFIX = "streamflow-broker-"
_NODE = "node-"


@dataclass(frozen=True)
class Folder:
    """Where one broker keeps its files; valid while its context is open."""

    path: Path

    @property
    def properties(self) -> Path:
        return self.path / "server.properties"

    @property
    def log(self) -> Path:
        return self.path / "broker.log"

    @property
    def pid(self) -> Path:
        return self.path / "pid"

    @property
    def data(self) -> Path:
        return self.path / "data"

    def node(self, number: int) -> Folder:
        """The folder of one node of a cluster that lives here; it is made if need be."""
        path = self.path / f"{_NODE}{number}"
        path.mkdir(exist_ok=True)
        return Folder(path)

    @property
    def nodes(self) -> int:
        """Nodes of the cluster whose data is here; 0 for none, and where one broker's is."""
        return len(list(self.path.glob(f"{_NODE}*")))

    @property
    def formatted(self) -> bool:
        return (self.data / "meta.properties").exists()


@contextmanager
def temporary_folder() -> Generator[Folder]:
    """A folder of its own, deleted at the end; clears what killed owners left behind."""
    root = Path(tempfile.gettempdir())
    _clear_leftovers(root)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    with _locked(path):
        try:
            yield Folder(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def kept_folder(path: Path) -> Generator[Folder]:
    """The given folder, made if need be and kept with its data at the end.

    Raises:
        BrokerError: it cannot be written, or another broker runs in it.
    """
    path = path.absolute()
    with ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(path))
            _end_orphan(path)
        except BlockingIOError as error:
            raise BrokerError(f"another streamflow broker runs in {path}") from error
        except OSError as error:
            raise BrokerError(
                f"cannot keep the broker's data in {path}: {error.strerror}"
            ) from error
        yield Folder(path)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _clear_leftovers(root: Path) -> None:
    for path in root.glob(f"{_PREFIX}*"):
        # Another user's folder, or one that its owner deletes at this moment, is not ours to clear.
        with suppress(OSError):
            if path.lstat().st_uid != os.geteuid():
                continue
            # Its owner locks a folder before it writes there: with nothing written yet, the lock
            # may be free only because the owner has not come to it.
            if not _homes(path):
                continue
            with _locked(path):
                _end_orphan(path)
                shutil.rmtree(path)


def _homes(path: Path) -> list[Path]:
    """Where brokers have been started: in the folder itself, or in those of nodes."""
    homes = [path, *path.glob(f"{_NODE}*")]
    return [home for home in homes if (home / "server.properties").exists()]


def _end_orphan(path: Path) -> None:
    """Kill the brokers of a dead owner. Linux has done it already; other systems have not.

    A pid may long belong to another process, so its command line must name the folder.
    """
    for home in _homes(path):
        with suppress(OSError, ValueError):
            pid = int((home / "pid").read_text())
            done = subprocess.run(
                ["ps", "-ww", "-o", "command=", "-p", str(pid)],
                capture_output=True,
                text=True,
                check=False,
            )
            if f"{home}/server.properties" in done.stdout:
                os.kill(pid, signal.SIGKILL)
