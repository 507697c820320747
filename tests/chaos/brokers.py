"""What the workers of an app connect to, as something that can be broken: one broker, or three.

Of one broker, breaking is a power cut. Of three, the node dies that leads the app's group or the
transactions of one of its tasks: another one takes that over, with what is open, while the rest
goes on; the node comes back, and nothing else breaks before it has caught up.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from aiokafka.errors import KafkaError

from streamflow.batch import TopicPartition
from streamflow.broker import Broker, running_broker
from streamflow.broker.cluster import running_cluster
from streamflow.core.names import Names
from streamflow.edges.kafka_admin import KafkaAdmin

#: Seconds for which a node is away; until the others have to have heard that it is back in sync.
AWAY, IN_SYNC = (2.0, 12.0), 90.0
GROUP, TRANSACTIONS = 0, 1


class Breakable(Protocol):
    """A Kafka that is broken now and then."""

    #: Seconds that have to pass between two times.
    rest: float
    #: How often it is broken, in comparison with other acts.
    weight: int
    #: Seconds between acts upon workers, and how many of them are doomed from the start: when it
    #: breaks, they are to have something open.
    pause: tuple[float, float]
    doomed: float

    @property
    def ports(self) -> Sequence[int]: ...

    @property
    def bootstrap(self) -> str: ...

    async def break_it(self) -> str:
        """Break it, and mend it; returns what it was."""
        ...

    def close(self) -> None:
        """Stop it for good."""
        ...


class OneBroker:
    """A broker that can be killed (-9), and goes on with its data at the same address."""

    rest, weight, pause, doomed = 120.0, 1, (1.0, 4.0), 0.6

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._stack = ExitStack()
        self._broker = self._started(None)

    @property
    def ports(self) -> Sequence[int]:
        return [self._broker.port]

    @property
    def bootstrap(self) -> str:
        return self._broker.bootstrap

    async def break_it(self) -> str:
        """As a power cut would; returns when it answers again."""
        self._broker.kill()
        self._stack.close()
        self._broker = self._started(self._broker.port)
        return "break"

    def close(self) -> None:
        """Stop it for good."""
        self._stack.close()

    def _started(self, port: int | None) -> Broker:
        running = running_broker(port=port, data_dir=self._folder, say=self._say)
        return self._stack.enter_context(running)


class Nodes:
    """A cluster, of which one node at a time is killed (-9) and comes back."""

    rest, weight, pause, doomed = 5.0, 12, (10.0, 30.0), 0.2

    def __init__(
        self,
        count: int,
        folder: Path,
        names: Names,
        partitions: int,
        rng: random.Random,
        say: Callable[[str], None],
    ) -> None:
        self._names = names
        self._partitions = partitions
        self._rng = rng
        self._stack = ExitStack()
        self._cluster = self._stack.enter_context(running_cluster(count, data_dir=folder, say=say))

    @property
    def ports(self) -> Sequence[int]:
        return self._cluster.ports

    @property
    def bootstrap(self) -> str:
        return self._cluster.bootstrap

    async def break_it(self) -> str:
        """Kill the leader of the group, or of a task's transactions."""
        tp = TopicPartition(self._names.topic("readings"), self._rng.randrange(self._partitions))
        led = self._rng.choice(
            [
                ("group moved", self._names.app, GROUP),
                ("transactions moved", self._names.producer(tp), TRANSACTIONS),
            ]
        )
        what, key, kind = led
        node = await self._leader(key, kind)
        self._cluster.kill(node)
        await asyncio.sleep(self._rng.uniform(*AWAY))
        self._cluster.launch(node)
        await asyncio.to_thread(self._cluster.wait_until_whole)
        async with asyncio.timeout(IN_SYNC):
            while not await self._in_sync():  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        return what

    async def _leader(self, key: str, kind: int) -> int:
        async with KafkaAdmin({"bootstrap_servers": self.bootstrap}) as admin:
            while True:
                try:
                    return await admin._admin.find_coordinator(key, kind)
                except KafkaError:  # it is being elected
                    await asyncio.sleep(0.2)

    async def _in_sync(self) -> bool:
        async with KafkaAdmin({"bootstrap_servers": self.bootstrap}) as admin:
            topics = await admin._admin.describe_topics(None)
        parts = [part for topic in topics for part in topic["partitions"]]
        return all(len(part["isr"]) == len(part["replicas"]) for part in parts)

    def close(self) -> None:
        """Stop them for good."""
        self._stack.close()
