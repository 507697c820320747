"""Reads samples of data sets as they lie in files: Parquet, CSV and lines of JSON."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from streamflow.errors import SettingsError
from streamflow.storage.sample import runs

#: Files that are looked into, spread over all there are.
FILES = 8
#: What is read of a file of lines.
READ_BYTES = 64 * 1024 * 1024

_KINDS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".ndjson": "json",
    ".jsonl": "json",
    ".json": "json",
}
_PACKED = {".gz", ".zst", ".bz2", ".lz4"}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some rows of a data set, how many files it has, and their bytes.

    `rows` is how many it has in all, where that is known without reading them.
    """

    table: pa.Table
    files: int
    bytes: int
    rows: int | None


def read_sample(paths: Sequence[Path], rows: int) -> Sample:
    """Up to so many rows of the files, and of those in the folders, at `paths`: of Parquet files
    runs that are spread over them, of others the first ones.

    Raises `SettingsError` where there are none, or they cannot be read as one table.
    """
    files = sorted({file for path in paths for file in _files(path)})
    if not files:
        raise SettingsError(
            f"no data in {', '.join(map(str, paths))}: Parquet, CSV and lines of JSON are read, by"
            f" their names' ends ({', '.join(_KINDS)})"
        )
    step = max(len(files) / FILES, 1)
    chosen = [files[int(i * step)] for i in range(min(FILES, len(files)))]
    tables = [_read(file, -(-rows // len(chosen))) for file in chosen]
    try:
        table = pa.concat_tables(tables, promote_options="permissive").slice(0, rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        names = ", ".join(file.name for file in chosen)
        raise SettingsError(f"{names} are not of one table: {error}") from None
    if not table.num_rows or not table.num_columns:
        raise SettingsError(f"{', '.join(map(str, chosen))}: there is no row to measure")
    # A file may lack a column that is never null in another one.
    columns = pa.schema([field.with_nullable(True) for field in table.schema])
    table = pa.Table.from_arrays(table.columns, schema=columns)
    known = all(_kind(file) == "parquet" for file in files)
    total = sum(_metadata(file).num_rows for file in files) if known else None
    return Sample(table, len(files), sum(file.stat().st_size for file in files), total)


def _files(path: Path) -> Iterator[Path]:
    """The data files at a path. As engines do, it passes by names that begin with _ or a dot."""
    if not path.exists():
        raise SettingsError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part[0] in "_." for part in file.relative_to(path).parts)
        private = any(part.endswith(".streamflow") for part in file.relative_to(path).parts)
        if not hidden and not private and file.is_file() and _kind(file):
            yield file


def _kind(path: Path) -> str | None:
    ends = [end.lower() for end in path.suffixes]
    while ends and ends[-1] in _PACKED:
        ends.pop()
    return _KINDS.get(ends[-1]) if ends else None


def _read(path: Path, rows: int) -> pa.Table:
    try:
        match _kind(path):
            case "parquet":
                return _parquet(path, rows)
            case "csv" | "tsv" as kind:
                return _csv(path, rows, "\t" if kind == "tsv" else ",")
            case "json":
                return _lines(path, rows)
            case _:
                raise SettingsError(
                    f"{path}: its name does not say what it is: {', '.join(_KINDS)}"
                )
    except (OSError, pa.ArrowException) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None


def _metadata(path: Path) -> Any:
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None


def _parquet(path: Path, rows: int) -> pa.Table:
    """Runs of rows, spread over a file. Only row groups that they lie in are read."""
    with pq.ParquetFile(path) as file:
        wanted = runs(file.metadata.num_rows, rows)
        found: list[pa.RecordBatch] = []
        start = 0
        for group in range(file.metadata.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            if any(first < stop and start < first + length for first, length in wanted):
                for batch in file.iter_batches(row_groups=[group]):
                    found += _within(batch, start, wanted)
                    start += len(batch)
            start = stop
        return pa.Table.from_batches(found, file.schema_arrow)


def _within(
    batch: pa.RecordBatch, start: int, wanted: Sequence[tuple[int, int]]
) -> list[pa.RecordBatch]:
    """What lies in the runs, of a batch whose first row is row `start`."""
    ends = [(max(first - start, 0), first + length - start) for first, length in wanted]
    return [batch.slice(low, high - low) for low, high in ends if low < min(high, len(batch))]


def _csv(path: Path, rows: int, delimiter: str) -> pa.Table:
    parsed = pacsv.ParseOptions(delimiter=delimiter)
    with pa.input_stream(path, compression="detect") as stream:
        reader = pacsv.open_csv(stream, parse_options=parsed)
        batches: list[pa.RecordBatch] = []
        for batch in reader:
            batches.append(batch)
            if sum(map(len, batches)) >= rows:
                break
        return pa.Table.from_batches(batches, reader.schema).slice(0, rows)


def _lines(path: Path, rows: int) -> pa.Table:
    with pa.input_stream(path, compression="detect") as stream:
        data: bytes = stream.read(READ_BYTES)
    lines = data.splitlines(keepends=True)
    if len(data) == READ_BYTES:
        lines.pop()  # it may go on
    chosen = b"".join(lines[:rows])
    options = pajson.ReadOptions(block_size=max(len(chosen), 1))
    return pajson.read_json(io.BytesIO(chosen), read_options=options)
