"""Makes few large files of many small ones in a plain table, with nothing that swaps them at once.

Goals: after it, and after a crash in it and another run, each row is there once; at no moment is a
row missing; no chain of cuts notices.

Plan: the decision is written down first (`core/compaction.py`). Then for each larger file: it is
made under its name, from the files of the plan; only then each of these is replaced, by name, by a
file without rows whose footer says where they are. So while it is worked on, rows may be seen
twice. A name that a cut has used stays taken: whoever carries the cut out again, a worker that was
thought dead, finds its file and makes none. Files of the last two cuts of a chain are not touched.

The race: two run at once, though there is a lease. Both carry out the same plan: the larger file is
made by one of them, before any row of it is taken out elsewhere, and the other finds it; to empty a
file twice is to empty it once.

Crash points: `planned, joined, emptied, done`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import orjson
import pyarrow.parquet as pq

from streamflow.clock import Clock, millis
from streamflow.core.compaction import (
    MOVED_TO,
    Compaction,
    Pack,
    Source,
    decode_compaction,
    encode_compaction,
    is_settled,
    last_cuts,
    new_name,
    plans_in,
)
from streamflow.core.origins import footer_of, merged
from streamflow.core.packing import packed
from streamflow.core.parquet import encode_parquet, why_not
from streamflow.counted import counted
from streamflow.engine.rewrite import Rewriter, metadata_at
from streamflow.engine.roll_memory import RollMemory
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import ReplaceableFiles
from streamflow.writer_settings import UNPLANNED, FileLayout, Storage, WriterSettings

CRASH_POINTS = ("planned", "joined", "emptied", "done")


@dataclass(frozen=True, slots=True)
class Small:
    """A file that may become a part of a larger one."""

    name: str
    nbytes: int
    rows: int
    schema_id: str
    sort: str


class Compactor:
    """Compacts one table. For one thread.

    Args:
        files: Those of the table.
        storage: How the larger files are to be written.
        clock: For when a compaction was done.
        faults: Named points at which a test can make the process die.
        tell: Told of each larger file, when all of its rows are there once, and how many are left.
        memory: What bounds the rows that are unpacked.
    """

    def __init__(
        self,
        files: ReplaceableFiles,
        storage: Storage | WriterSettings,
        clock: Clock,
        faults: Callable[[str], None] = lambda point: None,
        tell: Callable[[Pack, int], None] = lambda pack, left: None,
        memory: RollMemory | None = None,
    ) -> None:
        self._files = files
        self._storage: Storage | WriterSettings = storage
        self._clock = clock
        self._faults = faults
        self._tell = tell
        self._memory = memory or RollMemory()

    def unfinished(self) -> list[Compaction]:
        """Compactions that were begun, and are not done."""
        planned, done = plans_in(self._files.names(private=True))
        numbers = [number for number in planned if number not in done]
        names = [Compaction(number, ()).name for number in numbers]
        return [decode_compaction(self._files.read(n, private=True), n) for n in names]

    def next(self, target_bytes: int, number: int | None = None) -> Compaction:
        """What there is to do now, once all that was begun is done; it may be nothing. It gets the
        number after the last one there is, if none is said.
        """
        number = self._last() + 1 if number is None else number
        packs: list[Pack] = []
        for pack in self._packs(target_bytes):
            folder = pack[0].name[: pack[0].name.rfind("/") + 1]
            name = new_name(folder, number, len(packs))
            packs.append(Pack(name, tuple(Source(f.name, f.rows) for f in pack)))
        return Compaction(number, tuple(packs))

    def run(
        self, target_bytes: int, before: Callable[[Compaction], None] = lambda plan: None
    ) -> list[Compaction]:
        """Finish what was begun, and do what there is to do; returns both.

        `before` is told of each compaction before the first file of it is made or changed.

        Raises:
            SinkRefused: a file is not what the plan says; a person has to look.
            SinkUnavailable: the disk does not take a write; run it again.
        """
        done: list[Compaction] = []
        while True:
            # Looked up first: where somebody begins another one from here on, it has this number.
            number = self._last() + 1
            for plan in self.unfinished():
                before(plan)
                self._carry_out(plan)
                done.append(plan)
            plan = self.next(target_bytes, number)
            if not plan.packs:
                return done
            # Where somebody else has taken the number, theirs is carried out.
            self._files.create(plan.name, encode_compaction(plan), private=True)
            self._faults("planned")

    def _last(self) -> int:
        planned, _ = plans_in(self._files.names(private=True))
        return planned[-1] if planned else -1

    def vacuum(self, older_than_ms: int) -> list[str]:
        """Delete files that were emptied by compactions which were done so long ago.

        Their names are free then: a worker that has stood still all the time, in the midst of a
        roll of such files, would make them again.
        """
        _, done = plans_in(self._files.names(private=True))
        before = millis(self._clock.now()) - older_than_ms
        gone: list[str] = []
        for number in done:
            plan = Compaction(number, ())
            at = orjson.loads(self._files.read(plan.done_name, private=True))["at"]
            if at > before:
                continue
            plan = decode_compaction(self._files.read(plan.name, private=True), plan.name)
            gone += [s.name for pack in plan.packs for s in pack.of if self._is_emptied(s.name)]
        for name in gone:
            self._files.delete(name)
        return gone

    def _packs(self, target_bytes: int) -> Iterator[list[Small]]:
        folders: dict[str, list[Small]] = {}
        last = last_cuts(self._files.names(private=True))
        for name, size in self._files.sizes().items():
            if name.endswith(".parquet") and is_settled(name, last):
                small = self._small(name, size) if 2 * size <= target_bytes else None
                if small is not None:
                    folders.setdefault(name.rpartition("/")[0], []).append(small)
        for files in folders.values():
            for alike in sorted({(file.schema_id, file.sort) for file in files}):
                same = [file for file in files if (file.schema_id, file.sort) == alike]
                yield from packed(same, target_bytes)

    def _small(self, name: str, size: int) -> Small | None:
        """None where it is none of ours, or has no rows any more."""
        metadata = metadata_at(self._files, name)
        footer = None if metadata is None else footer_of(metadata)
        if metadata is None or footer is None or MOVED_TO in footer:
            return None
        sort = footer.get("sort", "[]")
        return Small(name, size, metadata.num_rows, footer["schema_id"], sort)

    def _is_emptied(self, name: str) -> bool:
        if not self._files.exists(name):
            return False
        metadata = metadata_at(self._files, name)
        return metadata is not None and MOVED_TO in (footer_of(metadata) or {})

    def _carry_out(self, plan: Compaction) -> None:
        for i, pack in enumerate(plan.packs):
            self._join(pack)
            self._faults("joined")
            for source in pack.of:
                self._empty(source.name, pack.name)
                self._faults("emptied")
            self._tell(pack, len(plan.packs) - i - 1)
        at = orjson.dumps({"at": millis(self._clock.now())})
        self._files.create(plan.done_name, at, private=True)
        self._faults("done")

    def _join(self, pack: Pack) -> None:
        """Make the larger file, unless it is there."""
        if not self._files.exists(pack.name):
            try:
                self._make(pack)
            except (SinkUnavailable, FileNotFoundError) as error:
                if not self._files.exists(pack.name):  # or another one has gone on meanwhile
                    raise SinkUnavailable(f"{pack.name} cannot be made: {error}") from error
        metadata = metadata_at(self._files, pack.name)
        if metadata is None or (metadata.num_rows != pack.rows and not self._is_emptied(pack.name)):
            raise SinkRefused(
                f"{pack.name} is there and has not the {counted(pack.rows, 'row')} of its"
                " compaction:"
                " something else wrote it; take it away, and run the command again"
            )

    def _make(self, pack: Pack) -> None:
        footers: dict[str, Mapping[str, str]] = {}
        for source in pack.of:
            metadata = self._metadata(source.name)
            if metadata is None or metadata.num_rows != source.rows:
                if self._files.exists(pack.name):
                    return
                raise SinkRefused(
                    f"{source.name} has not the {counted(source.rows, 'row')} that its"
                    " compaction has found"
                    " in it: was it changed by hand? Bring it back"
                )
            footers[source.name] = footer_of(metadata) or {}
        names = [source.name for source in pack.of]
        with self._rewriter(pack, footers).joined(pack.name, names, footers) as made:
            if made.metadata.num_rows != pack.rows:
                raise SinkUnavailable(f"files of {pack.name} were changed while they were read")
            made.new.create()

    def _metadata(self, name: str) -> pq.FileMetaData | None:
        try:
            return metadata_at(self._files, name)
        except FileNotFoundError:
            return None

    def _rewriter(self, pack: Pack, footers: Mapping[str, Mapping[str, str]]) -> Rewriter:
        """Writes as the last roll was written, in the order that the files have."""
        first = pack.of[0].name
        sort: list[str] = orjson.loads(footers[first].get("sort", "[]"))
        storage = self._storage
        if isinstance(storage, WriterSettings):
            metadata = metadata_at(self._files, first)
            if metadata is None or why_not(metadata.schema.to_arrow_schema(), storage) is not None:
                storage = "none"  # of before a column changed its type
        return Rewriter(self._files, storage, FileLayout(tuple(sort)), self._memory)

    def _empty(self, name: str, into: str) -> None:
        """Leave a file of this name without rows."""
        if self._is_emptied(name):
            return
        metadata = self._metadata(name)
        if metadata is None:  # vacuumed, days after another one has done all this
            return
        footer = merged([footer_of(metadata) or {}]) | {MOVED_TO: into}
        none = metadata.schema.to_arrow_schema().empty_table()
        self._files.replace(name, memoryview(encode_parquet(none, UNPLANNED, footer)))
