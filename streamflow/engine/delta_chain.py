"""The rolls of a Delta table: its log says how far each rows partition is, in the commits that add
the rows' files.

Goals: as for cuts (`sink.py`): every committed row is in the table once, whatever crashes, and also
while a worker that was thought dead goes on writing.

Plan: beside the files a commit sets marks of its rows partition: the offset up to which all rows
are in the table, and what has to be known there to go on. A roll loads the table, sees that the
offset is the one where the roll begins, puts the files under names that nobody else uses, and
commits on that very version. The log refuses the commit if anybody has set the same marks since.
After an error nothing is known: the table is loaded again, and says it.

Rows that take the place of earlier ones (`delta_merge.py`) do so in that same commit, which then
has to be the very next one: files that others join meanwhile are looked into again.

The race: a stopped owner wakes up between its files and its commit. Its version of the table is
old by then, its commit is refused, and its files stay behind as if never written; `vacuum` takes
them away. Nothing is decided before the commit, so a roll that failed can come back with other
bounds: no file of a try is ever used by another one. Where nobody else has rolled, its commit would
be taken, of files that a `vacuum` may have deleted while it slept: so a roll is given up when it
has taken half as long as `vacuum` waits at the least.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from streamflow.batch import TopicPartition
from streamflow.clock import Clock
from streamflow.core.compatibility import Difference, log_differences
from streamflow.core.cut import Cut, origin
from streamflow.core.delta_stats import stats_of
from streamflow.core.sink_spec import SinkSpec
from streamflow.core.table_schema import Foreseen, foreseen, refusal
from streamflow.destinations import SHORTEST_RETENTION
from streamflow.engine import table_versions
from streamflow.engine.delta_merge import Replaced, replaced
from streamflow.engine.sink_chain import OWNER
from streamflow.engine.sink_roll import Written, encoded
from streamflow.engine.sink_rows import Rows
from streamflow.errors import Overtaken, SinkRefused, SinkUnavailable
from streamflow.ports import AddedFile, LoadedTable, LoggedTable

#: Of workers that start at once, so many may make or widen the table before this one has.
TRIES = 5
#: The files of a roll that is not committed yet are no older.
LONGEST_ROLL = SHORTEST_RETENTION / 2
#: Beside the offset, which has the name of the rows partition alone.
COMMIT, EPOCH, ROLL, END = "/commit", "/epoch", "/roll", "/end"


class DeltaChain:
    """A `Chain` in the log of a table."""

    replaces = True

    def __init__(self, table: LoggedTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def claim(self, spec: SinkSpec, owner: str) -> None:
        """See that it is no plain table. The log keeps several apps apart, by the names of their
        rows topics.
        """
        if self._table.files.exists(OWNER, private=True):
            raise SinkRefused(
                f"table {spec.path!r} of sink {spec.name!r} is a plain table: write it with"
                " parquet(...), or give the sink another path"
            )

    def agree(self, spec: SinkSpec) -> None:
        """Make the table, or give it the columns that are new, all in one commit.

        All columns may be null: a later version of the topology may leave one out.
        """
        table_versions.check(self._table.files, spec)
        self._have_columns(spec)
        table_versions.agree(self._table.files, spec)

    def foresee(self, spec: SinkSpec, owner: str) -> Foreseen:
        """See `Chain.foresee`. A table that another writer has made has columns and no versions."""
        self.claim(spec, owner)
        known, table = table_versions.check(self._table.files, spec), self._table.log.load()
        if table is None:
            return foreseen(spec, known, stands=bool(known))
        _refuse_changes(spec, table, self._table.log.form(_all_nullable(spec)))
        before = None if known else table.schema
        return foreseen(spec, known, stands=True, before=before)

    def _have_columns(self, spec: SinkSpec) -> None:
        log = self._table.log
        wanted = _all_nullable(spec)
        for tries_left in reversed(range(TRIES)):
            table = log.load()
            if table is None:
                log.create(wanted, spec.partition_by)
                continue
            _refuse_changes(spec, table, log.form(wanted))
            new = [field for field in wanted if field.name not in table.schema.names]
            if not new:
                return
            try:
                table.widen(pa.schema(new))
            except SinkUnavailable:  # another worker of this version may just have done it
                if not tries_left:
                    raise

    def start(self, tp: TopicPartition, spec: SinkSpec, first_offset: int) -> Cut:
        """See `Chain.start`."""
        table = self._load(tp)
        if table.mark(_name(tp)) is None and first_offset > 0:
            raise SinkRefused(
                f"table {spec.path!r} of sink {spec.name!r} has nothing of {tp}, but that topic"
                f" starts at offset {first_offset}: its earlier rows were rolled into another"
                " table; is it the right one? A new table needs a new app id"
            )
        return _standing(table, origin(tp, 0, spec))

    def finished(self, cut: Cut) -> bool:
        """Always: what is decided is visible."""
        del cut
        return True

    def epoch_before(self, cut: Cut) -> int:
        """Never asked: there is no roll that is decided and not visible."""
        raise AssertionError(f"{cut} is decided where it becomes visible")

    def settle(self, cut: Cut) -> Cut:
        """See `Chain.settle`: nothing is decided before the commit."""
        return cut

    def finish(self, cut: Cut, rows: Rows, faults: Callable[[str], None]) -> tuple[Cut, Written]:
        """See `Chain.finish`."""
        began, put = self._clock.monotonic(), None
        for tries_left in reversed(range(TRIES)):
            table = self._load(cut.tp)
            standing = _standing(table, cut)
            if standing.next != cut.first:
                return _not_behind(cut, standing), Written()
            _see_that_it_is_that(cut, table)
            added, written = put = put or self._put(cut, rows, table.schema.names)
            old = replaced(table, self._table.files, cut, rows)
            faults("files-written")
            if self._clock.monotonic() - began > LONGEST_ROLL.total_seconds():
                raise SinkUnavailable(f"{cut} took too long to be sure of its files; made again")
            try:
                _commit(table, added, old, _marks(cut))
            except SinkUnavailable as error:
                standing = _standing(self._load(cut.tp), cut)
                if standing.next != cut.first:
                    cut, written = _not_behind(cut, standing), Written()
                elif old.removed and isinstance(error, Overtaken) and tries_left:
                    continue  # by whomever: the files that are replaced may be others now
                else:
                    raise
            faults("files-linked")
            return cut, written
        raise AssertionError("the last try returns or raises")

    def fold(self, tp: TopicPartition, faults: Callable[[str], None]) -> None:
        """Nothing: the log keeps the last marks only."""

    def rolled_to(self, tp: TopicPartition) -> int | None:
        """See `Chain.rolled_to`."""
        table = self._table.log.load()
        return None if table is None else table.mark(_name(tp) + COMMIT)

    def _load(self, tp: TopicPartition) -> LoadedTable:
        table = self._table.log.load()
        if table is None:
            raise SinkRefused(f"the table of {tp} is not there any more: was it deleted or moved?")
        return table

    def _put(
        self, cut: Cut, rows: Rows, columns: Sequence[str]
    ) -> tuple[Sequence[AddedFile], Written]:
        """Put the files, under names that no other try has, into a table of these columns."""
        added: list[AddedFile] = []
        written = Written()
        mine = uuid.uuid4().hex
        # In Hive-style folders, which mean nothing to the log: polars reads values from them.
        named = lambda name: f"{name.removesuffix('.parquet')}-{mine}.parquet"  # noqa: E731
        for file in encoded(cut, rows, self._table.files, named=named):
            if not file.new.create():
                raise SinkUnavailable(f"{file.name} is there, though nobody else can know its name")
            values = dict(zip(cut.partition_by, file.cut.values, strict=True))
            stats = stats_of(file.metadata, columns, values)
            added.append(AddedFile(file.name, file.size, values, stats))
            written += Written(1, file.cut.rows, file.size)
        return added, written


def _commit(
    table: LoadedTable, added: Sequence[AddedFile], old: Replaced, marks: dict[str, int]
) -> None:
    """Add files, and take out those with rows that these replace: then nobody else may have changed
    any file meanwhile.
    """
    if old.removed:
        table.replace([*added, *old.added], old.removed, marks, same_rows=False)
    else:
        table.commit(added, marks)


def _see_that_it_is_that(cut: Cut, table: LoadedTable) -> None:
    if cut.files and table.partition_by != cut.partition_by:
        raise SinkRefused(
            f"{cut} has rows by {cut.partition_by}, and its table is partitioned by"
            f" {table.partition_by}: was the table made anew?"
        )


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic}-{tp.partition}"


def _marks(cut: Cut) -> dict[str, int]:
    """What is known where a roll ends."""
    assert cut.trailer is not None, "a roll ends with a commit"
    name = _name(cut.tp)
    return {
        name: cut.next,
        name + COMMIT: cut.trailer,
        name + EPOCH: cut.epoch,
        name + ROLL: cut.k,
        name + END: int(cut.end_of_input),
    }


def _standing(table: LoadedTable, like: Cut) -> Cut:
    """The last roll of a rows partition, as far as the log knows it: where it ends."""
    name = _name(like.tp)
    offset = table.mark(name)
    nothing = replace(
        like,
        k=0,
        first=0,
        next=0,
        commits=0,
        epoch=0,
        files=(),
        after=None,
        trailer=None,
        watermark=None,
    )
    if offset is None:
        return replace(nothing, end_of_input=False)
    return replace(
        nothing,
        k=table.mark(name + ROLL) or 0,
        first=offset,
        next=offset,
        trailer=table.mark(name + COMMIT),
        epoch=table.mark(name + EPOCH) or 0,
        end_of_input=bool(table.mark(name + END)),
    )


def _not_behind(cut: Cut, standing: Cut) -> Cut:
    """What stands, to be followed. Raises `SinkRefused` where the table was taken back."""
    if standing.next < cut.first:
        raise SinkRefused(
            f"the table of {cut.tp} is at offset {standing.next} again, and was at {cut.first}: it"
            " was restored to an older version; start the worker again, and it goes on from there"
            " where the topic still has the rows"
        )
    return standing


def _all_nullable(spec: SinkSpec) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in spec.schema])


def _refuse_changes(spec: SinkSpec, table: LoadedTable, form: pa.Schema) -> None:
    """Raise `SinkRefused` where the log has the columns otherwise."""
    nullable = {field.name: field.nullable for field in spec.schema}
    new = pa.schema([field.with_nullable(nullable[field.name]) for field in form])
    found: list[Difference | str] = [*log_differences(table.schema, new, spec.compatibility)]
    if table.partition_by != spec.partition_by:
        names = [", ".join(by) or "no column" for by in (spec.partition_by, table.partition_by)]
        found.append(f"it is partitioned by {names[0]}, it was by {names[1]}")
    if found:
        raise refusal(spec, found)
