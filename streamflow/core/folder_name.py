"""Names of Hive-style folders, `column=value`, and which values have one.

Names are escaped as Hive and Spark escape them. As there, null is `__HIVE_DEFAULT_PARTITION__`. The
empty text has no name of its own (Hive and Spark use that of null, so that it is null when it is
read), nor has what no file system takes for a name.
"""

from __future__ import annotations

import string

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.errors import SinkRefused

DEFAULT_PARTITION = "__HIVE_DEFAULT_PARTITION__"
MAX_NAME_BYTES = 255  # of one path component, on every usual file system

_ESCAPES = {
    code: f"%{code:02X}"
    for code in [*range(0x20), 0x7F, *map(ord, "\"#%'*/:=?\\{[]^")]
    if chr(code) not in string.ascii_letters
}


def names_a_folder(kind: pa.DataType) -> bool:
    """Can the values of such a column name folders?"""
    if pa.types.is_dictionary(kind):
        return names_a_folder(kind.value_type)
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_date,
    )
    return any(test(kind) for test in tests)


def component(column: str, value: str | None) -> str:
    """One folder name, `column=value`. Raises `SinkRefused` when no file system would take it."""
    name = _name(column, value or DEFAULT_PARTITION)
    if len(name.encode()) > MAX_NAME_BYTES:
        raise SinkRefused(
            f"partition value {str(value)[:40]!r}... of column {column!r} makes a folder name of"
            f" more than {MAX_NAME_BYTES} bytes; partition the table by another column"
        )
    return name


def has_name(column: str, values: pa.Array) -> pa.Array:
    """True where a text can be read back from the name of its folder, and where it is null."""
    sizes = pc.binary_length(values)
    bounds = pc.min_max(sizes).as_py()
    if bounds["max"] is None:
        return pa.repeat(pa.scalar(True), len(values))
    room = MAX_NAME_BYTES - len(_name(column, "").encode())
    if bounds["min"] > 0 and 3 * bounds["max"] <= min(room, 3 * len(DEFAULT_PARTITION) - 1):
        return pa.repeat(pa.scalar(True), len(values))
    coded = values.dictionary_encode()
    good = [
        value not in {"", DEFAULT_PARTITION} and len(_name("", value).encode()) - 1 <= room
        for value in coded.dictionary.to_pylist()
    ]
    return pc.fill_null(pa.array(good, pa.bool_()).take(coded.indices), True)


def _name(column: str, value: str) -> str:
    return f"{column.translate(_ESCAPES)}={value.translate(_ESCAPES)}"
