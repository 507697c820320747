"""What a group's coordinator says while it is being moved is never taken for "nothing"."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupLoadInProgressError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
)
from aiokafka.protocol.admin import DescribeGroupsResponse_v0
from aiokafka.protocol.commit import (
    OffsetCommitRequest_v2,
    OffsetFetchRequest,
    OffsetFetchResponse_v3,
)

from streamflow.batch import TopicPartition
from streamflow.edges import kafka_group
from streamflow.edges.kafka_group import committed_offset, committed_partitions, group_members
from streamflow.engine.refusals import has_members
from streamflow.errors import NoBroker
from streamflow.group_errors import _send_req

TP = TopicPartition("orders", 1)
LOADING, ELSEWHERE, REFUSED = 14, 16, 30
MEMBER = ("id", "one", "/10.0.0.1", b"", b"")


def offsets(offset: int = 0, *, code: int = 0, of_partition: int = 0) -> Any:
    """An answer as brokers give it: where there is an error of the group, nothing else is in it."""
    topics = [] if code else [(TP.topic, [(TP.partition, offset, "", of_partition)])]
    return OffsetFetchResponse_v3(0, topics, code)


def members(*names: Any, code: int = 0) -> Any:
    return DescribeGroupsResponse_v0([(code, "app", "Stable", "consumer", "", list(names))])


class Admin:
    """A client whose brokers answer these, one after the other."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self.left = list(answers)
        #: Who was asked; the coordinator moves with each look-up.
        self.asked: list[int] = []
        self._coordinator = 0

    async def find_coordinator(self, group: str) -> int:
        assert group == "app"
        self._coordinator += 1
        return self._coordinator

    async def _send_request(self, request: Any, broker: int) -> Any:
        del request
        self.asked.append(broker)
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def describe_consumer_groups(self, groups: list[str], broker: int) -> list[Any]:
        return [await self._send_request(groups, broker)]


@pytest.fixture(autouse=True)
def _few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_group, "COORDINATOR_TRIES", 4)


@pytest.mark.slow
@pytest.mark.parametrize(("last", "told"), [(offsets(7), 7), (offsets(-1), None)])
def test_an_offset_is_asked_for_until_a_coordinator_knows(last: Any, told: int | None) -> None:
    admin = Admin([offsets(code=LOADING), offsets(code=ELSEWHERE), NodeNotReadyError("1"), last])
    assert asyncio.run(committed_offset(admin, "app", TP)) == told
    assert admin.asked == [1, 2, 3, 4]


@pytest.mark.slow
def test_members_are_asked_for_until_a_coordinator_knows() -> None:
    admin = Admin([members(code=ELSEWHERE), members(code=LOADING), members(MEMBER)])
    assert asyncio.run(group_members(admin, "app")) == ["10.0.0.1"]
    assert str(has_members("app", ["10.0.0.2", "10.0.0.1", "10.0.0.2"], timedelta(seconds=15))) == (
        "workers of 'app' seem to be running: its group has 3 members, on 10.0.0.1, 10.0.0.2. Stop"
        " them all. One that was killed stays a member for its session time-out: if none of them is"
        " running, try again in 15 s"
    )


@pytest.mark.slow
def test_a_coordinator_that_does_not_come_is_an_outage() -> None:
    with pytest.raises(NoBroker, match="no coordinator for the group 'app'"):
        asyncio.run(committed_offset(Admin([offsets(code=LOADING)] * 4), "app", TP))


@pytest.mark.parametrize("answer", [offsets(code=REFUSED), offsets(of_partition=REFUSED)])
def test_what_does_not_pass_is_raised(answer: Any) -> None:
    with pytest.raises(GroupAuthorizationFailedError):
        asyncio.run(committed_offset(Admin([answer]), "app", TP))


@pytest.mark.slow
def test_the_partitions_of_a_group_are_asked_for_until_a_coordinator_knows() -> None:
    never = TopicPartition("orders", 0)
    told = [(TP.topic, [(TP.partition, 7, "", 0), (never.partition, -1, "", 0)])]
    admin = Admin([offsets(code=LOADING), OffsetFetchResponse_v3(0, told, 0)])
    assert asyncio.run(committed_partitions(admin, "app")) == [TP]
    with pytest.raises(GroupAuthorizationFailedError):
        asyncio.run(committed_partitions(Admin([offsets(of_partition=REFUSED)]), "app"))


class Coordinator:
    """As much of a consumer's coordinator as a request goes through."""

    coordinator_id = 1

    def __init__(self, answer: Any) -> None:
        self.dead = False
        self._client = SimpleNamespace(send=self._send)
        self._answer = answer

    async def _send(self, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        return self._answer

    def coordinator_dead(self) -> None:
        self.dead = True


@pytest.mark.parametrize(
    ("code", "error", "dead"),
    [(LOADING, GroupLoadInProgressError, False), (ELSEWHERE, NotCoordinatorForGroupError, True)],
)
def test_a_consumer_hears_of_an_error_of_its_group(code: int, error: Any, dead: bool) -> None:
    coordinator = Coordinator(offsets(code=code))
    request = OffsetFetchRequest("app", [(TP.topic, [TP.partition])])
    with pytest.raises(error) as raised:
        asyncio.run(_send_req(coordinator, request))
    assert raised.value.retriable, "it is asked again"
    assert coordinator.dead == dead


def test_all_other_answers_of_a_coordinator_are_left_as_they_are() -> None:
    answer = offsets(7)
    request = OffsetFetchRequest("app", [(TP.topic, [TP.partition])])
    assert asyncio.run(_send_req(Coordinator(answer), request)) is answer
    other = SimpleNamespace(error_code=ELSEWHERE)
    assert asyncio.run(_send_req(Coordinator(other), OffsetCommitRequest_v2)) is other
