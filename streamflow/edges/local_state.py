"""What a worker's folder has of a task's state, seen from outside and without changing it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Options, Rdict

from streamflow.edges.rocksdb import IDENTITY, StateFolder
from streamflow.errors import SettingsError

#: As `engine.commit` keeps it.
APPLIED, APPLIED_AT = b"~applied", b"~applied-at"


@dataclass(frozen=True)
class LocalState:
    """A task's local state: its size on disk, and how far it has applied the changelog.

    `in_use` says that a worker has the folder now; `problem`, why it cannot be read.
    """

    path: str
    there: bool
    in_use: bool = False
    bytes: int = 0
    applied: int | None = None
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for a machine."""
        return asdict(self)

    def words(self) -> str:
        """For a person."""
        if not self.there:
            return f"none in {self.path}"
        used = ", in use by a worker" if self.in_use else ""
        upto = f"up to changelog offset {self.applied}" if self.problem is None else self.problem
        return f"{self.bytes:,} bytes in {self.path}, {upto}{used}"


def local_state(folder: Path, name: str) -> LocalState:
    """Look at the state of one task below a worker's folder."""
    path = folder / name
    if not path.is_dir():
        return LocalState(os.fspath(path), there=False)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    applied: int | None = None
    problem: str | None = None
    try:
        database = Rdict(
            os.fspath(path), Options(raw_mode=True), access_type=AccessType.read_only()
        )
        found = database.get(APPLIED)
        applied = None if found is None else int(found)
        database.close()
    except Exception as error:  # whatever lies there
        problem = f"cannot be read: {error}"
    return LocalState(os.fspath(path), True, _in_use(folder), size, applied, problem)


def _in_use(folder: Path) -> bool:
    try:
        StateFolder(folder).close()
    except SettingsError:
        return True
    return False


@dataclass(frozen=True)
class StateStanding:
    """What a database is of (`identity_of`), up to where it has applied, and when (ms)."""

    of: str
    applied: int
    at: int


def standing_of(path: Path) -> StateStanding | None:
    """Of the database in a folder that nobody has open; None where there is none that is whole."""
    try:
        database = Rdict(
            os.fspath(path), Options(raw_mode=True), access_type=AccessType.read_only()
        )
        try:
            found: Any = database.get([IDENTITY, APPLIED, APPLIED_AT])
        finally:
            database.close()
    except Exception:  # whatever lies there
        return None
    identity, applied, at = found
    if identity is None or applied is None or at is None:
        return None
    return StateStanding(identity.decode(), int(applied), int(at))
