"""Samples of data sets as they lie in files: Parquet, CSV and lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from streamflow.cli.sample_csv import Cells, read_csv
from streamflow.cli.sample_files import KINDS, Unreadable, kind_of, parquet_rows, read_parquet
from streamflow.cli.sample_folders import folder_values
from streamflow.cli.sample_lines import read_lines
from streamflow.cli.sample_types import guessed, said_types
from streamflow.counted import counted
from streamflow.destinations import PRIVATE
from streamflow.errors import SettingsError

#: Files that are looked into, spread over all there are.
FILES = 8
#: Of files that are passed by, and of tables, so many are named.
NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some rows of a data set, how many files it has, and their bytes.

    Attributes:
        table: The rows, without the columns that folders name.
        files: How many files there are.
        bytes: Theirs.
        rows: How many rows there are in all, where that is known without reading them.
        folders: The different values of the columns that folders name.
        guessed: The types of columns of CSV that nobody has said.
        notes: What was passed by, or taken for something else, in words.
    """

    table: pa.Table
    files: int
    bytes: int
    rows: int | None
    folders: Mapping[str, Sequence[str | None]] = field(default_factory=dict[str, Sequence[str]])
    guessed: Mapping[str, pa.DataType] = field(default_factory=dict[str, pa.DataType])
    notes: Sequence[str] = ()


@dataclass(slots=True)
class _Reading:
    """What is read of the files, and what is to be said of it; `bad` are those of no use."""

    said: Mapping[str, pa.DataType]
    texts: list[pa.Table] = field(default_factory=list[pa.Table])
    tables: list[pa.Table] = field(default_factory=list[pa.Table])
    bad: dict[Path, str] = field(default_factory=dict[Path, str])
    notes: list[str] = field(default_factory=list[str])
    columns: dict[Path, set[str]] = field(default_factory=dict[Path, set[str]])

    def read(self, path: Path, rows: int) -> None:
        """Rows of one file.

        Raises:
            SettingsError: its name does not say what it is, or values are not of the type said.
        """
        notes: Sequence[str] = ()
        try:
            match kind_of(path):
                case "parquet":
                    self._add(path, read_parquet(path, rows))
                case "csv" | "tsv" as kind:
                    notes = self._texts(path, read_csv(path, rows, "," if kind == "csv" else "\t"))
                case "json":
                    table, notes = read_lines(path, rows)
                    self._add(path, table)
                case _:
                    raise SettingsError(
                        f"{path}: its name does not say what it is: {', '.join(KINDS)}"
                    )
        except (Unreadable, OSError, pa.ArrowException) as error:
            self.bad[path] = unreadable(path, error)
        self.notes += [f"{path.name}: {note}" for note in notes]

    def _add(self, path: Path, table: pa.Table) -> None:
        self.tables.append(table)
        self.columns[path] = set(table.column_names)

    def _texts(self, path: Path, cells: Cells) -> Sequence[str]:
        said = {name: kind for name, kind in self.said.items() if name in cells.table.column_names}
        self.columns[path] = set(cells.table.column_names)
        self.texts.append(said_types(cells.table, said, lambda i: f"{path}: {cells.place(i)}"))
        return cells.notes()

    def strangers(self) -> Iterator[str]:
        """What is to be said of a file that seems to be of another table than the first."""
        first, *others = self.columns
        for path in others:
            if not self.columns[path] & self.columns[first]:
                yield f"{path} has no column of {first}: are they of one table?"
                return

    def check_said(self) -> None:
        """Raises `SettingsError` for a type that is said of a column that no CSV has."""
        columns = list(dict.fromkeys(name for table in self.texts for name in table.column_names))
        missing = [name for name in self.said if name not in columns]
        if missing and columns:
            raise SettingsError(f"--type {missing[0]}: the columns of CSV are {', '.join(columns)}")
        if missing:
            raise SettingsError(
                f"--type {missing[0]}: types are said of columns of CSV, and there is none here;"
                " columns of Parquet and JSON have theirs, so leave it out"
            )

    def table(self, names: str) -> tuple[pa.Table, Mapping[str, pa.DataType]]:
        """All rows as one table, and the types that were guessed."""
        try:
            texts = pa.concat_tables(self.texts, promote_options="default") if self.texts else None
            found = [] if texts is None else [guessed(texts, self.said)]
            whole = pa.concat_tables([*self.tables, *found], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise SettingsError(f"{names} are not of one table: {error}") from None
        taken = {one.name: one.type for t in found for one in t.schema if one.name not in self.said}
        whole = self._writable(whole)
        # A file may lack a column that is never null in another one.
        columns = pa.schema([one.with_nullable(True) for one in whole.schema])
        return pa.Table.from_arrays(whole.columns, schema=columns), taken

    def _writable(self, table: pa.Table) -> pa.Table:
        """Without the columns that Parquet cannot have.

        Raises `SettingsError` where there are no others.
        """
        empty = [one.name for one in table.schema if _has_empty_struct(one.type)]
        if not empty:
            return table
        verb = "holds" if len(empty) == 1 else "hold"
        words = f"{', '.join(empty)} {verb} objects without fields, which Parquet cannot have"
        if len(empty) == table.num_columns:
            raise SettingsError(f"{words}; there is no other column to measure")
        self.notes.append(f"{words}; passed by")
        return table.drop_columns(empty)


def _has_empty_struct(kind: pa.DataType) -> bool:
    if not pa.types.is_nested(kind):
        return False
    empty = pa.types.is_struct(kind) and not kind.num_fields
    return empty or any(_has_empty_struct(kind.field(i).type) for i in range(kind.num_fields))


def read_sample(
    paths: Sequence[Path], rows: int, said: Mapping[str, pa.DataType] | None = None
) -> Sample:
    """Up to so many rows of the files, and of those in the folders, at `paths`: of Parquet files
    runs that are spread over them, of others the first ones. `said` are types of columns of CSV.

    Of several files those that cannot be read are passed by, and named in the sample's notes.

    Raises `SettingsError` where there are none, or they cannot be read as one table.
    """
    found = dict(sorted({file: root for path in paths for root, file in _files(path)}.items()))
    files = list(found)
    if not files:
        raise SettingsError(
            f"no data in {', '.join(map(str, paths))}: Parquet, CSV and lines of JSON are read, by"
            f" their names' ends ({', '.join(KINDS)})"
        )
    step = max(len(files) / FILES, 1)
    chosen = [files[int(i * step)] for i in range(min(FILES, len(files)))]
    reading = _Reading(said or {})
    for file in chosen:
        reading.read(file, -(-rows // len(chosen)))
    if not reading.tables and not reading.texts:
        raise SettingsError(next(iter(reading.bad.values())))
    reading.check_said()
    table, taken = reading.table(", ".join(file.name for file in chosen))
    if not table.num_rows or not table.num_columns:
        raise SettingsError(f"{', '.join(map(str, chosen))}: there is no row to measure")
    total = _rows(files, reading)
    return Sample(
        table.slice(0, rows),
        len(files),
        sum(file.stat().st_size for file in files),
        total,
        folder_values([(root, file) for file, root in found.items()]),
        taken,
        [*_passed_by(reading.bad), *reading.notes, *reading.strangers()],
    )


def _files(path: Path) -> Iterator[tuple[Path, Path]]:
    """The data files at a path, each with the root that its folders lie in. As engines do, it
    passes by names that begin with _ or a dot.

    Raises `SettingsError` for a table's private folder, and for a folder that holds tables.
    """
    if not path.exists():
        raise SettingsError(f"{path}: there is no such file or folder")
    _refuse_private(path)
    if not path.is_dir():
        yield Path(path.anchor), path
        return
    found = sorted(path.rglob("*"))
    _refuse_lake(path, found)
    for file in found:
        parts = file.relative_to(path).parts
        private = any(part[0] in "_." or part.endswith(PRIVATE) for part in parts)
        if not private and file.is_file() and kind_of(file):
            yield path, file


def _refuse_private(path: Path) -> None:
    whole = path.resolve()
    for folder in (whole, *whole.parents):
        if folder.name.endswith(PRIVATE) and folder.is_dir():
            table = folder.with_name(folder.name.removesuffix(PRIVATE))
            raise SettingsError(
                f"{path}: {folder.name} is the private folder of a table, which has none of its"
                f" rows; say {table}"
            )


def _refuse_lake(path: Path, found: Sequence[Path]) -> None:
    """A folder with tables in it is a lake, or that of a run: files of it are of several things."""
    tables = [
        table
        for one in found
        if one.name.endswith(PRIVATE)
        and (table := one.with_name(one.name.removesuffix(PRIVATE))).is_dir()
    ]
    if tables:
        names = ", ".join(str(table) for table in tables[:NAMED])
        more = f" and {len(tables) - NAMED:,} more" if len(tables) > NAMED else ""
        raise SettingsError(
            f"{path} holds {counted(len(tables), 'table')} of streamflow, and is none; say one of"
            f" them: {names}{more}"
        )


def _rows(files: Sequence[Path], reading: _Reading) -> int | None:
    """How many rows there are, where all files are Parquet; of those that can be read."""
    if any(kind_of(file) != "parquet" for file in files):
        return None
    total = 0
    for file in files:
        if file in reading.bad:
            continue
        try:
            total += parquet_rows(file)
        except (Unreadable, OSError) as error:
            reading.bad[file] = unreadable(file, error)
    return total


def _passed_by(bad: Mapping[Path, str]) -> Iterator[str]:
    for words in list(bad.values())[:NAMED]:
        yield f"{words}; passed by"
    if len(bad) > NAMED:
        yield f"{counted(len(bad) - NAMED, 'more file')} cannot be read; passed by"


def unreadable(path: Path, error: Exception) -> str:
    """Why a file is of no use."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"{path} cannot be read: {why}"
