"""Lines of JSON as an input; the bytes of a line stay as they are."""

from __future__ import annotations

from collections.abc import Iterator

from streamflow.produce.chunk import Chunk
from streamflow.produce.file import READ_BYTES, InputFile


class LineInput:
    """A file of one JSON document per line; the last one needs no newline."""

    def __init__(self, file: InputFile) -> None:
        self._file = file

    @property
    def name(self) -> str:
        """In messages."""
        return self._file.name

    @property
    def taken(self) -> int:
        """Bytes of the file that were read."""
        return self._file.taken

    def where(self, place: int) -> str:
        """The line."""
        return f"{self.name}:{place}"

    def chunks(self) -> Iterator[Chunk]:
        """The lines, as many at a time as were read at once: a slow pipe is not held back."""
        number = 0
        rest: list[bytes] = []
        while data := self._file.read(READ_BYTES):
            *lines, tail = data.split(b"\n")
            if lines:
                lines[0] = b"".join([*rest, lines[0]])
                rest = []
                yield Chunk(lines, list(range(number + 1, number + 1 + len(lines))))
                number += len(lines)
            rest.append(tail)
        if last := b"".join(rest):
            yield Chunk([last], [number + 1])
