"""The files of a table in memory. For tests; a name is taken once here too."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from streamflow.edges.table_names import check_name
from streamflow.errors import SinkUnavailable


class MemoryFiles:
    """`TableFiles` over two dicts. While `full` is set nothing is taken, as on a full disk."""

    def __init__(self) -> None:
        self.full = False
        self._taking = threading.Lock()
        self._data: dict[str, bytes] = {}
        self._private: dict[str, bytes] = {}

    def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
        """See `TableFiles.create`."""
        check_name(name, private=private)
        if self.full:
            raise SinkUnavailable(f"{name}: no space left in memory; make room and it goes on")
        side = self._side(private=private)
        with self._taking:
            if name in side:
                return False
            side[name] = bytes(data)
        return True

    def exists(self, name: str, *, private: bool = False) -> bool:
        """See `TableFiles.exists`."""
        return name in self._side(private=private)

    def read(self, name: str, *, private: bool = False) -> bytes:
        """See `TableFiles.read`."""
        try:
            return self._side(private=private)[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def tail(self, name: str, nbytes: int) -> bytes:
        """See `TableFiles.tail`."""
        data = self.read(name)
        return data[max(len(data) - nbytes, 0) :]

    def names(self, *, private: bool = False) -> list[str]:
        """See `TableFiles.names`."""
        return sorted(self._side(private=private))

    def delete_private(self, names: Iterable[str]) -> None:
        """See `TableFiles.delete_private`."""
        for name in names:
            self._private.pop(name, None)

    def _side(self, *, private: bool) -> dict[str, bytes]:
        return self._private if private else self._data
