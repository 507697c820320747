"""The files of a table in memory. For tests; a name is taken once here too."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Mapping

from streamflow.edges.table_names import check_name
from streamflow.edges.whole_file import OpenBytes, WholeFile
from streamflow.errors import SinkUnavailable
from streamflow.ports import NewFile, OpenFile


class MemoryFiles:
    """`TableFiles` over two dicts. While `full` is set nothing is taken, as on a full disk; while
    `away` is, nothing is answered, as by a store behind a network that is cut. `asked` counts.
    """

    def __init__(self) -> None:
        self.full = self.away = False
        self.asked = 0
        self._taking = threading.Lock()
        self._data: dict[str, bytes] = {}
        self._private: dict[str, bytes] = {}

    def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
        """See `TableFiles.create`."""
        check_name(name, private=private)
        side = self._side(private=private)
        if self.full:
            raise SinkUnavailable(
                f"{name}: no space left in memory; make room and it goes on"
            ) from OSError(errno.ENOSPC, "no space left in memory")
        with self._taking:
            if name in side:
                return False
            side[name] = bytes(data)
        return True

    def begin(self, name: str) -> NewFile:
        """See `TableFiles.begin`."""
        return WholeFile(self, name)

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

    def open(self, name: str) -> OpenFile:
        """See `TableFiles.open`."""
        return OpenBytes(self.read(name))

    def names(self, *, private: bool = False) -> list[str]:
        """See `TableFiles.names`."""
        return sorted(self._side(private=private))

    def delete_private(self, names: Iterable[str]) -> None:
        """See `TableFiles.delete_private`."""
        side = self._side(private=True)
        for name in names:
            side.pop(name, None)

    def sizes(self) -> Mapping[str, int]:
        """See `ReplaceableFiles.sizes`."""
        return {name: len(self.read(name)) for name in self.names()}

    def replace(self, name: str, data: bytes | memoryview) -> None:
        """See `ReplaceableFiles.replace`."""
        self._side(private=False)[name] = bytes(data)

    def exchange(self, name: str, seen: bytes, data: bytes) -> bool:
        """See `ReplaceableFiles.exchange`."""
        side = self._side(private=True)
        with self._taking:
            if side.get(name) != seen:
                return False
            side[name] = data
        return True

    def delete(self, name: str) -> None:
        """See `ReplaceableFiles.delete`."""
        self._side(private=False).pop(name, None)

    def _side(self, *, private: bool) -> dict[str, bytes]:
        self.asked += 1
        if self.away:
            raise SinkUnavailable("the table does not answer")
        return self._private if private else self._data
