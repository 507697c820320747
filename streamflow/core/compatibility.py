"""What a new version of a table's columns may change, field by field.

All files of a table stay, so a version is held against every earlier one. By the table's mode:

- `backward`: with the new columns all earlier rows can be read (new readers, old rows);
- `forward`: with the columns of every earlier version the new rows can be read (old readers);
- `full`: both;
- `none`: nothing is promised, and files of one column may have several types.

Rows can be read with other columns when each of these is in the rows, in a type whose every value
is one of the reader's type; or is not there and may be null. Nulls need a column that may be null.
The fields of structs are columns in this. What is read less is no obstacle.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from streamflow.destinations import Compatibility
from streamflow.former_names import field_name

PROMISES = {
    "backward": "with its newest columns all earlier rows can be read",
    "forward": "with its earlier columns all newer rows can be read",
    "full": "with the columns of any version the rows of any other can be read",
    "none": "nothing",
}
OTHER_NAME = "keep the type, and give the new values a field of another name"
#: Bits of the integers that a float of so many bits holds, all of them; digits of integers.
_MANTISSA = {16: 11, 32: 24, 64: 53}
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}


@dataclass(frozen=True, slots=True)
class Difference:
    """A column that may not be changed so."""

    column: str
    was: str
    now: str
    why: str
    todo: str

    def __str__(self) -> str:
        return f"{self.column}: was {self.was}, is {self.now}: {self.why}; {self.todo}"


def differences(old: pa.Schema, new: pa.Schema, mode: Compatibility) -> list[Difference]:
    """Why columns may not become these under this mode; in the order of the columns."""
    if mode == "none":
        return []
    names = list(dict.fromkeys([*new.names, *old.names]))
    found: list[Difference] = []
    for name in names:
        was, now = _field(old, name), _field(new, name)
        twins = [other for other in names if other.lower() == name.lower() and other != name]
        if was is None and twins:
            why = f"some readers, as DuckDB and Spark, take it for {twins[0]!r}, and others do not"
            todo = "give it a name that differs in more than case"
        else:
            why, todo = _why_not(was, now, mode), _todo(was, now) + _guess(was, now, old, new)
        if why is not None:
            found.append(Difference(name, _said(was), _said(now), why, todo))
    return found


def changes(old: pa.Schema, new: pa.Schema) -> list[str]:
    """What becomes of columns, in words: first of those that there are, then of those that go. A
    column whose field has another name now says so, too.
    """
    found: list[str] = []
    for field in new:
        was = _field(old, field.name)
        if was is None:
            found.append(f"{field.name!r} is added, {_said(field)}")
        elif _said(was) != _said(field):
            found.append(f"{field.name!r} becomes {_said(field)}, was {_said(was)}")
        elif field_name(was) != field_name(field):
            found.append(f"{field.name!r} is of field {field_name(field)!r} now")
    return found + [f"{name!r} is left out" for name in old.names if name not in new.names]


def log_differences(log: pa.Schema, new: pa.Schema, mode: Compatibility) -> list[Difference]:
    """Why a table whose log has columns, all of which may be null, cannot take these too."""
    found: list[Difference] = []
    for field in new:
        was = _field(log, field.name)
        if was is not None and str(was.type) != str(field.type):
            why = "a column of a Delta table keeps its type"
            found.append(Difference(field.name, _said(was), _said(field), why, OTHER_NAME))
        elif was is None and mode in ("backward", "full"):
            why = _why_not(None, field, mode)
            if why is not None:
                todo = _todo(None, field)
                found.append(Difference(field.name, _said(None), _said(field), why, todo))
    return found


def why_unreadable(reader: pa.Field | None, row: pa.Field | None) -> str | None:
    """Why rows with this column are not read by who expects that one; None when they are."""
    if reader is None:
        return None
    if row is None:
        return None if reader.nullable else "it is never null, and there are rows without it"
    if row.nullable and not reader.nullable:
        return "it is never null, and there are rows where it may be"
    return _why_other_type(reader.type, row.type)


def _why_other_type(reader: pa.DataType, row: pa.DataType) -> str | None:
    if reader == row or _holds(reader, row):
        return None
    if pt.is_list(reader) and pt.is_list(row):
        return _inside("its items", reader.value_field, row.value_field)
    if pt.is_map(reader) and pt.is_map(row) and reader.key_type == row.key_type:
        return _inside("its values", reader.item_field, row.item_field)
    if pt.is_struct(reader) and pt.is_struct(row):
        fields = [_inside(f"its {f.name!r}", f, _field(pa.schema(row), f.name)) for f in reader]
        return next((why for why in fields if why is not None), None)
    return f"not every {row} is a {reader}"


def _inside(what: str, reader: pa.Field, row: pa.Field | None) -> str | None:
    why = why_unreadable(reader, row)
    return None if why is None else f"of {what}, {why}"


def _holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    """Is every number of one type one of the other, which readers make of it by themselves?"""
    if pt.is_decimal128(wide) and pt.is_decimal128(narrow):
        room = wide.precision - wide.scale - (narrow.precision - narrow.scale)
        return room >= 0 and wide.scale >= narrow.scale
    if pt.is_floating(wide) and pt.is_floating(narrow):
        return wide.bit_width >= narrow.bit_width
    if not pt.is_integer(narrow):
        return False
    if pt.is_decimal128(wide):
        return wide.precision - wide.scale >= _DIGITS[narrow.bit_width]
    if pt.is_floating(wide):
        return _MANTISSA[wide.bit_width] >= narrow.bit_width
    if pt.is_integer(wide):
        signs = pt.is_signed_integer(wide), pt.is_signed_integer(narrow)
        larger = wide.bit_width > narrow.bit_width
        return larger and signs != (False, True)
    return False


def _why_not(old: pa.Field | None, new: pa.Field | None, mode: Compatibility) -> str | None:
    if mode in ("backward", "full"):
        why = why_unreadable(new, old)
        if why is not None:
            return f"with the new columns {why}"
    if mode in ("forward", "full"):
        why = why_unreadable(old, new)
        if why is not None:
            return f"with the earlier columns {why}"
    return None


def _todo(old: pa.Field | None, new: pa.Field | None) -> str:
    if old is None:
        return "let it be null (`... | None = None`)"
    if new is None:
        return "keep it"
    if str(old.type) != str(new.type):
        return OTHER_NAME
    return "let it be null, as before" if old.nullable else "let it never be null, as before"


def _guess(was: pa.Field | None, now: pa.Field | None, old: pa.Schema, new: pa.Schema) -> str:
    """What else to do, where one field may be the other one under a new name."""
    one = was or now
    if one is None or (was is not None and now is not None):
        return ""
    gone = [f.name for f in old if f.name not in new.names and f.type == one.type]
    came = [f.name for f in new if f.name not in old.names and f.type == one.type]
    if len(gone) != 1 or len(came) != 1:
        return ""
    mark = f"Annotated[..., formerly({gone[0]!r})]"
    return f", or if {came[0]!r} is the new name of {gone[0]!r}, declare it {mark}"


def _field(schema: pa.Schema, name: str) -> pa.Field | None:
    return schema.field(name) if name in schema.names else None


def _said(field: pa.Field | None) -> str:
    if field is None:
        return "not there"
    return f"{field.type}{'' if field.nullable else ', never null'}"
