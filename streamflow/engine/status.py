"""What a worker is doing, as numbers: for the live display, the summary and monitoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from streamflow.core.seal import from_micros
from streamflow.core.step import INFINITY
from streamflow.engine.delivery import Delivery
from streamflow.engine.lookup_counts import LookupCounts
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.standby import Lag
from streamflow.engine.task import Task
from streamflow.engine.task_lane import TaskLane


@dataclass(frozen=True)
class Status:
    """A worker's tasks and sinks at one moment.

    Attributes:
        totals: Records per exit since the app's first record, committed or about to be.
        rules: How many records broke each rule, committed.
        watermark: The smallest watermark of the tasks that have one; None for none or all ended.
        tasks, opened: Source partitions of this worker, and those of them that are in the totals.
        ended: Tasks whose input was declared complete.
        idle: Tasks whose partition has been silent for so long that it is idle.
        lag: Records that are in the source partitions and not processed, and in archived ones and
            not read; None while unknown.
        archived: Partitions of archived topics of this worker. They are in no totals.
        files, rows, bytes: What the sinks of this worker have made visible since it started.
        paused: Partitions that wait, with the reasons: `opening`, `gate`, `operator`, `breaker`,
            `pressure`; and for each what there is to say of it.
        delivery: How it delivers.
        gates: Per threshold of a gate the number of tasks in which it is closed, open, half open.
        restored: Offsets of changelogs that were read when the tasks of this worker were opened.
        standbys: Tasks of other workers whose states are followed here: how far behind each is, in
            `records` and about so many `bytes`, and the `problem` for which it does not follow.
        circuits: Tables whose circuit breaker is `open` or `half_open` on this worker.
        upkeep: Delta tables that this worker cannot optimize or vacuum, and why.
        lookups: By `enrich` stage what this worker has asked since it started (`LookupCounts`).
    """

    totals: Counter[str]
    rules: Counter[str]
    watermark: datetime | None
    tasks: int
    opened: int
    ended: int
    idle: int
    lag: int | None
    files: int
    rows: int
    bytes: int
    paused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    delivery: Delivery = "exactly_once"
    gates: Mapping[str, Counter[str]] = field(default_factory=dict)
    restored: int = 0
    standbys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    circuits: Mapping[str, str] = field(default_factory=dict)
    upkeep: Mapping[str, str] = field(default_factory=dict)
    lookups: Mapping[str, LookupCounts] = field(default_factory=dict)
    archived: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values for a machine."""
        made = asdict(self)
        made["totals"], made["rules"] = dict(self.totals), dict(self.rules)
        made["gates"] = {name: dict(phases) for name, phases in self.gates.items()}
        made["watermark"] = self.watermark.isoformat() if self.watermark else None
        return made


def worker_status(app: Any) -> Status:
    """What the worker of a topology's app does at this moment."""
    return later_status(app)()


def later_status(app: Any) -> Callable[[], Status]:
    """Says, whenever it is called, what has become of the lanes that there are now: also once the
    app has stopped, and has none.
    """
    host = app.host
    tasks, sinks = dict(host.tasks), dict(host.sinks)
    ends = {tp: _end(app, tp) for tp in host.reading}
    waits, lags = host.waits, host.standbys.lags
    circuits, upkeep = host.stage.circuits, host.stage.upkeep_problems
    lookups = host.lookups
    return lambda: status_of(tasks, sinks, ends, waits, lags, circuits, upkeep, lookups)


def status_of(
    tasks: Mapping[Any, TaskLane],
    sinks: Mapping[Any, SinkLane],
    ends: Mapping[Any, int | None],
    waits: Mapping[Any, Mapping[str, str]],
    standbys: Mapping[Any, Lag] = MappingProxyType({}),
    circuits: Mapping[str, str] = MappingProxyType({}),
    upkeep: Mapping[str, str] = MappingProxyType({}),
    lookups: Mapping[str, LookupCounts] = MappingProxyType({}),
) -> Status:
    """The status of these lanes, also of closed ones; `ends` are the sources' end offsets, `waits`
    the partitions that wait, with reasons, `standbys` how far behind what is followed is,
    `circuits` the tables whose circuit breakers are not closed, `upkeep` those not seen to,
    `lookups` what stages have asked.
    """
    totals: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    marks: list[int] = []
    opened = ended = idle = restored = 0
    for lane in tasks.values():
        if lane.task is None:
            continue
        opened += 1
        state = lane.task.state
        rules.update(state.rules)
        totals.update(lane.task.totals)
        mark = lane.task.watermark
        if mark is not None and mark != INFINITY:
            marks.append(mark)
        ended += state.ended is not None
        idle += lane.idle
        restored += lane.task.restored_offsets
    plain = any(lane.task.delivery == "at_least_once" for lane in tasks.values() if lane.task)
    archives = {tp: lane for tp, lane in sinks.items() if lane.is_archive}
    open_sinks = [lane.sink for lane in sinks.values() if lane.sink is not None]
    return Status(
        totals=totals,
        rules=rules,
        watermark=from_micros(min(marks)) if marks else None,
        tasks=len(tasks),
        opened=opened,
        ended=ended,
        idle=idle,
        lag=_lag(tasks, archives, ends),
        files=sum(sink.written.files for sink in open_sinks),
        rows=sum(sink.written.rows for sink in open_sinks),
        bytes=sum(sink.written.bytes for sink in open_sinks),
        paused={str(tp): dict(reasons) for tp, reasons in waits.items()},
        delivery="at_least_once" if plain else "exactly_once",
        gates=_gates([lane.task for lane in tasks.values() if lane.task is not None]),
        restored=restored,
        standbys={str(tp): lag.as_json() for tp, lag in standbys.items()},
        circuits=dict(circuits),
        upkeep=dict(upkeep),
        lookups=dict(lookups),
        archived=len(archives),
    )


def _gates(tasks: Iterable[Task]) -> dict[str, Counter[str]]:
    """Per threshold in how many tasks it is closed, open, half open."""
    gates: dict[str, Counter[str]] = {}
    for task in tasks:
        for watch in task.plan.watches:
            breaker = task.state.breakers.get(watch.name)
            phase = breaker.phase if breaker is not None else "closed"
            gates.setdefault(watch.name, Counter())[phase] += 1
    return gates


def _lag(
    tasks: Mapping[Any, TaskLane],
    archives: Mapping[Any, SinkLane],
    ends: Mapping[Any, int | None],
) -> int | None:
    read = {tp: lane.task.state.position for tp, lane in tasks.items() if lane.task is not None}
    read |= {tp: lane.read for tp, lane in archives.items()}
    lag = 0
    for tp, position in read.items():
        end = ends.get(tp)
        if end is None:
            return None
        lag += max(end - position, 0)
    return lag


def _end(app: Any, tp: Any) -> int | None:
    """The end offset of a partition that the consumer knows of, or, before it has fetched
    anything of it, that which there was when its lane asked; None before that.
    """
    try:
        end = app.consumer.highwater(tp)
    except Exception:  # there is no assignment at this moment
        end = None
    return app.host.ends.get(tp) if end is None else end


def conservation(totals: Counter[str]) -> list[str]:
    """The balance of every record, as lines that add up or say by how much they do not."""
    exits = ["passed", "rejected", *(["dropped"] if totals["dropped"] else [])]
    came = ["in", *(name for name in ("forked", "expanded") if totals[name])]
    lines = [_balance({k: totals[k] for k in came}, {k: totals[k] for k in exits})]
    if totals["assigned"]:
        parts = {k: totals[k] for k in ("accumulated", "late")}
        lines.append(_balance({"windowed": totals["assigned"]}, parts))
    if totals["undelivered"]:
        lines.append(f"{totals['undelivered']:,} undelivered, which are dead letters of stage sink")
    return lines


def _balance(came: dict[str, int], parts: dict[str, int]) -> str:
    left, right = (
        " + ".join(f"{n:,} {name}" for name, n in side.items()) for side in (came, parts)
    )
    missing = sum(came.values()) - sum(parts.values())
    line = f"{left} = {right}"
    return line if missing == 0 else f"{line}   NOT BALANCED, {missing:+,}"
