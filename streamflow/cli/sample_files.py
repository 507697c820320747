"""Reads rows of one file: Parquet, CSV, or lines of JSON, plain or packed."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from streamflow.storage.sample import runs

#: What is read of a file of lines, and of CSV at once: no cell is larger.
READ_BYTES: Final = 64 * 1024 * 1024
BLOCK_BYTES: Final = 4 * 1024 * 1024

KINDS: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".ndjson": "json",
    ".jsonl": "json",
    ".json": "json",
}
_PACKED = {".gz", ".zst", ".bz2", ".lz4"}
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
#: What cells are separated by where the header has no comma.
_OTHERS = ";\t|"


def kind_of(path: Path) -> str | None:
    """What a file is, by the end of its name."""
    ends = [end.lower() for end in path.suffixes]
    while ends and ends[-1] in _PACKED:
        ends.pop()
    return KINDS.get(ends[-1]) if ends else None


def read_parquet(path: Path, rows: int) -> pa.Table:
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


def read_csv(path: Path, rows: int, delimiter: str) -> tuple[pa.Table, list[str]]:
    """The first rows, of which all columns are text (`typed` says what they are), and what is to be
    said of them.
    """
    delimiter = _delimiter(path, delimiter)
    for block in (BLOCK_BYTES, READ_BYTES):
        ragged: list[str] = []
        try:
            table = _csv(path, rows, delimiter, block, ragged)
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error) or block == READ_BYTES:
                raise
        else:
            words = "rows have another number of cells than the header"
            return table, [f"{len(ragged):,} {words}; passed by"] * bool(ragged)
    raise AssertionError("the last block either does or raises")


def _delimiter(path: Path, delimiter: str) -> str:
    """The one that is said, or what the header has in its place."""
    with pa.input_stream(path, compression="detect") as stream:
        header = cast("bytes", stream.read(BLOCK_BYTES)).partition(b"\n")[0]
    _check_utf_8(header)
    found = max(_OTHERS, key=lambda other: header.count(other.encode()))
    return found if delimiter.encode() not in header and found.encode() in header else delimiter


def _check_utf_8(data: bytes) -> None:
    if data.startswith(_UTF_16):
        raise pa.ArrowInvalid("it is UTF-16, and UTF-8 is read")


def _csv(path: Path, rows: int, delimiter: str, block: int, ragged: list[str]) -> pa.Table:
    def passed_by(row: Any) -> str:
        ragged.append(row.text)
        return "skip"

    parsed = pacsv.ParseOptions(
        delimiter=delimiter, newlines_in_values=True, invalid_row_handler=passed_by
    )
    read = pacsv.ReadOptions(block_size=block)
    with pa.input_stream(path, compression="detect") as stream:
        names = pacsv.open_csv(stream, read_options=read, parse_options=parsed).schema.names
    ragged.clear()  # the rows of the first block come again
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise pa.ArrowInvalid(f"two of its columns are named {twice!r}")
    texts = pacsv.ConvertOptions(
        column_types={name: pa.string() for name in names}, strings_can_be_null=True
    )
    with pa.input_stream(path, compression="detect") as stream:
        reader = pacsv.open_csv(
            stream, read_options=read, parse_options=parsed, convert_options=texts
        )
        batches: list[pa.RecordBatch] = []
        for batch in reader:
            batches.append(batch)
            if sum(map(len, batches)) >= rows:
                break
        return pa.Table.from_batches(batches, reader.schema).slice(0, rows)


def read_lines(path: Path, rows: int) -> tuple[pa.Table, list[str]]:
    """The first lines of JSON, and what is to be said of them."""
    with pa.input_stream(path, compression="detect") as stream:
        data = cast("bytes", stream.read(READ_BYTES)).removeprefix(_BOM)
    _check_utf_8(data)
    lines = _of_array(data) or data.splitlines(keepends=True)
    if len(data) == READ_BYTES and len(lines) > 1:
        lines.pop()  # it may go on
    lines = [line for line in lines if line.strip()][:rows]
    chosen = b"".join(lines)
    options = pajson.ReadOptions(block_size=max(len(chosen), 1))
    try:
        return pajson.read_json(io.BytesIO(chosen), read_options=options), []
    except pa.ArrowInvalid as error:
        return _mixed(lines, error)


def _of_array(data: bytes) -> list[bytes]:
    """The elements of a document that is one array, as lines; none of any other."""
    if not data.lstrip().startswith(b"["):
        return []
    try:
        return [orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in orjson.loads(data)]
    except orjson.JSONDecodeError:  # lines that are arrays, or more than was read
        return []


def _mixed(lines: Sequence[bytes], error: pa.ArrowInvalid) -> tuple[pa.Table, list[str]]:
    """Lines of which some are no JSON object, or give a field values of several types."""
    found: list[Mapping[str, Any]] = []
    for line in lines:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict):
            found.append(cast("dict[str, Any]", value))
    if not found:
        raise error
    bad = len(lines) - len(found)
    notes = [f"{bad:,} of {len(lines):,} lines are no JSON object; passed by"] * bool(bad)
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in found for name in row):
        values = [row.get(name) for row in found]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError):
            columns[name] = pa.array(list(_texts(values)), pa.string())
            kinds = ", ".join(
                dict(Counter(_word(v) for v in values if v is not None).most_common())
            )
            notes.append(f"{name} holds {kinds}: taken as text")
    return pa.table(columns), notes


def _texts(values: Sequence[Any]) -> Iterator[str | None]:
    for value in values:
        is_text = value is None or isinstance(value, str)
        yield value if is_text else orjson.dumps(value).decode()


def _word(value: Any) -> str:
    words = {bool: "truth values", str: "texts", list: "lists", dict: "objects"}
    return words.get(type(value), "numbers")
