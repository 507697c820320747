"""How a Parquet file is written: values that a person, or a measured plan, has chosen.

They travel in cuts (`core/cut.py`), so that a file can be written again, equal byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from pydantic import ConfigDict

from streamflow.errors import TopologyError

Encoding = Literal[
    "PLAIN",
    "DICTIONARY",
    "DELTA_BINARY_PACKED",
    "DELTA_LENGTH_BYTE_ARRAY",
    "DELTA_BYTE_ARRAY",
    "BYTE_STREAM_SPLIT",
]
Compression = Literal["zstd", "lz4", "snappy", "none"]
Aim = Literal["balanced", "smallest", "fastest-read", "fastest-write"]
Storage = Literal["auto", "none", "balanced", "smallest", "fastest-read", "fastest-write"]
Writer = Literal["pyarrow-1", "pyarrow-2", "pyarrow-3"]

ENCODINGS: tuple[str, ...] = get_args(Encoding)
COMPRESSIONS: tuple[str, ...] = get_args(Compression)
STORAGES: tuple[str, ...] = get_args(Storage)
AIMS: tuple[Aim, ...] = get_args(Aim)
WRITERS: tuple[str, ...] = get_args(Writer)

#: Of a row group, where nothing else is said.
ROW_GROUP_ROWS: Final = 1 << 18

_FIRST = frozenset({"writer", "compression", "level", "row_group_rows"})
_SECOND = _FIRST | {"page_index", "columns"}
#: What the settings of each writer consist of: a version that knows it, and not the next one, reads
#: nothing else.
FIELDS: Final[dict[str, frozenset[str]]] = {
    "pyarrow-1": _FIRST,
    "pyarrow-2": _SECOND,
    "pyarrow-3": _SECOND | {"bloom"},
}


@dataclass(frozen=True, slots=True)
class ColumnSettings:
    """How one column is written.

    Attributes:
        path: Its path in the Parquet schema: the name, or `tags.list.element` within a list.
        encoding: Parquet's name of it; `DICTIONARY` goes over to `PLAIN` where a dictionary
            becomes too large.
        compression: The codec.
        level: Of zstd, 1 to 22; None where the codec has none.
    """

    path: str
    encoding: Encoding = "DICTIONARY"
    compression: Compression = "zstd"
    level: int | None = None

    # What a newer version adds has a meaning that this one would miss.
    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        _check(self, self.encoding in ENCODINGS, "encoding", self.encoding, ENCODINGS)
        _check_codec(self, self.compression, self.level)


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How a file is written.

    Attributes:
        writer: Names the meaning of the rest; another one is not executed. `pyarrow-3` is that of
            files whose rows are sorted, or that have Bloom filters.
        compression: The codec of columns that are not in `columns`, which have a dictionary.
        level: That codec's.
        row_group_rows: How many rows a row group has.
        page_index: Are there statistics of each page, by which readers skip pages?
        columns: Those that are written in a way of their own. Paths that a file lacks are ignored.
        bloom: Paths of columns that have a Bloom filter in each row group, sized by the values in
            it so that one of a hundred look-ups of a value that is not there reads it in vain.
    """

    writer: Writer = "pyarrow-2"
    compression: Compression = "zstd"
    level: int | None = None
    row_group_rows: int = ROW_GROUP_ROWS
    page_index: bool = True
    columns: tuple[ColumnSettings, ...] = ()
    bloom: tuple[str, ...] = ()

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        _check(self, self.writer in WRITERS, "writer", self.writer, WRITERS)
        _check_codec(self, self.compression, self.level)
        plain = self.writer != "pyarrow-1" or (self.page_index and not self.columns)
        _check(self, plain, "writer", self.writer, ("pyarrow-2, for columns of their own",))
        able = self.writer == "pyarrow-3" or not self.bloom
        _check(self, able, "writer", self.writer, ("pyarrow-3, for Bloom filters",))
        some = self.row_group_rows > 0
        _check(self, some, "row_group_rows", self.row_group_rows, ("a whole number above 0",))
        paths = [column.path for column in self.columns]
        twice = next((path for path in paths if paths.count(path) > 1), None)
        _check(self, twice is None, "columns", twice, ("each path once",))

    @property
    def by_path(self) -> dict[str, ColumnSettings]:
        """The columns by their path."""
        return {column.path: column for column in self.columns}


@dataclass(frozen=True, slots=True)
class FileLayout:
    """What a table declares of how its rows lie, besides what a plan measures.

    Attributes:
        sort_by: Columns that the rows of a file are sorted by, ascending, nulls last; rows that are
            equal there stay in the order of their topic.
        bloom_by: Columns that have Bloom filters.
        row_group_rows: How many rows a row group has; None for as many as the settings say, and
            fewer where rows are sorted or looked for.
        choose_folders: Is it left to the rows which column names folders?
    """

    sort_by: tuple[str, ...] = ()
    bloom_by: tuple[str, ...] = ()
    row_group_rows: int | None = None
    choose_folders: bool = False


AS_THEY_COME: Final = FileLayout()


def known_to(document: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON, without what came later than the writer that they name."""
    return {name: document[name] for name in document if name in FIELDS[document["writer"]]}


def _check_codec(where: object, compression: str, level: int | None) -> None:
    _check(where, compression in COMPRESSIONS, "compression", compression, COMPRESSIONS)
    if compression != "zstd":
        _check(where, level is None, "level", level, (f"None, {compression} has no levels",))
    elif level is not None:
        _check(where, 1 <= level <= 22, "level", level, ("1 to 22",))


def _check(where: object, good: bool, name: str, given: Any, known: tuple[str, ...]) -> None:
    if not good:
        kind = type(where).__name__
        raise TopologyError(f"{kind}: {name}={given!r}; it is {', '.join(known)}")


#: How files are written that no plan was made for, and all were by versions that had no plans.
UNPLANNED = WriterSettings("pyarrow-1", "zstd", 3)
