"""A rows topic in memory for the tests of the sink: commits, markers, and fetches of any size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.batch import MicroBatch, Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.closing import Closing
from streamflow.core.rows import Layout, Trailer, encode_rows, encode_trailer
from streamflow.core.sink_spec import SinkSpec
from streamflow.edges.memory_files import MemoryFiles
from streamflow.edges.memory_table_log import MemoryLog
from streamflow.engine.chain import Table
from streamflow.engine.holdings import Holdings
from streamflow.engine.roll_memory import ROLL_MEMORY, RollMemory
from streamflow.engine.sink import SinkPartition, ignore
from streamflow.engine.sink_fold import FOLD_AFTER
from streamflow.ports import LoggedTable
from streamflow.schema import schema_id

TP = TopicPartition("app-flights-rows", 3)
SCHEMA = pa.schema(
    [
        ("origin", pa.string()),
        ("id", pa.int64()),
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
    ]
)
LAYOUT = Layout(schema_id(SCHEMA), ("origin",), "1")
ORIGINS = ("EWR", "JFK", None)


class Crash(BaseException):
    """The process is gone."""


def spec(
    *,
    partition_by: tuple[str, ...] = ("origin",),
    target_bytes: int = 1,
    schema: pa.Schema = SCHEMA,
    version: str = "1",
    closing: Closing | None = None,
    partitions: int | None = None,
) -> SinkSpec:
    return SinkSpec(
        name="flights",
        path="flights",
        schema=schema,
        schema_id=schema_id(schema),
        topology="flights",
        topology_version=version,
        partition_by=partition_by,
        target_bytes=target_bytes,
        closing=closing,
        partitions=partitions,
    )


def partition(
    files: Table,
    sink: SinkSpec | None = None,
    *,
    clock: SimulatedClock | None = None,
    owner: str = "app",
    faults: Callable[[str], None] = ignore,
    fold_after: int = FOLD_AFTER,
    rolls: int = ROLL_MEMORY,
) -> SinkPartition:
    clock = clock or SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    return SinkPartition(
        sink or spec(),
        TP,
        files,
        clock=clock,
        owner=owner,
        faults=faults,
        holdings=Holdings(rolls=RollMemory(rolls)),
        fold_after=fold_after,
    )


def logged() -> LoggedTable:
    """A table with a log, made for the rows of `Log`."""
    return LoggedTable(MemoryFiles(), MemoryLog(SCHEMA, LAYOUT.partition_by))


def rows(ids: Sequence[int]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [
            {"origin": ORIGINS[i % 3], "id": i, "_topic": "in", "_partition": 3, "_offset": i}
            for i in ids
        ],
        schema=SCHEMA,
    )


@dataclass
class Log:
    """Offsets of commit markers carry no record, as in Kafka.

    `layout` and `schema` are those of the commits to come; a column beyond `SCHEMA` is null.
    """

    layout: Layout = LAYOUT
    schema: pa.Schema = SCHEMA
    records: dict[int, Record] = field(default_factory=dict[int, Record])
    end: int = 0
    first: int = 0
    commits: int = 0
    rows: int = 0

    def commit(self, count: int, *, chunk_bytes: int = 900_000, end_of_input: bool = False) -> None:
        """One commit of `count` rows, whose ids go on from the last."""
        ids = range(self.rows, self.rows + count)
        made = rows(ids)
        for column in list(self.schema)[len(SCHEMA) :]:
            made = made.append_column(column, pa.nulls(len(ids), column.type))
        chunks = encode_rows([made], self.commits + 1, chunk_bytes=chunk_bytes)
        trailer = Trailer(
            commit=self.commits + 1,
            previous=self.commits or None,
            chunks=len(chunks),
            layout=self.layout,
            watermark=self.rows,
            end_of_input=end_of_input,
            sources={"in": (3, self.rows, self.rows + count)},
            counts={"passed": count, "rejected": 1},
            gates={"rule": 1},
        )
        self.append([*chunks, encode_trailer(trailer)])
        self.rows += count
        self.commits += 1

    def commit_of(self, rows: pa.RecordBatch, version: str = "1") -> None:
        """One commit of rows that lie in no folders, of whatever columns."""
        layout = Layout(schema_id(rows.schema), (), version)
        chunks = encode_rows([rows], self.commits + 1)
        trailer = Trailer(self.commits + 1, self.commits or None, len(chunks), layout)
        self.append([*chunks, encode_trailer(trailer)])
        self.commits += 1

    def append(self, records: Sequence[Record]) -> None:
        """Records of one transaction and its marker."""
        for record in records:
            self.records[self.end] = record
            self.end += 1
        self.end += 1

    def fetch(self, start: int, stop: int) -> MicroBatch:
        """What lies in `[start, stop)`."""
        offsets = [offset for offset in range(start, stop) if offset in self.records]
        found = [self.records[offset] for offset in offsets]
        return MicroBatch(
            TP,
            start,
            stop,
            offsets,
            [record.key for record in found],
            [record.value for record in found],
            [0 for _ in found],
            [record.headers for record in found],
        )

    def trim(self, offset: int | None) -> None:
        """Delete what lies before `offset`, as `DeleteRecords` does."""
        self.first = max(self.first, offset or 0)


def drain(sink: SinkPartition, log: Log, bounds: Sequence[int] = ()) -> None:
    """Open and run to the end of the log, fetching up to each of `bounds` in turn."""
    start = sink.open(log.first, log.end)
    assert start >= log.first
    stops = sorted({bound for bound in bounds if start < bound < log.end} | {log.end})
    for first, stop in pairwise([start, *stops]):
        log.trim(sink.receive(log.fetch(first, stop)))
    log.trim(sink.tick())


def content(table: Table) -> dict[str, bytes]:
    """What readers see of the table: its files by name."""
    if isinstance(table, LoggedTable):
        assert isinstance(table.log, MemoryLog)
        return {name: table.files.read(name) for name in table.log.names()}
    return {name: table.read(name) for name in table.names()}


def ids(files: Table) -> list[int]:
    """Every row of the table, by id."""
    found: list[int] = []
    for name, data in content(files).items():
        table = pq.read_table(pa.BufferReader(data))
        assert "origin" not in table.column_names or "=" not in name
        found += table["id"].to_pylist()
    return sorted(found)
