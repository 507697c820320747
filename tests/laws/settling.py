"""Resets the tasks of a driver, as `streamflow state reset` does while no worker runs."""

from streamflow.batch import TopicPartition
from streamflow.core.names import Names
from streamflow.core.plan import TaskPlan
from streamflow.edges.memory import MemoryChangelog, MemoryOutbox, MemoryStore
from streamflow.engine.sync import run_sync
from streamflow.engine.task_ports import TaskPorts
from streamflow.state.reset import Reset, carry_out, plan_reset
from streamflow.state.standing import Place, Reading, Standing, look
from streamflow.testing import TopologyDriver
from streamflow.testing.driver import Crash
from streamflow.topology import Topology


class Settling:
    """One task of a driver, seen from outside."""

    def __init__(self, driver: TopologyDriver, topology: Topology, partition: int = 0) -> None:
        self.driver = driver
        self.version = topology.version
        plan: TaskPlan = topology.tasks[0]
        names = Names(topology.name)
        tp = TopicPartition(plan.source.topic, partition)
        self.place = Place(plan, names, tp, len(driver.broker.topics[tp.topic]))
        self.store = MemoryStore()

    def look(self) -> Standing:
        broker = self.driver.broker
        self.store = MemoryStore()
        rows = [MemoryChangelog(broker, tp) for tp in self.place.rows if tp.topic in broker.topics]
        changelog = MemoryChangelog(broker, self.place.changelog)
        log = broker.partition(self.place.tp)
        bounds = log.first_offset, log.next_offset
        reading = Reading(changelog, rows, self.store, self.driver.clock)
        return run_sync(look(self.place, reading, bounds, broker.offsets.get(self.place.tp)))

    def plan(self, to: str, *, discard: bool = False) -> Reset:
        return plan_reset(self.look(), to, discard=discard)

    def carry_out(
        self, reset: Reset, *, page: int = 50_000, crash: tuple[str, int] = ("", 0)
    ) -> bool:
        """Do it, and die at a step of a commit, the n-th time it gets there. Did it die?"""
        point, left = crash

        def faults(at: str) -> None:
            nonlocal left
            if at == point:
                left -= 1
                if left == 0:
                    raise Crash(at)

        broker = self.driver.broker
        ports = TaskPorts(
            MemoryOutbox(broker, self.place.names.producer(self.place.tp)),
            MemoryChangelog(broker, self.place.changelog),
            self.store,
            self.driver.clock,
            faults,
        )
        try:
            run_sync(carry_out(reset, ports, version=self.version, page=page))
        except Crash:
            return True
        return False

    def reset(self, to: str, *, discard: bool = False, page: int = 50_000) -> None:
        self.carry_out(self.plan(to, discard=discard), page=page)
