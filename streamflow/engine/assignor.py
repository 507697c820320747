"""The group's assignor: carries what members have to the leader, and standbys back to members.

It speaks as Kafka's own `roundrobin`, with words of its own in the fields that protocol leaves to
assignors. So it can be in one group with members that know only that: they say nothing, and where
one of them leads, nobody is told to stand by. (Two assignors side by side are not to be had:
aiokafka joins the group once for each of them, as another member.)
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from streamflow.batch import TopicPartition
from streamflow.engine.placement import Member, Place, place
from streamflow.engine.seating import Seating

log = logging.getLogger(__name__)

ByTopic = dict[str, dict[str, int]]


class WarmAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """See `placement.py` for what it does.

    Args:
        tasks: The source topics of the topology.
        replicas: Standbys that this worker wants of each task.
    """

    name: Any = "roundrobin"
    version = 0

    def __init__(self, seating: Seating, tasks: Collection[str], replicas: int) -> None:
        self._seating = seating
        self._tasks = frozenset(tasks)
        self._replicas = replicas

    def metadata(self, topics: Iterable[str]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What this member says when it joins."""
        has: ByTopic = defaultdict(dict)
        for tp, applied in self._seating.has.items():
            has[tp.topic][str(tp.partition)] = applied
        follows = _by_topic(self._seating.follows)
        said = orjson.dumps({"replicas": self._replicas, "has": has, "follows": follows})
        return ConsumerProtocolMemberMetadata(self.version, list(topics), said)

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As the leader: deal out the partitions of all members' topics."""
        known = {name: _member(said) for name, said in members.items()}
        topics = {topic for member in known.values() for topic in member.topics}
        partitions = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        for topic in sorted(topic for topic, count in partitions.items() if not count):
            log.warning("topic %s is not known to the broker yet, and given to nobody", topic)
        return {
            name: ConsumerProtocolMemberAssignment(
                self.version,
                [(topic, tps) for topic, tps in _by_topic(placed.owned).items()],
                _standing(placed),
            )
            for name, placed in place(known, partitions, self._tasks).items()
        }

    def on_assignment(self, assignment: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What the leader has said; a leader of another kind says nothing."""
        said = _read(assignment.user_data)
        self._seating.standbys = _partitions(said.get("standbys"))
        self._seating.warming = _partitions(said.get("warming"))


def _member(said: Any) -> Member:
    told = _read(said.user_data)
    has = {
        TopicPartition(topic, int(partition)): applied
        for topic, by in told.get("has", {}).items()
        for partition, applied in by.items()
    }
    follows = _partitions(told.get("follows"))
    return Member(frozenset(said.subscription), told.get("replicas", 0), has, follows)


def _standing(placed: Place) -> bytes:
    standing = {"standbys": _by_topic(placed.standbys), "warming": _by_topic(placed.warming)}
    return orjson.dumps(standing)


def _by_topic(tps: Iterable[TopicPartition]) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for tp in sorted(tps):
        found[tp.topic].append(tp.partition)
    return dict(found)


def _partitions(said: Any) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(topic, p) for topic, tps in (said or {}).items() for p in tps)


def _read(data: bytes | None) -> dict[str, Any]:
    """The words of a member of this kind; of another kind, or version, nothing."""
    try:
        said = orjson.loads(data or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
