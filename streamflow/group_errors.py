"""What an answer to a consumer says of its group as a whole, when it asks for committed offsets.

aiokafka looks at the partitions in it only. There are none where the coordinator has still to read
what was committed, or is another broker by now; that came out as "nothing was committed", and an
ordinary topic of a user's own agents was read again from its beginning. Now it is an error, after
which aiokafka asks again. For the topics of tasks the changelog's position counts anyway.

`GroupCoordinator._send_req` is replaced for the whole process: Faust makes consumers of its own.
"""

from __future__ import annotations

from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest

#: After these another broker has to be asked.
ELSEWHERE = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)

_send = GroupCoordinator._send_req


async def _send_req(coordinator: Any, request: Any) -> Any:
    answer = await _send(coordinator, request)
    code = getattr(answer, "error_code", 0) if isinstance(request, OffsetFetchRequest) else 0
    if not code:
        return answer
    error = for_code(code)
    if issubclass(error, ELSEWHERE):
        coordinator.coordinator_dead()
    raise error


def heed_group_errors() -> None:
    """From now on for all consumers of this process."""
    replaced: Any = GroupCoordinator
    replaced._send_req = _send_req
