"""The first objects of lines of JSON, or of a document that is one array of objects."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import orjson
import pyarrow as pa
import pyarrow.json as pajson

from streamflow.cli.sample_files import READ_BYTES, Text, Unreadable, read_text
from streamflow.cli.sample_values import column_of, has_large_integer, kind_of_value
from streamflow.counted import counted

#: So many digits can be more than an integer of 64 bits has.
_LONG: Final = re.compile(rb"[0-9]{19}")
_NUMBER: Final = re.compile(rb"[-+0-9.eE]{1,24}")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class _Item:
    """A line that is not blank, or an element of an array, and where it is."""

    place: str
    data: bytes


class _NoObject(Exception):
    """An item is none; `beyond` says that it is, but for a number that is beyond a double."""

    def __init__(self, why: str, *, beyond: bool = False) -> None:
        self.beyond = beyond
        super().__init__(why)


def read_lines(path: Path, rows: int) -> tuple[pa.Table, list[str]]:
    """Up to so many objects as a table, and what is to be said of them.

    Raises `Unreadable` where there is no object that has a field.
    """
    text = read_text(path, READ_BYTES)
    items = _items(text, rows)
    if not items:
        raise Unreadable("there is no object to measure")
    table, notes = _read(items) or _mixed(items, text)
    if not table.num_columns:
        objects = counted(len(items), "object")
        raise Unreadable(f"there is no column to measure, in {objects} without a field")
    return table, notes


def _read(items: Sequence[_Item]) -> tuple[pa.Table, list[str]] | None:
    """What Arrow makes of them, which tells times from other texts; None where it cannot."""
    data = b"\n".join(item.data for item in items)
    # Of null it makes an object, and falls where that comes first.
    if not all(item.data.lstrip().startswith(b"{") for item in items):
        return None
    try:
        data.decode()  # it does not look
        options = pajson.ReadOptions(block_size=len(data))
        table = pajson.read_json(io.BytesIO(data), read_options=options)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    return _exact(table, items) if _LONG.search(data) else (table, [])


def _items(text: Text, rows: int) -> list[_Item]:
    """The first elements of an array, or else objects that take several lines each, or lines."""
    if text.data.lstrip().startswith(b"["):
        found = _elements(text, rows)
        if found is not None:
            return found
    lines = text.data.split(b"\n")
    if not text.whole and len(lines) > 1:
        lines.pop()  # it may go on
    items = [_Item(f"line {i:,}", line) for i, line in enumerate(lines, 1) if line.strip()][:rows]
    return (_spread(text, rows) if items and _begins(items[0]) else []) or items


def _begins(item: _Item) -> bool:
    """Does it look as if an object goes on in the next line?"""
    try:
        json.loads(item.data)
    except json.JSONDecodeError as error:
        return error.pos >= len(error.doc.rstrip()) and error.doc.lstrip().startswith("{")
    except UnicodeDecodeError:
        return False  # no text; whoever reads the line says so
    return False


def _spread(text: Text, rows: int) -> list[_Item]:
    """The first objects of a text without regard of lines; none where it is not made of them."""
    document = text.data.decode(errors="replace")
    found: list[_Item] = []
    at = _after_space(document, 0)
    try:
        while at < len(document) and len(found) < rows:
            _, end = _DECODER.raw_decode(document, at)
            found.append(_item("object", found, document[at:end]))
            at = _after_space(document, end)
    except json.JSONDecodeError:
        return [] if text.whole else found
    return found


def _elements(text: Text, rows: int) -> list[_Item] | None:
    """The first elements of a document that is one array; None for lines that are arrays."""
    text.check_utf_8()
    document = text.data.decode()
    found: list[_Item] = []
    at = _after_space(document, document.index("[") + 1)
    while len(found) < rows and document[at : at + 1] != "]":
        try:
            _, end = _DECODER.raw_decode(document, at)
            following = _after_space(document, end)
            if document[following : following + 1] not in (",", "]"):
                raise json.JSONDecodeError("no comma follows, and no ]", document, following)
        except json.JSONDecodeError as error:
            if found and not text.whole:
                return found
            place = f"line {error.lineno:,}, column {error.colno:,}"
            ends = "; does it end too early?" if error.pos >= len(document.rstrip()) else ""
            raise Unreadable(f"{place} of an array: {error.msg.lower()}{ends}") from None
        found.append(_item("element", found, document[at:end]))
        at = following
        if document[at] == ",":
            at = _after_space(document, at + 1)
    return None if document[at : at + 1] == "]" and document[at + 1 :].strip() else found


def _item(kind: str, before: Sequence[_Item], document: str) -> _Item:
    # Values hold no newline, which only stands between them.
    return _Item(f"{kind} {len(before) + 1:,}", document.replace("\n", " ").encode())


def _after_space(document: str, at: int) -> int:
    found = _SPACE.match(document, at)
    return found.end() if found else at


def _exact(table: pa.Table, items: Sequence[_Item]) -> tuple[pa.Table, list[str]]:
    """With integers that are larger than Arrow's reader has them, of which it makes doubles."""
    rounded = [one.name for one in table.schema if _has_double(one.type)]
    if not rounded:
        return table, []
    rows = [json.loads(item.data) for item in items]
    notes: list[str] = []
    for name in rounded:
        values = [row.get(name) for row in rows]
        if not any(map(has_large_integer, values)):
            continue
        if pa.types.is_floating(table.schema.field(name).type):
            column, said = column_of(name, values)
            table = table.set_column(table.schema.get_field_index(name), name, column)
            notes += said
        else:
            words = "integers beyond 64 bits: taken as double, of which 15 digits are exact"
            notes.append(f"{name} holds {words}")
    return table, notes


def _has_double(kind: pa.DataType) -> bool:
    if not pa.types.is_nested(kind):
        return pa.types.is_floating(kind)
    return any(_has_double(kind.field(i).type) for i in range(kind.num_fields))


def _mixed(items: Sequence[_Item], text: Text) -> tuple[pa.Table, list[str]]:
    """Items of which some are no JSON object, or give a field values of several types."""
    good: list[_Item] = []
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    beyond: list[str] = []
    for item in items:
        try:
            rows.append(_object(item))
        except _NoObject as error:
            (beyond if error.beyond else bad).append(str(error))
        else:
            good.append(item)
    if not good:
        text.check_utf_8()
        raise Unreadable(f"no JSON object can be read of it: {(beyond + bad)[0]}")
    of_all = f"of {counted(len(items), items[0].place.split()[0])}"
    notes = [*_passed_by(bad, of_all, "is", "are", "no JSON object")]
    notes += _passed_by(beyond, of_all, "has", "have", "a number beyond what a double holds")
    read = _read(good) if notes else None
    if read is not None:
        return read[0], [*notes, *read[1]]
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        columns[name], said = column_of(name, [row.get(name) for row in rows])
        notes += said
    return pa.table(columns), notes


def _passed_by(those: Sequence[str], of_all: str, one: str, many: str, what: str) -> Iterator[str]:
    if those:
        first = f"the first, {those[0]}" if len(those) > 1 else those[0]
        verb = one if len(those) == 1 else many
        yield f"{len(those):,} {of_all} {verb} {what} ({first}); passed by"


def _object(item: _Item) -> dict[str, Any]:
    """Raises `_NoObject`."""
    try:
        value = orjson.loads(item.data)
    except orjson.JSONDecodeError as error:
        place = f"{item.place}, column {error.colno:,}"
        number = _NUMBER.match(item.data, error.pos) if "infinity" in error.msg else None
        if number is not None:
            raise _NoObject(
                f"{place}: {number[0].decode()} is beyond a double", beyond=True
            ) from None
        raise _NoObject(f"{place}: {_reason(item.data, error.msg)}") from None
    if not isinstance(value, dict):
        raise _NoObject(f"{item.place} is a {kind_of_value(value)}".replace("a null", "null"))
    # orjson makes floats of integers beyond 64 bits.
    exact = json.loads(item.data) if _LONG.search(item.data) else value
    return cast("dict[str, Any]", exact)


def _reason(data: bytes, words: str) -> str:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return f"the byte 0x{data[error.start]:02x} is not UTF-8"
    return words
