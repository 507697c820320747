"""Input files as bytes: plain or gzip, told apart by how they begin, from a disk or a pipe."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamflow.errors import SettingsError

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
#: Bytes that are read at once.
READ_BYTES = 256 * 1024
#: For zlib: the data is framed as gzip frames it, with a checksum.
GZIP_FRAME = 31


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
        self._gzip: Any = None  # zlib does not export the type

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Bytes as soon as there are any, none at the end.

        Raises:
            SettingsError: the file is packed with something else than gzip, or is damaged.
        """
        self.look()
        data = self._unpacked(len(buffer)) if self._gzip is not None else self._raw(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def look(self) -> None:
        """See how the file begins.

        Raises:
            SettingsError: it is packed with something else than gzip.
        """
        if self._head is not None:
            return
        head = b""
        while len(head) < len(ZSTANDARD) and (more := self._read_some(len(ZSTANDARD) - len(head))):
            head += more
        if head == ZSTANDARD:
            raise SettingsError(
                f"{self.name}: packed with Zstandard, which is not read here; unpack it with "
                "`zstd -d`, or give it through a pipe from `zstd -dc`"
            )
        if head.startswith(GZIP):
            self._gzip = zlib.decompressobj(GZIP_FRAME)
        self._head = head

    def _raw(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
        else:
            data = self._read_some(size) or b""
        self.taken += len(data)
        return data

    def _unpacked(self, size: int) -> bytes:
        data = b""
        while not data:
            if self._gzip.eof:
                packed = self._next_member()
                if not packed:
                    return b""
            else:
                packed = self._gzip.unconsumed_tail or self._raw(READ_BYTES)
                if not packed:
                    raise self._damaged("it ends in the middle")
            try:
                data = self._gzip.decompress(packed, size)
            except zlib.error as error:
                raise self._damaged(str(error)) from error
        return data

    def _next_member(self) -> bytes:
        """A gzip file is one or more, one after the other; zeros may fill it up."""
        packed = self._gzip.unused_data.lstrip(b"\0")
        while not packed:
            more = self._raw(READ_BYTES)
            if not more:
                return b""
            packed = more.lstrip(b"\0")
        self._gzip = zlib.decompressobj(GZIP_FRAME)
        return packed

    def _damaged(self, reason: str) -> SettingsError:
        return SettingsError(
            f"{self.name}: damaged gzip data ({reason}); `gzip -t` looks at the whole file, get it "
            "again if it says so too"
        )
