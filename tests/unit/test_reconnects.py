"""Attempts to connect are spaced out, whoever asks how often."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import BrokerMetadata
from hypothesis import given
from hypothesis import strategies as st

from streamflow.reconnects import (
    CALM_SECONDS,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    Reconnects,
    space_out_connections,
)

space_out_connections()


@given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=60), st.integers(0, 1000))
def test_between_attempts_is_a_wait_that_grows_to_its_bound(asks: list[float], seed: int) -> None:
    reconnects, now = Reconnects(Random(seed)), 100.0
    attempts: list[float] = []
    for ask in asks * 4:
        now += ask
        left = reconnects.remaining("node", now)
        assert 0 <= left <= LONGEST_SECONDS
        if left == 0:
            reconnects.begin("node", now)
            attempts.append(now)
        else:
            assert 0 < reconnects.pause(now) <= left
    gaps = [after - before for before, after in pairwise(attempts)]
    assert all(gap >= SHORTEST_SECONDS - 1e-9 for gap in gaps)


class Largest:
    """Draws the upper bound each time."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def test_waits_are_those_of_kafka_s_own_clients_and_a_connection_that_lasted_ends_them() -> None:
    reconnects, now = Reconnects(Largest()), 0.0
    waits: list[float] = []
    for _ in range(6):
        reconnects.begin("node", now)
        waits.append(round(reconnects.remaining("node", now), 3))
        now += waits[-1]
    assert waits == [0.05, 0.15, 0.45, 1.0, 1.0, 1.0]
    assert reconnects.remaining("another", now) == 0
    now += CALM_SECONDS
    assert reconnects.remaining("node", now) == 0
    reconnects.begin("node", now)
    assert round(reconnects.remaining("node", now), 3) == SHORTEST_SECONDS


@dataclass
class Closing:
    """Accepts connections, and closes them at once."""

    port: int = 0
    accepted: int = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        self.accepted += 1
        writer.transport.abort()


@asynccontextmanager
async def closing() -> AsyncGenerator[Closing]:
    made = Closing()
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def client_of(port: int) -> AsyncGenerator[Any]:
    """A client that has known a broker at this port."""
    made: Any = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
    made.cluster._brokers = {1: BrokerMetadata(1, "127.0.0.1", port, None)}
    made._sync_task = asyncio.create_task(made._md_synchronizer())
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.slow
def test_where_connections_are_closed_at_once_few_are_made_however_often_it_is_asked() -> None:
    async def go() -> None:
        async with closing() as server, client_of(server.port) as client:
            began, updates = time.monotonic(), 0
            while server.accepted < 5:
                await client.force_metadata_update()
                for _ in range(20):
                    assert not await client.ready(1)
                updates += 1
            # No two are closer than the shortest wait; the first comes without one.
            assert server.accepted <= 1 + (time.monotonic() - began) / SHORTEST_SECONDS
            assert updates <= 2 * server.accepted, "an update that reaches nobody takes its time"

    asyncio.run(go())


@pytest.mark.slow
def test_who_asks_while_it_is_connected_waits_for_the_same_connection() -> None:
    async def go() -> None:
        answer = asyncio.Event()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(4)
            await answer.wait()
            writer.transport.abort()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        async with client_of(server.sockets[0].getsockname()[1]) as client:
            first = asyncio.create_task(client.ready(1))
            await asyncio.sleep(0)
            second = asyncio.create_task(client.ready(1))
            done, _ = await asyncio.wait({second}, timeout=0.1)
            assert not done
            answer.set()
            assert not await first
            second.cancel()
        server.close()

    asyncio.run(go())
