"""Copies of local states: made from a database while it is at work, and put back elsewhere.

    <backup folder>/<app>/<topic>-<partition>/<applied>-<made>/   one copy, and its manifest

A copy is a checkpoint of RocksDB, so it is the state between two commits, with the changelog offset
that it has applied. The manifest says what it is of, how far it is and when that was, and of each
file size and checksum. A copy appears under its name when it is whole; what it has in common with
the one before are links to the same files. It is put back by copying, never by linking: a database
writes on in some of its files.

Nothing here decides whether a copy may be used: a state that was put back is a local state like any
other, and a restore brings it up to its changelog, or makes it anew (`engine/restore.py`).
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import xxhash

from streamflow.edges.local_state import standing_of
from streamflow.edges.rocksdb import checkpoint
from streamflow.errors import StateDamaged, StreamflowError

MANIFEST = "BACKUP.json"
FORMAT = 1
#: Copies of a task that are kept.
KEPT = 2
CHUNK_BYTES = 8 * 1024 * 1024
#: What nobody has touched for so long is not being filled any more.
ABANDONED_SECONDS = 86_400
#: Of folders that are being filled.
HIDDEN = ".tmp"

#: Size in bytes and checksum of a file.
Kept = tuple[int, str]


class Stopped(StreamflowError):
    """Somebody has asked that copying be given up; nothing is left of it."""


@dataclass(frozen=True)
class Manifest:
    """What a copy is.

    Attributes:
        of: The identity of the database: format, Kafka cluster and changelog partition.
        applied: Up to which offset of the changelog it is.
        at: When it was brought up to there (ms).
        made: When it was copied (ms).
        files: Of each file its size in bytes, and the XXH3 of its content.
    """

    of: str
    applied: int
    at: int
    made: int
    files: dict[str, Kept]
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """The size of the copy."""
        return sum(size for size, _ in self.files.values())

    def encoded(self) -> bytes:
        """With a checksum of its own."""
        body = asdict(self)
        return orjson.dumps({**body, "checksum": _sum_of(body)}, option=orjson.OPT_INDENT_2)


@dataclass(frozen=True)
class Backup:
    """A copy that is there; its files have not been looked at."""

    path: Path
    manifest: Manifest


def back_up(
    database: Any, scratch: Path, folder: Path, made: int, stop: threading.Event
) -> Backup | None:
    """Copy a database, which may be written to meanwhile, into the folder of its task's copies;
    None where there is nothing worth a copy: a state that is being made, or has no commit.

    `scratch` is a folder on the database's file system, in which nothing stays; `made` the time
    (ms); `stop` is set to have copying given up.

    Raises:
        OSError: there is no room, or no such disk.
        Stopped: it was.
    """
    earlier = next(iter(backups(folder)), None)
    scratch.mkdir(parents=True, exist_ok=True)
    taken = scratch / f"backup-{uuid.uuid4().hex}"
    try:
        checkpoint(database, taken)
        standing = standing_of(taken)
        if standing is None:
            return None
        place = folder / f"{standing.applied:020}-{made}"
        with _appearing(place) as hidden:
            files = {one.name: _keep(one, hidden, earlier, stop) for one in sorted(taken.iterdir())}
            manifest = Manifest(standing.of, standing.applied, standing.at, made, files)
            _write(hidden / MANIFEST, manifest.encoded())
    finally:
        shutil.rmtree(taken, ignore_errors=True)
    for old in backups(folder)[KEPT:]:
        shutil.rmtree(old.path, ignore_errors=True)
    remove_hidden(folder, before_s=made / 1000 - ABANDONED_SECONDS)
    return Backup(place, manifest)


def put_back(backup: Backup, place: Path, stop: threading.Event) -> None:
    """Copy a copy to where the database of its task is to be, and is not yet.

    Raises:
        StateDamaged: its files are not those of its manifest; nothing was put there.
        OSError: there is no room, or no such disk.
        Stopped: it was given up.
    """
    with _appearing(place) as hidden:
        for name, (size, digest) in backup.manifest.files.items():
            try:
                found = _copy(backup.path / name, hidden / name, stop)
            except FileNotFoundError as error:
                raise StateDamaged(f"the backup {backup.path} has no {name}") from error
            if found != (size, digest):
                raise StateDamaged(f"the backup {backup.path} is damaged: {name} is not as made")


def backups(folder: Path) -> list[Backup]:
    """The copies of one task whose manifests are whole, the furthest first, then the latest."""
    found: list[Backup] = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.endswith(HIDDEN):
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append(Backup(path, _manifest((path / MANIFEST).read_bytes())))
    return sorted(found, key=lambda one: (one.manifest.applied, one.manifest.made), reverse=True)


def remove_hidden(folder: Path, before_s: float) -> None:
    """Remove what was left half filled by processes that died, and not touched since."""
    for path in folder.glob(f".*{HIDDEN}"):
        with suppress(OSError):
            if path.stat().st_mtime <= before_s:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _appearing(place: Path) -> Generator[Path]:
    """A folder to fill, which appears under its name when it is whole, and durable."""
    place.parent.mkdir(parents=True, exist_ok=True)
    hidden = place.parent / f".{place.name}-{uuid.uuid4().hex}{HIDDEN}"
    hidden.mkdir()
    try:
        yield hidden
        _sync(hidden)
        hidden.rename(place)
        _sync(place.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _keep(source: Path, into: Path, earlier: Backup | None, stop: threading.Event) -> Kept:
    """A file is linked where the copy before has the same: it is written once."""
    known = earlier.manifest.files.get(source.name) if earlier is not None else None
    if earlier is not None and known is not None and known[0] == source.stat().st_size:
        found = _copy(source, None, stop)
        if found == known:
            with suppress(OSError):
                os.link(earlier.path / source.name, into / source.name)
                return found
    return _copy(source, into / source.name, stop)


def _copy(source: Path, target: Path | None, stop: threading.Event) -> Kept:
    """Copy a file, or only read it; its size and checksum."""
    digest, size = xxhash.xxh3_128(), 0
    with source.open("rb") as read, ExitStack() as opened:
        write = opened.enter_context(target.open("wb")) if target is not None else None
        while chunk := read.read(CHUNK_BYTES):
            if stop.is_set():
                raise Stopped(f"copying {source} was given up")
            digest.update(chunk)
            size += len(chunk)
            if write is not None:
                write.write(chunk)
        if write is not None:
            write.flush()
            os.fsync(write.fileno())
    return size, digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _manifest(data: bytes) -> Manifest:
    """Raises `ValueError` or `KeyError` where it is none, or not whole."""
    body: dict[str, Any] = orjson.loads(data)
    told = body.pop("checksum")
    if body["format"] != FORMAT or told != _sum_of(body):
        raise ValueError("not a manifest of this format, or damaged")
    body["files"] = {name: (size, digest) for name, (size, digest) in body["files"].items()}
    return Manifest(**body)


def _sum_of(body: Any) -> str:
    return xxhash.xxh3_128(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
