"""Where records come from and go to: topics, Parquet tables, and the named drop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from streamflow import store_url
from streamflow.arguments import in_words, is_duration, is_some_duration, is_whole, matches
from streamflow.errors import TopologyError
from streamflow.partition_by import PartitionBy
from streamflow.writer_settings import AS_THEY_COME, STORAGES, FileLayout, Storage, WriterSettings

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")
Revisions = Literal["final", "append", "merge"]
Compatibility = Literal["backward", "forward", "full", "none"]
COMPATIBILITIES: tuple[Compatibility, ...] = ("backward", "forward", "full", "none")
#: A table is not seen to more often, and a file is not deleted sooner after it was taken out.
SHORTEST_UPKEEP, SHORTEST_RETENTION = timedelta(minutes=1), timedelta(hours=1)
PRIVATE = ".streamflow"
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Topic:
    """A Kafka topic by name."""

    name: str

    def __post_init__(self) -> None:
        if not matches(_TOPIC, self.name):
            raise TopologyError(f"topic({self.name!r}): a name has letters, digits and . _ - only")
        if self.name in (".", ".."):
            raise TopologyError(f"topic({self.name!r}): Kafka has no topic of that name")

    def __str__(self) -> str:
        return f"topic({self.name!r})"


@dataclass(frozen=True)
class Parquet:
    """A table of Parquet files in a folder below the lake, or in an object store.

    Attributes:
        path: The folder, relative to the lake; or an address such as `s3://bucket/folder/table`,
            also `gs://` and `abfs://`. Credentials come from the environment or the machine.
        partition_by: Hive-style partitions: columns, or `hour(...)`, `day(...)` or `month(...)`
            of one. None where they are left to the rows, by `parquet(..., partition_by="auto")`.
        target_bytes: The file size that a roll aims at.
        roll_interval: A committed row is in a visible file after this time at the latest.
        inactivity_interval: And when no row has come for this time; None for no such time.
        revisions: Which results of a window that gives several are rows: `"final"`, its first
            final one (revision 0); `"append"`, every one, early results and corrections too;
            `"merge"`, which Delta tables do if nothing is said, the newest one.
        compatibility: What a new version of the columns may change (`core/compatibility.py`).
        storage: How files are written: by a plan that is measured for an aim (`"auto"` is
            `"balanced"`), by settings of your own, or all alike (`"none"`). No row depends on it.
        layout: How the rows lie in a file: sorted, with Bloom filters, in row groups of a size.
    """

    path: str
    partition_by: tuple[PartitionBy, ...] = ()
    target_bytes: int = 128 * 1024 * 1024
    roll_interval: timedelta | None = timedelta(minutes=5)
    revisions: Revisions | None = None
    # These are not shown: the topology's version is of what comes out, and that is the same.
    storage: Storage | WriterSettings = field(default="auto", repr=False)
    layout: FileLayout = field(default=AS_THEY_COME, repr=False)
    compatibility: Compatibility = field(default="backward", repr=False)
    inactivity_interval: timedelta | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_path(self.kind, self.path)
        if any(part.endswith(PRIVATE) for part in self.path.split("/")):
            raise TopologyError(f"{self}: folders *{PRIVATE} hold what belongs to a table")
        is_whole(f"{self}", "target_bytes", self.target_bytes)
        if self.target_bytes <= 0:
            raise TopologyError(f"{self}: target_bytes must be above zero")
        _check_times(f"{self}", self.roll_interval, self.inactivity_interval)
        _check_parts(f"{self}", self.partition_by)
        _check_revisions(f"{self}", self.revisions, replaces=self.replaces)
        if not isinstance(self.storage, WriterSettings) and self.storage not in STORAGES:
            raise TopologyError(
                f"{self}: storage={self.storage!r}; it is {', '.join(STORAGES)} or WriterSettings"
            )
        rows = self.layout.row_group_rows
        if rows is not None:
            is_whole(f"{self}", "row_group_rows", rows)
            if not 0 < rows < 1 << 31:
                raise TopologyError(f"{self}: row_group_rows={rows} is not between 1 and 2**31 - 1")
        if self.compatibility not in COMPATIBILITIES:
            known = ", ".join(COMPATIBILITIES)
            raise TopologyError(f"{self}: compatibility={self.compatibility!r}; it is {known}")

    def __str__(self) -> str:
        return f"{self.kind}({self.path!r})"

    @property
    def replaces(self) -> bool:
        """Can a row take the place of an earlier one?"""
        return False

    @property
    def kind(self) -> str:
        """The function that makes it."""
        return type(self).__name__.lower()

    @property
    def location(self) -> str:
        """The path, and what kind of table lies there."""
        return self.path

    @property
    def folder(self) -> str:
        """The path without the kind of its store, for a run that writes all into one folder."""
        return self.path.rpartition("://")[2]

    @property
    def name(self) -> str:
        """The sink's name, used for its rows topic."""
        return store_url.sink_name(self.path)


@dataclass(frozen=True)
class Upkeep:
    """What the workers do for a Delta table beside writing it.

    Attributes:
        optimize_every: How often its small files are made into larger ones, of up to its
            `target_bytes`; None for never. Rows, and what readers of earlier versions see, stay.
        vacuum_every: How often files are deleted that no version of the last `retention` has, and
            what crashed writers left behind; None for never.
        retention: Longer than anybody reads one version, and than the table itself is told to keep
            files (a week, if its property `delta.deletedFileRetentionDuration` says nothing else).
    """

    optimize_every: timedelta | None = timedelta(hours=1)
    vacuum_every: timedelta | None = timedelta(days=1)
    retention: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        given = {"optimize_every": self.optimize_every, "vacuum_every": self.vacuum_every}
        for name, every in given.items():
            if every is None:
                continue
            is_some_duration("Upkeep()", name, every)
            if every < SHORTEST_UPKEEP:
                at_least = in_words(SHORTEST_UPKEEP)
                raise TopologyError(f"Upkeep(): {name}={in_words(every)} is below {at_least}")
        is_some_duration("Upkeep()", "retention", self.retention)
        if self.retention < SHORTEST_RETENTION:
            raise TopologyError(
                f"Upkeep(): retention={in_words(self.retention)} is below"
                f" {in_words(SHORTEST_RETENTION)}: files of rolls that are under way, and those"
                " that readers have open, would be deleted"
            )


@dataclass(frozen=True)
class Delta(Parquet):
    """A Delta Lake table, as `Parquet`: a roll is one commit of its log.

    Needs the library `deltalake`: `pip install streamflow[delta]`.

    Attributes:
        upkeep: What else the workers do for it; None for nothing.
    """

    # Not shown, as `storage`.
    upkeep: Upkeep | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_upkeep(f"{self}", self.upkeep)

    @property
    def replaces(self) -> bool:
        """Can a row take the place of an earlier one?"""
        return True

    @property
    def location(self) -> str:
        """The path, and what kind of table lies there."""
        return f"{store_url.DELTA}{self.path}"


def _check_times(where: str, roll: object, inactivity: object) -> None:
    for name, given in (("roll_interval", roll), ("inactivity_interval", inactivity)):
        is_duration(where, name, given)
        if isinstance(given, timedelta) and given <= timedelta(0):
            raise TopologyError(f"{where}: {name}={in_words(given)} is not above zero")
    if isinstance(roll, timedelta) and isinstance(inactivity, timedelta) and inactivity >= roll:
        raise TopologyError(
            f"{where}: inactivity_interval={in_words(inactivity)} has no effect: rows are rolled"
            f" after roll_interval={in_words(roll)} anyway; give it less"
        )


def _check_revisions(where: str, revisions: object, *, replaces: bool) -> None:
    known = ("final", "append", *(["merge"] if replaces else []))
    if revisions is None or revisions in known:
        return
    words = " or ".join(f'"{name}"' for name in known)
    more = "; a Delta table also merges" if revisions == "merge" else ""
    raise TopologyError(f"{where}: revisions={revisions!r}; it is {words}{more}")


def _check_upkeep(where: str, upkeep: object) -> None:
    if upkeep is not None and not isinstance(upkeep, Upkeep):
        raise TopologyError(f"{where}: upkeep={upkeep!r} is no Upkeep(...)")


def _check_path(kind: str, path: object) -> None:
    if isinstance(path, str) and store_url.is_url(path):
        problem = store_url.problem_of(path)
        if problem is None and not store_url.split(path)[1]:
            problem = f"a table is a folder of its own below {path!r}"
        if problem is not None:  # which does not repeat what may be a password
            raise TopologyError(f"{kind}(...): {problem}")
    elif not matches(_FOLDER, path):
        raise TopologyError(f"{kind}({path!r}): a table is a plain relative folder")


def _check_parts(where: str, parts: Iterable[object]) -> None:
    for part in parts:
        if not isinstance(part, PartitionBy):
            raise TopologyError(
                f"{where}: partition_by has {part!r}; it takes fields, and hour(...), day(...) and"
                " month(...) of them"
            )


@dataclass(frozen=True)
class Drop:
    """The named, counted way to lose records on purpose."""


def topic(name: str) -> Topic:
    """A Kafka topic."""
    return Topic(name)


def parquet(  # noqa: PLR0913 - a table is described by how it is laid out
    path: str,
    *,
    partition_by: str | PartitionBy | Sequence[str | PartitionBy] = (),
    target_bytes: int = 128 * 1024 * 1024,
    roll_interval: timedelta | None = timedelta(minutes=5),
    inactivity_interval: timedelta | None = None,
    revisions: Revisions | None = None,
    storage: Storage | WriterSettings = "auto",
    sort_by: str | Sequence[str] = (),
    bloom_by: str | Sequence[str] = (),
    row_group_rows: int | None = None,
    compatibility: Compatibility = "backward",
) -> Parquet:
    """A table of Parquet files; see `Parquet`.

    The rows of each file are sorted by the columns `sort_by`, ascending, nulls last, so that the
    statistics of row groups and pages tell them apart; those that are equal there stay in the order
    of their topic. `bloom_by` are columns that single values are looked for in: each row group has
    a Bloom filter of them. A row group, which is what most readers read or pass by, has
    `row_group_rows` rows: 65,536 where one of the two is said, else 262,144.

    `partition_by="auto"` leaves it to the first rows which column names folders, if any: one by
    which a roll is divided into files of some size. What is chosen stands for the table's life.
    """
    parts = _parts(partition_by)
    auto = isinstance(partition_by, str) and partition_by == "auto"
    sort, bloom = _names(path, "sort_by", sort_by), _names(path, "bloom_by", bloom_by)
    layout = FileLayout(sort, bloom, row_group_rows, auto)
    said = (storage, layout, compatibility, inactivity_interval)
    return Parquet(path, parts, target_bytes, roll_interval, revisions, *said)


def delta(  # noqa: PLR0913 - a table is described by how it is laid out
    path: str,
    *,
    partition_by: str | PartitionBy | Sequence[str | PartitionBy] = (),
    target_bytes: int = 128 * 1024 * 1024,
    roll_interval: timedelta | None = timedelta(minutes=5),
    inactivity_interval: timedelta | None = None,
    revisions: Revisions | None = None,
    storage: Storage | WriterSettings = "auto",
    sort_by: str | Sequence[str] = (),
    bloom_by: str | Sequence[str] = (),
    row_group_rows: int | None = None,
    upkeep: Upkeep | None = None,
    compatibility: Compatibility = "backward",
) -> Delta:
    """A Delta Lake table; see `Delta`, and `parquet` for how the rows lie in its files."""
    parts = _parts(partition_by)
    auto = isinstance(partition_by, str) and partition_by == "auto"
    sort, bloom = _names(path, "sort_by", sort_by), _names(path, "bloom_by", bloom_by)
    layout = FileLayout(sort, bloom, row_group_rows, auto)
    said = (storage, layout, compatibility, inactivity_interval, upkeep)
    return Delta(path, parts, target_bytes, roll_interval, revisions, *said)


def table_at(location: str) -> Parquet:
    """A table of this location, as `Parquet.location` has it. Raises `TopologyError`."""
    path = location.removeprefix(store_url.DELTA)
    return parquet(path) if path == location else delta(path)


def _names(path: str, what: str, given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    where = f"table {path!r}: {what}"
    for name in names if isinstance(names, Sequence) else [given]:
        if isinstance(name, PartitionBy):
            raise TopologyError(
                f"{where} has {name.unit}({name.column!r}), which names folders; {what} takes"
                f" columns: say {name.column!r}"
            )
        if not isinstance(name, str):
            raise TopologyError(f"{where} has {name!r}; it takes the names of columns")
    return tuple(names)


def _parts(given: Any) -> tuple[PartitionBy, ...]:
    if isinstance(given, str) and given == "auto":
        return ()
    one = isinstance(given, str) or not isinstance(given, Sequence)
    parts: Any = (given,) if one else given
    return tuple(PartitionBy(p, p) if isinstance(p, str) else p for p in parts)


Destination = Topic | Parquet | Drop
