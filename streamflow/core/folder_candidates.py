"""Which columns of a table may come to name its folders, where that is chosen from its rows.

Every value that can ever come has to name a folder then: whole numbers, truth values and dates do,
and texts of a choice or of a bounded length. Of other texts nobody knows, and once rows are
committed there is no way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa
from pydantic.errors import PydanticUserError

from streamflow.core.closing import can_change
from streamflow.core.folder_name import DEFAULT_PARTITION, MAX_NAME_BYTES, names_a_folder
from streamflow.stream import Stream

if TYPE_CHECKING:
    from streamflow.archives import Archive
    from streamflow.checking import Checks
    from streamflow.quality import Quality
    from streamflow.results import Results

#: The longest text that may name a folder: shorter than the name of null, and with room.
LONGEST: Final = len(DEFAULT_PARTITION) - 1


def folder_candidates(
    origin: Stream | Results | Checks | Quality | Archive,
    columns: Iterable[pa.Field],
    renamed: Mapping[str, str],
    taken: Iterable[str],
) -> tuple[str, ...]:
    """The columns of the rows of `origin` that may name folders; `taken` are in the files."""
    texts = set(_bounded_texts(origin))
    able = (
        column.name
        for column in columns
        if not column.name.startswith("_")  # where a row comes from says nothing of its readers
        and names_a_folder(column.type)
        and (not is_text(column.type) or renamed.get(column.name, column.name) in texts)
    )
    return tuple(name for name in able if name not in set(taken))


def is_text(kind: pa.DataType) -> bool:
    """Is it text, of which not every value names a folder?"""
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
    )


def _bounded_texts(origin: object) -> Iterator[str]:
    """Fields of the records of which every value names a folder, as the contract has it. Of what a
    function or an aggregate makes it says nothing.
    """
    if not isinstance(origin, Stream):
        return
    try:
        schema = origin.source.contract.model.model_json_schema(by_alias=False)
    except PydanticUserError:  # of a type that JSON Schema has no word for
        return
    for name, field in schema.get("properties", {}).items():
        changed = any(can_change(stage, name) for stage in origin.stages)
        if not changed and _is_bounded(name, field, schema.get("$defs", {})):
            yield name


def _is_bounded(name: str, field: dict[str, Any], definitions: Mapping[str, Any]) -> bool:
    if "$ref" in field:
        return _is_bounded(name, definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in field:
        some = [one for one in field["anyOf"] if one.get("type") != "null"]
        return all(_is_bounded(name, one, definitions) for one in some)
    choice = cast("list[Any]", [field["const"]] if "const" in field else field.get("enum", []))
    if choice:
        return all(_names_one(name, value) for value in choice)
    bounded = field.get("minLength", 0) >= 1 and field.get("maxLength", LONGEST + 1) <= LONGEST
    return bounded and _has_room(name)


def _names_one(name: str, value: object) -> bool:
    known = isinstance(value, str) and value not in {"", DEFAULT_PARTITION}
    return known and len(str(value)) <= LONGEST and _has_room(name)


def _has_room(name: str) -> bool:
    """Is there room for four bytes of each letter, beside the name with all of it escaped?"""
    return 3 * len(name.encode()) + 1 + 4 * LONGEST <= MAX_NAME_BYTES
