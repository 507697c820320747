"""What members and the leader of a group say to each other, as Kafka carries it."""

from collections.abc import Collection, Mapping
from typing import Any

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocol

from streamflow.batch import TopicPartition
from streamflow.engine.assignor import WarmAssignor
from streamflow.engine.placement import WARM
from streamflow.engine.seating import Seating

TASKS = [TopicPartition("orders", p) for p in range(4)]
COUNTS = {"orders": 4, "rows": 4}
END = 5 * WARM


class Cluster:
    """What the leader knows of topics."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        count = self._counts.get(topic)
        return None if count is None else set(range(count))


def member(replicas: int = 1, *, seating: Seating | None = None) -> WarmAssignor:
    return WarmAssignor(seating or Seating(), ["orders"], replicas)


def dealt(
    leader: Any, members: Mapping[str, Any], counts: Mapping[str, int] = COUNTS
) -> dict[str, Any]:
    """A rebalance: each is told over the wire, and what it was given is returned."""
    said = {name: one.metadata(set(COUNTS)).encode() for name, one in members.items()}
    heard = {name: ConsumerProtocol.METADATA.decode(words) for name, words in said.items()}
    given = leader.assign(Cluster(counts), heard)
    found = {name: ConsumerProtocol.ASSIGNMENT.decode(one.encode()) for name, one in given.items()}
    for name, one in members.items():
        one.on_assignment(found[name])
    return found


def owned(given: Any) -> set[TopicPartition]:
    return {TopicPartition(tp.topic, tp.partition) for tp in given.partitions()}


def tasks(tps: Collection[TopicPartition]) -> set[TopicPartition]:
    return set(tps) & set(TASKS)


def test_members_of_a_group_follow_each_other_and_a_standby_takes_over() -> None:
    seats = {name: Seating() for name in "ab"}
    members = {name: member(seating=seats[name]) for name in "ab"}
    before = dealt(members["a"], members)
    assert [len(tasks(owned(before[name]))) for name in "ab"] == [2, 2]
    assert [len(owned(before[name])) for name in "ab"] == [4, 4]
    assert seats["a"].standbys == tasks(owned(before["b"]))
    assert seats["b"].standbys == tasks(owned(before["a"]))

    seats["b"].has = dict.fromkeys(TASKS, END)
    alone = dealt(members["b"], {"b": members["b"]})
    assert owned(alone["b"]) >= set(TASKS)
    assert seats["b"].standbys == frozenset()


def test_who_joins_without_a_state_gets_its_tasks_when_it_has_one() -> None:
    old, new = Seating(has=dict.fromkeys(TASKS, END)), Seating()
    members = {"old": member(seating=old), "new": member(seating=new)}
    first = dealt(members["old"], members)
    assert tasks(owned(first["old"])) == set(TASKS)
    assert len(new.warming) == 2
    assert new.warming <= new.standbys

    moved = new.warming
    new.has = dict.fromkeys(moved, END - 10)
    second = dealt(members["old"], members)
    assert tasks(owned(second["new"])) == moved
    assert new.warming == frozenset()
    assert old.standbys == moved


def test_without_standbys_tasks_are_even_at_once_and_stay_where_they_were() -> None:
    old, new = Seating(has=dict.fromkeys(TASKS, END)), Seating()
    members = {"old": member(0, seating=old), "new": member(0, seating=new)}
    first = dealt(members["new"], members)
    assert [len(tasks(owned(first[name]))) for name in members] == [2, 2]
    assert not new.standbys | old.standbys

    new.has = dict.fromkeys(tasks(owned(first["new"])), END + 100)
    renamed = {"a": members["new"], "z": members["old"]}
    second = dealt(members["old"], renamed)
    assert owned(second["a"]) & set(TASKS) == owned(first["new"]) & set(TASKS)


def test_members_of_earlier_versions_are_in_the_group_and_may_lead_it() -> None:
    seat = Seating(has=dict.fromkeys(TASKS, END))
    mixed = {"new": member(seating=seat), "old": RoundRobinPartitionAssignor}
    assert {one.name for one in mixed.values()} == {"roundrobin"}
    by_new = dealt(mixed["new"], mixed)
    assert owned(by_new["new"]) | owned(by_new["old"]) == {
        TopicPartition(topic, p) for topic, n in COUNTS.items() for p in range(n)
    }
    assert not seat.standbys & owned(by_new["new"])
    seat.standbys = frozenset(TASKS)
    dealt(RoundRobinPartitionAssignor, mixed)
    assert seat.standbys == frozenset(), "who does not know of standbys names none"


def test_a_topic_that_is_not_known_yet_is_given_to_nobody() -> None:
    given = dealt(member(), {"a": member()}, {"orders": 4})
    assert owned(given["a"]) == set(TASKS)
