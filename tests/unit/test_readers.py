"""What readers of a table see while it is written: the same rows, each once, and no half of a roll
of a Delta table.
"""

from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds
from deltalake import DeltaTable

from streamflow.edges.delta_log import DeltaLog
from streamflow.edges.local_files import LocalFiles
from streamflow.engine.chain import Table, chain_of
from streamflow.engine.sink import CRASH_POINTS
from streamflow.ports import LoggedTable
from tests.unit.sink_log import Log, drain, partition, spec

SIZES = (5, 9, 0, 7, 1)
FILE_POINTS = ("temp", "linked")


def by_pyarrow(folder: Path) -> list[int]:
    if not folder.exists():
        return []
    return ds.dataset(folder, format="parquet", partitioning="hive").to_table()["id"].to_pylist()


def by_duckdb(folder: Path) -> list[int]:
    if not any(folder.rglob("*.parquet")):  # no file is an error there
        return []
    with duckdb.connect() as connection:
        relation = connection.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
        return [row[0] for row in relation.select("id").fetchall()]


def by_polars(folder: Path) -> list[int]:
    if not any(folder.rglob("*.parquet")):
        return []
    frame = pl.scan_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
    return frame.select("id").collect()["id"].to_list()


class Readers:
    """Look at every step of a writer; `counts` are what they have seen."""

    def __init__(self, folder: Path, *, of_a_log: bool = False) -> None:
        self.folder, self.of_a_log = folder, of_a_log
        self.counts: list[int] = []

    def look(self, _point: str) -> None:
        seen = self._seen()
        first = sorted(seen[0])
        assert all(sorted(rows) == first for rows in seen)
        assert len(set(first)) == len(first), "a row is there twice"
        assert not self.counts or len(first) >= self.counts[-1], "rows have gone"
        self.counts.append(len(first))

    def _seen(self) -> list[list[int]]:
        if not self.of_a_log:
            return [by_pyarrow(self.folder), by_duckdb(self.folder), by_polars(self.folder)]
        table = DeltaTable(str(self.folder))
        with duckdb.connect() as connection:
            connection.register("rows", table.to_pyarrow_dataset())
            found = [row[0] for row in connection.sql("select id from rows").fetchall()]
        polars = pl.read_delta(str(self.folder))["id"].to_list()
        return [table.to_pyarrow_table()["id"].to_pylist(), found, polars]


def written(table: Table, readers: Readers) -> list[int]:
    """What was seen at each step."""
    log = Log()
    for i, size in enumerate(SIZES):
        log.commit(size, end_of_input=i == len(SIZES) - 1)
    sink = partition(table, faults=readers.look)
    drain(sink, log)
    assert sink.done
    readers.look("the end")
    return readers.counts


def test_a_plain_table_shows_each_row_once_to_every_engine(tmp_path: Path) -> None:
    """At the steps of a roll, and with private files and finished files that have no name yet."""
    readers = Readers(tmp_path / "t")
    counts = written(LocalFiles(tmp_path, "t", faults=readers.look), readers)
    assert counts[-1] == sum(SIZES)
    assert len(counts) > len(SIZES) * len((*CRASH_POINTS, *FILE_POINTS))
    assert set(counts) - {0, 5, 14, 21, 22}, "some files of a roll are seen before the others"


def test_a_delta_table_shows_whole_rolls_to_every_engine(tmp_path: Path) -> None:
    readers = Readers(tmp_path / "t", of_a_log=True)
    log = DeltaLog(str(tmp_path / "t"), None, lambda: 1_700_000_000_000)
    chain_of(LoggedTable(LocalFiles(tmp_path, "t"), log)).agree(spec())
    counts = written(LoggedTable(LocalFiles(tmp_path, "t", faults=readers.look), log), readers)
    assert set(counts) == {0, 5, 14, 21, 22}
