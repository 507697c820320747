"""Makes few large files of many small ones, in a table with a log, while others write it.

Goals: readers see each row once at any moment, before, after and between; what the chain of rolls
needs is not touched; whoever commits at the same time goes first.

Plan: the small files of a folder are read, written anew as one under a name that nobody else uses,
and swapped in one commit on the very next version. Where somebody was faster, the table is loaded
again: what is still there as it was is swapped then, anything else is left, and its new file lies
there unused until `vacuum`. Only files are touched that streamflow has written.

Marks are kept by the log whatever becomes of files, and the ranges that the old files' footers name
are in the new one's, so nothing of a row's origin is lost.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from streamflow.core.delta_stats import stats_of
from streamflow.core.packing import packed
from streamflow.engine.rewrite import Footers, Rewriter, footer_at
from streamflow.errors import SinkUnavailable
from streamflow.ports import AddedFile, ListedFile, LoadedTable, LoggedTable, TableFiles

#: While others commit all the time, so many versions are tried.
TRIES = 10
#: So many packs are swapped in one commit.
AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Optimized:
    """What became of small files."""

    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class _Made:
    """A file, and those whose rows it has."""

    added: AddedFile
    of: tuple[str, ...]


def optimize(
    table: LoggedTable,
    rewriter: Rewriter,
    target_bytes: int,
    going: Callable[[], bool] = lambda: True,
) -> Optimized:
    """Make larger files of small ones, up to `target_bytes`, for as long as it is `going`.

    Raises:
        SinkRefused: the table's files cannot be written anew.
        SinkUnavailable: the store is away; what is done is done.
    """
    loaded, done = table.log.load(), Optimized()
    if loaded is None:
        return done
    made: list[_Made] = []
    for files, footers in _packs(table.files, loaded, target_bytes):
        if not going():
            return done
        made.append(_rewritten(files, footers, rewriter, loaded.schema.names))
        if len(made) == AT_ONCE:
            done, made = _swapped(table, made, done), []
    return _swapped(table, made, done)


def _packs(
    files: TableFiles, loaded: LoadedTable, target_bytes: int
) -> Iterator[tuple[list[ListedFile], Footers]]:
    """What is to become one file each, with the footers; of one folder and one schema."""
    folders: dict[tuple[str, ...], list[ListedFile]] = {}
    for file in loaded.files():
        folders.setdefault(tuple(map(repr, file.values.items())), []).append(file)
    for known in folders.values():
        if not any(packed(known, target_bytes)):  # then no footer has to be read
            continue
        footers = {file.name: footer_at(files, file.name) for file in known}
        ours = {name: footer for name, footer in footers.items() if footer is not None}
        for schema_id in sorted({footer["schema_id"] for footer in ours.values()}):
            alike = [f for f in known if ours.get(f.name, {}).get("schema_id") == schema_id]
            for pack in packed(alike, target_bytes):
                yield pack, {file.name: ours[file.name] for file in pack}


def _rewritten(
    pack: Sequence[ListedFile], footers: Footers, rewriter: Rewriter, columns: Sequence[str]
) -> _Made:
    """Put a file with the rows of a pack, in its order, into a table of these columns."""
    names = tuple(file.name for file in pack)
    folder = names[0].rpartition("/")[0]
    name = f"{folder}/{_new_name()}" if folder else _new_name()
    with rewriter.joined(name, names, footers) as made:
        if not made.new.create():
            raise SinkUnavailable(f"{name} is there, though nobody else can know its name")
        values = pack[0].values
        added = AddedFile(name, made.size, values, stats_of(made.metadata, columns, values))
    return _Made(added, names)


def _new_name() -> str:
    return f"optimized-{uuid.uuid4().hex}.parquet"


def _swapped(table: LoggedTable, made: Sequence[_Made], done: Optimized) -> Optimized:
    """Put what was made in the place of what it was made of, where that is still there."""
    for _ in range(TRIES):
        loaded = table.log.load()
        there = {} if loaded is None else {file.name: file for file in loaded.files()}
        if loaded is None or not made:
            break
        if made[0].added.name in there:  # it was done, and the answer was lost
            return _counted(done, made)
        made = [each for each in made if there.keys() >= set(each.of)]
        gone = [there[name] for each in made for name in each.of]
        try:
            loaded.replace([each.added for each in made], gone, {}, same_rows=True)
        except SinkUnavailable:
            continue
        return _counted(done, made)
    return done


def _counted(done: Optimized, made: Sequence[_Made]) -> Optimized:
    before = sum(len(each.of) for each in made)
    return Optimized(done.before + before, done.after + len(made))
