"""Which column names the folders of a table, chosen from its first rows by cardinality and size.

A roll makes a file of each value that is in it. So the question is not how many values a column has
for ever, but how large files are when the rows of one roll are divided by it: a column fits whose
files are a fair part of the target, and whose rows are not nearly all of one value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, TypeAdapter, ValidationError

from streamflow.counted import counted
from streamflow.errors import SinkRefused

FORMAT: Final = 1
#: The private name of the choice beside a table.
NAME: Final = "folders.json"
#: Of fewer rows nothing can be learned.
MIN_ROWS: Final = 1_000
#: Files are to be this part of the target size at least.
PART: Final = 8
#: A value with a larger share of the rows makes the other folders hardly worth a look.
LARGEST: Final = 0.9


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column that could name folders: how many values it has, null included; the share of the
    most frequent one; the bytes of a file, in the mean; and what was said of it.
    """

    column: str
    values: int
    largest: float
    file_bytes: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Folders:
    """What names the folders of a table, with the numbers that were measured of one roll.

    Attributes:
        partition_by: The columns; none: files lie in the table itself.
        reason: Why it was settled.
        rows: How many the roll had.
        bytes: Its encoded bytes, and with them the target's: `target_bytes`.
        columns: What was looked at.
    """

    partition_by: tuple[str, ...]
    reason: str
    rows: int = 0
    bytes: int = 0
    target_bytes: int = 0
    columns: tuple[Candidate, ...] = ()

    # What a newer version adds has a meaning that this one would miss.
    __pydantic_config__ = ConfigDict(extra="forbid")


_FOLDERS = TypeAdapter(Folders)


def choose_folders(rows: pa.Table, nbytes: int, target_bytes: int) -> Folders:
    """Of the columns in `rows`, all of which may name folders, the one that fits best, if any: a
    date, since days that are over are left alone, else the one with the most values.
    """
    count = rows.num_rows
    if count < MIN_ROWS:
        reason = f"first rows, of which {count:,} are too few to tell"
        return Folders((), reason, count, nbytes, target_bytes)
    found = [_looked_at(rows, name, nbytes, target_bytes) for name in rows.column_names]
    fitting = [one for one in found if not one.verdict]
    best = max(
        fitting,
        key=lambda one: (pa.types.is_date(rows.schema.field(one.column).type), one.values),
        default=None,
    )
    told = tuple(_told(one, best) for one in found)
    chosen = () if best is None else (best.column,)
    return Folders(chosen, "first rows", count, nbytes, target_bytes, told)


def encode_folders(folders: Folders) -> bytes:
    """Its JSON."""
    return orjson.dumps({"format": FORMAT, **_FOLDERS.dump_python(folders, mode="json")})


def decode_folders(data: bytes) -> Folders:
    """Raises `SinkRefused` where it cannot be read: files would come to lie elsewhere."""
    try:
        document: dict[str, Any] = orjson.loads(data)
        found = document.pop("format", None)
        if found != FORMAT:
            raise ValueError(f"its format is {found!r}, this version knows {FORMAT}")
        return _FOLDERS.validate_json(orjson.dumps(document), strict=True)
    except (ValidationError, AttributeError, TypeError, ValueError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise SinkRefused(
            f"{NAME} beside the table, which says what names its folders, cannot be read: {said};"
            " restore it from a backup"
        ) from None


def folder_lines(folders: Folders) -> Sequence[str]:
    """What was chosen, and why, for people."""
    by = (
        f"in folders by {', '.join(folders.partition_by)}" if folders.partition_by else "no folders"
    )
    of = f" of {counted(folders.rows, 'row')}" if folders.rows else ""
    told = [
        f"  {one.column}: {counted(one.values, 'value')}, files of about {one.file_bytes:,} bytes:"
        f" {one.verdict}"
        for one in folders.columns
    ]
    return [f"{by} ({folders.reason}{of})", *told]


def _looked_at(rows: pa.Table, name: str, nbytes: int, target_bytes: int) -> Candidate:
    counts: Any = pc.value_counts(rows[name].combine_chunks())
    values = len(counts)
    largest = pc.max(counts.field("counts")).as_py() / rows.num_rows
    size = nbytes // values
    is_date = pa.types.is_date(rows.schema.field(name).type)
    if size < target_bytes // PART:
        verdict = f"smaller than an eighth of the target of {target_bytes:,}"
    elif largest > LARGEST and not is_date:
        verdict = f"{largest:.0%} of the rows have one value"
    else:
        verdict = ""
    return Candidate(name, values, round(largest, 4), size, verdict)


def _told(one: Candidate, best: Candidate | None) -> Candidate:
    if one.verdict or best is None:
        return one
    verdict = "chosen" if one is best else f"{best.column} tells more apart"
    return Candidate(one.column, one.values, one.largest, one.file_bytes, verdict)
