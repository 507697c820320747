"""Where one task stands, as its topics say. Looking changes nothing and fences nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from streamflow.batch import TopicPartition
from streamflow.clock import Clock
from streamflow.core.keys import META, decode_meta, kind_of, number_in
from streamflow.core.names import Names
from streamflow.core.plan import TaskPlan
from streamflow.core.rows import Trailer, settled_trailer
from streamflow.core.step import TaskState
from streamflow.engine.log_end import last_in
from streamflow.engine.restore import restore
from streamflow.errors import StateDamaged, StateRefused
from streamflow.ports import Changelog, StateStore

#: Entries of a store that are looked at, or erased, at a time.
PAGE = 50_000
#: What only a local state has comes after all else, and begins with this.
LOCAL = b"~"


@dataclass(frozen=True)
class Place:
    """A task of an app: a source partition, and what its state has to be of."""

    plan: TaskPlan
    names: Names
    tp: TopicPartition
    partitions: int

    @property
    def changelog(self) -> TopicPartition:
        """The changelog partition of the task."""
        return TopicPartition(self.names.changelog(self.plan.source.topic), self.tp.partition)

    @property
    def rows(self) -> list[TopicPartition]:
        """The rows partitions of the task, one for each table."""
        names = [self.names.rows(sink.name) for sink in self.plan.all_sinks]
        return [TopicPartition(name, self.tp.partition) for name in names]


@dataclass(frozen=True)
class Standing:
    """What there is of a task.

    Attributes:
        first, stop: The offsets that its source partition has.
        group: The offset that the consumer group has committed, None for none.
        meta: The meta record as it is, None where the changelog has no state.
        state: What it says; None where there is none, or it cannot be read.
        problem: Why this topology cannot go on from it; None where it can, or there is none.
        partitions: How many the source had when it was written; None while unknown.
        commit: The number of the last commit; tables have it, too, where the changelog was lost.
        epoch: That of the last owner, where commits were not transactions ever.
        entries, sizes: Entries by kind, and their bytes: keys and values, uncompressed.
    """

    place: Place
    first: int
    stop: int
    group: int | None
    meta: bytes | None
    state: TaskState | None
    problem: str | None
    partitions: int | None
    commit: int
    epoch: int
    entries: Mapping[str, int]
    sizes: Mapping[str, int]

    @property
    def position(self) -> int | None:
        """The next offset, by the changelog."""
        return number_in(self.meta, "position")

    @property
    def watermark(self) -> int | None:
        """In microseconds; None while there is none."""
        if self.state is None:
            return None
        lag = self.state.lag
        return self.state.watermark(self.place.plan.out_of_orderness if lag is None else lag)


@dataclass(frozen=True)
class Reading:
    """What looking at a task needs: readers of its partitions, and an empty store of its own.

    A changelog of None, or a rows partition that is left out, does not exist.
    """

    changelog: Changelog | None
    rows: Sequence[Changelog]
    store: StateStore
    clock: Clock


async def look(
    place: Place, reading: Reading, bounds: tuple[int, int], group: int | None
) -> Standing:
    """Read a task's changelog into the store, and tell what is there."""
    store = reading.store
    if reading.changelog is not None:
        await restore(store, reading.changelog, reading.clock, str(place.changelog))
    meta = store.get([META])[0]
    state, problem, partitions = _read(place, meta)
    trailers = [found for rows in reading.rows if (found := await last_trailer(rows)) is not None]
    commit = max([number_in(meta, "commit") or 0, *(trailer.commit for trailer in trailers)])
    epoch = max([number_in(meta, "epoch") or 0, *(trailer.epoch for trailer in trailers)])
    entries, sizes = count(store)
    found = meta, state, problem, partitions, commit, epoch, entries, sizes
    return Standing(place, *bounds, group, *found)


def count(store: StateStore) -> tuple[Counter[str], Counter[str]]:
    """Entries by kind, and their bytes."""
    entries, sizes = Counter[str](), Counter[str]()
    for page in pages(store):
        kinds = [kind_of(key) for key, _ in page]
        entries.update(kinds)
        for kind, (key, value) in zip(kinds, page, strict=True):
            sizes[kind] += len(key) + len(value)
    return entries, sizes


def pages(store: StateStore, size: int = PAGE) -> Iterator[list[tuple[bytes, bytes]]]:
    """All entries of a state but what is only local, some at a time, in the order of the keys."""
    start = b""
    while page := store.scan(start, LOCAL, size):
        yield page
        start = page[-1][0] + b"\0"


async def last_trailer(rows: Changelog) -> Trailer | None:
    """What ends or names the last commit that a rows partition has whole; None for none."""
    return await last_in(rows, lambda key, value: settled_trailer(value))


def _read(place: Place, meta: bytes | None) -> tuple[TaskState | None, str | None, int | None]:
    if meta is None:
        return None, None, None
    try:
        state, state_id, partitions = decode_meta(meta)
    except (StateDamaged, StateRefused) as error:
        return None, str(error), None
    problem: str | None = None
    if state_id != place.plan.state_id:
        problem = "the state was written by other windows than this topology has"
    return state, problem, partitions
