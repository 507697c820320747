"""Makes a task go on somewhere else than its changelog says, or without the state that it has.

A reset is a commit of the task, made by a person: it fences the task, and in one transaction writes
a new meta record, the group's offset and a trailer without rows for each table, so that the chains
of commits go on. A crash leaves all as it was, or the reset done.

    forward   records are passed over; all is as if they had never been in the topic
    back      only without the state: what came of the records before is in it, and cannot be taken
              out of it again
    discard   the state is erased, too: first a mark from which no task starts, then the entries,
              some at a time, and last what every reset writes; after a crash it is done again
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from streamflow.core.keys import META, discarding
from streamflow.core.part import Part
from streamflow.core.seal import Sealed, seal
from streamflow.core.step import Step, TaskState
from streamflow.core.table_records import namings
from streamflow.counted import counted
from streamflow.engine.commit import commit
from streamflow.engine.refusals import other_partitions, reset_command
from streamflow.engine.restore import restore
from streamflow.engine.takeover import mended
from streamflow.engine.task_ports import TaskPorts
from streamflow.errors import SettingsError, StateRefused
from streamflow.state.standing import PAGE, Standing, pages

#: Positions that are looked up; any other is an offset.
PLACES = ("changelog", "group", "earliest", "latest")

Changes = list[tuple[bytes, bytes | None]]


@dataclass(frozen=True)
class Reset:
    """A task's new position, and whether its state is forgotten."""

    standing: Standing
    to: int
    discard: bool

    @property
    def needed(self) -> bool:
        """Does it change anything?"""
        standing = self.standing
        return self.discard or not self.to == standing.position == standing.group

    def words(self) -> list[str]:
        """What it does, to whoever has to agree."""
        standing = self.standing
        tp, old, to = standing.place.tp, standing.position, self.to
        if not self.needed:
            return [f"{tp}: changelog and group both say {to}; nothing to do"]
        lines = [f"{tp}: goes on at {to}" + ("" if old in (None, to) else f" instead of {old}")]
        if old is not None and to > old:
            lines.append(
                f"  from {old} on {counted(to - old, 'offset is', 'offsets are')} passed over:"
                " nothing comes of what is there, as if it had never been in the topic"
            )
        if old is not None and to < old:
            lines.append(
                f"  from {to} on {counted(old - to, 'offset is', 'offsets are')} processed again:"
                " all that came of them comes a second time, rows to tables and records to topics"
            )
        if self.discard:
            lines += self._forgotten()
        if standing.group != to:
            was = "has none" if standing.group is None else f"was {standing.group}"
            lines.append(f"  the group's offset, which {was}, becomes {to}")
        return lines

    def _forgotten(self) -> Iterator[str]:
        standing, plan = self.standing, self.standing.place.plan
        count, size = sum(standing.entries.values()), sum(standing.sizes.values())
        yield (
            f"  the state is forgotten: {counted(count, 'entry', 'entries')},"
            f" {counted(size, 'byte')}"
        )
        if plan.kept_windows:
            yield (
                f"    what open windows and checks hold comes to no result; those that began before"
                f" offset {self.to} are computed from the records after it alone, and a window that"
                " was final can have a second final result"
            )
        yield (
            "    keys that dedup and changed remember are new again; watermark, late rows, "
            "thresholds and totals begin anew"
        )


def plan_reset(standing: Standing, to: str, *, discard: bool) -> Reset:
    """What `to`, one of `PLACES` or an offset, means for this task.

    Raises:
        SettingsError: there is no such position.
        StateRefused: it cannot be made exact; the message says what can.
    """
    place, position = standing.place, standing.position
    if standing.partitions not in (None, place.partitions):
        raise other_partitions(place.tp, standing.partitions or 0, place.partitions)
    reset = Reset(standing, _offset(standing, to), discard)
    if discard:
        return reset
    anew = reset_command(place.plan.source.topic, place.tp.partition, f"--to {to} --discard")
    if standing.problem is not None:
        raise StateRefused(f"{place.tp}: {standing.problem}; to forget it: {anew}")
    if standing.state is None or position is None:
        raise StateRefused(
            f"{place.tp}: {place.changelog} has no state, so there is nothing to go on from; to "
            f"begin there with none: {anew}"
        )
    if standing.commit > standing.state.commit:
        raise StateRefused(
            f"{place.tp}: its tables have commit {standing.commit}, but the state in "
            f"{place.changelog} is of commit {standing.state.commit}: the changelog has lost its "
            f"end. Bring it back, or forget the state: {anew}"
        )
    if reset.to < position:
        raise StateRefused(
            f"{place.tp}: the state holds what came of the records up to {position}; from "
            f"{reset.to} on they would be counted twice, taken for late or for repeated. To "
            f"process them again without it: {anew}"
        )
    if standing.state.ended is not None and reset.to > position:
        if not to.isdecimal():  # the end is declared of all partitions, and so are these places
            anew = reset_command(place.plan.source.topic, None, f"--to {to} --discard")
        raise StateRefused(
            f"{place.tp}: the end of its input was declared at offset {standing.state.ended}; all "
            f"that follows would be late. To begin anew: {anew}"
        )
    return reset


def _offset(standing: Standing, to: str) -> int:
    tp, first, stop = standing.place.tp, standing.first, standing.stop
    known = {
        "changelog": standing.position,
        "group": standing.group,
        "earliest": first,
        "latest": stop,
    }
    offset = known[to] if to in known else int(to)
    if offset is None:
        raise SettingsError(f"{tp}: there is no position --to {to}; say an offset")
    if not first <= offset <= stop:
        raise SettingsError(f"{tp}: there is no offset {offset}; say one from {first} to {stop}")
    return offset


async def carry_out(reset: Reset, ports: TaskPorts, *, version: str, page: int = PAGE) -> None:
    """Do what was planned; `ports.store` is the one that was looked at, and is brought up to it.

    A transaction erases no more than `page` entries.

    Raises:
        StateRefused: a worker has committed since it was looked at; nothing was changed.
        TaskLost: as from a commit; look again to see what became of it.
    """
    standing, place = reset.standing, reset.standing.place
    await ports.outbox.fence()
    restored = await restore(ports.store, ports.changelog, ports.clock, str(place.changelog))
    if ports.store.get([META])[0] != standing.meta:
        raise StateRefused(
            f"{place.tp}: a worker has committed since this was looked at; nothing was changed. "
            "Stop all workers of the app, and do it again"
        )
    now_ms = int(ports.clock.now().timestamp() * 1000)
    state = TaskState(commit=standing.commit, position=reset.to)
    if not reset.discard and standing.state is not None:
        state = replace(standing.state, position=reset.to)
    # A worker without transactions can have left a commit that is not named, and may be alive.
    state = replace(state, epoch=standing.epoch + (standing.epoch > 0), provisional=False)
    part = Part(place.plan, place.names, place.tp, version, place.partitions)
    if standing.meta is not None and standing.state is not None:
        state = part.taken_up(replace(state, joined=standing.state.joined), standing.meta)
    sealed = seal(part, [Step(state, reset.to, reset.to)], ports.store, now_ms=now_ms)
    if state.epoch:
        named = namings(part, replace(state, commit=standing.commit))
        changes = (*mended(ports.store, restored.void), *sealed.changes)
        sealed = replace(sealed, outputs=(*named, *sealed.outputs), changes=changes)
    rest: Changes = await _erase(reset, part, ports, now_ms, page) if reset.discard else []
    await _commit(part, ports, replace(sealed, changes=(*rest, *sealed.changes)), now_ms)


async def _erase(reset: Reset, part: Part, ports: TaskPorts, now_ms: int, page: int) -> Changes:
    """Erase the state, but for a last part, which is to be erased together with the reset."""
    standing = reset.standing
    epoch = standing.epoch
    marked = discarding(standing.commit, standing.position, epoch)
    state = TaskState(commit=standing.commit, position=reset.to, epoch=epoch)
    last: Changes = []
    for entries in pages(ports.store, page):
        if last:
            changes = (*last, (META, marked))
            await _commit(part, ports, Sealed(state, (), changes), now_ms)
        last = [(key, None) for key, _ in entries if key != META]
    return last


async def _commit(part: Part, ports: TaskPorts, sealed: Sealed, now_ms: int) -> None:
    await commit(
        sealed,
        part,
        ports,
        now_ms=now_ms,
    )
