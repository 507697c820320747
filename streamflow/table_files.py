"""Where the files of a table lie: on a disk of this machine, or in an object store.

A composition root: whoever runs a topology asks here for the files of its tables.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from streamflow.clock import Clock, SystemClock
from streamflow.edges.local_files import LocalFiles, ignore
from streamflow.engine.chain import Table
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError
from streamflow.ports import LoggedTable, ReplaceableFiles, TableLog
from streamflow.store_url import DELTA, located, split

if TYPE_CHECKING:
    from streamflow.edges.object_store import StoreOptions


def open_table(
    settings: Settings,
    location: str,
    *,
    faults: Callable[[str], None] = ignore,
    clock: Clock | None = None,
) -> Table:
    """The files of a table, with its log where it has one.

    Args:
        settings: Where the lake is, and how stores are spoken to.
        location: `Parquet.location`: an address, or a folder below the lake.
        faults: Named points at which a test can make the process die.
        clock: What a log takes the times of files from.

    Raises:
        SettingsError: the environment does not say enough to open its store, or a library is not
            installed.
    """
    path = location.removeprefix(DELTA)
    files = table_files(settings, path, faults=faults)
    if path == location:
        return files
    url = located(settings.lake, path)
    uri = url or str(Path(settings.lake, path).absolute())
    options = None if url is None else _options(settings)
    return LoggedTable(files, delta_log(uri, options, clock))


def table_files(
    settings: Settings, path: str, *, faults: Callable[[str], None] = ignore
) -> ReplaceableFiles:
    """The files of a table at an address, or in a folder below the lake. Raises `SettingsError`."""
    url = located(settings.lake, path)
    if url is None:
        return LocalFiles(Path(settings.lake), path, faults=faults)
    # Imported here: a client of object stores, which takes memory, where one is used only.
    from streamflow.edges.object_files import ObjectFiles
    from streamflow.edges.object_store import open_store

    place, folder = split(url)
    return ObjectFiles(open_store(place, _options(settings)), place, folder, faults=faults)


def delta_log(uri: str, options: StoreOptions | None, clock: Clock | None = None) -> TableLog:
    """The log of a Delta table. Raises `SettingsError` where its library is not installed."""
    try:
        from streamflow.edges.delta_log import DeltaLog
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "deltalake":
            raise
        raise SettingsError(
            "delta(...) needs the library deltalake: pip install 'streamflow[delta]'"
        ) from None
    now = (clock or SystemClock()).now
    return DeltaLog(uri, options, lambda: int(now().timestamp() * 1000))


def _options(settings: Settings) -> StoreOptions:
    from streamflow.edges.object_store import StoreOptions

    return StoreOptions(settings.store_endpoint, settings.store_allow_http, settings.store_timeout)
