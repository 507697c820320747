"""When a Kafka client may connect again to a node to which it has connected just now.

aiokafka connects as soon as something asks for a node, and a failure itself asks for new metadata,
for which the next node is connected to. Where connections are accepted and closed at once, as by a
load balancer without a backend or a broker that is about to start, that was 500 connections a
second for each client, and as many lines of log. Kafka's own clients wait between attempts, and so
it is done here:

    _get_conn         between two attempts at one node is a wait, which grows as long as they follow
                      each other; who asks within it hears "not ready"
    _metadata_update  one that reached no node takes at least until the first of them may be
                      connected to again, since aiokafka repeats it at once

Both methods of AIOKafkaClient are replaced for the whole process: Faust makes clients of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from random import Random
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from aiokafka.client import AIOKafkaClient, ConnectionGroup

from streamflow.clock import SystemClock

#: Bounds of the waits, those of Kafka's own clients.
SHORTEST_SECONDS, LONGEST_SECONDS = 0.05, 1.0
#: An attempt that comes so long after the one before has nothing to do with it: the connection
#: was of some use.
CALM_SECONDS = 5.0


class Draws(Protocol):
    """What is needed of `random.Random`."""

    def uniform(self, a: float, b: float) -> float:
        """A number between two."""
        ...


class Reconnects:
    """The attempts of one client to connect to its nodes.

    The wait after an attempt that follows another within `CALM_SECONDS` is drawn between the
    shortest and three times the one before: many clients that failed together do not come back
    together. Times are seconds on a scale that never steps back.
    """

    def __init__(self, rng: Draws) -> None:
        self._rng = rng
        self._until: dict[Hashable, float] = {}
        self._waits: dict[Hashable, float] = {}
        self._began: dict[Hashable, float] = {}

    def remaining(self, node: Hashable, now: float) -> float:
        """Seconds until the next attempt; 0 for now."""
        return max(self._until.get(node, now) - now, 0.0)

    def begin(self, node: Hashable, now: float) -> None:
        """An attempt is made now."""
        wait = SHORTEST_SECONDS
        if node in self._began and now - self._began[node] < CALM_SECONDS:
            grown = self._rng.uniform(SHORTEST_SECONDS, 3 * self._waits[node])
            wait = min(LONGEST_SECONDS, grown)
        self._began[node], self._waits[node], self._until[node] = now, wait, now + wait

    def pause(self, now: float) -> float:
        """Seconds after which to ask again where nobody answered: until the first of those that
        have to wait may be connected to.
        """
        waits = [self.remaining(node, now) for node in self._until]
        return min((wait for wait in waits if wait > 0), default=SHORTEST_SECONDS)


_clock = SystemClock()
_rng = Random()
_clients: WeakKeyDictionary[Any, Reconnects] = WeakKeyDictionary()
#: Attempts under way: who asks meanwhile waits for the same connection.
_under_way: WeakKeyDictionary[Any, set[Hashable]] = WeakKeyDictionary()
_connect = AIOKafkaClient._get_conn
_update = AIOKafkaClient._metadata_update


def _of(client: Any) -> Reconnects:
    return _clients.setdefault(client, Reconnects(_rng))


async def _get_conn(
    client: Any, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False
) -> Any:
    """A connection to a node; None where there is none, as aiokafka says it."""
    node = (node_id, group)
    there = client._conns.get(node)
    under_way = _under_way.setdefault(client, set())
    if node in under_way or (there is not None and there.connected()):
        return await _connect(client, node_id, group=group, no_hint=no_hint)
    reconnects, now = _of(client), _clock.monotonic()
    if reconnects.remaining(node, now) > 0:
        return None
    reconnects.begin(node, now)
    under_way.add(node)
    try:
        return await _connect(client, node_id, group=group, no_hint=no_hint)
    finally:
        under_way.discard(node)


async def _metadata_update(client: Any, cluster_metadata: Any, topics: Any) -> Any:
    """Did it succeed? Where it did not, its caller may ask again at once."""
    updated = await _update(client, cluster_metadata, topics)
    if not updated:
        await asyncio.sleep(_of(client).pause(_clock.monotonic()))
    return updated


def space_out_connections() -> None:
    """From now on all clients of this process wait between attempts at a node."""
    replaced: Any = AIOKafkaClient
    replaced._get_conn = _get_conn
    replaced._metadata_update = _metadata_update
