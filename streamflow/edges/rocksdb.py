"""A task's local state in RocksDB (rocksdict), one database per task.

All databases of a worker share one block cache and one bound on memtables (`StateMemory`). The
write-ahead log is not synced: the changelog is what survives a machine, this only saves reading it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Checkpoint,
    MemtableFactory,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from streamflow.errors import SettingsError, StateDamaged, TaskLost

#: RocksDB has one exception for all, with the system's words.
FULL = os.strerror(errno.ENOSPC)
#: Memory in which a state that is being rebuilt is gathered before it is sorted, which takes half
#: the time within a processor's own cache; and what of that becomes one file.
LOADING_BYTES, LOADED_FILE_BYTES = 2 * 1024 * 1024, 16 * 1024 * 1024
#: Entries that are written at once while a state is being rebuilt.
LOADING_ENTRIES = 4_000
#: Files that may lie beside each other before they are merged, while a state is being rebuilt.
LOADED_FILES = 20
#: The least that a database has for what was written, however many there are.
SHARE_BYTES = 1024 * 1024
LARGEST_SHARE_BYTES = 32 * 1024 * 1024
_UNLOGGED: Any = WriteOptions()
_UNLOGGED.disable_wal = True


#: What a database is of, in the database itself, after all keys that a task has.
IDENTITY = b"\xff" * 8 + b"of"
#: Of how a worker's local states are kept. Another one is made anew.
FORMAT = 1


class StateMemory:
    """The memory that all databases of a worker share, in bytes.

    A quarter keeps rows that were read. In the rest are blocks of files, with their indexes and
    filters, and what was written and is not in a file yet: half of all at most, where the worker
    has no more `databases` than were said. Each has a share of it, twice: for what is written now,
    and what is on its way to a file. RocksDB must not make writers wait at the bound (`stall`): it
    takes a tenth of the share for a filter when a database is opened, so that many could fill it
    all while nothing is to be written, and wait for ever.
    """

    def __init__(self, limit_bytes: int = 128 * 1024 * 1024, databases: int = 1) -> None:
        write_bytes = limit_bytes // 2
        self.share_bytes = max(
            SHARE_BYTES, min(write_bytes // (2 * databases), LARGEST_SHARE_BYTES)
        )
        self.rows = Cache(limit_bytes // 4)
        self.blocks = Cache(limit_bytes - limit_bytes // 4)
        self.writes = WriteBufferManager.new_write_buffer_manager_with_cache(
            write_bytes, False, self.blocks
        )


class StateFolder:
    """The folder of one worker's states, claimed by a lock file for as long as it is open.

    Raises:
        SettingsError: another process has it.
    """

    def __init__(self, path: Path, memory: StateMemory | None = None) -> None:
        self.path = path
        self.memory = memory or StateMemory()
        path.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] | None = (path / "LOCK").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise SettingsError(
                f"the state folder {path} is in use by another worker; give each a --worker-id"
            ) from error

    def store(self, name: str, of: str = "") -> RocksStore:
        """Open the state of one task; one that is not `of` what is said is made anew."""
        return RocksStore(self.path / name, self.memory, of)

    def remove(self, name: str) -> None:
        """Delete the state of one task, which nobody has open; none may be there."""
        _remove(self.path / name)

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class RocksStore:
    """A `StateStore` on disk.

    A database that does not open, turns out to be corrupt, or is of something else, is no loss: the
    changelog has all that should be in it. It is deleted, at once or in `close`, and the next one
    starts empty. RocksDB keeps checksums of all its files; what a database is of, and the format
    of that, is an entry of its own.

    Raises:
        TaskLost: this process has the database open already; it may be closed later.
        StateDamaged: a database was corrupt, or none can be made.
        OSError: there is no room on the disk; what is there stays.
    """

    def __init__(self, path: Path, memory: StateMemory | None = None, of: str = "") -> None:
        self._path = path
        self._identity = identity_of(of).encode()
        self._memory = memory or StateMemory()
        self._corrupt = False
        self._loading = False
        self._db: Any = self._open()

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `StateStore.get`."""
        with self._words():
            return list(self._db.get(list(keys)))

    def scan(
        self, start: bytes, stop: bytes, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """See `StateStore.scan`."""
        bound = ReadOptions()
        bound.set_iterate_upper_bound(stop)
        found: list[tuple[bytes, bytes]] = []
        with self._words():
            entries = self._db.iter(bound)
            entries.seek(start)
            while len(found) != limit and entries.valid():
                found.append((entries.key(), entries.value()))
                entries.next()
            # At a corrupt block an iterator just ends; `items` and the like never say so.
            entries.status()
        return found

    def apply(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """See `StateStore.apply`."""
        batch = WriteBatch(raw_mode=True)
        # In the order of the keys, each lands beside the one before it: half the time, sorting
        # included. Changes of one key stay in their order.
        for key, value in sorted(changes, key=itemgetter(0)):
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        with self._words():
            self._db.write(batch)

    def load(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """See `StateStore.load`."""
        if not self._loading:
            self._db.close()
            self._db = self._rdict(self._loading_options())
            self._loading = True
        rest = iter(changes)
        while True:
            batch = WriteBatch(raw_mode=True)
            put, delete = batch.put, batch.delete
            for key, value in islice(rest, LOADING_ENTRIES):
                if value is None:
                    delete(key)
                else:
                    put(key, value)
            if batch.is_empty():
                return
            with self._words():
                self._db.write(batch, _UNLOGGED)

    def loaded(self) -> None:
        """See `StateStore.loaded`."""
        if self._loading:
            with self._words():
                self._db.flush()
            self._db.close()
            self._loading = False
            self._db = self._open()

    @property
    def database(self) -> Any:
        """What `checkpoint` takes; None while it is closed, or being rebuilt."""
        return None if self._loading else self._db

    def clear(self) -> None:
        """See `StateStore.clear`."""
        self.close()
        _remove(self._path)
        self._db = self._open()

    def close(self) -> None:
        """See `StateStore.close`."""
        db, self._db = self._db, None
        self._loading = False
        if db is not None:
            # After a write that failed, as on a full disk, this fails too, and it is closed then.
            # What it could not keep is in the changelog.
            with suppress(Exception):
                db.close()
        if self._corrupt:
            _remove(self._path)
            self._corrupt = False

    def _open(self) -> Any:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            found = self._rdict(self._options())
            if self._is_own(found):
                return found
            found.close()
            reason = "it is of something else"
        except Exception as error:
            if "lock hold by current process" in str(error):
                raise TaskLost(f"the state {self._path} is still in use: {error}") from error
            if FULL in str(error):  # without room, a new one is none either
                raise OSError(errno.ENOSPC, f"the state cannot be opened: {error}") from error
            reason = str(error)
        try:
            _remove(self._path)
            made = self._rdict(self._options())
            made.put(IDENTITY, self._identity)
            return made
        except Exception as error:
            raise StateDamaged(f"no state can be made in {self._path}: {reason}") from error

    def _is_own(self, found: Any) -> bool:
        """Is it empty, or of what it should be of? An empty one becomes that."""
        identity = found.get(IDENTITY)
        if identity is None:
            entries = found.iter()
            entries.seek_to_first()
            if entries.valid():
                return False
            entries.status()
            found.put(IDENTITY, self._identity)
        return identity in (None, self._identity)

    def _rdict(self, options: Options) -> Any:
        # Options that are not given for the column family are those that it was written with.
        return Rdict(os.fspath(self._path), options, column_families={"default": options})

    def _options(self) -> Options:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_manager(self._memory.writes)
        options.set_row_cache(self._memory.rows)
        options.set_write_buffer_size(self._memory.share_bytes)
        options.set_keep_log_file_num(1)
        # Most look-ups are of keys that were never seen; filters answer them, in memory and files:
        # 0.3 us each instead of 1.7.
        blocks = BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        blocks.set_block_cache(self._memory.blocks)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options.set_block_based_table_factory(blocks)
        options.set_memtable_prefix_bloom_ratio(0.1)
        options.set_memtable_whole_key_filtering(True)
        return options

    def _loading_options(self) -> Options:
        """For writing much and reading nothing: what comes is kept as it comes, and sorted when it
        goes to a file, on other cores; nothing is logged, and files are merged later. The thread
        that reads the changelog is held up for 0.2 us a record, the others for 1 us.
        """
        share = min(LOADED_FILE_BYTES, self._memory.share_bytes)
        at_once = min(LOADING_BYTES, share)
        options = self._options()
        options.set_memtable_factory(MemtableFactory.vector())
        options.set_allow_concurrent_memtable_write(False)
        options.set_memtable_prefix_bloom_ratio(0.0)
        options.set_memtable_whole_key_filtering(False)
        options.set_write_buffer_size(at_once)
        options.set_min_write_buffer_number_to_merge(share // at_once)
        options.set_max_write_buffer_number(4 * (share // at_once))
        options.set_max_background_jobs(8)  # of which two make files of what is in memory
        options.set_level_zero_file_num_compaction_trigger(LOADED_FILES)
        options.set_level_zero_slowdown_writes_trigger(2 * LOADED_FILES)
        options.set_level_zero_stop_writes_trigger(3 * LOADED_FILES)
        return options

    @contextmanager
    def _words(self) -> Generator[None]:
        try:
            yield
        except Exception as error:
            if "Corruption" not in str(error):
                raise
            self._corrupt = True
            raise StateDamaged(f"the state {self._path} is corrupt: {error}") from error


def identity_of(of: str) -> str:
    """What a database says of itself that is of this."""
    return f"{FORMAT} {of}"


def open_as_it_is(path: Path) -> Any:
    """Open a database, whatever it is of; whoever opens it closes it.

    Raises:
        StateDamaged: there is none that opens.
    """
    options = Options(raw_mode=True)
    options.create_if_missing(False)
    try:
        return Rdict(os.fspath(path), options)
    except Exception as error:
        raise StateDamaged(f"the state {path} cannot be opened: {error}") from error


def checkpoint(database: Any, path: Path) -> None:
    """Copy an open database into a folder that is not there yet, as it is between two writes. Its
    files are linked where that can be; it can be done in another thread than that of the writes.
    """
    Checkpoint(database).create_checkpoint(os.fspath(path))


def _remove(path: Path) -> None:
    """Delete a database, or whatever lies in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
