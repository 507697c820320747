"""Drives a topology in memory, through the production `advance`, commit and roll.

Time moves only when the test says so: by the event time of what is sent, and by `advance`; silent
partitions become idle by it as in production. A crash at any named step is a context manager; after
it the tasks and sinks are taken up again as in production, from changelog and chain. A lookup that
fails is tried again at once, and its circuit breaker stays closed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from datetime import datetime, timedelta
from itertools import count, cycle
from typing import Any

import pyarrow as pa

from streamflow.batch import Headers, Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.keys import recorded
from streamflow.core.masking import Masks
from streamflow.core.names import Names
from streamflow.core.plan import SinkPlan, TaskPlan
from streamflow.core.step import Decision
from streamflow.edges.memory import (
    MemoryBroker,
    MemoryChangelog,
    MemoryOutbox,
    MemoryPlainOutbox,
    MemoryStore,
)
from streamflow.engine.archive_feed import feed_of
from streamflow.engine.chain import agree_all, chain_of
from streamflow.engine.delivery import Delivery
from streamflow.engine.idle_watch import Board, Fetch, IdleWatch
from streamflow.engine.lookups import Lookups, no_wait
from streamflow.engine.replay import Replay
from streamflow.engine.sink import SinkPartition
from streamflow.engine.suspects import Suspects
from streamflow.engine.sync import Beside, run_sync
from streamflow.engine.table_spec import table_spec
from streamflow.engine.task import Task, TaskLimits
from streamflow.engine.task_ports import TaskPorts
from streamflow.errors import Fenced, Refused, TaskLost
from streamflow.testing.readable import readable
from streamflow.testing.sending import record_of, source_of
from streamflow.testing.tables import Tables
from streamflow.topology import Topology

#: What a driver masks sensitive fields with.
MASKING_KEY = b"a key of a test"


class Crash(BaseException):
    """The process died at a named step: nothing between there and the driver may catch it."""


class TopologyDriver:
    """A topology on an in-memory Kafka.

    Args:
        topology: The topology under test.
        now: The time of day at the start.
        partitions: Partitions of each source topic.
        batches: Sizes of the micro-batches, in turns; results must not depend on them.
        commit_records: Records per commit; results must not depend on it either.
        keep_disk: Whether local state survives a crash; without it all comes from the changelog.
        decisions: What a clock decided in an earlier run, `decisions` of its driver: applied again,
            and none is taken anew. An empty mapping has all judged by event time alone.
        recall_keys: As the setting; results must not depend on it.
    """

    def __init__(
        self,
        topology: Topology,
        now: datetime,
        *,
        partitions: int = 1,
        batches: Sequence[int] = (1_000,),
        commit_records: int = 1,
        keep_disk: bool = True,
        decisions: Mapping[TopicPartition, Sequence[Decision]] | None = None,
        recall_keys: int = 500_000,
    ) -> None:
        self.clock = SimulatedClock(now)
        self.broker = MemoryBroker(self._now_ms())
        #: As the setting; it holds from the next start on.
        self.delivery: Delivery = "exactly_once"
        self._topology = topology
        self._names = Names(topology.name)
        self._partitions = partitions
        self._batches = cycle(batches)
        self._commit_records = commit_records
        self._keep_disk = keep_disk
        self._recall_keys = recall_keys
        self._replayed = decisions
        self._crash_at: str | None = None
        self._crash_after = 0
        self._resume_before: datetime | None = None
        self._stores: dict[TopicPartition, MemoryStore] = {}
        self._tables = Tables()
        self._suspects: defaultdict[TopicPartition, Suspects] = defaultdict(Suspects)
        self._tasks: dict[TopicPartition, Task] = {}
        self._watches: dict[TopicPartition, IdleWatch] = {}
        self._stamps = count()
        self._beside = Beside()
        self._sinks: dict[TopicPartition, SinkPartition] = {}
        self._create_topics()
        self._open_all()

    def send(self, topic: str, *records: Any, headers: Headers = ()) -> None:
        """Send records and process all there is.

        A record is a mapping (its JSON becomes the value, its key field the key), bytes (the value,
        keyed like the record before it or not at all), or a `Record`.
        """
        source = source_of(self._topology, topic)
        for record in records:
            made = record_of(record, source, headers)
            self.broker.append(self.broker.place(topic, made.key), made)
        self.process()

    def process(self) -> None:
        """Process everything that is in the topics and not done yet, and commit it."""
        for tp in self._tasks:
            self._until_taken(tp, self._run_task)
        self._give_idle()
        self._run_sinks()

    def advance(self, by: timedelta) -> None:
        """Let time pass; the worker is at work and the broker answers all the while."""
        self.clock.advance(by)
        self.broker.now_ms = self._now_ms()
        self.process()
        for sink in self._sinks.values():
            sink.tick()

    def end_of_input(self) -> None:
        """Declare the end of every source, as `--until-end` does; every window closes, and all that
        is archived is visible.
        """
        for tp in self._tasks:
            self._until_taken(tp, self._end_input)
        self._run_sinks()
        for sink in self._sinks.values():
            if sink.spec.source is not None:
                sink.roll()

    @contextmanager
    def crash(self, *, at: str, after: int = 0) -> Generator[None]:
        """Let the process die when it gets to this step, once, having passed it `after` times;
        afterwards it is started again.
        """
        self._crash_at, self._crash_after = at, after
        try:
            yield
        except Crash:
            self.restart()
        finally:
            self._crash_at = None

    def restart(self) -> None:
        """Start as after a crash: only topics, files and (with `keep_disk`) local state remain."""
        if not self._keep_disk:
            self._stores.clear()
        self._open_all()

    def resume(self) -> None:
        """Start as with `--resume`: go on, half open, where a gate has stopped a partition."""
        self._resume_before = self.clock.now()
        self._open_all()
        self._resume_before = None
        self.process()

    def overtake(self) -> Callable[[], None]:
        """Start again while the process before it is only thought dead. What is returned lets that
        one work and commit once more, as far as it gets.
        """
        tasks = self._tasks
        self._stores = deepcopy(self._stores)  # the other one has a disk of its own
        self.restart()

        def wake() -> None:
            for tp, task in tasks.items():
                with suppress(TaskLost):
                    self._work_off(tp, task)

        return wake

    def deploy(self, topology: Topology) -> None:
        """Stop, and start another version of the topology on the same topics, tables and state.

        Raises:
            SinkRefused: a table could not be read as one any more.
            StateRefused: the state is of other windows.
        """
        self._topology = topology
        self._create_topics()
        self._open_all()

    def read(self, topic: str) -> list[dict[str, Any]]:
        """The values of all records of a topic, partition by partition.

        Times come back as `datetime`; dead letters and late records have their context beside the
        original value's fields: `offset`, `reason` and `rule`, or `lateness`.
        """
        return [readable(record) for record in self.broker.records(topic)]

    def records(self, topic: str) -> list[Record]:
        """All records of a topic as they are."""
        return self.broker.records(topic)

    def files(self, path: str) -> list[dict[str, Any]]:
        """All rows of a table, without the columns that begin with `_`."""
        rows: list[dict[str, Any]] = []
        for table in self.tables(path):
            names = [name for name in table.column_names if not name.startswith("_")]
            rows += table.select(names).to_pylist()
        return rows

    def tables(self, path: str) -> list[pa.Table]:
        """The content of every visible file of a table."""
        return self._tables.visible(path)

    @property
    def totals(self) -> Counter[str]:
        """Records per exit, over all tasks."""
        totals: Counter[str] = Counter()
        for task in self._tasks.values():
            totals.update(task.totals)
        return totals

    @property
    def rules(self) -> Counter[str]:
        """How often each rule was broken, and what stages count by name, over what is committed."""
        counts = Counter[str]()
        for task in self._tasks.values():
            counts.update(task.state.rules)
        return counts

    def phase(self, gate: str, source: TopicPartition) -> str:
        """Is this threshold of a gate closed, open or half open?"""
        breaker = self._tasks[source].state.breakers.get(gate)
        return "closed" if breaker is None else breaker.phase

    @property
    def decisions(self) -> dict[TopicPartition, list[Decision]]:
        """What a clock has decided so far, as it was recorded."""
        return {tp: recorded(self._stores[tp]) for tp in self._tasks}

    def _until_taken(self, tp: TopicPartition, work: Callable[[TopicPartition], None]) -> None:
        """Work, and take the task up again when it is refused or fenced, as a lane does."""
        plans = {plan.source.topic: plan for plan in self._topology.tasks}
        while True:
            try:
                return work(tp)
            except (Refused, Fenced):
                self._tasks[tp] = self._open_task(plans[tp.topic], tp)

    def _end_input(self, tp: TopicPartition) -> None:
        self._run_task(tp)
        self._tasks[tp].end_of_input()
        run_sync(self._tasks[tp].commit())

    def _run_task(self, tp: TopicPartition) -> None:
        self._work_off(tp, self._tasks[tp])

    def _work_off(self, tp: TopicPartition, task: Task) -> None:
        end = self.broker.partition(tp).next_offset
        replay = Replay((self._replayed or {}).get(tp, ()))
        replay.apply(task)
        while task.go_on() and task.state.position < end:
            batch = self.broker.fetch(tp, task.state.position, next(self._batches))
            run_sync(task.receive(replay.cut(batch)))
            replay.apply(task)
            if len(batch) and tp in self._watches:
                self._watches[tp].record()
            if task.due:
                run_sync(task.commit())
        run_sync(task.commit())

    def _give_idle(self) -> None:
        """Give idle partitions their watermarks, until none of them changes what another gets."""
        given = True
        while given:
            for tp, watch in self._watches.items():
                watch.look(self._tasks[tp])
            marks = {tp: watch.watermark for tp, watch in self._watches.items()}
            given = False
            for tp, mark in marks.items():
                if mark is not None and self._tasks[tp].take_idle(mark):
                    self._until_taken(tp, lambda tp: _committed(self._tasks[tp]))
                    given = True

    def _fetched(self, tp: TopicPartition) -> Fetch:
        return Fetch(self.broker.partition(tp).next_offset, next(self._stamps))

    def _run_sinks(self) -> None:
        for tp, sink in self._sinks.items():
            while sink.wanted < self.broker.partition(tp).next_offset:
                done = sink.receive(self.broker.fetch(tp, sink.wanted, next(self._batches)))
                if done is not None:
                    self.broker.partition(tp).trim(done)

    def _open_all(self) -> None:
        self._tasks, self._sinks, self._watches = {}, {}, {}
        lookups = Lookups(self.clock, wait=no_wait, breaking=False)
        self._answer = self._beside.blocking(lookups.answer)
        specs = [table_spec(self._topology, self._names, t) for t in self._topology.tables]
        at = [chain_of(self._tables.of(t.table), self.clock) for t in self._topology.tables]
        agree_all(list(zip(at, specs, strict=True)), self._names.app)
        for plan in self._topology.tasks:
            partitions = len(self.broker.topics[plan.source.topic])
            board, idle_after = Board(partitions), plan.source.idle_after
            for partition in range(partitions):
                tp = TopicPartition(plan.source.topic, partition)
                self._tasks[tp] = self._open_task(plan, tp)
                if idle_after is not None and self._replayed is None:
                    watch = IdleWatch(tp, board, idle_after, self._fetched, self.clock)
                    self._watches[tp] = watch
                    watch.look(self._tasks[tp])
                for sink in plan.all_sinks:
                    rows = TopicPartition(self._names.rows(sink.name), partition)
                    self._sinks[rows] = self._open_sink(sink, rows)
        for sink in self._topology.archives:
            topic = str(sink.source)
            self.broker.create(topic, self._partitions)
            for partition in range(len(self.broker.topics[topic])):
                tp = TopicPartition(topic, partition)
                self._sinks[tp] = self._open_sink(sink, tp)

    def _open_task(self, plan: TaskPlan, tp: TopicPartition) -> Task:
        store = self._stores.setdefault(tp, MemoryStore())
        changelog = TopicPartition(self._names.changelog(plan.source.topic), tp.partition)
        outbox = MemoryOutbox if self.delivery == "exactly_once" else MemoryPlainOutbox
        ports = TaskPorts(
            outbox(self.broker, self._names.producer(tp)),
            MemoryChangelog(self.broker, changelog),
            store,
            self.clock,
            self._faults,
            self._answer,
            self.broker.topic_limits,
            self._suspects[tp],
            Masks(MASKING_KEY),
        )
        task = Task(
            plan,
            self._names,
            tp,
            ports,
            partitions=len(self.broker.topics[tp.topic]),
            version=self._topology.version,
            limits=TaskLimits(
                records=self._commit_records, recall=self._recall_keys, delivery=self.delivery
            ),
            resume_before=self._resume_before,
        )
        run_sync(task.open(self.broker.partition(tp).first_offset))
        return task

    def _open_sink(self, sink: SinkPlan, tp: TopicPartition) -> SinkPartition:
        spec = table_spec(self._topology, self._names, sink, len(self.broker.topics[tp.topic]))
        opened = SinkPartition(
            spec,
            tp,
            self._tables.of(sink.table),
            clock=self.clock,
            owner=self._names.app,
            feed=feed_of(sink, spec),
            faults=self._faults,
        )
        log = self.broker.partition(tp)
        opened.open(log.first_offset, log.next_offset)
        return opened

    def _create_topics(self) -> None:
        """Those that are not there yet."""
        for plan in self._topology.tasks:
            internal = [self._names.rows(sink.name) for sink in plan.all_sinks]
            internal.append(self._names.changelog(plan.source.topic))
            for topic in (plan.source.topic, *plan.output_topics, *internal):
                self.broker.create(topic, self._partitions)

    def _faults(self, point: str) -> None:
        if point == self._crash_at:
            self._crash_after -= 1
            if self._crash_after < 0:
                self._crash_at = None
                raise Crash(point)

    def _now_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)


def _committed(task: Task) -> None:
    run_sync(task.commit())
