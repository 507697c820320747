"""The files of a table on a local file system: written aside, then linked to their name.

`link()` fails when the name is taken, on every POSIX file system and over NFS. That is what makes
a name be taken once without locks; `rename()` would replace what is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from streamflow.edges.local_temps import Workshop
from streamflow.edges.table_names import check_name
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import NewFile, OpenFile

_NO_LINK = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NEVER = {errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}


def ignore(_point: str) -> None:
    """The faults of production: none."""


class LocalFiles:
    """`TableFiles` in `<root>/<table>`, with private files in `<root>/<table>.streamflow`.

    `faults` is called with `temp` (the file is whole, but has no name yet) and `linked` (it has its
    name, but the folder is not synced yet). Nothing is made on disk before the first `create`.
    """

    def __init__(self, root: Path, table: str, *, faults: Callable[[str], None] = ignore) -> None:
        check_name(table, private=False)
        self._table = root / table
        self._beside = self._table.with_name(self._table.name + ".streamflow")
        self._root = root
        self._faults = faults
        self._workshop: Workshop | None = None
        self._opening = threading.Lock()  # guards _workshop: partitions share one of these

    def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
        """See `TableFiles.create`.

        An error between the link and the sync of its folder leaves the file visible; the next call
        then syncs and returns False.
        """
        new = _LocalFile(self, self._path(name, private=private))
        try:
            new.write(data)
            created = new.create()
        except Exception:
            new.drop()
            raise
        new.drop()
        return created

    def begin(self, name: str) -> NewFile:
        """See `TableFiles.begin`. What is written of it lies on the disk, beside the table."""
        return _LocalFile(self, self._path(name, private=False))

    def exists(self, name: str, *, private: bool = False) -> bool:
        """See `TableFiles.exists`. What is there is made durable first: its writer may have died
        after the link and before it synced the folder.
        """
        path = self._path(name, private=private)
        try:
            self._refuse_files()
            path.stat()
            self._sync_folders(path.parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self.words(path, error) from error
        return True

    def read(self, name: str, *, private: bool = False) -> bytes:
        """See `TableFiles.read`."""
        path = self._path(name, private=private)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self.words(path, error) from error

    def tail(self, name: str, nbytes: int) -> bytes:
        """See `TableFiles.tail`."""
        path = self._path(name, private=False)
        try:
            with path.open("rb") as file:
                file.seek(max(path.stat().st_size - nbytes, 0))
                return file.read()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self.words(path, error) from error

    def open(self, name: str) -> OpenFile:
        """See `TableFiles.open`. What is open stays what it is when its name is given away."""
        path = self._path(name, private=False)
        try:
            return _OpenFile(self, path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self.words(path, error) from error

    def names(self, *, private: bool = False) -> list[str]:
        """See `TableFiles.names`."""
        self._refuse_files()
        top = self._beside if private else self._table
        found: list[str] = []
        for folder, folders, files in os.walk(top):
            if private and Path(folder) == top:
                folders[:] = [name for name in folders if name != "tmp"]
            found += [(Path(folder) / file).relative_to(top).as_posix() for file in files]
        return sorted(found)

    def delete_private(self, names: Iterable[str]) -> None:
        """See `TableFiles.delete_private`."""
        for name in names:
            path = self._path(name, private=True)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise self.words(path, error) from error

    def sizes(self) -> Mapping[str, int]:
        """See `ReplaceableFiles.sizes`."""
        found: dict[str, int] = {}
        for name in self.names():
            with suppress(FileNotFoundError):  # it was deleted this moment
                found[name] = (self._table / name).stat().st_size
        return found

    def replace(self, name: str, data: bytes | memoryview) -> None:
        """See `ReplaceableFiles.replace`."""
        self._replace(self._path(name, private=False), data)

    def exchange(self, name: str, seen: bytes, data: bytes) -> bool:
        """See `ReplaceableFiles.exchange`. Who does it holds a lock (flock), which the kernel drops
        with the process.
        """
        path = self._path(name, private=True)
        try:
            with self.temp().with_name(f"{path.name}.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if path.read_bytes() != seen:
                    return False
                self._replace(path, data)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self.words(path, error) from error
        return True

    def _replace(self, path: Path, data: bytes | memoryview) -> None:
        temp = self.temp()
        try:
            with temp.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._faults("temp")
            temp.replace(path)
            _sync(path.parent)
        except OSError as error:
            with suppress(OSError):  # a leftover is cleaned up later
                temp.unlink(missing_ok=True)
            raise self.words(path, error) from error

    def delete(self, name: str) -> None:
        """See `ReplaceableFiles.delete`."""
        path = self._path(name, private=False)
        try:
            path.unlink(missing_ok=True)
            _sync(path.parent)
        except OSError as error:
            raise self.words(path, error) from error

    def close(self) -> None:
        """Give up the lock on temporary files. Idempotent; also done when this is collected."""
        with self._opening:
            if self._workshop is not None:
                self._workshop.close()
                self._workshop = None

    def _path(self, name: str, *, private: bool) -> Path:
        check_name(name, private=private)
        base = self._beside if private else self._table
        path = base / name
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(base)):
            raise SinkRefused(f"file name {name!r} leaves {base} through a symbolic link")
        return path

    def settle(self, temp: Path, path: Path) -> bool:
        """Make a file that is whole and durable appear under its name."""
        self._faults("temp")
        path.parent.mkdir(parents=True, exist_ok=True)
        created = self._link(temp, path)
        self._faults("linked")
        # Also when the name was taken: its writer may not have come as far as this.
        self._sync_folders(path.parent)
        return created

    def temp(self) -> Path:
        """A path for a file that is being written."""
        with self._opening:
            if self._workshop is None:
                self._refuse_files()
                folder = self._beside / "tmp"
                folder.mkdir(parents=True, exist_ok=True)
                self._workshop = Workshop(folder)
            return self._workshop.path()

    def _refuse_files(self) -> None:
        """Raise `SinkRefused` before anything is written where a file is in a folder's place."""
        for folder in (self._root, self._table, self._beside):
            if folder.exists() and not folder.is_dir():
                raise SinkRefused(
                    f"{folder} is a file, and would have to be a folder for the table; take it"
                    " away, or give the lake or the table another path"
                )

    def _link(self, temp: Path, path: Path) -> bool:
        try:
            os.link(temp, path)
        except FileExistsError:
            # Over NFS the answer to a link that succeeded can be lost and the call repeated: the
            # count of links tells.
            return temp.stat().st_nlink > 1
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise SinkRefused(
                    f"{self._table} and {self._beside} are on different file systems; both must be"
                    " on one, so that a finished file can be linked to its name"
                ) from error
            if error.errno in _NO_LINK:
                raise SinkRefused(
                    f"the file system of {self._table} has no hard links ({error.strerror}), which"
                    " keep two writers from taking one name; put the table on one that has"
                ) from error
            raise
        return True

    def _sync_folders(self, folder: Path) -> None:
        """Make the entries of `folder` and of all folders between it and the root durable."""
        while True:
            _sync(folder)
            if folder in {self._root, folder.parent}:
                return
            folder = folder.parent

    def words(self, path: Path, error: OSError) -> SinkRefused | SinkUnavailable:
        """The error, and what to do about it."""
        reason = error.strerror or str(error)
        if error.errno in _NEVER:
            return SinkRefused(f"{path}: {reason}; the file system will never take this name")
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return SinkUnavailable(f"{path}: {reason}; make room")
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            return SinkUnavailable(
                f"{path}: {reason}; let this user write to {self._table} and {self._beside}"
            )
        return SinkUnavailable(f"{path}: {reason}")


class _LocalFile:
    """A `NewFile` under a private name, which is linked to its own."""

    def __init__(self, files: LocalFiles, path: Path) -> None:
        self._files = files
        self._path = path
        self._temp: Path | None = None
        self._opened: BinaryIO | None = None

    def write(self, data: bytes | memoryview) -> None:
        """See `NewFile.write`."""
        with self._in_words():
            self._file().write(data)

    def create(self) -> bool:
        """See `NewFile.create`."""
        with self._in_words():
            file = self._file()
            file.flush()
            os.fsync(file.fileno())
            file.close()
            assert self._temp is not None
            return self._files.settle(self._temp, self._path)

    def drop(self) -> None:
        """See `NewFile.drop`."""
        if self._temp is None or self._opened is None:
            return
        with suppress(OSError):  # of what could not be written
            self._opened.close()
        with suppress(OSError):  # a leftover is cleaned up later
            self._temp.unlink(missing_ok=True)

    def _file(self) -> BinaryIO:
        if self._opened is None:
            self._temp = self._files.temp()
            self._opened = self._temp.open("xb")
        return self._opened

    @contextmanager
    def _in_words(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise self._files.words(self._path, error) from error


class _OpenFile:
    """An `OpenFile`."""

    def __init__(self, files: LocalFiles, path: Path) -> None:
        self._files = files
        self._path = path
        self._opened = path.open("rb", buffering=0)
        self.size = os.fstat(self._opened.fileno()).st_size

    def read(self, start: int, nbytes: int) -> bytes:
        """See `OpenFile.read`."""
        try:
            data = os.pread(self._opened.fileno(), nbytes, start)
        except OSError as error:
            raise self._files.words(self._path, error) from error
        if len(data) < nbytes:
            raise SinkUnavailable(f"{self._path} has lost its end; is its disk well?")
        return data

    def close(self) -> None:
        """See `OpenFile.close`."""
        self._opened.close()


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
