"""Where a table keeps how far each rows partition is rolled, and how the next roll becomes visible.

A plain table has a chain of cuts beside it (`sink_chain.py`), a Delta table its log
(`delta_chain.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from streamflow.batch import TopicPartition
from streamflow.clock import Clock, SystemClock
from streamflow.core.cut import Cut
from streamflow.core.sink_spec import SinkSpec
from streamflow.core.table_schema import Foreseen, foreseen
from streamflow.engine import sink_chain, table_versions
from streamflow.engine.delta_chain import DeltaChain
from streamflow.engine.sink_fold import fold_cuts
from streamflow.engine.sink_roll import Written, write_files
from streamflow.engine.sink_rows import Rows
from streamflow.ports import LoggedTable, TableFiles

Table = TableFiles | LoggedTable


class Chain(Protocol):
    """The rolls of one table's rows partitions, each partition's one after the other.

    `replaces` says whether rows can take the place of earlier ones.
    """

    replaces: bool

    def claim(self, spec: SinkSpec, owner: str) -> None:
        """Make an app the one that writes the table, where there can be one only."""
        ...

    def agree(self, spec: SinkSpec) -> None:
        """Write down what will be written, before any of it. Raises `SinkRefused`."""
        ...

    def foresee(self, spec: SinkSpec, owner: str) -> Foreseen:
        """What `claim` and `agree` would do, while nothing is written. Raises as they would."""
        ...

    def start(self, tp: TopicPartition, spec: SinkSpec, first_offset: int) -> Cut:
        """The last roll that was decided."""
        ...

    def finished(self, cut: Cut) -> bool:
        """Is all of a roll visible?"""
        ...

    def epoch_before(self, cut: Cut) -> int:
        """The epoch of the owner at the start of a roll that is not finished."""
        ...

    def settle(self, cut: Cut) -> Cut:
        """Decide a roll, or find the one that somebody else has decided in its place, or a later
        one where that is known no more.
        """
        ...

    def finish(self, cut: Cut, rows: Rows, faults: Callable[[str], None]) -> tuple[Cut, Written]:
        """Make a roll visible; returns the roll up to which all is visible then, which is another
        one where somebody else was there first.
        """
        ...

    def fold(self, tp: TopicPartition, faults: Callable[[str], None]) -> None:
        """Put away what is known of old rolls. What fails is left for the next time."""
        ...

    def rolled_to(self, tp: TopicPartition) -> int | None:
        """The last commit of which all rows are visible; None for none."""
        ...


class FileChain:
    """A `Chain` of cuts, in files beside the table."""

    replaces = False

    def __init__(self, files: TableFiles) -> None:
        self._files = files

    def claim(self, spec: SinkSpec, owner: str) -> None:
        """See `Chain.claim`."""
        sink_chain.claim(self._files, spec, owner)

    def agree(self, spec: SinkSpec) -> None:
        """See `Chain.agree`."""
        table_versions.agree(self._files, spec)

    def foresee(self, spec: SinkSpec, owner: str) -> Foreseen:
        """See `Chain.foresee`."""
        stands = sink_chain.is_claimed(self._files, spec, owner)
        known = table_versions.check(self._files, spec)
        return foreseen(spec, known, stands=stands or bool(known))

    def start(self, tp: TopicPartition, spec: SinkSpec, first_offset: int) -> Cut:
        """See `Chain.start`."""
        return sink_chain.start(self._files, tp, spec, first_offset)

    def finished(self, cut: Cut) -> bool:
        """See `Chain.finished`."""
        return sink_chain.finished(self._files, cut)

    def epoch_before(self, cut: Cut) -> int:
        """See `Chain.epoch_before`."""
        return sink_chain.epoch_before(self._files, cut)

    def settle(self, cut: Cut) -> Cut:
        """See `Chain.settle`."""
        return sink_chain.settle(self._files, cut)

    def finish(self, cut: Cut, rows: Rows, faults: Callable[[str], None]) -> tuple[Cut, Written]:
        """See `Chain.finish`: the cut stands, so it is the one."""
        return cut, write_files(cut, rows, self._files, faults)

    def fold(self, tp: TopicPartition, faults: Callable[[str], None]) -> None:
        """See `Chain.fold`."""
        fold_cuts(self._files, tp, faults)

    def rolled_to(self, tp: TopicPartition) -> int | None:
        """See `Chain.rolled_to`."""
        return sink_chain.rolled_to(self._files, tp)


def chain_of(table: Table, clock: Clock | None = None) -> Chain:
    """How a table of this kind keeps its rolls; `clock` tells how long one takes."""
    if isinstance(table, LoggedTable):
        return DeltaChain(table, clock or SystemClock())
    return FileChain(table)


def files_of(table: Table) -> TableFiles:
    """The files of a table, whether it has a log or not."""
    return table.files if isinstance(table, LoggedTable) else table


def agree_all(tables: Sequence[tuple[Chain, SinkSpec]], owner: str) -> None:
    """Claim all tables, and write down what will be written, where none of them refuses: one that
    does leaves nothing in the others. Raises `SinkRefused`.
    """
    for chain, spec in tables:
        chain.foresee(spec, owner)
    for chain, spec in tables:
        chain.claim(spec, owner)
        chain.agree(spec)
