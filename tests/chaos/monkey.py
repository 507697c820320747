"""What happens to the workers of an app: chosen by a seeded generator, one after the other."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from streamflow.engine.faults import COMMIT_POINTS, CRASH_POINTS, VARIABLE
from tests.chaos.fleet import Worker
from tests.chaos.network import Network
from tests.chaos.rig import Rig

#: Names of the workers that there may be at a time, and the least there should be.
NAMES, LEAST = ("one", "two", "three"), 2
#: Of a step at which a worker kills itself the times it gets there.
COMMITS, ROLLS = (1, 25), (1, 4)
#: How many of the workers are static members, whose partitions wait for them.
STATIC = 0.5
#: Mostly those are chosen that have had so many seconds, and have got to work; this often any.
YOUNG_SECONDS, YOUNG = 12.0, 0.1
#: Seconds: past the session time-out; past the time-out of a transaction.
SESSION, TRANSACTION = (7.0, 10.0), (17.0, 22.0)
QUIET = (3.0, 12.0)
#: What may happen, and how often in comparison.
ACTS = {"kill": 5, "term": 2, "freeze": 2, "freeze longer": 1, "join": 2, "leave": 2}


class Monkey:
    """Keeps two or three workers going, and makes trouble until it is told to stop."""

    def __init__(self, rng: random.Random, under_trouble: Rig, network: Network) -> None:
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self._rng = rng
        self._rig = under_trouble
        self._network = network
        self._fleet = under_trouble.fleet
        self._feed = under_trouble.feed
        self._static = {name for name in NAMES if rng.random() < STATIC}
        self._slots: dict[str, Worker | None] = dict.fromkeys(NAMES[:LEAST])
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, until: asyncio.Event) -> None:
        """Until told to stop; then wake and stop every worker."""
        keeping = asyncio.create_task(self._keep(until))
        disturbing = asyncio.create_task(self._disturb(until))
        with suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), 8)
        while not until.is_set():
            act = self._rng.choices(list(ACTS), list(ACTS.values()))[0]
            if self._act(act):
                self.done[act] += 1
                self._feed.fault()
            with suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), self._rng.uniform(*self._network.pause))
        await keeping
        await disturbing
        for worker in self._fleet.alive:
            self._later(self._ended(worker))
        await asyncio.gather(*self._ending)

    async def _disturb(self, until: asyncio.Event) -> None:
        """One trouble of the network after the other, with a while between."""
        while not until.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), self._rng.uniform(*QUIET))
            if not until.is_set():
                self._feed.fault()
                act = await self._network.act()
                if act is not None:
                    self.done[act] += 1
                self._feed.fault()

    async def _keep(self, until: asyncio.Event) -> None:
        """Start again what has ended, after a while."""
        while not until.is_set():
            for name, worker in list(self._slots.items()):
                if worker is None or not worker.alive:
                    self._slots[name] = self._start(name, worker)
            with suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), self._rng.uniform(0.1, 1.0))

    def _start(self, name: str, last: Worker | None) -> Worker:
        if last is not None:
            self._reap(last)
        environment = {"STREAMFLOW_INSTANCE_ID": name} if name in self._static else {}
        if self._rng.random() < self._network.doomed:
            point = self._rng.choice(CRASH_POINTS)
            times = self._rng.randint(*(COMMITS if point in COMMIT_POINTS else ROLLS))
            environment[VARIABLE] = f"{point}:{times}"
        return self._fleet.start(name, **environment)

    def _reap(self, worker: Worker) -> None:
        code = worker.process.poll()
        if code == -signal.SIGKILL:
            self.done["killed"] += 1
            self._feed.fault()
        elif code not in (0, -signal.SIGTERM) and not worker.began:
            self.done["false start"] += 1  # there was no broker to be had; it is started again
        elif worker.left_at_once:
            self.done["left at once"] += 1
        elif code not in (0, -signal.SIGTERM):  # the latter: told before it could listen
            self.failures.append(f"worker {worker.log.name} ended with {code}:\n{worker.words()}")

    def _act(self, act: str) -> bool:
        """Do it; False where it makes no sense now."""
        running = [w for w in self._slots.values() if w and w.alive and not w.stopped]
        if act == "join":
            return self._join()
        if len(running) < LEAST:
            return False
        if self._rng.random() >= YOUNG:
            running = [w for w in running if w.began and w.age > YOUNG_SECONDS]
            if not running:
                return False
        worker = self._rng.choice(running)
        if act == "kill":
            worker.kill()
        elif act == "term":
            self._later(self._ended(worker))
        elif act == "leave":
            if len(self._slots) == LEAST:
                return False
            self._slots = {name: one for name, one in self._slots.items() if one is not worker}
            self._later(self._ended(worker))
        elif worker.told:
            return False  # it could not end in its time
        else:
            span = SESSION if act == "freeze" else TRANSACTION
            self._later(self._freeze(worker, self._rng.uniform(*span)))
        return True

    def _join(self) -> bool:
        alive = {worker.name for worker in self._fleet.alive}
        free = [name for name in NAMES if name not in self._slots and name not in alive]
        for name in free[:1]:
            self._slots[name] = None
        return bool(free)

    async def _ended(self, worker: Worker) -> None:
        try:
            await self._rig.end(worker)
        except AssertionError as error:
            self.failures.append(str(error))

    async def _freeze(self, worker: Worker, seconds: float) -> None:
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        worker.send(signal.SIGCONT)
        self._feed.fault()

    def _later(self, act: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(act)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
