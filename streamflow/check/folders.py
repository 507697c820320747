"""Can tables and state be written where they are to lie?"""

from __future__ import annotations

import importlib.util
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from streamflow.check.finding import Finding
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.rocksdb import StateFolder
from streamflow.engine.failures import is_disk_full
from streamflow.errors import SettingsError, SinkRefused, SinkUnavailable
from streamflow.ports import TableFiles

PROBE = ".streamflow-check-"


def check_lake(lake: Path) -> Finding:
    """Write a file of a table, as a sink would, in a private folder that is gone afterwards."""
    name = f"lake folder {str(lake)!r}"
    try:
        with tempfile.TemporaryDirectory(prefix=PROBE, dir=_nearest(lake)) as probe:
            files = LocalFiles(Path(probe), "table")
            try:
                files.create("part.parquet", b"probe")
            finally:
                files.close()
    except SinkRefused as error:
        return Finding.problem("lake", f"{name}: {error}", "put the lake on another file system")
    except (SinkUnavailable, OSError) as error:
        return _not_writable("lake", name, error, "--lake")
    return Finding.ok("lake", f"{name} is writable and its file system has hard links")


def check_store(url: str, open_files: Callable[[], TableFiles]) -> Finding:
    """Put an object beside a table in an object store, as a sink would, read it and delete it; also
    see that the store refuses a second one of the same name.
    """
    name = f"table {url!r}"
    fix = "mend the store, its address or what gives access to it, or name another"
    probe = f"check-{uuid.uuid4().hex}.json"
    try:
        files = open_files()
        files.create(probe, b"probe", private=True)
        whole = files.read(probe, private=True) == b"probe"
        listed = probe in files.names(private=True)
        files.delete_private([probe])
    except (SinkRefused, SinkUnavailable, SettingsError, FileNotFoundError) as error:
        return Finding.problem("lake", f"{name} cannot be written: {error}", fix)
    if not whole or not listed:
        return Finding.problem("lake", f"{name}: what was put there is not found again", fix)
    return Finding.ok("lake", f"{name} is writable and its store takes a name once")


def check_delta() -> Finding:
    """Is the library there that writes Delta tables?"""
    if importlib.util.find_spec("deltalake") is None:
        return Finding.problem(
            "lake", "delta(...) needs the library deltalake", "pip install 'streamflow[delta]'"
        )
    return Finding.ok("lake", "the library for Delta tables is installed")


def check_state(folder: Path) -> Finding:
    """Write in the folder; if it is there already, also see that nobody has it."""
    name = f"state folder {str(folder)!r}"
    try:
        if folder.is_dir():
            StateFolder(folder).close()
        with tempfile.TemporaryDirectory(prefix=PROBE, dir=_nearest(folder)):
            pass
    except SettingsError:
        return Finding.problem(
            "state",
            f"{name} is in use by another worker",
            "stop that one, or give this one its own --worker-id",
        )
    except OSError as error:
        return _not_writable("state", name, error, "--state-dir")
    return Finding.ok("state", f"{name} is writable and free")


def _not_writable(check: str, name: str, error: Exception, option: str) -> Finding:
    reason = getattr(error, "strerror", None) or str(error)
    full = is_disk_full(error)
    fix = "make room" if full else "let this user write there"
    what = f"{name} cannot be written: {reason}"
    return Finding(check, "problem", what, f"{fix}, or name another folder with {option}", full)


def _nearest(folder: Path) -> Path:
    """The folder itself or, while it does not exist, the one it would be made in."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place
