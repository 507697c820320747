"""The rows of files of a table, of which no more is unpacked at once than there is room for.

Files are read row group by row group, and these in runs of rows, one after the other. What is asked
for further on in a row group is come to by unpacking what is before it; so whoever goes through the
runs in their order unpacks each row group once.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.core.origins import footer_of
from streamflow.engine.roll_memory import RollMemory
from streamflow.engine.sink_parts import AsTheyCome, Held, Parts, Sorted, joined
from streamflow.errors import SinkUnavailable
from streamflow.ports import OpenFile, TableFiles
from streamflow.storage.sample import RUNS, SAMPLE_ROWS

#: Of each column so much of a file is held, encoded, at a time.
BUFFER_BYTES: Final = 256 * 1024
#: Values that repeat take more than their file shows, so a run has no more rows than this.
RUN_ROWS: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Run:
    """Rows `[start, start + count)` of a row group, by the numbers of file and group."""

    file: int
    group: int
    start: int
    count: int


class FileRows:
    """The rows of some files of one schema, in the order of the files. For one thread.

    Args:
        files: Those of the table.
        names: Which of them.
        memory: What bounds the rows that are unpacked.

    Raises:
        FileNotFoundError: one is not there.
        SinkUnavailable: one is no Parquet file, or the store does not answer.
    """

    def __init__(self, files: TableFiles, names: Sequence[str], memory: RollMemory) -> None:
        self._files = files
        self._names = names
        self._memory = memory
        self._open: _Opened | None = None
        #: What streamflow has written into the footer of each, and how many rows it has.
        self.footers: list[Mapping[str, str] | None] = []
        self.counts: list[int] = []
        self._groups: list[tuple[int, int, int, int]] = []
        self.schema: pa.Schema = pa.schema([])
        for i in range(len(names)):
            self._look(i)
        self.num_rows = sum(self.counts)
        self.row_bytes = self._row_bytes()
        self._runs = list(self._in_runs())

    @property
    def unpacked(self) -> int:
        """About how many bytes all rows take."""
        return self.num_rows * self.row_bytes

    def close(self) -> None:
        """Let go of the file that is open. Idempotent."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def having(self, folders: Sequence[str]) -> Iterator[Run]:
        """See `Unpacked.having`: all of them, since the files are of one folder."""
        del folders
        return iter(self._runs)

    def of(
        self, piece: Run, folders: Collection[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """See `Unpacked.of`."""
        del folders
        return self._at(piece.file).rows(piece, columns, self._batch_rows(piece.count))

    def parts(self, sort: Sequence[str], room: int) -> Parts:
        """The rows in this order, or as they come. Where there is no room for all, whoever sorts
        has the columns of `sort` unpacked for all of them, and beside these twelve bytes of each.
        """
        if not sort:
            return AsTheyCome(self, "")
        if self.unpacked <= room:
            whole = [self.schema.empty_table(), *(self.of(run, "") for run in self._runs)]
            return Held(joined(whole), sort)
        return Sorted(self, "", sort, max(room // (2 * self.row_bytes), 1))

    def sample(self) -> pa.Table:
        """Rows that are spread over the files: what a plan is made of."""
        most = min(SAMPLE_ROWS, max(self._memory.room // self.row_bytes, RUNS))
        return self._spread(most)

    def _look(self, i: int) -> None:
        opened = self._at(i)
        metadata: Any = opened.metadata
        self.footers.append(footer_of(metadata))
        self.counts.append(metadata.num_rows)
        if not i:
            self.schema = opened.schema
        for g in range(metadata.num_row_groups):
            group = metadata.row_group(g)
            if group.num_rows:
                self._groups.append((i, g, group.num_rows, group.total_byte_size))

    def _at(self, i: int) -> _Opened:
        """File `i`, which has the rows that it had: in a plain table its name may be given to a
        file without rows, by somebody who has joined it too.
        """
        if self._open is None or self._open.number != i:
            self.close()
            name = self._names[i]
            self._open = _Opened(i, self._files.open(name), name, self._memory.piece)
        if i < len(self.counts) and self._open.metadata.num_rows != self.counts[i]:
            self.close()
            raise SinkUnavailable(f"{self._names[i]} was changed while it was read; looked again")
        return self._open

    def _row_bytes(self) -> int:
        """About how much a row takes, measured on a few."""
        shown = max((size // rows for _, _, rows, size in self._groups), default=0) + 1
        some = self._spread(min(1_024, max(self._memory.piece // shown, RUNS)))
        return max(some.nbytes // max(some.num_rows, 1), 1)

    def _spread(self, most: int) -> pa.Table:
        """The first rows of row groups that are spread over the files, about so many."""
        found = [self.schema.empty_table()]
        if self.num_rows:
            groups = min(
                max(RUNS, -(-most * len(self._groups) // self.num_rows)), len(self._groups)
            )
            each = -(-most // groups)
            for n in range(groups):
                i, g, rows, _ = self._groups[n * len(self._groups) // groups]
                found.append(self._at(i).rows(Run(i, g, 0, min(each, rows)), None, each))
        return joined(found)

    def _in_runs(self) -> Iterator[Run]:
        for i, g, rows, _ in self._groups:
            most = self._batch_rows(rows)
            for start in range(0, rows, most):
                yield Run(i, g, start, min(most, rows - start))

    def _batch_rows(self, rows: int) -> int:
        return max(min(self._memory.piece // self.row_bytes, RUN_ROWS, rows), 1)


class _Opened:
    """A file, and where in one of its row groups reading stands."""

    def __init__(self, number: int, file: OpenFile, name: str, small: int) -> None:
        self.number = number
        self._file = file
        self._name = name
        with self._in_words():
            if file.size <= small:  # then it is asked for once
                source: Any = pa.BufferReader(file.read(0, file.size))
            else:
                source = pa.PythonFile(_Seekable(file), mode="r")
            self._parquet: Any = pq.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER_BYTES)
        self._reading: tuple[int, tuple[str, ...] | None] | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None
        self._position = 0

    @property
    def metadata(self) -> pq.FileMetaData:
        return self._parquet.metadata

    @property
    def schema(self) -> pa.Schema:
        return self._parquet.schema_arrow

    def rows(self, run: Run, columns: Sequence[str] | None, batch_rows: int) -> pa.Table:
        """The rows of a run; those of its row group that are before it are passed over."""
        wanted = None if columns is None else tuple(columns)
        if self._reading != (run.group, wanted) or self._position > run.start:
            self._reading, self._position, self._rest = (run.group, wanted), 0, None
            self._batches = self._parquet.iter_batches(
                batch_size=batch_rows,
                row_groups=[run.group],
                columns=None if wanted is None else list(wanted),
                use_threads=False,
            )
        found: list[pa.RecordBatch] = []
        stop = run.start + run.count
        while self._position < stop:
            with self._in_words():
                batch = next(self._batches) if self._rest is None else self._rest
            first = min(max(run.start - self._position, 0), batch.num_rows)
            last = min(stop - self._position, batch.num_rows)
            if first < last:
                found.append(batch.slice(first, last - first))
            self._rest = batch.slice(last) if last < batch.num_rows else None
            self._position += last
        schema = self.schema if wanted is None else pa.schema([*map(self.schema.field, wanted)])
        return pa.Table.from_batches(found, schema)

    def close(self) -> None:
        self._batches, self._rest = iter(()), None
        self._parquet.close(force=True)
        self._file.close()

    @contextmanager
    def _in_words(self) -> Generator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            self._file.close()
            raise SinkUnavailable(f"{self._name} cannot be read as Parquet: {error}") from error


class _Seekable:
    """An open file, as Arrow reads one."""

    closed = False

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._place = 0

    def read(self, nbytes: int = -1) -> bytes:
        stop = self._file.size if nbytes < 0 else min(self._place + nbytes, self._file.size)
        data = self._file.read(self._place, stop - self._place)
        self._place = stop
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._place, self._file.size)[whence]
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        self.closed = True

    def flush(self) -> None:
        """Nothing is written."""
