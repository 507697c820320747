"""A table in memory that keeps no byte of its data files: for tests of what writing them takes."""

from streamflow.edges.memory_files import MemoryFiles
from streamflow.ports import NewFile


class Gone:
    """A new file of which only the name stays."""

    def __init__(self, files: MemoryFiles, name: str) -> None:
        self._files, self._name = files, name

    def write(self, data: bytes | memoryview) -> None:
        assert len(data) >= 0

    def create(self) -> bool:
        return self._files.create(self._name, b"")

    def drop(self) -> None:
        """There is nothing."""


class Nowhere(MemoryFiles):
    """Keeps no byte of what is written in parts."""

    def begin(self, name: str) -> NewFile:
        return Gone(self, name)
