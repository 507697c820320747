"""Compacts a plain table, offline: what `streamflow compact` does."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, cast

import orjson

from streamflow.clock import Clock, SystemClock
from streamflow.core.compaction import Pack, last_cuts
from streamflow.core.cut import decode_cut
from streamflow.destinations import PRIVATE
from streamflow.edges.kafka_admin import KafkaAdmin
from streamflow.engine.compact import Compactor
from streamflow.engine.refusals import has_members
from streamflow.engine.roll_memory import RollMemory
from streamflow.engine.settings import Settings
from streamflow.engine.sink_chain import OWNER
from streamflow.errors import SettingsError
from streamflow.ports import ReplaceableFiles, TableFiles
from streamflow.service import connection
from streamflow.store_url import DELTA, located, problem_of
from streamflow.table_files import table_files
from streamflow.writer_settings import Storage, WriterSettings

#: So many tables of a lake are named.
NAMED = 5


def plain_table(settings: Settings, path: str) -> ReplaceableFiles:
    """The files of a plain table, in a folder below the lake or in an object store.

    Raises:
        SettingsError: it is none.
        SinkUnavailable: its store does not answer.
    """
    if path.startswith(DELTA):
        raise _is_delta(path)
    url = located(settings.lake, path)
    return _in_folder(settings, path) if url is None else _in_store(settings, url)


def _in_folder(settings: Settings, path: str) -> ReplaceableFiles:
    name = _below(settings.lake, path)
    folder = Path(settings.lake, name)
    if (folder / "_delta_log").exists():
        raise _is_delta(folder)
    if not _is_table(folder):
        raise SettingsError(
            f"{folder} is no table of streamflow: there is no {folder.name}{PRIVATE} beside it;"
            f" {_instead(settings.lake, path)}"
        )
    return table_files(settings, name)


def _in_store(settings: Settings, url: str) -> ReplaceableFiles:
    problem = problem_of(url)
    if problem is not None:
        raise SettingsError(problem)
    files = table_files(settings, url)
    if any(name.startswith("_delta_log/") for name in files.names()):
        raise _is_delta(url)
    if not files.exists(OWNER, private=True):
        beside = f"{url.rpartition('/')[2]}{PRIVATE}"
        raise SettingsError(
            f"{url} is no table of streamflow: there is no {beside}/{OWNER}; is its address right?"
        )
    return files


def _is_delta(place: object) -> SettingsError:
    return SettingsError(
        f"{place} is a Delta table: its workers join its small files, with upkeep=Upkeep(...)"
    )


def _below(lake: str, path: str) -> str:
    """The path of a table below the lake, in its plainest form. Raises `SettingsError`."""
    if path.endswith(PRIVATE):
        raise SettingsError(
            f"{path!r} is the private folder of a table: say {path.removesuffix(PRIVATE)!r}"
        )
    parts = PurePath(path).parts
    if PurePath(path).is_absolute() or not parts or ".." in parts:
        problem = "names no table" if not parts else "is no path below the lake"
        raise SettingsError(
            f"TABLE {path!r} {problem}: it is a table's path below the lake {lake!r};"
            f" {_instead(lake, path)}"
        )
    return "/".join(parts)


def _is_table(folder: Path) -> bool:
    return folder.with_name(f"{folder.name}{PRIVATE}").is_dir() if folder.name else False


def _instead(lake: str, path: str) -> str:
    """What to say for a path that is no table's below the lake."""
    meant = Path(os.path.normpath(path))
    if path and _is_table(meant):
        return f"say {meant.name!r} with --lake {meant.parent}"
    found = [f for depth in ("*", "*/*") for f in Path(lake).glob(f"{depth}{PRIVATE}")]
    names = sorted(str(one.relative_to(lake)).removesuffix(PRIVATE) for one in found)
    if not names:
        return "there is no table in that lake; is --lake right?"
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"its tables are {', '.join(names[:NAMED])}{more}"


def owner_of(files: TableFiles) -> str:
    """The app that writes a table. Raises `SettingsError` where nobody knows."""
    try:
        found: Any = orjson.loads(files.read(OWNER, private=True))["app"]
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError):
        found = None
    if not isinstance(found, str):
        raise SettingsError(f"nobody knows whose table it is: {OWNER} beside it cannot be read")
    return found


async def refuse_workers(settings: Settings, app: str) -> None:
    """Raise `StateRefused` while workers of an app run."""
    async with KafkaAdmin(connection(settings)) as admin:
        members = await admin.members(app)
    if members:
        raise has_members(app, members, settings.session_timeout)


def holder() -> str:
    """Who rewrites a table, in words."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def compactor(
    files: ReplaceableFiles,
    tell: Callable[[Pack, int], None] = lambda pack, left: None,
    clock: Clock | None = None,
    memory: RollMemory | None = None,
) -> Compactor:
    """Writes larger files as the table's last roll was written, with rows unpacked as rolls may."""
    return Compactor(files, _storage(files), clock or SystemClock(), tell=tell, memory=memory)


def _storage(files: TableFiles) -> Storage | WriterSettings:
    found: list[WriterSettings] = []
    for stem, k in last_cuts(files.names(private=True)).items():
        name = f"{stem}-{k:08d}.json"
        cut = decode_cut(files.read(name, private=True), name)
        found += [file.writer for file in cut.files[:1]]
    return max(found, key=lambda writer: writer.writer) if found else cast("Storage", "auto")
