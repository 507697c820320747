"""The host: which tasks and sinks this worker runs, from assignment to revocation.

Faust decides the partitions; the host opens a lane for each that belongs to the topology, tells
where to read from, and closes all of them when partitions are revoked. Whatever only a person can
settle stops the worker with its words.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from streamflow.batch import TopicPartition
from streamflow.clock import Clock
from streamflow.core.plan import TaskPlan
from streamflow.engine.broker_wait import BrokerWait
from streamflow.engine.cancelled import cancelled
from streamflow.engine.delivery import Delivery
from streamflow.engine.directives import Directives
from streamflow.engine.faults import Faults
from streamflow.engine.group_offset import see_that_they_agree
from streamflow.engine.idle_watch import Board, Fetches, IdleWatch
from streamflow.engine.inbox import Arrival
from streamflow.engine.left_behind import refuse_left_behind, refuse_sources_left
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.opening import until_it_passes
from streamflow.engine.pauses import Consumption, Pauses
from streamflow.engine.refusals import source_grew
from streamflow.engine.settings import WORKER_WAIT, Settings
from streamflow.engine.sharing import Sharing
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.sink_stage import SinkStage
from streamflow.engine.standbys import Standbys
from streamflow.engine.task import Task, TaskLimits
from streamflow.engine.task_lane import TaskLane
from streamflow.engine.upkeep import upkeep
from streamflow.engine.watchdog import Standing, Watchdog, unexplained
from streamflow.engine.world import World
from streamflow.errors import StreamflowError
from streamflow.ranges import Ranges
from streamflow.topology import Topology

log = logging.getLogger(__name__)


class Host:
    """Tasks and sinks of one topology on one worker."""

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        world: World,
        clock: Clock,
        faults: Faults,
    ) -> None:
        self.topology = topology
        self.settings = settings
        self.names = settings.names(topology.name)
        #: What a bounded run reads; None for a live worker.
        self.ranges: Ranges | None = None
        self.failure: StreamflowError | None = None
        self.finished = asyncio.Event()
        self.tasks: dict[TopicPartition, TaskLane] = {}
        self.sinks: dict[TopicPartition, SinkLane] = {}
        #: Where partitions ended when the broker was last asked.
        self.ends: dict[TopicPartition, int] = {}
        self._world = world
        self._clock = clock
        self._started = clock.now()
        #: For as long as no broker answers at the start.
        self.broker_wait = BrokerWait(settings.wait_for_broker(WORKER_WAIT), clock)
        self._faults = faults
        #: Has this worker got its partitions, and nothing taken them away since?
        self.assigned = False
        #: Is it over for good?
        self.closed = False
        self._consumption: Consumption | None = None
        self._pauses: Pauses | None = None
        self._fetches: Fetches = lambda tp: None
        self._boards: dict[str, Board] = {}
        self._directives = Directives(lambda: world.log(self.names.control))
        self._always: list[asyncio.Task[None]] = []
        on_stalled = self.refuse if settings.stall_exit else None
        # Between commits nothing is done for good, and that may be long on purpose.
        seconds = max(settings.stall_timeout, 3 * settings.commit_interval).total_seconds()
        self._watchdog = Watchdog(clock, seconds, self._standing, world.bounds, on_stalled)
        self._beside: list[asyncio.Task[Any]] = []
        self._partitions: Mapping[str, int] = {}
        #: Follows the states of tasks that other workers have.
        self.standbys = Standbys(world.bounds, self._rejoin, clock)
        self._plans = {self.names.source(p.source.topic): p for p in topology.tasks}
        self.stage = SinkStage(topology, self.names, settings, world, clock, faults)

    @property
    def source_topics(self) -> list[str]:
        """Topics whose micro-batches go to tasks."""
        return list(self._plans)

    @property
    def rows_topics(self) -> list[str]:
        """Topics whose micro-batches go to the sink stage."""
        return list(self.stage.tables)

    @property
    def reading(self) -> dict[TopicPartition, TaskLane | SinkLane]:
        """The partitions of topics of others that this worker reads: of sources, and archived."""
        kept = self.stage.archives
        return {**self.tasks, **{tp: lane for tp, lane in self.sinks.items() if tp.topic in kept}}

    @property
    def partitions(self) -> Mapping[str, int]:
        """Partition counts of the source topics."""
        return self._partitions

    @property
    def delivery(self) -> Delivery:
        """How tasks deliver; known after `prepare`."""
        return self._world.delivery

    @property
    def lookups(self) -> Mapping[str, LookupCounts]:
        """What its `enrich` stages have asked for so far."""
        return self._world.lookups

    async def prepare(self, consumption: Consumption) -> None:
        """Before anything is consumed: wait for the broker, make missing topics and agree with the
        tables on what their files look like.
        """
        self._consumption, self._pauses = consumption, Pauses(consumption)
        self._fetches = consumption.fetched
        self._partitions = await self.broker_wait.through(self._world.prepare)
        self.ranges = await self._world.ranges()
        await self.standbys.begin(self._world.states(), consumption.seating)
        await asyncio.to_thread(self.stage.agree)
        self._always = [
            asyncio.create_task(self._directives.run(), name="directives"),
            asyncio.create_task(self._watchdog.run(), name="watchdog"),
        ]

    @property
    def waits(self) -> dict[TopicPartition, dict[str, str]]:
        """Of the partitions that wait the reasons, each with what there is to say of it."""
        words = self._pauses.words() if self._pauses is not None else {}
        return {tp: {str(reason): what for reason, what in by.items()} for tp, by in words.items()}

    async def assign(self, assigned: Iterable[Any]) -> None:
        """Hold every partition of ours, and begin to open their lanes; each is let go when it is
        open. Returns before that: Faust waits for this, and for nothing ever again when it takes
        too long; and a revocation that comes meanwhile finds all there is to release.
        """
        await self.release()
        if self.closed:
            return
        assert self._pauses is not None, "prepare() comes first"
        tps = [TopicPartition(tp.topic, tp.partition) for tp in assigned]
        await self.standbys.follow([tp for tp in tps if tp.topic in self._plans])
        self._boards = {topic: Board(self._partitions[topic]) for topic in self._plans}
        self.tasks = {tp: self._task_lane(tp) for tp in tps if tp.topic in self._plans}
        self.sinks = {tp: self._sink_lane(tp) for tp in tps if tp.topic in self.stage.tables}
        lanes: list[TaskLane | SinkLane] = [*self.tasks.values(), *self.sinks.values()]
        await self._pauses.hold([lane.tp for lane in lanes], "opening")
        grown = asyncio.create_task(self._passed("the source topics", self._see_to_sources))
        # Each by itself: `gather` lets go of what has not heard of its cancellation (`cancelled`).
        opening = [asyncio.create_task(self._open_after(grown, lane)) for lane in lanes]
        self._beside = [grown, *opening]
        self._share()
        self._beside += self._upkeep()
        self.assigned = True

    @property
    def stalled(self) -> list[TopicPartition]:
        """Partitions in which nothing is done, though there is something to do, and no pause."""
        return self._watchdog.stalled

    def _standing(self) -> dict[TopicPartition, Standing]:
        return unexplained({**self.tasks, **self.sinks}, self.waits)

    async def revoke(self) -> None:
        """Release while the group waits for us: within half the session time-out at the most."""
        session = self.settings.session_timeout.total_seconds()
        await self.release(min(session / 2, self.settings.shutdown_timeout.total_seconds()))

    async def release(self, within: float | None = None) -> None:
        """Commit what is in hand, within the shutdown time-out, and close every lane."""
        timeout = self.settings.shutdown_timeout.total_seconds() if within is None else within
        self.assigned = False
        beside, self._beside = self._beside, []
        await asyncio.gather(*(cancelled(task) for task in beside))
        if self._pauses is not None:
            self._pauses.forget()
        tasks, self.tasks = self.tasks, {}
        sinks, self.sinks = self.sinks, {}
        lanes = [*tasks.values(), *sinks.values()]
        closing = [lane.close(timeout) for lane in tasks.values()]
        closed = await asyncio.gather(
            *closing, *(lane.close() for lane in sinks.values()), return_exceptions=True
        )
        for lane, error in zip(lanes, closed, strict=True):
            if error is not None:  # a rebalance waits for us: the others have to go on
                log.error("%s: not closed well: %r", lane.tp, error)
        self.standbys.closed({tp: lane.task.applied for tp, lane in tasks.items() if lane.task})

    async def close(self) -> None:
        """Release everything and give up the edges; nothing is opened after it."""
        self.closed = True
        await self.release()
        await asyncio.gather(*(cancelled(task) for task in self._always))
        await self.standbys.close()
        await self._world.close()

    async def receive(self, arrival: Arrival) -> None:
        """Hand a micro-batch to its lane; one that is no longer ours is left to its new owner."""
        tp = arrival.batch.tp
        lane = self.tasks.get(tp) or self.sinks.get(tp)
        if lane is not None:
            await lane.put(arrival)

    def refuse(self, error: StreamflowError) -> None:
        """Stop the worker: a person has to look at this."""
        log.error("%s", error)
        self.failure = self.failure or error
        self.finished.set()

    async def watch(self) -> None:
        """Until a bounded input is in visible files, then say so through `finished`."""
        while not self.finished.is_set():
            if self.settings.bounded and self._all_done():
                self.finished.set()
                return
            await asyncio.sleep(0.1)

    def _all_done(self) -> bool:
        lanes: list[TaskLane | SinkLane] = [*self.tasks.values(), *self.sinks.values()]
        return bool(self.reading) and all(lane.done for lane in lanes)

    async def _open_after(self, grown: asyncio.Task[bool], lane: TaskLane | SinkLane) -> None:
        await asyncio.wait({grown})
        if not grown.cancelled() and grown.result():
            await self._passed(str(lane.tp), partial(self._open, lane))

    async def _passed(self, what: str, step: Callable[[], Awaitable[None]]) -> bool:
        """Do a step, tried again for as long as what fails may pass; else the worker stops."""
        try:
            await until_it_passes(what, step)
        except StreamflowError as error:
            self.refuse(error)
            return False
        return True

    async def _open(self, lane: TaskLane | SinkLane) -> None:
        """Open a lane and begin to work on what comes, unless a gate has stopped the task."""
        assert self._pauses is not None, "prepare() comes first"
        if isinstance(lane, TaskLane):
            await self._world.states().bring(lane.tp)
        position = await lane.open()
        if isinstance(lane, TaskLane):
            assert lane.task is not None
            read = lane.task.restored_offsets
            log.info("%s: open at %d, %d offsets of its changelog read", lane.tp, position, read)
            await see_that_they_agree(lane.task, self.names, self._world, self._clock)
            await refuse_left_behind(lane.task, self.names, self.stage.tables, self._world)
            await self._directives.known.wait()
            await lane.hold()
        await self._seek_one(lane.tp, position)
        lane.start()
        await self._pauses.remove(lane.tp, "opening")

    async def _rejoin(self) -> None:
        """Another worker has a task of ours: see what the group says is ours."""
        assert self._consumption is not None, "prepare() comes first"
        await self._consumption.rejoin()

    def _task_lane(self, tp: TopicPartition) -> TaskLane:
        assert self._pauses is not None, "prepare() comes first"
        plan = self._plans[tp.topic]
        lane = TaskLane(
            tp,
            lambda: self._task(plan, tp),
            lambda: self._task_bounds(tp),
            self._seek_one,
            self._pauses,
            self.refuse,
            interval=min(self.settings.commit_interval.total_seconds(), 1.0) / 4,
            bounded=self.settings.bounded,
        )
        lane.watch = self._watch(plan, tp)
        lane.directive = lambda: self._directives.on(tp)
        lane.on_fenced = self._rejoin
        return lane

    def _watch(self, plan: TaskPlan, tp: TopicPartition) -> IdleWatch | None:
        """A bounded run needs none: its input has an end."""
        idle_after = plan.source.idle_after
        if idle_after is None or self.settings.bounded:
            return None
        return IdleWatch(tp, self._boards[tp.topic], idle_after, self._fetches, self._clock)

    def _upkeep(self) -> list[asyncio.Task[None]]:
        assert self._pauses is not None, "prepare() comes first"
        filled = {rows: self._sources_of(rows) for rows in self.sinks}
        lanes, kept = (self.tasks, self.sinks), self.stage.kept(self.sinks)
        return upkeep(self.settings, *lanes, filled, kept, self._pauses, self._world, self._clock)

    def _sources_of(self, rows: TopicPartition) -> list[TopicPartition]:
        """The source partitions of ours whose rows come through this partition."""
        tps = [TopicPartition(topic, rows.partition) for topic in self._filling(rows.topic)]
        return [tp for tp in tps if tp in self.tasks]

    def _filling(self, rows_topic: str) -> list[str]:
        """The sources whose tasks write rows there."""
        sink = self.stage.tables[rows_topic]
        return [topic for topic, plan in self._plans.items() if sink in plan.all_sinks]

    def _share(self) -> None:
        """Share the watermarks of sources of which other workers have partitions too."""
        for topic, board in self._boards.items():
            own = {
                tp.partition for tp, lane in self.tasks.items() if lane.watch and tp.topic == topic
            }
            if 0 < len(own) < board.partitions:
                sharing = Sharing(board, own, self._world.marks(topic), self._clock)
                running = asyncio.create_task(sharing.run(), name=f"watermarks of {topic}")
                self._beside.append(running)

    def _task(self, plan: TaskPlan, tp: TopicPartition) -> Task:
        task = Task(
            plan,
            self.names,
            tp,
            self._world.task_ports(tp),
            partitions=self._partitions[tp.topic],
            version=self.topology.version,
            limits=TaskLimits(
                self.settings.commit_interval,
                self.settings.commit_records,
                self.settings.commit_bytes,
                self.settings.recall_keys,
                self._world.delivery,
            ),
            resume_before=self._resume_before(tp),
        )
        if self.ranges is not None:
            task.begin = self.ranges.offsets[tp][0]
        return task

    def _resume_before(self, tp: TopicPartition) -> datetime | None:
        """Where gates have stopped a task before this, it goes on."""
        said = self._directives.on(tp)
        told = [self._started] if self.settings.resume else []
        if said is not None and not said.paused:
            told.append(said.at)
        return max(told, default=None)

    def _sink_lane(self, tp: TopicPartition) -> SinkLane:
        assert self._pauses is not None, "prepare() comes first"
        filling = [self._partitions[topic] for topic in self._filling(tp.topic)]
        writers = max(filling, default=0)
        return self.stage.lane(tp, writers, lambda: self._bounds(tp), self._pauses, self.refuse)

    async def _see_to_sources(self) -> None:
        """New partitions bring a rebalance; they would split the keys of the tasks there are. And
        what has left may have left rows.
        """
        now = await self._world.partitions()
        for topic, then in self._partitions.items():
            if now.get(topic, then) != then:
                raise source_grew(topic, then, now[topic])
        read = {*self._plans, *self.stage.tables}
        await refuse_sources_left(self.names, read, self.stage.tables, self._world)

    async def _bounds(self, tp: TopicPartition) -> tuple[int, int]:
        first, stop = (await self._world.bounds([tp]))[tp]
        self.ends[tp] = stop
        return first, stop

    async def _task_bounds(self, tp: TopicPartition) -> tuple[int, int]:
        first, stop = await self._bounds(tp)
        return first, stop if self.ranges is None else self.ranges.offsets[tp][1]

    async def _seek_one(self, tp: TopicPartition, position: int) -> None:
        assert self._consumption is not None, "prepare() comes first"
        await self._consumption.seek({tp: position})
