"""Who gets which partitions: laws over any group, whatever its members say they have."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamflow.batch import TopicPartition
from streamflow.engine.placement import WARM, Member, Place, place
from tests.examples import law

SOURCES, ROWS = ("a", "b"), "rows"
TOPICS = frozenset({*SOURCES, ROWS})
offsets = st.one_of(st.just(0), st.integers(0, 3 * WARM), st.integers(0, 10**9))


@st.composite
def groups(draw: st.DrawFn) -> tuple[dict[str, Member], dict[str, int]]:
    partitions = {topic: draw(st.integers(1, 6)) for topic in sorted(TOPICS)}
    tasks = [TopicPartition(topic, p) for topic in SOURCES for p in range(partitions[topic])]
    members: dict[str, Member] = {}
    for n in range(draw(st.integers(1, 5))):
        has = {tp: draw(offsets) for tp in draw(st.sets(st.sampled_from(tasks)))}
        follows = frozenset(draw(st.sets(st.sampled_from(tasks))))
        members[f"m{n}"] = Member(TOPICS, draw(st.integers(0, 3)), has, follows)
    return members, partitions


def warm(members: dict[str, Member], name: str, tp: TopicPartition) -> bool:
    most = max(member.has.get(tp, 0) for member in members.values())
    return 0 < most <= members[name].has.get(tp, 0) + WARM


def owner_of(placed: dict[str, Place], tp: TopicPartition) -> str:
    (owner,) = [name for name, place in placed.items() if tp in place.owned]
    return owner


def tasks_of(place: Place) -> list[TopicPartition]:
    return [tp for tp in place.owned if tp.topic in SOURCES]


@law()
@given(groups())
def test_every_partition_has_one_owner_and_its_standbys_are_others(
    group: tuple[dict[str, Member], dict[str, int]],
) -> None:
    members, partitions = group
    placed = place(members, partitions, SOURCES)
    assert placed == place(dict(reversed(members.items())), partitions, SOURCES)
    owned = Counter(tp for one in placed.values() for tp in one.owned)
    every = [TopicPartition(topic, p) for topic, n in partitions.items() for p in range(n)]
    assert owned == Counter(every)
    able = [name for name, member in members.items() if member.replicas]
    wanted = max((member.replicas for member in members.values()), default=0)
    for tp in (tp for tp in every if tp.topic in SOURCES):
        owner = owner_of(placed, tp)
        standing = Counter(name for name, one in placed.items() for x in one.standbys if x == tp)
        assert set(standing.values()) <= {1}
        assert owner not in standing
        assert set(standing) <= set(able)
        assert len(standing) == min(wanted, len(set(able) - {owner}))
    for one in placed.values():
        assert set(one.warming) <= set(one.standbys)
        assert all(tp.topic in SOURCES for tp in one.standbys)


@law()
@given(groups())
def test_tasks_are_even_but_for_those_that_wait_for_a_warm_state(
    group: tuple[dict[str, Member], dict[str, int]],
) -> None:
    members, partitions = group
    placed = place(members, partitions, SOURCES)
    waiting = {tp: name for name, one in placed.items() for tp in one.warming}
    meant = Counter(dict.fromkeys(members, 0))
    for one_name, one in placed.items():
        meant.update(waiting.get(tp, one_name) for tp in tasks_of(one))
    assert max(meant.values()) - min(meant.values()) <= 1
    for tp, name in waiting.items():
        assert not warm(members, name, tp)
        assert warm(members, owner_of(placed, tp), tp)


@law()
@given(groups())
def test_where_standbys_are_wanted_nobody_begins_a_state_anew_that_another_one_has(
    group: tuple[dict[str, Member], dict[str, int]],
) -> None:
    members, partitions = group
    members = {
        name: Member(one.topics, max(one.replicas, 1), one.has) for name, one in members.items()
    }
    placed = place(members, partitions, SOURCES)
    for name, one in placed.items():
        for tp in tasks_of(one):
            assert warm(members, name, tp) or not any(warm(members, m, tp) for m in members)


@law()
@given(groups(), st.integers(2 * WARM + 1, 10**9))
def test_nothing_moves_when_nothing_has_changed_and_a_death_moves_tasks_to_standbys_alone(
    group: tuple[dict[str, Member], dict[str, int]], end: int
) -> None:
    """From a group that has settled: all states are warm where they are."""
    members, partitions = group
    names = sorted(members)
    fresh = {name: Member(TOPICS, 1) for name in names}
    before = place(fresh, partitions, SOURCES)
    settled = {name: _after(before[name], end) for name in names}
    assert place(settled, partitions, SOURCES) == before
    if len(names) < 2:
        return
    after = place({name: settled[name] for name in names[1:]}, partitions, SOURCES)
    for name in names[1:]:
        assert set(tasks_of(after[name])) <= {*tasks_of(before[name]), *before[name].standbys}


def _after(placed: Place, end: int) -> Member:
    has = dict.fromkeys(tasks_of(placed), end) | {tp: max(end - 5, 0) for tp in placed.standbys}
    return Member(TOPICS, 1, has, frozenset(placed.standbys))
