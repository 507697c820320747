"""Input files as bytes: plain or packed, told apart by how they begin, from a disk or a pipe."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamflow.errors import SettingsError
from streamflow.produce.unpack import GZIP, ZSTANDARD, Gzip, Unpacker, Zstandard

PARQUET = b"PAR1"
#: Bytes that are read at once.
READ_BYTES = 256 * 1024


def why_not(path: Path) -> str | None:
    """Why a path cannot be an input, in words; None if it can."""
    if path.is_dir():
        return f"{str(path)!r} is a directory; name the files in it"
    if not path.exists():
        return f"there is no file {str(path)!r} in {Path.cwd()}"
    if not os.access(path, os.R_OK):
        return f"this user may not read {str(path)!r}"
    return None


class InputFile(io.RawIOBase):
    """What an open file holds, unpacked while it is read. Until then nothing is read of it.

    `read_some` gives up to so many bytes as soon as there are any, and nothing at the end. Whoever
    opened the file closes it.

    Attributes:
        taken: Bytes that were read of the file itself, for progress.
    """

    def __init__(self, name: str, read_some: Callable[[int], bytes | None]) -> None:
        self.name = name
        self.taken = 0
        self._read_some = read_some
        self._head: bytes | None = None
        self._packed: Unpacker | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Bytes as soon as there are any, none at the end.

        Raises:
            SettingsError: the file is damaged, or is no text.
        """
        self.look()
        packed = self._packed
        data = packed.read(len(buffer)) if packed is not None else self._raw(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def look(self) -> None:
        """See how the file begins.

        Raises:
            SettingsError: it is Parquet.
        """
        if self._head is not None:
            return
        head = b""
        while len(head) < len(ZSTANDARD) and (more := self._read_some(len(ZSTANDARD) - len(head))):
            head += more
        if head == PARQUET:
            raise SettingsError(
                f"{self.name}: this is Parquet; its name should end in .parquet, or say "
                "`--format parquet`"
            )
        self._head = head
        if head == ZSTANDARD:
            self._packed = Zstandard(self.name, self._raw)
        elif head.startswith(GZIP):
            self._packed = Gzip(self.name, self._raw)

    def _raw(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
        else:
            data = self._read_some(size) or b""
        self.taken += len(data)
        return data
