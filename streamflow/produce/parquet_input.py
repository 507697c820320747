"""Parquet as an input: each row becomes a JSON object, read back by the contract as it was.

Times are ISO 8601, in UTC where the column has a zone and without one where it has none; decimals
are text, for a JSON number would be read as a float; floats that JSON lacks are the words `"NaN"`,
`"Infinity"` and `"-Infinity"`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamflow.core.json_values import FLOAT_WORDS
from streamflow.errors import SettingsError, StreamflowError
from streamflow.produce.chunk import Chunk

#: Rows that are in memory at once, of all columns.
BATCH_ROWS = 4096
#: Bytes of a column that are read at once, where a row group is larger.
BUFFER_BYTES = 1024 * 1024


class ParquetInput:
    """A Parquet file on a disk.

    Raises:
        SettingsError: it is no Parquet, a column's type has no form in JSON, or two columns have
            one name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = 0
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES)
        except (pa.ArrowException, OSError) as error:
            raise SettingsError(f"{path}: no Parquet that can be read: {error}") from error
        if twice := _twice(list(self._file.schema_arrow)):
            raise SettingsError(
                f"{path}: more than one column is named {' and '.join(map(repr, twice))}, and an "
                "object in JSON has each name once; rename them, or leave all but one out"
            )
        for column in self._file.schema_arrow:
            if (kind := _strange(column.type)) is not None:
                raise SettingsError(
                    f"{path}: column {column.name!r} is {kind}, which has no form in JSON; leave "
                    "it out, or cast it"
                )

    @property
    def name(self) -> str:
        """In messages."""
        return str(self._path)

    @property
    def taken(self) -> int:
        """The file's bytes, by how many of its rows were read."""
        return self._path.stat().st_size * self._done // max(1, self._file.metadata.num_rows)

    def where(self, place: int) -> str:
        """The row."""
        return f"{self.name}: row {place}"

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def chunks(self) -> Iterator[Chunk]:
        """The rows, row group by row group.

        Raises:
            StreamflowError: the file is damaged.
        """
        try:
            for batch in self._file.iter_batches(BATCH_ROWS):
                names = batch.schema.names
                cells = zip(*map(json_column, batch.columns), strict=True)
                rows = [dict(zip(names, row, strict=True)) for row in cells]
                first = self._done + 1
                self._done += batch.num_rows
                yield _chunk(rows, first)
        except (pa.ArrowException, OSError) as error:
            raise StreamflowError(f"{self.where(self._done + 1)}: damaged: {error}") from error


def _chunk(rows: list[dict[str, Any]], first: int) -> Chunk:
    places = list(range(first, first + len(rows)))
    try:
        return Chunk([orjson.dumps(row) for row in rows], places)
    except orjson.JSONEncodeError:  # a surrogate: a byte that is not UTF-8
        chunk = Chunk()
        for place, row in zip(places, rows, strict=True):
            chunk.add(place, *_document(row))
        return chunk


def _document(row: dict[str, Any]) -> tuple[bytes, str | None]:
    """The row as JSON; where it cannot be, with its bytes as they are, and why."""
    try:
        return orjson.dumps(row), None
    except orjson.JSONEncodeError:
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        why = "holds bytes that are not UTF-8, which JSON cannot hold"
        return text.encode("utf-8", "surrogateescape"), f"column {_not_utf8(row)!r} {why}"


def _not_utf8(row: dict[str, Any]) -> str:
    """The first column with a byte that is not."""
    for name, value in row.items():
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError:
            return name
    raise AssertionError("a row that is no JSON has a value that is none")


def json_column(column: pa.Array) -> list[Any]:
    """A column's values as JSON has them; bytes that are not UTF-8 as surrogates, as files' names
    have them in Python.
    """
    convert = next(
        (convert for is_kind, convert in _FORMS if is_kind(column.type)), pa.Array.to_pylist
    )
    return convert(column)


def _structs(column: pa.Array) -> list[Any]:
    parts = [json_column(child) for child in column.flatten()]
    names = [field.name for field in column.type]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]
    there = column.is_valid().to_pylist()
    return [row if is_there else None for row, is_there in zip(rows, there, strict=True)]


def _lists(column: pa.Array) -> list[Any]:
    items = iter(json_column(column.flatten()))
    lengths = pc.list_value_length(column).to_pylist()
    return [None if n is None else [next(items) for _ in range(n)] for n in lengths]


def _words(column: pa.Array) -> list[Any]:
    """As Arrow writes them."""
    return pc.cast(column, pa.string()).to_pylist()


def _decoded(column: pa.Array) -> list[Any]:
    values = column.to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]


def _texts(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # a file can say of any bytes that they are text
        return _decoded(pc.cast(column, pa.large_binary()))


def _floats(column: pa.Array) -> list[Any]:
    if pa.types.is_float16(column.type):
        column = pc.cast(column, pa.float32())
    values = column.to_pylist()
    for index in pc.indices_nonzero(pc.invert(pc.is_finite(column))).to_pylist():
        values[index] = FLOAT_WORDS[str(values[index])]
    return values


def _iso(times: pa.Array) -> list[Any]:
    """ISO 8601, in UTC where there is a zone, with no zeros at the end of its fraction."""
    if times.type.tz is not None:
        times = pc.cast(times, pa.timestamp(times.type.unit, "UTC"))
    text = pc.replace_substring(pc.cast(times, pa.string()), " ", "T", max_replacements=1)
    text = pc.replace_substring_regex(text, r"(\.[0-9]*?)0+(Z?)$", r"\1\2")
    return pc.replace_substring_regex(text, r"\.(Z?)$", r"\1").to_pylist()


def _twice(fields: Sequence[pa.Field], within: str = "") -> list[str]:
    """The names that several of the fields have, also within structs, once each and with dots."""
    names = [field.name for field in fields]
    found = [within + name for name in dict.fromkeys(names) if names.count(name) > 1]
    for field in fields:
        kind = field.type
        while pa.types.is_dictionary(kind) or _is_list(kind):
            kind = kind.value_type
        if pa.types.is_struct(kind):
            found += _twice(list(kind), f"{within}{field.name}.")
    return list(dict.fromkeys(found))


def _strange(kind: pa.DataType) -> str | None:
    """The type within this one that has no form in JSON; None if it has one."""
    if pa.types.is_dictionary(kind) or _is_list(kind):
        return _strange(kind.value_type)
    if pa.types.is_struct(kind):
        return next((strange for field in kind if (strange := _strange(field.type))), None)
    known = [
        *(is_kind for is_kind, _ in _FORMS),
        pa.types.is_null,
        pa.types.is_boolean,
        pa.types.is_integer,
    ]
    return None if any(is_kind(kind) for is_kind in known) else str(kind)


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


#: What Arrow's own Python values are not the form of.
_FORMS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], list[Any]]], ...] = (
    (pa.types.is_dictionary, lambda column: json_column(column.dictionary_decode())),
    (pa.types.is_struct, _structs),
    (_is_list, _lists),
    (pa.types.is_timestamp, _iso),
    (pa.types.is_decimal, _words),
    (pa.types.is_date, _words),
    (pa.types.is_time, _words),
    (_is_text, _texts),
    (_is_bytes, _decoded),
    (pa.types.is_floating, _floats),
)
