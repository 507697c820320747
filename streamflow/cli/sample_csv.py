"""The first rows of a CSV file, as text, and where in the file they are."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv

from streamflow.cli.sample_files import FIRST_BYTES, READ_BYTES, Text, Unreadable, read_text
from streamflow.counted import counted

#: What cells are separated by where the header has not what is said.
_OTHERS: Final = ";\t|"


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Rows of a file, whose columns are all text.

    Attributes:
        table: The rows.
        text: What they were read from.
        delimiter: What separates cells there.
        ragged: The numbers of the rows that are passed by since they have another number of cells
            than the header, the first row after it being 1.
        odd: How many cells the first of these has.
    """

    table: pa.Table
    text: Text
    delimiter: str
    ragged: Sequence[int]
    odd: int

    def place(self, index: int) -> str:
        """Where the row of this index begins in the file."""
        number = index + 1
        for other in self.ragged:
            number += other <= number
        return self._place(number)

    def notes(self) -> list[str]:
        """What is passed by."""
        if not self.ragged:
            return []
        rows = counted(self.table.num_rows + len(self.ragged), "row")
        verb = "has" if len(self.ragged) == 1 else "have"
        return [f"{len(self.ragged):,} of {rows} {verb} {self._other_cells()}; passed by"]

    def head(self, rows: int) -> Cells:
        """The first rows of them. Raises `Unreadable` where there are none."""
        if self.table.num_rows:
            # Before the ragged row of index i, there are so many others.
            ragged = [one for i, one in enumerate(self.ragged) if one - 1 - i < rows]
            table = self.table.slice(0, rows)
            return Cells(table, self.text, self.delimiter, ragged, self.odd)
        if not self.ragged:
            raise Unreadable("there is no row to measure, but a header")
        raise Unreadable(
            f"there is no row to measure: of {counted(len(self.ragged), 'row')} each has"
            f" {self._other_cells()}; cells are taken to be separated by {self.delimiter!r}"
        )

    def _other_cells(self) -> str:
        cells = counted(self.odd, "cell")
        return (
            "another number of cells than the header, which has"
            f" {self.table.num_columns:,}: {self._place(self.ragged[0])} has {cells}"
        )

    def _place(self, number: int) -> str:
        """Where a row begins, of those that are not blank, the first after the header being 1."""
        file = io.StringIO(self.text.data.decode(errors="replace"), newline="")
        reader = csv.reader(file, delimiter=self.delimiter)
        line = 0
        try:
            for row in reader:
                number -= bool(row)
                if number < 0:
                    break
                line = reader.line_num
        except csv.Error:  # a cell is larger than it takes
            return f"a row after line {line:,}"
        return f"line {line + 1:,}"


def read_csv(path: Path, rows: int, delimiter: str) -> Cells:
    """Up to so many first rows.

    Raises:
        Unreadable: it has none, is no UTF-8, names two columns alike, or leaves a quote open.
    """
    text = read_text(path, FIRST_BYTES)
    cells = _parsed(text, delimiter)
    if not text.whole and cells.table.num_rows < rows:
        text = read_text(path, READ_BYTES)
        cells = _parsed(text, delimiter)
        if not text.whole and cells.table.num_rows < rows:
            _check_quotes(text, cells.delimiter)
    return cells.head(rows)


def _parsed(text: Text, delimiter: str) -> Cells:
    text.check_utf_8()
    delimiter = _delimiter(text.data.partition(b"\n")[0], delimiter)
    # Quotes within cells are doubled, and so many that one is left has seldom another reason.
    if text.whole and text.data.count(b'"') % 2:
        _check_quotes(text, delimiter)
    names, start = _header(text, delimiter)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Unreadable(f"two of its columns are named {twice!r}")
    ragged: list[Any] = []

    def passed_by(row: Any) -> str:
        ragged.append(row)
        return "skip"

    texts = dict.fromkeys(names, pa.string())
    rest = text.data[start:]
    if not rest:
        return Cells(pa.schema(texts.items()).empty_table(), text, delimiter, [], 0)
    table = pacsv.read_csv(
        pa.py_buffer(rest),
        # Only by one thread rows are numbered, and only of one block each is whole.
        pacsv.ReadOptions(use_threads=False, block_size=len(rest), column_names=names),
        pacsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=passed_by
        ),
        pacsv.ConvertOptions(column_types=texts, strings_can_be_null=True),
    )
    if not text.whole:  # the last row may go on
        if ragged and ragged[-1].number == table.num_rows + len(ragged):
            ragged.pop()
        else:
            table = table.slice(0, max(table.num_rows - 1, 0))
    odd = ragged[0].actual_columns if ragged else 0
    return Cells(table, text, delimiter, [row.number for row in ragged], odd)


def _delimiter(header: bytes, delimiter: str) -> str:
    """The one that is said, or what the header has in its place."""
    found = max(_OTHERS, key=lambda other: header.count(other.encode()))
    return found if delimiter.encode() not in header and found.encode() in header else delimiter


def _header(text: Text, delimiter: str) -> tuple[list[str], int]:
    """The names of the columns, and how many bytes they and what precedes them take."""
    taken = 0

    def lines() -> Any:
        nonlocal taken
        for line in io.StringIO(text.data.decode(), newline=""):
            taken += len(line.encode())
            yield line

    try:
        for names in csv.reader(lines(), delimiter=delimiter, strict=True):
            if names:
                return names, taken
    except csv.Error as error:
        raise Unreadable(f"its header cannot be read: {error}") from None
    raise Unreadable("it has no header: all of its lines are blank")


def _check_quotes(text: Text, delimiter: str) -> None:
    """Raises `Unreadable` where the last quote is not closed."""
    cell = rf'(?:\A|(?<=[{re.escape(delimiter)}\r\n]))"(?:[^"]++|"")*+("?)'
    last = deque(re.finditer(cell.encode(), text.data), maxlen=1)
    if not last or last[0][1]:
        return
    opened = last[0].start()
    if text.whole:
        raise Unreadable(f"{text.place(opened)}: a quote is opened here and never closed")
    if len(text.data) - opened > FIRST_BYTES:
        much = f"{(len(text.data) - opened) >> 20:,} MiB"
        raise Unreadable(f"{text.place(opened)}: a quote is opened here and not closed in {much}")
