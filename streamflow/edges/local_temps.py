"""Private temporary files of one process, and the leftovers of processes that died.

Every `Workshop` holds a lock (flock) on a file of its own, `sf-<id>.lock`, for as long as it lives,
and names its temporary files `sf-<id>-<n>.tmp`. The kernel drops the lock with the process. So a
leftover is a file whose lock can be taken, or has no lock file any more; whoever holds the lock may
delete it. Files of any other name are left alone, as are all on a file system without flock.
"""

from __future__ import annotations

import fcntl
import os
import re
import uuid
import weakref
from contextlib import suppress
from pathlib import Path

_OWN = re.compile(r"sf-([0-9a-f]{32})(?:\.lock|-\d+\.tmp)")


class Workshop:
    """A folder for unfinished files, shared with other workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._id, lock = _own_lock(folder)
        self._made = 0
        self._close = weakref.finalize(self, _leave, folder / f"sf-{self._id}.lock", lock)
        self._clean()

    def path(self) -> Path:
        """A path for the next temporary file; nothing is there yet."""
        self._made += 1
        return self._folder / f"sf-{self._id}-{self._made}.tmp"

    def close(self) -> None:
        """Give up the lock. Idempotent."""
        self._close()

    def _clean(self) -> None:
        """Delete what dead workers left."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self._folder.iterdir()):
            match = _OWN.fullmatch(path.name)
            if match and match[1] != self._id:
                found.setdefault(match[1], []).append(path)
        for dead, paths in found.items():
            lock = _take(self._folder / f"sf-{dead}.lock")
            if lock is None:
                continue
            for path in paths:
                path.unlink(missing_ok=True)
            _leave(self._folder / f"sf-{dead}.lock", lock)


def _own_lock(folder: Path) -> tuple[str, int | None]:
    """A fresh id and the lock on it; None for the lock where there is no flock."""
    while True:
        name = uuid.uuid4().hex
        path = folder / f"sf-{name}.lock"
        lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a cleaner took it for a leftover between the two calls
            os.close(lock)
            continue
        except OSError:
            os.close(lock)
            return name, None
        if os.fstat(lock).st_nlink:  # else that cleaner has come and gone
            return name, lock
        os.close(lock)


def _take(path: Path) -> int | None:
    """The lock of a dead worker, or None while its owner lives or locks do not work."""
    try:
        lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _leave(path: Path, lock: int | None) -> None:
    """Remove a lock file while it is held, so that nobody can hold a lock on a file that is gone
    and think it is the one under that name.
    """
    with suppress(OSError):
        path.unlink(missing_ok=True)
    if lock is not None:
        os.close(lock)
