"""Opens an input in the format that its name ends in, or that was said."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from streamflow.errors import SettingsError
from streamflow.produce.chunk import Input
from streamflow.produce.csv_input import CsvInput
from streamflow.produce.file import InputFile, why_not
from streamflow.produce.lines import LineInput
from streamflow.produce.parquet_input import ParquetInput

Format = Literal["lines", "csv", "tsv", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
ENDINGS: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
PACKED = {".gz", ".gzip", ".zst", ".zstd"}
STDIN = Path("-")


def format_of(path: Path) -> Format:
    """What the file's name says; lines of JSON where it says nothing."""
    ends = [end.lower() for end in path.suffixes]
    while ends and ends[-1] in PACKED:
        ends.pop()
    return ENDINGS.get(ends[-1], "lines") if ends else "lines"


def open_input(
    path: Path,
    stack: ExitStack,
    *,
    format: Format | None = None,  # noqa: A002
    types: Mapping[str, pa.DataType] | None = None,
) -> Input:
    """An input, which the stack closes.

    Args:
        path: A file, a pipe, or `-` for standard input.
        stack: What closes it.
        format: Its format; by the name's ending if None.
        types: What is known of the columns of a CSV.

    Raises:
        SettingsError: it cannot be read, in words.
    """
    chosen = format or format_of(path)
    if path != STDIN and (refused := why_not(path)):
        raise SettingsError(refused)
    if chosen == "parquet":
        return _parquet(path, stack)
    file = _stdin() if path == STDIN else _file(path, stack)
    if chosen == "lines":
        return LineInput(file)
    return CsvInput(file, types or {}, separator="\t" if chosen == "tsv" else ",")


def _parquet(path: Path, stack: ExitStack) -> Input:
    if not path.is_file():
        raise SettingsError(
            f"{path}: Parquet is read from its end, which a pipe has not; give it as a file"
        )
    opened = ParquetInput(path)
    stack.callback(opened.close)
    return opened


def _file(path: Path, stack: ExitStack) -> InputFile:
    file = InputFile(str(path), stack.enter_context(path.open("rb", buffering=0)).read)
    if path.is_file():  # a pipe would keep the others waiting
        file.look()
    return file


def _stdin() -> InputFile:
    # Unbuffered: a reader that waits in a buffer's lock would abort Python when Ctrl-C ends it.
    stdin: Any = sys.stdin.buffer
    return InputFile("stdin", getattr(stdin, "raw", stdin).read)
