"""A new file that is kept in memory until it is whole: for stores that take an object at once."""

from __future__ import annotations

import pyarrow as pa

from streamflow.ports import TableFiles


class WholeFile:
    """A `NewFile` that is given to `TableFiles.create`."""

    def __init__(self, files: TableFiles, name: str) -> None:
        self._files = files
        self._name = name
        self._data = pa.BufferOutputStream()

    def write(self, data: bytes | memoryview) -> None:
        """See `NewFile.write`."""
        self._data.write(data)

    def create(self) -> bool:
        """See `NewFile.create`."""
        return self._files.create(self._name, memoryview(self._data.getvalue()))

    def drop(self) -> None:
        """See `NewFile.drop`."""
        self._data = pa.BufferOutputStream()
