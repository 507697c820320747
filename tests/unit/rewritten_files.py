"""A program: rewrites files of a table, as a command or a worker's upkeep does.

Takes what is done (`join` small files, `sort` them too, or `merge` corrected results) and the bound
of memory in MiB. Prints the rows that were written, the most bytes of Arrow's and of the process,
above what there was when it began, and the files. Those it makes itself before.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.core.cut import CutFile, origin
from streamflow.core.delta_stats import stats_of
from streamflow.core.merging import Merging
from streamflow.core.parquet import Inside, write_parquet
from streamflow.core.rows import RowsChunk, decode, encode_rows
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory_table_log import MemoryLog
from streamflow.engine.delta_merge import replaced
from streamflow.engine.optimize import optimize
from streamflow.engine.rewrite import Rewriter
from streamflow.engine.roll_memory import MIB, RollMemory
from streamflow.engine.sink_rows import Form, Rows
from streamflow.ports import AddedFile, LoggedTable
from streamflow.schema import schema_id
from streamflow.writer_settings import UNPLANNED, FileLayout

from .sink_log import TP, spec

#: Of a file before it is joined, in row groups of a quarter.
ROWS = 80_000
TIMES = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("window_start", TIMES, nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("text", pa.string()),
    ]
)
MERGING = Merging(("id", "window_start"), early=False)


def rows(first: int, count: int, revision: int) -> pa.Table:
    """Rows of about 140 B, which are encoded to some 15; the ids go up and down."""
    ids = [(i * 7_919) % 1_000_003 for i in range(first, first + count)]
    columns = [
        pa.array(ids, pa.int64()),
        pa.array([i // 1_000 for i in ids], TIMES),
        pa.array([revision] * count, pa.int32()),
        pa.array([f"{i * 2654435761 % 2**32:x} " + "text " * 20 for i in ids]),
    ]
    return pa.table(columns, SCHEMA)


def fill(files: LocalFiles, count: int) -> LoggedTable:
    """So many files of a table."""
    log = MemoryLog(SCHEMA)
    footer = {"schema_id": schema_id(SCHEMA), "origins": "[]", "sources": "{}"}
    added: list[AddedFile] = []
    for i in range(count):
        stream = pa.BufferOutputStream()
        groups = [rows(i * ROWS + g * ROWS // 4, ROWS // 4, 0) for g in range(4)]
        metadata = write_parquet(stream, Inside(SCHEMA, UNPLANNED), groups, footer)
        data = stream.getvalue()
        assert files.create(f"{i:03d}.parquet", memoryview(data))
        added.append(AddedFile(f"{i:03d}.parquet", data.size, {}, stats_of(metadata)))
    loaded = log.load()
    assert loaded is not None
    loaded.commit(added, {})
    return LoggedTable(files, log)


def join(table: LoggedTable, layout: FileLayout, memory: RollMemory) -> None:
    """Make one file of all."""
    done = optimize(table, Rewriter(table.files, "none", layout, memory), 1 << 30)
    assert done.after == 1, done


def merge(table: LoggedTable, memory: RollMemory) -> None:
    """Write each file anew, without a row of it."""
    loaded = table.log.load()
    assert loaded is not None
    corrected = pa.concat_tables([rows(i * ROWS, 1, 1) for i in range(len(loaded.files()))])
    chunks: dict[int, RowsChunk] = {}
    for offset, record in enumerate(encode_rows(corrected.to_batches(), 1)):
        chunk = decode(record.value, record.headers)
        assert isinstance(chunk, RowsChunk)
        chunks[offset] = chunk
    file = CutFile("new.parquet", (), len(corrected), (0, 0), (0, 0), "", (), UNPLANNED)
    made = replace(origin(TP, 0, spec()), files=(file,))
    with memory.share(corrected.nbytes) as room:
        found = replaced(
            loaded, table.files, made, Rows(chunks, Form(merging=MERGING), room, memory)
        )
    loaded.replace(found.added, found.removed, {}, same_rows=False)


def most_memory() -> int:
    """Bytes of memory at the most since it was asked last, as the kernel counts it."""
    status = Path("/proc/self/status").read_text()
    found = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(found.split()[1]) * 1024


def main() -> None:
    """See above."""
    what, mib, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    memory = RollMemory(mib * MIB)
    with tempfile.TemporaryDirectory() as root:
        table = fill(LocalFiles(Path(root), "t"), count)
        pool = pa.proxy_memory_pool(pa.default_memory_pool())
        pa.set_memory_pool(pool)
        most_memory()
        before = most_memory()
        if what == "merge":
            merge(table, memory)
        else:
            join(table, FileLayout(("id",) if what == "sort" else ()), memory)
        peak = pool.max_memory()
        after = table.log.load()
        assert after is not None
        names = [file.name for file in after.files()]
        found = sum(pq.read_metadata(Path(root, "t", name)).num_rows for name in names)
    sys.stdout.write(f"{found} {peak} {most_memory() - before} {len(names)}\n")


main()
