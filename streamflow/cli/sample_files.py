"""Files of a data set: what kind each is, its first bytes, unpacked, and rows of Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.storage.sample import runs

#: What is read of a text at the most, and first: mostly that suffices.
READ_BYTES: Final = 64 * 1024 * 1024
FIRST_BYTES: Final = 4 * 1024 * 1024

KINDS: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".ndjson": "json",
    ".jsonl": "json",
    ".json": "json",
}
_PACKED: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_BOM: Final = b"\xef\xbb\xbf"
_PARQUET: Final = b"PAR1"
#: What files begin with that are no text.
_BEGINNINGS: Final = {
    _PARQUET: "a Parquet file",
    b"\xff\xfe": "UTF-16, and UTF-8 is read; `iconv -f utf-16 -t utf-8` makes it so",
    b"\xfe\xff": "UTF-16, and UTF-8 is read; `iconv -f utf-16 -t utf-8` makes it so",
    b"\x1f\x8b": "packed by gzip, which the end of its name is to say: .gz",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard, which the end of its name is to say: .zst",
    b"BZh": "packed by bzip2, which the end of its name is to say: .bz2",
    b"\x04\x22\x4d\x18": "packed by lz4, which the end of its name is to say: .lz4",
    b"PK\x03\x04": "a ZIP archive, as spreadsheets are; unpack it, or save it as CSV",
    b"ORC": "an ORC file, and Parquet, CSV and lines of JSON are read",
    b"Obj\x01": "an Avro file, and Parquet, CSV and lines of JSON are read",
}


class Unreadable(Exception):
    """A file has no rows that can be read; says why, and where in the file."""


@dataclass(frozen=True, slots=True)
class Text:
    """The first characters of a text, unpacked, of which `whole` says that they are all."""

    data: bytes
    whole: bool

    def place(self, offset: int) -> str:
        """Where a byte is, as editors count."""
        start = self.data.rfind(b"\n", 0, offset) + 1
        column = len(self.data[start:offset].decode(errors="replace")) + 1
        line = self.data.count(b"\n", 0, offset) + 1
        return f"line {line:,}, column {column:,}"

    def check_utf_8(self) -> None:
        """Raises `Unreadable` where it is another encoding, or no text at all."""
        try:
            self.data.decode()
        except UnicodeDecodeError as error:
            if b"\0" in self.data:
                raise Unreadable("it is no text: it has bytes that are zero") from None
            byte = self.data[error.start]
            raise Unreadable(
                f"{self.place(error.start)}: the byte 0x{byte:02x} is not UTF-8; if the file is"
                " text of another encoding, `iconv -f latin1 -t utf-8` or the like makes it UTF-8"
            ) from None


def kind_of(path: Path) -> str | None:
    """What a file is, by the end of its name."""
    ends = [end.lower() for end in path.suffixes]
    while ends and ends[-1] in _PACKED:
        ends.pop()
    return KINDS.get(ends[-1]) if ends else None


def read_text(path: Path, size: int) -> Text:
    """The first bytes of a file, unpacked as the end of its name says.

    Raises `Unreadable` where it is empty, or surely no text.
    """
    codec = _PACKED.get(path.suffix.lower())
    with path.open("rb") as file:
        if not codec:
            data = file.read(size + 1)
        else:
            try:
                with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec) as stream:
                    data = cast("bytes", stream.read(size + 1))
            except OSError as error:
                why = f"it cannot be unpacked as {codec}, as its name says: {error}"
                raise Unreadable(f"{why}; is it whole?") from None
    if not data:
        raise Unreadable("it is empty")
    for beginning, words in _BEGINNINGS.items():
        if data.startswith(beginning):
            raise Unreadable(f"it is {words}")
    if len(data) <= size:
        return Text(data.removeprefix(_BOM), whole=True)
    last = size - 1
    while last and data[last] & 0xC0 == 0x80:  # within a character
        last -= 1
    return Text(data[:last].removeprefix(_BOM), whole=False)


def read_parquet(path: Path, rows: int) -> pa.Table:
    """Runs of rows, spread over a file. Only row groups that they lie in are read."""
    _check_parquet(path)
    try:
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
    except (pa.ArrowException, OSError) as error:
        raise _damaged(error) from None


def parquet_rows(path: Path) -> int:
    """How many rows a Parquet file says that it has."""
    _check_parquet(path)
    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(error) from None


def _check_parquet(path: Path) -> None:
    """Does it begin and end as Parquet does?"""
    with path.open("rb") as file:
        head = file.read(len(_PARQUET))
        size = file.seek(0, 2)
        file.seek(max(size - len(_PARQUET), 0))
        tail = file.read()
    if not head:
        raise Unreadable("it is empty")
    if head != _PARQUET:
        raise Unreadable("it is no Parquet file: it does not begin with PAR1")
    if tail != _PARQUET or size < 12:
        raise Unreadable(
            "it begins as Parquet and does not end so: it is cut off, or being written"
        )


def _damaged(error: Exception) -> Unreadable:
    return Unreadable(f"it begins and ends as Parquet, and is damaged between: {error}")


def _within(
    batch: pa.RecordBatch, start: int, wanted: Sequence[tuple[int, int]]
) -> list[pa.RecordBatch]:
    """What lies in the runs, of a batch whose first row is row `start`."""
    ends = [(max(first - start, 0), first + length - start) for first, length in wanted]
    return [batch.slice(low, high - low) for low, high in ends if low < min(high, len(batch))]
