"""Parquet as an input: each row becomes a JSON object, read back by the contract as it was.

Times are ISO 8601, in UTC where the column has a zone and without one where it has none; decimals
are text, for a JSON number would be read as a float; floats that JSON lacks are the words `"NaN"`,
`"Infinity"` and `"-Infinity"`.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        SettingsError: it is no Parquet, or a column's type has no form in JSON.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = 0
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES)
        except (pa.ArrowException, OSError) as error:
            raise SettingsError(f"{path}: no Parquet that can be read: {error}") from error
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
            StreamflowError: the file is damaged, or a text in it is not UTF-8.
        """
        try:
            for batch in self._file.iter_batches(BATCH_ROWS):
                names = batch.schema.names
                rows = zip(*[self._column(batch, name) for name in names], strict=True)
                values = [orjson.dumps(dict(zip(names, row, strict=True))) for row in rows]
                first = self._done + 1
                self._done += batch.num_rows
                yield Chunk(values, list(range(first, first + len(values))))
        except (pa.ArrowException, OSError) as error:
            raise StreamflowError(f"{self.where(self._done + 1)}: damaged: {error}") from error

    def _column(self, batch: pa.RecordBatch, name: str) -> list[Any]:
        try:
            return json_column(batch.column(name))
        except UnicodeDecodeError as error:
            raise StreamflowError(
                f"{self.where(self._done + 1)} to {self._done + batch.num_rows}: column {name!r} "
                f"holds bytes that are not UTF-8, which JSON cannot hold: {error}"
            ) from error


def json_column(column: pa.Array) -> list[Any]:
    """A column's values as JSON has them. Raises `UnicodeDecodeError`: a text is not UTF-8."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return json_column(column.dictionary_decode())
    if pa.types.is_struct(kind):
        parts = [json_column(child) for child in column.flatten()]
        names = [field.name for field in kind]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]
        return [r if is_there else None for r, is_there in zip(rows, _there(column), strict=True)]
    if _is_list(kind):
        items = iter(json_column(column.flatten()))
        lengths = pc.list_value_length(column).to_pylist()
        return [None if n is None else [next(items) for _ in range(n)] for n in lengths]
    if pa.types.is_timestamp(kind):
        return _iso(column).to_pylist()
    if pa.types.is_decimal(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        return pc.cast(column, pa.string()).to_pylist()
    if _is_bytes(kind):
        return [None if value is None else value.decode() for value in column.to_pylist()]
    if pa.types.is_float16(kind):
        return json_column(pc.cast(column, pa.float32()))
    values = column.to_pylist()
    if pa.types.is_floating(kind):
        for index in pc.indices_nonzero(pc.invert(pc.is_finite(column))).to_pylist():
            values[index] = FLOAT_WORDS[str(values[index])]
    return values


def _iso(times: pa.Array) -> pa.Array:
    """ISO 8601, in UTC where there is a zone, with no zeros at the end of its fraction."""
    if times.type.tz is not None:
        times = pc.cast(times, pa.timestamp(times.type.unit, "UTC"))
    text = pc.replace_substring(pc.cast(times, pa.string()), " ", "T", max_replacements=1)
    text = pc.replace_substring_regex(text, r"(\.[0-9]*?)0+(Z?)$", r"\1\2")
    return pc.replace_substring_regex(text, r"\.(Z?)$", r"\1")


def _there(column: pa.Array) -> list[bool]:
    return column.is_valid().to_pylist()


def _strange(kind: pa.DataType) -> str | None:
    """The type within this one that has no form in JSON; None if it has one."""
    if pa.types.is_dictionary(kind) or _is_list(kind):
        return _strange(kind.value_type)
    if pa.types.is_struct(kind):
        return next((strange for field in kind if (strange := _strange(field.type))), None)
    known = (
        pa.types.is_null,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        _is_bytes,
        pa.types.is_timestamp,
        pa.types.is_date,
        pa.types.is_time,
    )
    return None if any(is_kind(kind) for is_kind in known) else str(kind)


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
