"""What the coordinator of a consumer group says of it, also while another broker becomes that.

aiokafka's admin client passes over what an answer says of the group as a whole: an offset that a
coordinator does not know yet, or no more, came out as none, and members as nobody. To the first a
lost changelog would look like a new app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
    RequestTimedOutError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest

from streamflow.batch import TopicPartition
from streamflow.errors import NoBroker

T = TypeVar("T")

#: A coordinator that is being elected is asked again, ten times a second, this often.
COORDINATOR_TRIES = 300
#: It is asked again after these: another one takes over, or has still to read what was committed,
#: or a new broker makes the topic of group offsets.
MOVES = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    NodeNotReadyError,
    KafkaConnectionError,
    RequestTimedOutError,
)


async def committed_offset(admin: Any, group: str, tp: TopicPartition) -> int | None:
    """The next offset that a group has committed, None for none.

    Raises:
        NoBroker: the group has no coordinator for half a minute.
    """
    request = OffsetFetchRequest(group, [(tp.topic, [tp.partition])])

    async def ask(coordinator: int) -> int | None:
        answer = await admin._send_request(request, coordinator)
        _refuse(getattr(answer, "error_code", 0))
        ((_, ((_, offset, _, code),)),) = answer.topics
        _refuse(code)
        return offset if offset >= 0 else None

    return await _asked(admin, group, ask)


async def committed_partitions(admin: Any, group: str) -> list[TopicPartition]:
    """The partitions of which a group has committed an offset, also long ago.

    Raises:
        NoBroker: the group has no coordinator for half a minute.
    """
    request = OffsetFetchRequest(group, None)

    async def ask(coordinator: int) -> list[TopicPartition]:
        answer = await admin._send_request(request, coordinator)
        _refuse(getattr(answer, "error_code", 0))
        found = [(topic, *told) for topic, partitions in answer.topics for told in partitions]
        for _, _, _, _, code in found:
            _refuse(code)
        return [TopicPartition(topic, at) for topic, at, offset, _, _ in found if offset >= 0]

    return await _asked(admin, group, ask)


async def group_members(admin: Any, group: str) -> list[str]:
    """The hosts of a group's members, one for each of them.

    Raises:
        NoBroker: the group has no coordinator for half a minute.
    """

    async def ask(coordinator: int) -> list[str]:
        (answer,) = await admin.describe_consumer_groups([group], coordinator)
        (described,) = answer.groups
        _refuse(described[0])
        return [member[2].removeprefix("/") for member in described[5]]

    return await _asked(admin, group, ask)


async def _asked(admin: Any, group: str, ask: Callable[[int], Awaitable[T]]) -> T:
    for _ in range(COORDINATOR_TRIES):
        try:
            return await ask(await admin.find_coordinator(group))
        except MOVES:
            await asyncio.sleep(0.1)
    raise NoBroker(f"no coordinator for the group {group!r}; is the broker healthy?")


def _refuse(code: int) -> None:
    if code:
        raise for_code(code)
