"""CSV as an input: each row becomes a JSON object under the names of the header.

Nothing is inferred from the data, for then what a row becomes would depend on its neighbours. A
cell is text, exactly as written, and pydantic reads numbers, booleans and times from text; an
empty cell is null, unless it is quoted. Where the columns are declared, the cells of numbers,
booleans and lists that are written as JSON writes them stand there without quotes.

Arrow splits rows. It is given the bytes as if they were Latin-1, in which any bytes are text, since
it could not name a row that is not UTF-8; here they are turned back.

To Arrow the end of the file closes a quote that was left open, and an empty cell there is text. So
one more row is read behind the last, which has too many cells wherever it stands: where all quotes
are closed it comes back as it was, and else as the end of the row that left one open.
"""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from streamflow.counted import counted
from streamflow.errors import StreamflowError
from streamflow.produce.chunk import Chunk
from streamflow.produce.file import InputFile

#: Bytes that Arrow takes at once, and so the largest row.
BLOCK_BYTES = 4 * 1024 * 1024

#: Numbers and booleans as JSON writes them, of a size in which text and number are read alike.
_BARE: tuple[tuple[Callable[[pa.DataType], bool], str, Callable[[str], Any]], ...] = (
    (pa.types.is_integer, r"^-?(0|[1-9][0-9]{0,17})$", int),
    # Not by JSON's reader, to which -0 is an integer.
    (
        pa.types.is_floating,
        r"^-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,2})?$",
        float,
    ),
    (pa.types.is_boolean, r"^(true|false)$", "true".__eq__),
)


class CsvInput:
    """A CSV file with a header.

    Quoted cells may hold separators, newlines and doubled quotes. Rows whose cells are all empty,
    blank lines among them, are no records: spreadsheets write them.

    Args:
        file: What to read.
        types: Columns that are declared, by name.
        separator: What stands between cells.
    """

    def __init__(
        self, file: InputFile, types: Mapping[str, pa.DataType], separator: str = ","
    ) -> None:
        self._file = file
        self._types = types
        self._separator = separator

    @property
    def name(self) -> str:
        """In messages."""
        return self._file.name

    @property
    def taken(self) -> int:
        """Bytes of the file that were read."""
        return self._file.taken

    def where(self, place: int) -> str:
        """The line on which the row begins."""
        return f"{self.name}:{place}"

    def chunks(self) -> Iterator[Chunk]:
        """The rows, a block at a time.

        Raises:
            StreamflowError: there is no header, it names a column twice, or a row is too long.
        """
        blocks = _Blocks(self._file)
        header, line = self._header(blocks)
        if blocks.at_end():
            return
        wrong: deque[_Wrong] = deque()
        end = 'end"' + self._separator * (len(header) + 1)
        blocks.append_row(end.encode())

        def note(row: Any) -> str:
            text = row.text.encode("latin-1")
            wrong.append(_Wrong(row.number, text, row.actual_columns, row.expected_columns))
            return "skip"

        rows = _Rows(wrong, line)
        try:
            with self._reader(blocks, header, note) as reader:
                for batch in reader:
                    yield rows.merge(_documents(batch, header, self._types), _newlines(batch))
        except pa.ArrowInvalid as error:
            raise StreamflowError(
                f"{self.name}: after line {rows.line - 1}: {_why(error)}"
            ) from error
        yield rows.rest(blocks.appended)

    def _header(self, blocks: _Blocks) -> tuple[list[str], int]:
        """The names of the columns, and the line after them."""
        try:
            reader = csv.reader(blocks.lines(), delimiter=self._separator, strict=True)
            header = next(reader, None)
        except (UnicodeDecodeError, csv.Error) as error:
            raise StreamflowError(f"{self.name}:1: the header cannot be read: {error}") from error
        if not header:
            raise StreamflowError(f"{self.name}:1: no header; the first row names the columns")
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise StreamflowError(f"{self.name}:1: the header has {twice} more than once")
        return header, reader.line_num + 1

    def _reader(self, blocks: _Blocks, header: list[str], note: Any) -> Any:
        return pa_csv.open_csv(
            pa.PythonFile(blocks, mode="r"),
            read_options=pa_csv.ReadOptions(
                # One after the other, since only then Arrow counts the rows.
                use_threads=False,
                block_size=BLOCK_BYTES,
                column_names=header,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self._separator,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=note,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )


@dataclass(frozen=True)
class _Wrong:
    """A row that has not as many cells as the header."""

    number: int
    text: bytes
    cells: int
    wanted: int

    def __str__(self) -> str:
        return f"the row has {counted(self.cells, 'field')} and the header {self.wanted}"


class _Rows:
    """Puts rows in their order, of which Arrow gives the wrong ones apart, and counts lines."""

    def __init__(self, wrong: deque[_Wrong], line: int) -> None:
        self.line = line
        self._wrong = wrong
        self._number = 1

    def merge(self, documents: Iterable[bytes | str | None], newlines: Iterable[int]) -> Chunk:
        chunk = Chunk()
        for document, more in zip(documents, newlines, strict=True):
            while self._wrong and self._wrong[0].number == self._number:
                self._take_wrong(chunk)
            if isinstance(document, str):
                value = document.encode("utf-8", "surrogateescape")
                chunk.add(self.line, value, "the row is not UTF-8")
            elif document is not None:
                chunk.add(self.line, document)
            self._number += 1
            self.line += 1 + more
        return chunk

    def rest(self, appended: bytes) -> Chunk:
        """The wrong rows after the last good one, without what was appended to the file."""
        chunk = Chunk()
        while len(self._wrong) > 1:
            self._take_wrong(chunk)
        last = self._wrong.popleft().text
        if last != appended.lstrip(b"\n"):
            why = "a quote is opened here and never closed"
            chunk.add(self.line, last.removesuffix(appended), why)
        return chunk

    def _take_wrong(self, chunk: Chunk) -> None:
        wrong = self._wrong.popleft()
        chunk.add(self.line, wrong.text, str(wrong))
        self._number += 1
        self.line += 1 + wrong.text.count(b"\n")


class _Blocks(io.RawIOBase):
    """A file in Latin-1, as UTF-8, whose reads are as long as asked for: Arrow takes two short ones
    without the end of a row for a row that is too long. Only where one would end in a return it is
    one byte shorter: Arrow passes by a line feed that begins the next one, also inside of quotes.

    Attributes:
        appended: What was read behind the end of the file, once it was.
    """

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self._ahead = b""  # as in the file
        self._text = b""
        self._row = b""
        self._in_row = False
        self.appended = b""

    def append_row(self, row: bytes) -> None:
        """Read one row more than the file has, on a line of its own."""
        self._row = row

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        while len(self._text) < size and not self.at_end():
            data, self._ahead = self._ahead, b""
            data += self._file.read(size) or b""
            self._text += data.decode("latin-1").encode()
            self._in_row = not data.endswith((b"\n", b"\r"))
        if len(self._text) < size and not self.appended:
            self.appended = b"\n" * self._in_row + self._row
            self._text += self.appended
        block = self._text[:size]
        if len(block) == size > 1 and block.endswith(b"\r"):
            block = block[:-1]
        self._text = self._text[len(block) :]
        return block

    def at_end(self) -> bool:
        self._ahead = self._ahead or self._file.read(1) or b""
        return not self._ahead

    def lines(self) -> Iterator[str]:
        """Lines of text, nothing taken beyond the last that was asked for."""
        first = True
        while line := self._line():
            yield line.decode("utf-8-sig" if first else "utf-8")
            first = False

    def _line(self) -> bytes:
        parts: list[bytes] = []
        while data := self._ahead or self._file.read(4096) or b"":
            head, newline, self._ahead = data.partition(b"\n")
            parts += [head, newline]
            if newline or sum(map(len, parts)) > BLOCK_BYTES:
                break
        return b"".join(parts)


def _newlines(batch: pa.RecordBatch) -> list[int]:
    """How many each row has within its cells."""
    total = pa.repeat(pa.scalar(0, pa.int32()), batch.num_rows)
    for column in batch.columns:
        total = pc.add(total, pc.fill_null(pc.count_substring(column, "\n"), 0))
    return total.to_pylist()


def _documents(
    batch: pa.RecordBatch, names: list[str], types: Mapping[str, pa.DataType]
) -> Iterator[bytes | str | None]:
    """The JSON of each row: None where all cells are empty, text where one is not UTF-8."""
    columns = [_cells(c, types.get(n)) for n, c in zip(names, batch.columns, strict=True)]
    for cells in zip(*columns, strict=True):
        if cells.count(None) == len(cells):
            yield None
            continue
        row = dict(zip(names, cells, strict=True))
        try:
            yield orjson.dumps(row)
        except orjson.JSONEncodeError:  # a surrogate: a byte that is no UTF-8
            yield json.dumps(row, ensure_ascii=False, default=_read)


def _cells(column: pa.Array, kind: pa.DataType | None) -> list[Any]:
    """Text of the file's own bytes, or what JSON writes without quotes."""
    cells = column.to_pylist()
    for index, cell in enumerate(cells):
        if cell is not None and not cell.isascii():
            cells[index] = cell.encode("latin-1").decode("utf-8", "surrogateescape")
    if kind is None:
        return cells
    if pa.types.is_list(kind):
        return [cell if cell is None else _list_or_text(cell) for cell in cells]
    for has, pattern, read in _BARE:
        if has(kind):
            bare = pc.fill_null(pc.match_substring_regex(column, pattern), False)
            for index in pc.indices_nonzero(bare).to_pylist():
                cells[index] = read(cells[index])
    return cells


def _list_or_text(cell: str) -> Any:
    """A list as it is written, for its numbers may have more digits than Python's would keep."""
    try:
        value = orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell
    return orjson.Fragment(cell) if isinstance(value, list) else cell


def _read(written: orjson.Fragment) -> Any:
    return json.loads(orjson.dumps(written))


def _why(error: pa.ArrowInvalid) -> str:
    if "straddling" in str(error):
        return f"a row of more than {BLOCK_BYTES // 2**20} MB; is a quote left open?"
    return str(error)
