"""Where the files of a table lie: on a disk of this machine, or in an object store.

A composition root: whoever runs a topology asks here for the files of its tables.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamflow.edges.local_files import LocalFiles, ignore
from streamflow.engine.settings import Settings
from streamflow.ports import TableFiles
from streamflow.store_url import located, split


def table_files(
    settings: Settings, table: str, *, faults: Callable[[str], None] = ignore
) -> TableFiles:
    """The files of a table: an address, or a folder below the lake.

    Raises:
        SettingsError: the environment does not say enough to open its store.
    """
    url = located(settings.lake, table)
    if url is None:
        return LocalFiles(Path(settings.lake), table, faults=faults)
    # Imported here: a client of object stores, which takes memory, where one is used only.
    from streamflow.edges.object_files import ObjectFiles
    from streamflow.edges.object_store import StoreOptions, open_store

    place, folder = split(url)
    options = StoreOptions(
        settings.store_endpoint, settings.store_allow_http, settings.store_timeout
    )
    return ObjectFiles(open_store(place, options), place, folder, faults=faults)
