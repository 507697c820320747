"""Who gets which partitions of the group, and who keeps whose state warm.

Members say how far their local states have applied the changelogs of tasks. A state that lacks
little of the furthest one is *warm*: a task that starts there reads next to nothing. The leader of
the group places, in this order:

    tasks     evenly, one more or less; as many as can be on members that are warm, and of those
              on the furthest, which is the owner before. So a rebalance moves few tasks, and what
              a dead worker had goes to its standbys.
    warming   where evenness would give a task to a member that is not warm, though another is, that
              one keeps it for now, and the new one follows it; when it is warm it asks for another
              rebalance. Only where standbys are wanted.
    others    partitions without a state (rows of tables), evenly over all that members have.
    standbys  of each task as many as are wanted, never its owner; evenly, warm ones first, and
              those of one owner on different members, who share its tasks when it dies.

What members say is a hint: where it is wrong, a task has more to read, and nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from streamflow.batch import TopicPartition

#: A state is warm that lacks no more offsets of its changelog than this.
WARM = 10_000


@dataclass(frozen=True)
class Member:
    """A member of the group: the topics it takes, how many standbys it wants of each task (with
    none it is none itself), up to where its local states have applied the tasks' changelogs, and
    the tasks that it follows, some of which it may not have yet.
    """

    topics: frozenset[str]
    replicas: int = 0
    has: Mapping[TopicPartition, int] = field(default_factory=dict)
    follows: frozenset[TopicPartition] = frozenset()


@dataclass
class Place:
    """What a member is given. `warming` are those of its standbys that it is to be the owner of."""

    owned: list[TopicPartition] = field(default_factory=list)
    standbys: list[TopicPartition] = field(default_factory=list)
    warming: list[TopicPartition] = field(default_factory=list)


def place(
    members: Mapping[str, Member], partitions: Mapping[str, int], tasks: Collection[str]
) -> dict[str, Place]:
    """Deal out all partitions of these topics; those of the topics `tasks` have a state.

    Every partition of a topic that a member takes has one owner. The same members and partitions
    are always placed in the same way.
    """
    placed = {name: Place() for name in sorted(members)}
    taken = {topic for member in members.values() for topic in member.topics}
    every = [
        TopicPartition(topic, p) for topic in sorted(taken) for p in range(partitions.get(topic, 0))
    ]
    warm = {tp: _warm(members, tp) for tp in every if tp.topic in tasks}
    owners = _Seats(members, warm).dealt()
    for tp, (owner, warming) in _kept_warm(members, warm, owners).items():
        owners[tp] = owner
        placed[warming].standbys.append(tp)
        placed[warming].warming.append(tp)
    for tp, owner in owners.items():
        placed[owner].owned.append(tp)
    for tp in (tp for tp in every if tp.topic not in tasks):
        can = [name for name in placed if tp.topic in members[name].topics]
        placed[min(can, key=lambda name: (len(placed[name].owned), name))].owned.append(tp)
    _stand_by(members, warm, owners, placed)
    return placed


def _warm(members: Mapping[str, Member], tp: TopicPartition) -> list[str]:
    """Who is warm for a task, the furthest first; nobody where nobody has any of it."""
    has = {name: m.has.get(tp, 0) for name, m in members.items() if tp.topic in m.topics}
    most = max(has.values(), default=0)
    near = [name for name, applied in has.items() if 0 < most <= applied + WARM]
    return sorted(near, key=lambda name: (-has[name], name))


class _Seats:
    """Tasks dealt out evenly, as many as can be to members that are warm for them."""

    def __init__(
        self, members: Mapping[str, Member], warm: Mapping[TopicPartition, list[str]]
    ) -> None:
        self._members = members
        self._warm = warm
        self._by: dict[str, list[TopicPartition]] = {name: [] for name in sorted(members)}
        self._least, self._more = divmod(len(warm), max(len(members), 1))

    def dealt(self) -> dict[TopicPartition, str]:
        """The owner of each task."""
        order = sorted(self._warm, key=lambda tp: (len(self._warm[tp]) or len(self._by), tp))
        cold = [tp for tp in order if not self._seat(tp, set())]
        for tp in cold:
            can = [name for name in self._by if tp.topic in self._members[name].topics]
            free = [name for name in can if self._has_room(name)] or can
            free = [name for name in free if len(self._by[name]) < self._least] or free
            self._by[min(free, key=lambda name: self._cost(name, tp))].append(tp)
        return {tp: name for name, tps in self._by.items() for tp in tps}

    def _cost(self, name: str, tp: TopicPartition) -> tuple[bool, int, int, str]:
        member = self._members[name]
        return (tp not in member.follows, -member.has.get(tp, 0), len(self._by[name]), name)

    def _has_room(self, name: str) -> bool:
        have = len(self._by[name])
        more = self._more - sum(len(tps) > self._least for tps in self._by.values())
        return have < self._least or (have == self._least and more > 0)

    def _seat(self, tp: TopicPartition, asked: set[str]) -> bool:
        """Give a task to a member that is warm, if need be in the place of one that can go to
        another that is (the matching of Kuhn, each member with several seats).
        """
        for name in self._warm[tp]:
            if name in asked:
                continue
            asked.add(name)
            if self._has_room(name):
                self._by[name].append(tp)
                return True
            for seat, other in enumerate(self._by[name]):
                if self._seat(other, asked):
                    self._by[name][seat] = tp
                    return True
        return False


def _kept_warm(
    members: Mapping[str, Member],
    warm: Mapping[TopicPartition, list[str]],
    owners: Mapping[TopicPartition, str],
) -> dict[TopicPartition, tuple[str, str]]:
    """Tasks that stay with a warm owner until the one that is to have them is warm too: both."""
    return {
        tp: (warm[tp][0], owner)
        for tp, owner in owners.items()
        if warm[tp] and owner not in warm[tp] and members[owner].replicas
    }


def _stand_by(
    members: Mapping[str, Member],
    warm: Mapping[TopicPartition, list[str]],
    owners: Mapping[TopicPartition, str],
    placed: Mapping[str, Place],
) -> None:
    can = [name for name, member in members.items() if member.replicas]
    wanted = max((members[name].replicas for name in can), default=0)
    share = -(-wanted * len(owners) // max(len(can), 1))
    of_owner: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def cost(name: str, tp: TopicPartition) -> tuple[bool, bool, bool, int, int, str]:
        """What is warm counts up to an even share; what is on its way to it stays where it is."""
        have, given = len(placed[name].standbys), of_owner[owners[tp]][name]
        far = tp not in members[name].follows
        return (have >= share, name not in warm[tp], far, given, have, name)

    for tp in sorted(owners):
        chosen = [name for name, place in placed.items() if tp in place.warming]
        able = [n for n in can if n != owners[tp] and tp.topic in members[n].topics]
        for _ in range(len(chosen), wanted):
            left = [name for name in able if name not in chosen]
            if not left:
                break
            best = min(left, key=lambda name: cost(name, tp))
            placed[best].standbys.append(tp)
            chosen.append(best)
        of_owner[owners[tp]].update(chosen)
