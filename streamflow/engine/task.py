"""A task: one source of a topology on one partition.

It owns a transactional producer, a changelog partition and a local store. On assignment it fences
its predecessor, brings the store up to the changelog, and says where to read from; then it takes
micro-batches and commits. Any error loses the task: the host closes it and opens it again, which
is the same path as after a crash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from streamflow.batch import MicroBatch, TopicPartition
from streamflow.checks import Brake
from streamflow.clock import from_millis, millis
from streamflow.core.advance import advance, decide, resume
from streamflow.core.breaker import blocked
from streamflow.core.changed import learn_stored
from streamflow.core.keys import META, tables_in
from streamflow.core.names import Names
from streamflow.core.part import Part
from streamflow.core.plan import TaskPlan
from streamflow.core.poison import Screen, TopicLimits
from streamflow.core.recall import Known, known_of
from streamflow.core.seal import seal
from streamflow.core.step import Breaker, Decision, Failure, Step, TaskState
from streamflow.engine.commit import commit
from streamflow.engine.delivery import Delivery
from streamflow.engine.inherit import inherit
from streamflow.engine.refusals import (
    input_ended,
    other_partitions,
    other_topology,
    records_gone,
)
from streamflow.engine.restore import restore
from streamflow.engine.takeover import is_needed, takeover
from streamflow.engine.task_ports import TaskPorts
from streamflow.engine.watched import Watched
from streamflow.errors import StateRefused, TaskLost
from streamflow.stages import Watch


@dataclass(frozen=True)
class TaskLimits:
    """A commit is due at whichever comes first; `bytes` are those of the input records. Of `recall`
    keys the last record is known by its bytes (`core/recall.py`).
    """

    interval: timedelta = timedelta(seconds=1)
    records: int = 50_000
    bytes: int = 32 * 1024 * 1024
    recall: int = 500_000
    delivery: Delivery = "exactly_once"


class Task:
    """One source partition's work. Not for use by several callers at once.

    Caller: the host's lane of this partition.
    Affects: the store (only in `open` and `commit`) and whatever the outbox writes to.
    """

    def __init__(
        self,
        plan: TaskPlan,
        names: Names,
        tp: TopicPartition,
        ports: TaskPorts,
        *,
        partitions: int,
        version: str,
        limits: TaskLimits | None = None,
        resume_before: datetime | None = None,
    ) -> None:
        self.plan = plan
        self.tp = tp
        self.state = TaskState()
        #: Where it begins while it has no state; None for the first record there is.
        self.begin: int | None = None
        #: Was there a state when it was opened?
        self.restored = False
        #: Offsets of the changelog that were read then.
        self.restored_offsets = 0
        #: The tables that the state it opened with was committed for: paths by sinks' names.
        self.tables: dict[str, str] = {}
        self._part = Part(plan, names, tp, version, partitions, ports.masks)
        self._ports = ports
        self._limits_of_topics: Mapping[str, TopicLimits] = {}
        self._limits = limits or TaskLimits()
        self._resume_before = resume_before
        self._steps: list[Step] = []
        self._acks: list[Callable[[], None]] = []
        self.pending = self._pending_bytes = 0  # received, and not committed
        self._since = 0.0
        #: The watermark after everything that is committed.
        self.committed_watermark: int | None = None
        self._end = 0  # where the changelog goes on
        self._failure: Failure | None = None
        self._known: Known | None = None

    @property
    def changelog(self) -> TopicPartition:
        """Its changelog partition."""
        return self._part.changelog

    @property
    def applied(self) -> int:
        """Up to where its local state has the changelog; 0 while it is not open."""
        return self._end

    @property
    def delivery(self) -> Delivery:
        """How it delivers."""
        return self._limits.delivery

    @property
    def watermark(self) -> int | None:
        """The watermark after everything that was received: the smallest of those of its windows
        that have one; None for none yet.
        """
        lag = self.plan.out_of_orderness
        marks = [self.state.watermark(lag, window.name) for window in self.plan.windows]
        return min((m for m in marks if m is not None), default=self.state.watermark(lag))

    @property
    def totals(self) -> Counter[str]:
        """Records per exit: what is committed, and what the next commit will add."""
        totals = Counter(self.state.totals)
        for step in self._steps:
            totals.update(step.counts)
        return totals

    async def open(self, first_offset: int) -> int:
        """Fence, restore, and return the position to read from.

        `first_offset` is the first offset that the source partition still has, where a task that
        has no state begins, unless `begin` says another.

        Raises:
            StateRefused: the state is of another topology or partition count, the position's
                records are gone, or a gate has halted the task.
        """
        await self._ports.outbox.fence()
        self._steps, self._acks = [], []
        self._failure = None
        self.pending = self._pending_bytes = 0
        changelog = str(self._part.changelog)
        ports = self._ports
        reading = Watched(ports.changelog)
        restored = await restore(ports.store, reading, ports.clock, changelog)
        self._end, self.restored_offsets = restored.stop, reading.offsets
        self._limits_of_topics = await self._ports.limits()
        self._known = known_of(self.plan, self._limits.recall)
        meta = self._ports.store.get([META])[0]
        self.restored = meta is not None
        if meta is None:
            position = first_offset if self.begin is None else self.begin
            self.state, self.committed_watermark = self._part.first(position), None
        else:
            self.state, state_id, partitions = inherit(self._part, meta)
            self.tables = tables_in(meta) or {}
            self.committed_watermark = self.watermark
            self._check(state_id, partitions)
        self._check_kept(first_offset)
        await self._take_over(restored.void)
        if self._known is not None:
            learn_stored(self._known, self.state, self._ports.store)
        self.resume_as_told(self._resume_before)
        self._refuse_halted()
        return self.state.position

    async def _take_over(self, void: Collection[bytes]) -> None:
        """Settle what an owner without transactions has left, before anything is committed."""
        provisional = self.delivery == "at_least_once"
        if not is_needed(self.state, void, provisional=provisional):
            return
        ports, now_ms = self._ports, millis(self._ports.clock.now())
        sealed = takeover(
            self._part, self.state, ports.store, void, now_ms, provisional=provisional
        )
        self._end = await commit(sealed, self._part, ports, now_ms=now_ms, expected=self._end)
        self.state = sealed.state

    def go_on(self) -> bool:
        """Let the partition go on where a pause is over by the clock. Does it run?"""
        now = self._ports.clock.now()
        over = [
            watch.name
            for watch, breaker in self.stopped_by.items()
            if watch.threshold.pause is not None
            and now >= from_millis(breaker.fetched or 0) + watch.threshold.pause
        ]
        if over:
            self._take(resume(self.state, over, millis(now)))
        return not self.stopped_by

    @property
    def waits_for_somebody(self) -> bool:
        """Is there a pause that the clock does not end?"""
        return any(watch.threshold.pause is None for watch in self.stopped_by)

    def refuse_to_wait(self) -> None:
        """For a run that ends: raises `StateRefused` when the partition is paused."""
        for watch, breaker in self.stopped_by.items():
            raise StateRefused(self._stopped(watch, breaker, "paused the partition"))

    async def receive(self, batch: MicroBatch, ack: Callable[[], None] = lambda: None) -> None:
        """Take a micro-batch; what lies before the position is skipped, it was done before.

        `ack` is called when the batch is covered by a commit. Nothing has changed while stages wait
        for answers, nor when that is cancelled.

        Raises:
            TaskLost: the batch starts beyond the position, or the record at the position has to be
                tried again.
            StateRefused: the record at the position halts the task.
        """
        position = self.state.position
        if batch.start > position:
            raise TaskLost(f"{self.tp}: wanted offset {position}, got a batch from {batch.start}")
        if batch.stop <= position:
            self._acks.append(ack)
            return
        if self.state.ended is not None and len(batch):
            raise input_ended(self.tp, self.state.ended, batch.stop, self.plan.source.topic)
        if batch.start < position:
            batch = batch.cut(position, batch.stop)
        step = await self._advanced(batch)
        self._acks.append(ack)
        self.pending += len(batch)
        self._pending_bytes += batch.nbytes
        if step.stop > step.start:
            self._take(step)
        self._failure = step.failure
        if self.idle:
            self._raise_failure()

    def end_of_input(self) -> None:
        """Declare that nothing follows the position: every window closes. Idempotent."""
        if self.state.ended is None:
            self.decide(Decision("end_of_input", self.state.position, at=self._now_us()))

    def take_idle(self, watermark: int) -> bool:
        """Give the partition, which is idle, a watermark, where that makes something final or is
        `idle_after` beyond its own; what is less is not worth a commit. Was it given?
        """
        own, idle_after = self.watermark, self.plan.idle_after
        if self.state.ended is not None or (own is not None and watermark <= own):
            return False
        decision = Decision("idle", self.state.position, watermark, self._now_us())
        step = decide(self.plan, self.state, self._ports.store, self.tp, decision)
        small = own is not None and idle_after is not None and watermark - own < idle_after
        if small and not step.erased and not step.results:
            return False
        self._take(step)
        return True

    def decide(self, decision: Decision) -> None:
        """Apply a decision of a clock, for the first time or in a replay."""
        self._take(decide(self.plan, self.state, self._ports.store, self.tp, decision))

    @property
    def stopped_by(self) -> dict[Watch | Brake, Breaker]:
        """The thresholds of gates for which nothing beyond the position is processed."""
        return blocked(self.plan.watches, self.state.breakers)

    @property
    def due(self) -> bool:
        """Is it time to commit?"""
        if not self._steps:
            return False
        waited = self._ports.clock.monotonic() - self._since
        limits = self._limits
        if self.stopped_by or self._failure is not None:
            return True
        full = self.pending >= limits.records or self._pending_bytes >= limits.bytes
        return full or waited >= limits.interval.total_seconds()

    @property
    def idle(self) -> bool:
        """Is everything that was received committed?"""
        return not self._steps

    async def commit(self) -> bool:
        """Commit what was received; False when there is nothing to commit.

        Raises:
            TaskLost: take the task up again, also to try a record again.
            StateRefused: it is committed that a gate has halted the task, or all before a record
                that does; or what only streamflow can have is too large for its topic.
        """
        if not self._steps:
            self._acknowledge()
            return False
        now_ms = millis(self._ports.clock.now())
        screen = Screen(self._limits_of_topics, self._ports.suspects.alone)
        sealed = seal(self._part, self._steps, self._ports.store, now_ms=now_ms, screen=screen)
        self._end = await commit(
            sealed,
            self._part,
            self._ports,
            now_ms=now_ms,
            expected=self._end,
            ack=self._acknowledge,
        )
        self.state = sealed.state
        self.committed_watermark = self.watermark
        self._steps = []
        self.pending = self._pending_bytes = 0
        self._refuse_halted()
        self._raise_failure()
        return True

    async def close(self) -> None:
        """Give up producer and store. What was not committed is forgotten."""
        self._steps, self._acks = [], []
        try:
            await self._ports.outbox.close()
        finally:  # also when that is cancelled: the next life opens the same store
            self._ports.store.close()

    async def _advanced(self, batch: MicroBatch) -> Step:
        """What comes of a micro-batch, with the answers that its stages ask for."""
        advancing = advance(self.plan, self.state, self._ports.store, batch, self._known)
        answers: Any = None
        while True:
            try:
                ask = advancing.send(answers)
            except StopIteration as done:
                return done.value
            answers = await self._ports.answer(ask)

    def _take(self, step: Step) -> None:
        if not self._steps:
            self._since = self._ports.clock.monotonic()
        self._steps.append(step)
        self.state = step.state
        if self._known is not None:
            self._known.learn(step.learned)

    def resume_as_told(self, told: datetime | None) -> None:
        """Go on where a gate stopped before somebody told it to go on."""
        if told is None:
            return
        names = [
            watch.name
            for watch, one in self.stopped_by.items()
            if from_millis(one.fetched or 0) <= told
        ]
        if names:
            self._take(resume(self.state, names, millis(told)))

    def _refuse_halted(self) -> None:
        for watch, breaker in self.stopped_by.items():
            if watch.threshold.action == "halt":
                raise StateRefused(self._stopped(watch, breaker, "halted the task"))

    def _stopped(self, watch: Watch | Brake, breaker: Breaker, how: str) -> str:
        return (
            f"{self.tp}@{breaker.tripped}: {watch.words(how)}. All up to there is committed, "
            "nothing after it is processed; look at the records, mend their origin or the rule, "
            "and start the worker with --resume"
        )

    def _raise_failure(self) -> None:
        """Once all before it is committed."""
        if (failure := self._failure) is None:
            return
        where = f"{self.tp}@{failure.offset}: {failure.stage} fails on this record"
        why = self._part.words(failure.message)
        if failure.on_error == "retry":
            raise TaskLost(f"{where}, which is tried again: {why}")
        raise StateRefused(
            f"{where}: {why}. All before it is committed, nothing after it is "
            "processed; mend the function, or what it depends on, and start the worker again"
        )

    def _now_us(self) -> int:
        return round(self._ports.clock.now().timestamp() * 1_000_000)

    def _acknowledge(self) -> None:
        acks, self._acks = self._acks, []
        for ack in acks:
            ack()

    def _check(self, state_id: str, partitions: int) -> None:
        if state_id != self.plan.state_id:
            raise other_topology(self.tp, self._part.changelog, self.plan.source.topic)
        if partitions != self._part.partitions:
            raise other_partitions(self.tp, partitions, self._part.partitions)

    def _check_kept(self, first_offset: int) -> None:
        if first_offset > self.state.position:
            position, source = self.state.position, self.plan.source.topic
            raise records_gone(self.tp, position, first_offset, source)
