"""From rows to the bytes of a Parquet file, as a function of the rows and written-down settings.

Settings travel in the cut, so that a file can be written again after a crash whatever the settings
are by then. Timestamps stay in microseconds, adjusted to UTC, which Spark, DuckDB and Athena read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamflow.writer_settings import ColumnSettings, WriterSettings

FOOTER_PREFIX = "streamflow."
#: Of the look-ups of a value that is not in a row group, so many read it in vain.
BLOOM_FPP = 0.01

#: A column, or a field of a struct in it, by the names that lead there.
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeafColumn:
    """A column as Parquet has it: the fields of structs, lists and maps are columns of their own.

    `physical` is Parquet's type of it. Settings name leaves by path; where a path could be two, as
    of a field `a.b` beside a struct `a`, it is not `named`.
    """

    path: str
    physical: str
    named: bool


def leaf_columns(schema: pa.Schema) -> list[LeafColumn]:
    """The leaves of a schema, in order."""
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, schema):
        pass
    leaves: Any = pq.read_metadata(pa.BufferReader(stream.getvalue())).schema
    found = [leaves.column(i) for i in range(len(leaves))]
    times = Counter(leaf.path for leaf in found)
    return [LeafColumn(leaf.path, leaf.physical_type, times[leaf.path] == 1) for leaf in found]


def encode_parquet(
    rows: pa.Table,
    settings: WriterSettings,
    footer: Mapping[str, str],
    sort: Sequence[str] = (),
) -> pa.Buffer:
    """The bytes of a file of these rows, with `footer` as key/value metadata `streamflow.*`.

    `sort` names the columns that they are sorted by already, so that the file says it.

    Raises `pa.ArrowException` where a column cannot have the encoding that the settings name.
    """
    stream = pa.BufferOutputStream()
    step = settings.row_group_rows

    def groups(names: Sequence[str]) -> Iterable[pa.Table]:
        some = rows.select(names)
        return (some.slice(start, step) for start in range(0, rows.num_rows, step))

    inside = looked_into(Inside(rows.schema, settings, tuple(sort)), groups)
    write_parquet(stream, inside, [rows], footer)
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Inside:
    """How a file is made: its columns, the settings, what its rows are sorted by already, of
    columns with a Bloom filter how many values a row group has at the most, and which floats are
    `wild`: they have a NaN, which has no place between a smallest and a largest value.
    """

    schema: pa.Schema
    settings: WriterSettings
    sort: tuple[str, ...] = ()
    distinct: Mapping[str, int] = field(default_factory=dict[str, int])
    wild: frozenset[Path] = frozenset()


def looked_into(inside: Inside, groups: Callable[[Sequence[str]], Iterable[pa.Table]]) -> Inside:
    """The same with what the rows tell: some columns of all row groups are gone through for it."""
    bloom = [name for name in inside.settings.bloom if name in inside.schema.names]
    floats = [path for field in inside.schema for path in _floats_in(field.type, (field.name,))]
    most, wild = dict.fromkeys(bloom, 1), set[Path]()
    names = dict.fromkeys((*bloom, *(path[0] for path in floats)))
    for rows in groups([*names]) if names else ():
        for name in bloom:
            most[name] = max(pc.count_distinct(rows[name]).as_py(), most[name])
        wild |= {path for path in floats if path not in wild and _has_nan(rows, path)}
    return replace(inside, distinct=most, wild=frozenset(wild))


def _floats_in(kind: pa.DataType, path: Path) -> Iterator[Path]:
    """The floats of a column, also in structs; in lists and maps no reader looks for one."""
    if pa.types.is_floating(kind):
        yield path
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _floats_in(field.type, (*path, field.name))


def _has_nan(rows: pa.Table, path: Path) -> bool:
    column = rows[path[0]]
    found = pc.struct_field(column, list(path[1:])) if path[1:] else column
    return bool(pc.any(pc.is_nan(found)).as_py())


def write_parquet(
    stream: pa.NativeFile, inside: Inside, tables: Iterable[pa.Table], footer: Mapping[str, str]
) -> pq.FileMetaData:
    """Write a file of the rows of all `tables`, row group by row group; returns its metadata.

    Its bytes are those of `encode_parquet` where each table but the last is one full row group.
    """
    metadata = {FOOTER_PREFIX + key: value for key, value in footer.items()}
    schema, settings = inside.schema, inside.settings
    with pq.ParquetWriter(
        stream,
        schema,
        version="2.6",
        **_statistics(inside),
        write_page_index=settings.page_index,
        **_options(schema, settings),
        **_sorting(schema, inside.sort),
        **_bloom(inside),
    ) as writer:
        for rows in tables:
            writer.write_table(rows, row_group_size=settings.row_group_rows)
            del rows  # while the next ones are made
        if metadata:
            writer.add_key_value_metadata(metadata)
    inner: Any = writer
    return inner.writer.metadata


def why_not(schema: pa.Schema, settings: WriterSettings) -> str | None:
    """Why rows of this schema cannot be written so and read again; None when they can."""
    fields = [pa.field(field.name, _with_nulls(field.type)) for field in schema]
    nulls = [pa.nulls(1, field.type) for field in fields]
    try:
        data = encode_parquet(pa.table(nulls, pa.schema(fields)), settings, {})
        pq.read_table(pa.BufferReader(data))
    except (OSError, pa.ArrowException) as error:
        return str(error)
    return None


def _with_nulls(kind: pa.DataType) -> pa.DataType:
    """The type where the fields of structs may be null too: those of a struct that is null are."""
    if not pa.types.is_struct(kind):
        return kind
    return pa.struct([pa.field(field.name, _with_nulls(field.type)) for field in kind])


def _sorting(schema: pa.Schema, sort: Sequence[str]) -> dict[str, Any]:
    if not sort:
        return {}
    places = {leaf.path: i for i, leaf in enumerate(leaf_columns(schema))}
    return {"sorting_columns": [pq.SortingColumn(places[name]) for name in sort]}


def _statistics(inside: Inside) -> dict[str, Any]:
    """The leaves that have some. Readers pass a row group over by its largest value, though it has
    a NaN, which DuckDB and others take for larger; so a leaf with one has none.
    """
    if not inside.wild:
        return {"write_statistics": True}
    wild = {".".join(path) for path in inside.wild}
    some = [leaf.path for leaf in leaf_columns(inside.schema) if leaf.path not in wild]
    return {"write_statistics": some or False}


def _bloom(inside: Inside) -> dict[str, Any]:
    """Filters for the columns that there are, sized by the row group with the most values."""
    options = {
        name: {"ndv": inside.distinct.get(name, 1), "fpp": BLOOM_FPP}
        for name in inside.settings.bloom
        if name in inside.schema.names
    }
    return {"bloom_filter_options": options} if options else {}


def _options(schema: pa.Schema, settings: WriterSettings) -> dict[str, Any]:
    """The settings as pyarrow takes them: for each column, as soon as it is for one."""
    if not settings.columns:
        return {
            "compression": settings.compression,
            "compression_level": settings.level,
            "use_dictionary": True,
        }
    known = settings.by_path
    columns = [
        (known if leaf.named else {}).get(leaf.path)
        or ColumnSettings(leaf.path, "DICTIONARY", settings.compression, settings.level)
        for leaf in leaf_columns(schema)
    ]
    return {
        "compression": {column.path: column.compression for column in columns},
        "compression_level": {c.path: c.level for c in columns if c.level is not None} or None,
        "use_dictionary": [c.path for c in columns if c.encoding == "DICTIONARY"] or False,
        "column_encoding": {c.path: c.encoding for c in columns if c.encoding != "DICTIONARY"},
    }
