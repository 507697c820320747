"""An administrative request goes to a broker that can be reached."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError

from streamflow.edges.kafka_admin import KafkaAdmin

DEAD = (1, 2)


async def _send(request: str, broker: int | None) -> tuple[str, int | None]:
    if broker in DEAD:
        raise NodeNotReadyError(str(broker))
    return request, broker


def asked(*brokers: int, broker: int | None = None) -> tuple[str, int | None]:
    """Who answers a client that knows of these brokers."""
    known = [SimpleNamespace(nodeId=number) for number in brokers]
    admin: Any = KafkaAdmin({})
    admin._admin = SimpleNamespace(
        _client=SimpleNamespace(cluster=SimpleNamespace(brokers=lambda: known))
    )
    return asyncio.run(admin._anywhere(_send, "metadata", broker))


def test_where_any_broker_will_do_one_that_is_dead_is_passed_over() -> None:
    assert {asked(1, 2, 3) for _ in range(20)} == {("metadata", 3)}


def test_where_none_can_be_reached_it_is_said() -> None:
    with pytest.raises(NodeNotReadyError):
        asked(1, 2)


def test_no_other_is_asked_than_the_one_that_is_meant() -> None:
    with pytest.raises(NodeNotReadyError, match="1"):
        asked(1, 3, broker=1)
    assert asked(3, 4, broker=4) == ("metadata", 4)
    assert asked() == ("metadata", None), "it has not heard of any yet"
