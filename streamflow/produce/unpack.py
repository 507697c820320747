"""Unpacks gzip and Zstandard while they are read."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import pyarrow as pa

from streamflow.errors import SettingsError

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
#: Bytes that are read at once.
PACKED_BYTES = 256 * 1024
#: For zlib: the data is framed as gzip frames it, with a checksum.
GZIP_FRAME = 31

#: Gives up to so many bytes as soon as there are any, and nothing at the end.
ReadSome = Callable[[int], bytes]


class Unpacker(Protocol):
    """A packed file's contents."""

    def read(self, size: int) -> bytes:
        """Up to so many bytes, none at the end. Raises `SettingsError` where it is damaged."""
        ...


class Gzip:
    """One or more members, one after the other; zeros may fill it up.

    What has come so far is given at once.
    """

    def __init__(self, name: str, read_some: ReadSome) -> None:
        self._name = name
        self._read_some = read_some
        self._member: Any = zlib.decompressobj(GZIP_FRAME)  # zlib does not export the type

    def read(self, size: int) -> bytes:
        """Up to so many bytes, none at the end."""
        data = b""
        while not data:
            if self._member.eof:
                packed = self._next_member()
                if not packed:
                    return b""
            else:
                packed = self._member.unconsumed_tail or self._read_some(PACKED_BYTES)
                if not packed:
                    raise self._damaged("it ends in the middle")
            try:
                data = self._member.decompress(packed, size)
            except zlib.error as error:
                raise self._damaged(str(error)) from error
        return data

    def _next_member(self) -> bytes:
        packed = self._member.unused_data.lstrip(b"\0")
        while not packed:
            more = self._read_some(PACKED_BYTES)
            if not more:
                return b""
            packed = more.lstrip(b"\0")
        self._member = zlib.decompressobj(GZIP_FRAME)
        return packed

    def _damaged(self, reason: str) -> SettingsError:
        return SettingsError(
            f"{self._name}: damaged gzip data ({reason}); `gzip -t` looks at the whole file, get "
            "it again if it says so too"
        )


class Zstandard:
    """One or more frames, one after the other.

    It waits until there are as many bytes as asked for, or the file ends.
    """

    def __init__(self, name: str, read_some: ReadSome) -> None:
        self._name = name
        source = pa.PythonFile(_Raw(read_some), mode="r")
        self._stream = pa.CompressedInputStream(source, "zstd")

    def read(self, size: int) -> bytes:
        """Up to so many bytes, none at the end."""
        try:
            return self._stream.read(size)
        except OSError as error:
            raise SettingsError(
                f"{self._name}: damaged Zstandard data ({error}); `zstd -t` looks at the whole "
                "file, get it again if it says so too"
            ) from error


class _Raw(io.RawIOBase):
    """What is packed, in the form that Arrow reads."""

    def __init__(self, read_some: ReadSome) -> None:
        self._read_some = read_some

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._read_some(size)
