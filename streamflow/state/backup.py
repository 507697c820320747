"""Copies of a worker's states, made and put back by hand while the worker is stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from streamflow.clock import from_millis
from streamflow.counted import counted
from streamflow.edges.local_state import standing_of
from streamflow.edges.rocksdb import StateFolder, open_as_it_is
from streamflow.edges.state_backup import Backup, Manifest, back_up, backups, put_back
from streamflow.engine.restore import STALE_AFTER
from streamflow.errors import SettingsError, StateDamaged, StateRefused
from streamflow.states import SCRATCH


def back_up_all(folder: Path, to: Path, now_ms: int) -> Iterator[str]:
    """Copy every state in a worker's folder to below another one; a line for each.

    Raises:
        SettingsError: a worker has the folder, or there is none.
        StateDamaged: a state cannot be opened.
        OSError: there is no room, or no such disk.
    """
    if not folder.is_dir():
        raise SettingsError(
            f"there is no state folder {folder}: name it by --state-dir, --worker-id"
        )
    with closing(StateFolder(folder)):
        for path in sorted(folder.iterdir()):
            if not path.is_dir() or path.name.startswith("."):
                continue
            if standing_of(path) is None:
                yield f"{path.name}: no state that is whole, not copied"
                continue
            with closing(open_as_it_is(path)) as database:
                made = back_up(
                    database, folder / SCRATCH, to / path.name, now_ms, threading.Event()
                )
            assert made is not None
            size, applied = made.manifest.bytes, made.manifest.applied
            yield f"{path.name}: {size:,} bytes, up to changelog offset {applied}, in {made.path}"


def why_not(
    manifest: Manifest, of: str, bounds: tuple[int, int] | None, now: datetime
) -> str | None:
    """Why a copy cannot be gone on from, with the changelog as it is; None where it can.

    A worker would find the same, and read the changelog as a whole, in silence.
    """
    if manifest.of != of:
        return f"is of {manifest.of!r}, not of {of!r}: another cluster, app, partition or version"
    if bounds is None:
        return "is of a changelog that is not there"
    (first, stop), applied, at = bounds, manifest.applied, from_millis(manifest.at)
    if applied > stop:
        return (
            f"goes up to changelog offset {applied}, and the changelog ends at {stop}: "
            "that has lost commits, or was made anew"
        )
    if applied < first:
        return (
            f"goes up to changelog offset {applied}, and the changelog begins at {first}: "
            "what was between is gone"
        )
    if now - at > STALE_AFTER:
        return (
            f"is the state of {at:%Y-%m-%d %H:%M} UTC: since then, more than "
            f"{STALE_AFTER.total_seconds() / 3600:.0f} hours, the changelog may have forgotten "
            "what was deleted"
        )
    return None


def choose(
    found: list[Backup], of: str, bounds: tuple[int, int] | None, now: datetime
) -> tuple[Backup | None, list[str]]:
    """The furthest copy that can be gone on from, and why those before it cannot."""
    refused: list[str] = []
    for backup in found:
        problem = why_not(backup.manifest, of, bounds, now)
        if problem is None:
            return backup, refused
        refused.append(f"the backup {backup.path} {problem}")
    return None, refused


def restore_one(
    place: Path, copies: Path, of: str, bounds: tuple[int, int] | None, now: datetime
) -> Iterator[str]:
    """Put a copy back where a task has no state; lines that say what was done.

    Raises:
        StateRefused: there is a state already, or no copy that can be used.
        OSError: there is no room, or no such disk.
    """
    if place.exists():
        raise StateRefused(
            f"{place.name}: there is a state in {place} already; a worker goes on from it. Remove "
            "it to begin from a backup"
        )
    found = backups(copies)
    while True:
        backup, refused = choose(found, of, bounds, now)
        if backup is None:
            words = "; ".join(refused) or f"there is no backup in {copies}"
            raise StateRefused(
                f"{place.name}: {words}. A worker reads all of the changelog instead"
            )
        try:
            put_back(backup, place, threading.Event())
        except StateDamaged as error:
            yield f"{place.name}: {error}"
            found.remove(backup)
            continue
        left = (bounds[1] if bounds is not None else 0) - backup.manifest.applied
        yield (
            f"{place.name}: put back from {backup.path};"
            f" {counted(left, 'offset is', 'offsets are')} left to read"
        )
        return
