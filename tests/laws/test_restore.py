"""Whatever lies in a changelog, a new local state gets what counts of it, and nothing else."""

from collections.abc import Iterable
from datetime import UTC, datetime

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamflow.batch import Record, TopicPartition
from streamflow.clock import SimulatedClock
from streamflow.core.keys import META
from streamflow.edges.memory import MemoryBroker, MemoryChangelog, MemoryStore
from streamflow.engine.commit import APPLIED
from streamflow.engine.marked import Entries
from streamflow.engine.restore import restore
from streamflow.engine.sync import run_sync
from tests.examples import law

TP = TopicPartition("changelog", 0)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class CutChangelog(MemoryChangelog):
    """Gives its records in fetches of the sizes drawn, in turns; now and then none comes."""

    def __init__(self, broker: MemoryBroker, sizes: list[int]) -> None:
        super().__init__(broker, TP)
        self._sizes = sizes

    async def fetch(
        self, start: int, stop: int
    ) -> tuple[Iterable[tuple[bytes, bytes | None]], int]:
        size = self._sizes.pop(0)
        self._sizes.append(size)
        end = min(start + size, stop)
        return iter(await self.read(start, end)), end


def mark(epoch: int, commit: int) -> tuple[bytes, bytes]:
    return META, orjson.dumps({"epoch": epoch, "commit": commit, "born": 1})


small = st.integers(1, 3)
changes = st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"1", b"2", None]))
logs = st.lists(changes | st.builds(mark, small, small), max_size=20)


def what_counts(log: Entries) -> tuple[dict[bytes, bytes | None], set[bytes]]:
    """The state, and the keys of void entries after their last one that counts."""
    held: Entries = []
    state: dict[bytes, bytes | None] = {}
    void: set[bytes] = set()
    epoch = commit = 0
    for key, value in log:
        held.append((key, value))
        if key != META:
            continue
        meta = orjson.loads(value or b"{}")
        keys = {one for one, _ in held}
        if meta["epoch"] >= epoch and meta["commit"] >= commit:
            epoch, commit = meta["epoch"], meta["commit"]
            state.update(held)
            void -= keys
        else:
            void |= keys
        held = []
    return state, void | {one for one, _ in held}


@law(300)
@given(logs, st.lists(st.integers(0, 7), min_size=1).filter(any), st.integers(0, 20))
def test_a_new_state_has_what_counts_and_one_that_goes_on_too(
    log: Entries, sizes: list[int], first: int
) -> None:
    broker, old = MemoryBroker(), MemoryStore()
    broker.create(TP.topic, 1)
    changelog, clock = CutChangelog(broker, sizes), SimulatedClock(NOW)
    for part in (log[:first], log[first:]):
        for key, value in part:
            broker.append(TP, Record(key, value))
        run_sync(restore(old, changelog, clock, "changelog"))
    for store in (old, MemoryStore()):
        found = run_sync(restore(store, changelog, clock, "changelog"))
        wanted, void = what_counts(log)
        held = dict(store.scan(b"", b"~"))
        assert held == {key: value for key, value in wanted.items() if value is not None}
        # Who goes on may take an older commit, read again, for void: it is written once more.
        assert found.void == void if store is not old else found.void >= void
        applied = store.get([APPLIED])[0]
        assert applied is not None
        assert int(applied) < len(log) if void else store is old or int(applied) == len(log)
