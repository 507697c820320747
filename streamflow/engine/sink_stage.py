"""The sink stage of one worker: its tables, and what all their partitions share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

from streamflow.batch import TopicPartition
from streamflow.clock import Clock
from streamflow.core.names import Names
from streamflow.core.plan import SinkPlan
from streamflow.destinations import Delta
from streamflow.engine.archive_feed import archives_of, feed_of
from streamflow.engine.chain import Table, agree_all, chain_of
from streamflow.engine.circuit import Phase
from streamflow.engine.faults import Faults
from streamflow.engine.guarded_files import Guard
from streamflow.engine.guarded_log import guarded
from streamflow.engine.holdings import Holdings
from streamflow.engine.pauses import Pauses
from streamflow.engine.rewrite import Rewriter
from streamflow.engine.roll_memory import RollMemory
from streamflow.engine.settings import Settings
from streamflow.engine.sink import SinkPartition
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.table_spec import table_spec
from streamflow.engine.table_upkeep import Kept
from streamflow.engine.world import World
from streamflow.errors import StreamflowError
from streamflow.ports import LoggedTable
from streamflow.retry import CircuitBreaker, RetryPolicy
from streamflow.topology import Topology

#: Of the last so many calls of a table's store; and how many show that it is back.
WINDOW, GOOD = 10, 3


class SinkStage:
    """Makes the lanes of a worker's rows partitions.

    What they hold is one sum, and each table has one circuit breaker.
    """

    def __init__(
        self,
        topology: Topology,
        names: Names,
        settings: Settings,
        world: World,
        clock: Clock,
        faults: Faults,
    ) -> None:
        #: Of every rows topic the table, and of every topic that is archived.
        self.tables: dict[str, SinkPlan] = {
            names.rows(sink.name): sink for plan in topology.tasks for sink in plan.all_sinks
        }
        self.archives = archives_of(topology, names)
        self.tables |= self.archives
        self._bounded = settings.bounded
        rolls = RollMemory(settings.roll_memory)
        self.holdings = Holdings(settings.sink_buffer_bytes, rolls)
        self._topology = topology
        self._names = names
        self._world = world
        self._clock = clock
        self._faults = faults
        self._retry = retry_of(settings)
        self._breaker = breaker_of(settings)
        self._guards: dict[str, Guard] = {}
        self._kept: list[Kept] = []

    @property
    def circuits(self) -> dict[str, Phase]:
        """The tables that are not written as ever: their circuit breakers are not closed."""
        phases: dict[str, Phase] = {path: guard.phase for path, guard in self._guards.items()}
        return {path: phase for path, phase in phases.items() if phase != "closed"}

    def agree(self) -> None:
        """Claim all tables, and agree with them on what their files look like, where none of them
        refuses.
        """
        specs = [table_spec(self._topology, self._names, sink) for sink in self.tables.values()]
        tables = [(chain_of(self._world.files(spec.path)), spec) for spec in specs]
        agree_all(tables, self._names.app)

    def lane(
        self,
        tp: TopicPartition,
        writers: int,
        bounds: Callable[[], Awaitable[tuple[int, int]]],
        pauses: Pauses,
        on_refused: Callable[[StreamflowError], None],
    ) -> SinkLane:
        """The lane of a partition; so many tasks (`writers`) write the table."""
        sink, trim = self.tables[tp.topic], self._world.trim
        make = lambda: self._partition(sink, tp, writers)  # noqa: E731
        return SinkLane(tp, make, bounds, trim, pauses, on_refused, self._retry)

    def kept(self, tps: Iterable[TopicPartition]) -> list[Kept]:
        """The tables that a worker with these rows partitions sees to: of each the first one's."""
        self._kept = []
        for tp in tps:
            sink = self.tables[tp.topic]
            if tp.partition or not isinstance(sink.table, Delta) or sink.table.upkeep is None:
                continue
            spec = table_spec(self._topology, self._names, sink)
            table = self._table(spec.path)
            assert isinstance(table, LoggedTable), "it is a Delta table"
            rewriter = Rewriter(table.files, spec.storage, spec.layout, self.holdings.rolls)
            made = Kept(spec.path, table, sink.table.upkeep, spec.target_bytes, rewriter)
            self._kept.append(made)
        return self._kept

    @property
    def upkeep_problems(self) -> dict[str, str]:
        """Tables of this worker that cannot be optimized or vacuumed, and why."""
        return {
            kept.path: "; ".join(kept.problems.values()) for kept in self._kept if kept.problems
        }

    def _partition(self, sink: SinkPlan, tp: TopicPartition, writers: int) -> SinkPartition:
        spec = table_spec(self._topology, self._names, sink, writers)
        return SinkPartition(
            spec,
            tp,
            self._table(spec.path),
            clock=self._clock,
            owner=self._names.app,
            feed=feed_of(sink, spec, bounded=self._bounded),
            faults=self._faults,
            holdings=self.holdings,
        )

    def _table(self, path: str) -> Table:
        table = self._world.files(path)
        if self._breaker is None:
            return table
        guard = self._guards.get(path)
        if guard is None:
            guard = self._guards[path] = Guard(path, self._breaker, self._clock)
        return guarded(table, guard)


def retry_of(settings: Settings) -> RetryPolicy:
    """When a write that failed is tried again: without end, since its rows wait in Kafka."""
    shortest, longest = settings.sink_retry_wait, settings.sink_retry_max_wait
    return RetryPolicy(None, shortest, max(shortest, longest))


def breaker_of(settings: Settings) -> CircuitBreaker | None:
    """The circuit breaker of each table; None for none."""
    failures, open_for = settings.sink_breaker_failures, settings.sink_breaker_open
    if not failures:
        return None
    longest = max(open_for, timedelta(minutes=5))
    return CircuitBreaker(failures, GOOD, max(WINDOW, failures), open_for, longest)
