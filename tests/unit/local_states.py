"""The disk of a worker, in memory: states of its tasks, each of which one party can have open."""

from collections.abc import Mapping

from streamflow.batch import TopicPartition
from streamflow.clock import Clock, millis
from streamflow.edges.memory import MemoryBroker, MemoryStore, MemoryTail
from streamflow.engine.commit import APPLIED
from streamflow.engine.standby import StandbyPorts
from streamflow.errors import TaskLost


class HeldStore(MemoryStore):
    """The state of one task, which one party of a worker can have open at a time."""

    def __init__(self, held: set[TopicPartition], tp: TopicPartition) -> None:
        super().__init__()
        self._held, self._tp = held, tp

    def take(self) -> "HeldStore":
        """This store, for whoever opens it.

        Raises TaskLost where somebody else has it open.
        """
        if self._tp in self._held:
            raise TaskLost(f"{self._tp} is open already")
        self._held.add(self._tp)
        return self

    def close(self) -> None:
        self._held.discard(self._tp)
        super().close()


class MemoryStates:
    """A `LocalStates`; `changelogs` names the changelog topic of each source topic."""

    def __init__(self, broker: MemoryBroker, changelogs: Mapping[str, str], clock: Clock) -> None:
        self.open_now: set[TopicPartition] = set()
        self.disk: dict[TopicPartition, HeldStore] = {}
        self.no_room: str | None = None
        self.backups: dict[TopicPartition, int] = {}
        self._broker = broker
        self._changelogs = changelogs
        self._clock = clock

    def store(self, tp: TopicPartition) -> HeldStore:
        return self.disk.setdefault(tp, HeldStore(self.open_now, tp)).take()

    async def found(self) -> Mapping[TopicPartition, tuple[int, int]]:
        now_ms = millis(self._clock.now())
        applied = {tp: store.get([APPLIED])[0] for tp, store in self.disk.items()}
        return {tp: (int(at), now_ms) for tp, at in applied.items() if at is not None}

    def changelog(self, tp: TopicPartition) -> TopicPartition:
        return TopicPartition(self._changelogs[tp.topic], tp.partition)

    def open(self, tp: TopicPartition) -> StandbyPorts:
        return StandbyPorts(MemoryTail(self._broker, self.changelog(tp)), self.store(tp))

    def remove(self, tp: TopicPartition) -> None:
        assert tp not in self.open_now
        self.disk.pop(tp, None)

    async def bring(self, tp: TopicPartition) -> None:
        assert tp not in self.open_now

    def last_backup(self, tp: TopicPartition) -> int | None:
        return self.backups.get(tp)

    async def back_up(self, tp: TopicPartition) -> None:
        assert tp in self.open_now
        if self.no_room is not None:
            raise OSError(self.no_room)
        self.backups[tp] = millis(self._clock.now())

    def full(self) -> str | None:
        return self.no_room
