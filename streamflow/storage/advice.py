"""What in the layout of a data set would help its readers, with the numbers that say so.

A reader passes by a block of rows (a row group, a page) whose smallest and largest value leave out
what it looks for. How many blocks that spares is counted on the sample, in its order and in others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.file_layout import can_bloom
from streamflow.core.folder_name import names_a_folder
from streamflow.counted import counted
from streamflow.storage.profile import ColumnProfile
from streamflow.storage.queries import Access

#: The blocks that a sample is looked at in, and the values that are looked for.
BLOCKS: Final = 32
PROBES: Final = 16
#: A partition's files are to be this large at least, and there are at most so many partitions.
PARTITION_BYTES: Final = 16 * 1024 * 1024
PARTITIONS: Final = 1_000
#: Where statistics leave this share of the blocks to be read, they do not help.
MOST: Final = 0.5

Kind = Literal["partition", "sort", "bloom"]
Unit = Literal["day", "month"]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One thing to do, to columns in this order, and why; `unit` is what folders are of a time."""

    kind: Kind
    columns: tuple[str, ...]
    evidence: str
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Skipping:
    """The share of blocks that a look-up of one value reads: as they lie, and sorted by it."""

    now: float
    sorted: float


def advise(
    sample: pa.Table, profiles: Sequence[ColumnProfile], access: Access, total_bytes: int
) -> list[Suggestion]:
    """What would help queries that look for these columns, in a data set of so many bytes.

    Raises `KeyError` for a column that the data does not have.
    """
    flat = {profile.path: profile for profile in profiles if profile.path == profile.column}
    missing = [name for name in access.columns if name not in sample.column_names]
    if missing:
        raise KeyError(missing[0])
    wanted = [flat[name] for name in access.columns if name in flat]
    found = [_partition(sample[profile.path], profile, total_bytes) for profile in wanted]
    parts = [one.columns[0] for one in found if one is not None]
    sorting = [p for p in wanted if p.path not in parts]
    skips = {profile.path: skipping(sample[profile.path]) for profile in sorting}
    order = _order(sorting, skips)
    if order:
        found.append(_sort(sample, order, skips))
    found += [
        _bloom(profile, skips[profile.path])
        for profile in sorting
        if access.equal[profile.path]
        and profile.path not in order[:1]
        and can_bloom(sample.schema.field(profile.path).type)
    ]
    return [one for one in found if one is not None]


def remarks(
    sample: pa.Table,
    profiles: Sequence[ColumnProfile],
    access: Access,
    suggestions: Sequence[Suggestion],
) -> list[str]:
    """Why nothing is suggested for the other columns that are looked for, one sentence each."""
    helped = {name for one in suggestions for name in one.columns}
    constant = {profile.path for profile in profiles if profile.constant}
    return [
        f"{name}: {_remark(sample[name], name in constant)}"
        for name in access.columns
        if name not in helped
    ]


def _remark(column: pa.ChunkedArray, is_constant: bool) -> str:
    values = len(column) - column.null_count
    if not values:
        return "null in all rows of the sample, so nothing can be said of it"
    if pa.types.is_nested(column.type):
        return (
            f"it is {column.type}, by which readers pass nothing by; a column of its own would do"
        )
    if is_constant:
        return "one value only, so no order leaves any rows out"
    if values < BLOCKS:
        return f"{counted(values, 'value')} in the sample are too few to tell"
    skip = skipping(column)
    if skip is None:
        return f"it is {column.type}, which has no order here"
    found = f"a query for one value reads {skip.now:.0%} of the blocks as they lie"
    return found if skip.now <= MOST else f"{found}, and no order would help much"


def as_code(table: str, suggestions: Sequence[Suggestion]) -> str:
    """The table of a topology that is laid out as suggested."""
    options: list[str] = []
    for kind in ("partition", "sort", "bloom"):
        of_kind = [one for one in suggestions if one.kind == kind]
        columns = [
            f"{one.unit}({_quoted(name)})" if one.unit else _quoted(name)
            for one in of_kind
            for name in one.columns
        ]
        if columns:
            options.append(f"{kind}_by=[{', '.join(columns)}]")
    return f"parquet({', '.join([_quoted(table), *options])})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def skipping(column: pa.ChunkedArray) -> Skipping | None:
    """How many blocks a look-up of one value reads; None for what has no order."""
    values = column.drop_null()
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    try:
        ordered = values.take(pc.sort_indices(values))
        pc.min_max(values.slice(0, 1))
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return None
    if len(values) < BLOCKS:
        return None
    probes = [ordered[(2 * i + 1) * len(ordered) // (2 * PROBES)] for i in range(PROBES)]
    return Skipping(_read(values, probes), _read(ordered, probes))


def _read(values: pa.ChunkedArray, probes: Sequence[pa.Scalar]) -> float:
    size = -(-len(values) // BLOCKS)
    ends = [pc.min_max(values.slice(i, size)) for i in range(0, len(values), size)]
    low = pa.array([end["min"].as_py() for end in ends], values.type)
    high = pa.array([end["max"].as_py() for end in ends], values.type)
    hits = sum(
        pc.sum(pc.and_(pc.less_equal(low, probe), pc.greater_equal(high, probe))).as_py() or 0
        for probe in probes
    )
    return hits / (len(ends) * len(probes))


def _partition(
    column: pa.ChunkedArray, profile: ColumnProfile, total_bytes: int
) -> Suggestion | None:
    """A column with few values, each of which makes a folder of some size; or a time's days."""
    if pa.types.is_timestamp(column.type):
        return _periods(column, profile, total_bytes)
    distinct = profile.distinct or 0
    if distinct < 2 or not names_a_folder(column.type):
        return None
    repeated = distinct * 20 <= profile.values
    size = total_bytes // distinct
    if not repeated or distinct > PARTITIONS or size < PARTITION_BYTES:
        return None
    return Suggestion(
        "partition",
        (profile.path,),
        f"{distinct:,} values, so folders of about {size / 1e6:,.0f} MB; a query for one of them"
        f" opens 1 of {distinct:,}",
    )


def _periods(
    column: pa.ChunkedArray, profile: ColumnProfile, total_bytes: int
) -> Suggestion | None:
    """Days, or months, of which each makes a folder of some size, if rows are spread evenly."""
    ends = pc.min_max(column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()))
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if low is None:
        return None
    span = timedelta(microseconds=high - low)
    lengths: dict[Unit, timedelta] = {"day": timedelta(days=1), "month": timedelta(days=30)}
    for unit, length in lengths.items():
        count = -(-span // length)
        if 2 <= count <= PARTITIONS and total_bytes // count >= PARTITION_BYTES:
            return Suggestion(
                "partition",
                (profile.path,),
                f"about {count:,} {unit}s, so folders of about {total_bytes / count / 1e6:,.0f} MB;"
                f" a query for one of them opens 1 of {count:,}",
                unit,
            )
    return None


def _order(profiles: Sequence[ColumnProfile], skips: dict[str, Skipping | None]) -> list[str]:
    """Columns to sort by: those whose statistics do not help yet, few values first."""
    able = [
        profile
        for profile in profiles
        if (skip := skips[profile.path]) is not None and skip.now > 2 * skip.sorted
    ]
    return [p.path for p in sorted(able, key=lambda p: p.distinct or p.values)][:2]


def _sort(
    sample: pa.Table, order: Sequence[str], skips: dict[str, Skipping | None]
) -> Suggestion | None:
    """An order of rows; of its columns those that it really helps."""
    by = sample.take(pc.sort_indices(sample, [(name, "ascending") for name in order]))
    helped: dict[str, str] = {}
    for name in order:
        before, after = skips[name], skipping(by[name])
        if before is not None and after is not None and after.now <= before.now * MOST:
            helped[name] = (
                f"a query for one value of {name} reads {before.now:.0%} of the blocks as they lie,"
                f" {after.now:.0%} when sorted"
            )
    return Suggestion("sort", tuple(helped), "; ".join(helped.values())) if helped else None


def _bloom(profile: ColumnProfile, skip: Skipping | None) -> Suggestion | None:
    """Look-ups of a value that few rows have, where statistics leave most blocks to be read."""
    distinct = profile.distinct or 0
    if skip is None or skip.now < MOST or distinct < profile.values / 20:
        return None
    return Suggestion(
        "bloom",
        (profile.path,),
        f"{distinct:,} values in {profile.values:,} rows, and statistics leave {skip.now:.0%} of"
        " the blocks to be read; a Bloom filter of about 10 bits a value leaves 1 %",
    )
