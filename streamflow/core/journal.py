"""The run journal: what every worker process has done in a run of an app, and what follows of it.

An *execution* is one process of a worker, from its start to its end. It is written down under a key
of its own, by itself alone, so that the newest record of each is all there is to know. A *run* is
the live app, or a bounded part of its sources under a run id; how it stands follows from its
executions and is written nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson

from streamflow.batch import Record, TopicPartition
from streamflow.ranges import Ranges
from streamflow.rules import score

State = Literal["pending", "running", "success", "failed", "cancelled", "lost"]

#: What the run of the live app is called.
LIVE = "live"
FORMAT = 1
#: An execution that runs says so this often, and is `lost` when it has not for this long.
TELL_SECONDS = 15.0
LOST_AFTER = timedelta(minutes=3)
#: What is written of an execution; what has ended has ended. Nobody writes that he is lost.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    "running": frozenset({"running", "success", "failed", "cancelled"}),
    "success": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
#: Longer words of a failure are cut.
WORDS = 2_000


@dataclass(frozen=True)
class Progress:
    """How far the task of a source partition was when its process looked last, `at` that time: the
    offset after all that is processed, if its bounded input is done, and its records per exit since
    the app, or the run, began. Of a partition that is archived, up to where it is in the table.
    """

    at: datetime
    position: int
    done: bool = False
    totals: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Execution:
    """One process of a worker.

    Attributes:
        run: The run's id, `live` for the live app.
        id: Its own, never used again.
        worker: What the worker is called, and who has started it on which machine.
        topology, version: What it runs.
        delivery: How it delivers.
        state: `running`; `success` when a bounded input is done, `failed` when it ended with an
            error, `cancelled` when it was told to stop.
        started, heard, ended: When it began, was heard of last, and ended. Times are aware.
        error: Why it failed.
        tasks: By source partition, the last that it knew of each; also of those that others have
            by now.
    """

    run: str
    id: str
    worker: str
    by: str
    topology: str
    version: str
    delivery: str
    started: datetime
    heard: datetime
    state: State = "running"
    ended: datetime | None = None
    error: str = ""
    tasks: Mapping[TopicPartition, Progress] = field(default_factory=dict[TopicPartition, Progress])

    def moved(
        self,
        state: State,
        now: datetime,
        tasks: Mapping[TopicPartition, Progress],
        error: str = "",
    ) -> Execution:
        """The execution as it is now.

        Raises:
            ValueError: it has ended, or nobody can say this of himself.
        """
        if state not in TRANSITIONS.get(self.state, frozenset()):
            raise ValueError(f"an execution that is {self.state} does not become {state}")
        return replace(
            self,
            state=state,
            heard=now,
            ended=None if state == "running" else now,
            error=error[:WORDS],
            tasks={**self.tasks, **tasks},
        )

    def seen(self, now: datetime) -> State:
        """Its state for somebody who looks now: `lost` where it should have been heard of."""
        silent = self.state == "running" and now - self.heard > LOST_AFTER
        return "lost" if silent else self.state

    def record(self) -> Record:
        """As it is written down."""
        tasks = [
            {"topic": tp.topic, "partition": tp.partition, **asdict(progress)}
            for tp, progress in self.tasks.items()
        ]
        value = {name: getattr(self, name) for name in (*_WRITTEN, *_TIMES)}
        key = f"{self.run}/{self.id}".encode()
        return Record(key, orjson.dumps({"format": FORMAT, **value, "tasks": tasks}))

    def as_json(self, now: datetime) -> dict[str, Any]:
        """For a machine that asks now."""
        made: dict[str, Any] = {name: getattr(self, name) for name in (*_WRITTEN, *_TIMES)}
        return made | {"state": self.seen(now)}


_TIMES = ("started", "heard", "ended")
_WRITTEN = ("run", "id", "worker", "by", "topology", "version", "delivery", "state", "error")


def decode_execution(value: bytes) -> Execution | None:
    """What a record says; None where it is of a version that this one does not know."""
    try:
        found: Any = orjson.loads(value)
        if found["format"] != FORMAT:
            return None
        tasks = {
            TopicPartition(task["topic"], task["partition"]): Progress(
                _time(task["at"]), task["position"], task["done"], task["totals"]
            )
            for task in found["tasks"]
        }
        given = {name: found[name] for name in _WRITTEN}
        times: dict[str, Any] = {name: found[name] and _time(found[name]) for name in _TIMES}
        return Execution(**given, **times, tasks=tasks)
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Run:
    """How a run stands at one moment.

    Attributes:
        id: Its name, `live` for the live app.
        ranges: What a bounded run reads; None for the live app.
        executions: Its processes, oldest first.
        tasks: By source partition what was said of it last.
    """

    id: str
    ranges: Ranges | None
    executions: Sequence[Execution]
    tasks: Mapping[TopicPartition, Progress]

    def state(self, now: datetime) -> State:
        """`pending` before its first process; `success` when all that it reads is done; else
        `running` while one of its processes is; else how the last one ended.
        """
        if self._all_done():
            return "success"
        states = [one.seen(now) for one in self.executions]
        if not states:
            return "pending"
        if "running" in states:
            return "running"
        # Of a run not all of which is done, a process that succeeded did only its own part.
        last = max(self.executions, key=lambda one: one.heard).seen(now)
        return "cancelled" if last == "success" and self.ranges is not None else last

    @property
    def started(self) -> datetime | None:
        """When its first process began."""
        return min((one.started for one in self.executions), default=None)

    def ended(self, now: datetime) -> datetime | None:
        """When it was over, or last heard of; None while it runs or has not begun."""
        if self.state(now) in ("running", "pending"):
            return None
        return max((one.ended or one.heard for one in self.executions), default=None)

    def worked(self, now: datetime) -> timedelta:
        """For how long at least one of its processes was there. One that was killed was there until
        it was heard of last.
        """
        runs = self.state(now) == "running"
        worked, until = timedelta(0), datetime.min.replace(tzinfo=UTC)
        for one in self.executions:
            stop = now if runs and one.seen(now) == "running" else one.ended or one.heard
            worked += max(stop - max(one.started, until), timedelta(0))
            until = max(until, stop)
        return worked

    @property
    def totals(self) -> Counter[str]:
        """Records per exit, of all its partitions."""
        totals: Counter[str] = Counter()
        for progress in self.tasks.values():
            totals.update(progress.totals)
        return totals

    @property
    def score(self) -> float:
        """100 less the percentage of its records that are dead letters."""
        totals = self.totals
        return score(totals["rejected"], totals["in"])

    @property
    def error(self) -> str:
        """Of the process that was heard of last, why it failed."""
        return max(self.executions, key=lambda one: one.heard).error if self.executions else ""

    def as_json(self, now: datetime) -> dict[str, Any]:
        """For a machine that asks now."""
        return {
            "run": self.id,
            "state": self.state(now),
            "started": self.started,
            "ended": self.ended(now),
            "worked_seconds": self.worked(now).total_seconds(),
            "error": self.error,
            "score": self.score,
            "totals": dict(self.totals),
            "reads": None if self.ranges is None else orjson.loads(self.ranges.encoded()),
            "positions": {str(tp): one.position for tp, one in sorted(self.tasks.items())},
            "executions": [one.as_json(now) for one in self.executions],
        }

    def _all_done(self) -> bool:
        """Is each partition of a bounded run done? The live app is never done."""
        if self.ranges is None:
            return False
        return all(tp in self.tasks and self.tasks[tp].done for tp in self.ranges.offsets)


def runs_of(executions: Iterable[Execution], begun: Iterable[Ranges]) -> list[Run]:
    """All runs that are written down, in the order in which they began; first those that have not
    been heard of.
    """
    ranges = {one.run: one for one in reversed(list(begun))}  # what was written first counts
    by_run: dict[str, list[Execution]] = {run: [] for run in ranges}
    for one in executions:
        by_run.setdefault(one.run, []).append(one)
    made = [
        Run(run, ranges.get(run), sorted(of, key=_began), _latest(of)) for run, of in by_run.items()
    ]
    return sorted(made, key=lambda run: (run.executions != [], *map(_began, run.executions[:1])))


def _began(one: Execution) -> tuple[datetime, str]:
    return one.started, one.id


def _latest(executions: Iterable[Execution]) -> dict[TopicPartition, Progress]:
    """A task moves from process to process, and takes its totals along. By time, not by offset: a
    task that was reset goes back.
    """
    found: dict[TopicPartition, Progress] = {}
    for one in executions:
        for tp, progress in one.tasks.items():
            if tp not in found or progress.at > found[tp].at:
                found[tp] = progress
    return found


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
