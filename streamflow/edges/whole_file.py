"""Files that are whole in memory: new ones for stores that take an object at once, and such as are
there.
"""

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


class OpenBytes:
    """An `OpenFile` over its bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """See `OpenFile.size`."""
        return len(self._data)

    def read(self, start: int, nbytes: int) -> bytes:
        """See `OpenFile.read`."""
        return self._data[start : start + nbytes]

    def close(self) -> None:
        """See `OpenFile.close`."""
