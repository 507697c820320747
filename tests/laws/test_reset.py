"""A reset is one commit more: what it passes over never was, what it discards begins anew."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.batch import Record, TopicPartition
from streamflow.engine.faults import COMMIT_POINTS
from streamflow.errors import StateRefused
from streamflow.testing import TopologyDriver
from tests.examples import law
from tests.laws.orders import EXACT, NOON, order, records, topology
from tests.laws.settling import Settling

TP = TopicPartition("orders", 0)
TOPICS = ("orders.clean", "orders.dlq", "orders.late", "per-minute")
streams = st.lists(records(EXACT), max_size=15)
crashes = st.tuples(st.sampled_from(("", *COMMIT_POINTS)), st.integers(1, 4))


def driver(keep_disk: bool = True) -> TopologyDriver:
    return TopologyDriver(topology, NOON, commit_records=3, keep_disk=keep_disk)


def lie(at: TopologyDriver, *sent: Record) -> None:
    """Records that are in the topic, and not processed."""
    for record in sent:
        at.broker.append(TP, record)


def outcome(of: TopologyDriver, skip: dict[str, int] | None = None) -> dict[str, Any]:
    """What came out, but for the offsets, which passed over records shift."""
    before = skip or {}
    found: dict[str, Any] = {
        topic: [(r.key, r.value, r.timestamp) for r in of.records(topic)][before.get(topic, 0) :]
        for topic in TOPICS
    }
    found["rows"] = sorted(map(str, of.files("orders")))
    found["results"] = sorted(map(str, of.files("per-minute")))
    return found


def done(settling: Settling, to: str, crash: tuple[str, int], *, discard: bool, page: int) -> None:
    """A reset that dies, and is done again by somebody who looks first."""
    reset = settling.plan(to, discard=discard)
    if not settling.carry_out(reset, page=page, crash=crash):
        return
    if discard:
        settling.reset(to, discard=True, page=page)
    else:
        again = settling.plan(to)
        settling.carry_out(again)


@law()
@given(streams, streams, streams, crashes, st.booleans())
def test_what_a_reset_passes_over_never_was(
    before: list[Record],
    passed: list[Record],
    after: list[Record],
    crash: tuple[str, int],
    keep_disk: bool,
) -> None:
    never, here = driver(), driver(keep_disk)
    never.send("orders", *before)
    here.send("orders", *before)
    if not here._stores[TP].get([b"meta"])[0]:
        return
    lie(here, *passed)
    done(Settling(here, topology), "latest", crash, discard=False, page=50_000)
    here.restart()
    for one in (never, here):
        one.send("orders", *after)
        one.end_of_input()
    assert outcome(here) == outcome(never)
    assert here.totals == never.totals
    assert here.broker.offsets[TP] == here.broker.partition(TP).next_offset


@law()
@given(streams, streams, crashes, st.integers(1, 5), st.integers(0, 30), st.booleans())
def test_what_is_discarded_begins_anew(
    before: list[Record],
    after: list[Record],
    crash: tuple[str, int],
    page: int,
    back: int,
    keep_disk: bool,
) -> None:
    here = driver(keep_disk)
    here.send("orders", *before)
    old = {topic: len(here.records(topic)) for topic in TOPICS}
    to = max(0, len(before) - back)
    done(Settling(here, topology), str(to), crash, discard=True, page=page)
    here.restart()
    here.process()
    here.send("orders", *after)
    here.end_of_input()

    anew = driver()
    anew.send("orders", *before[to:], *after)
    anew.end_of_input()
    wanted, found = outcome(anew), outcome(here, old)
    assert {t: found[t] for t in TOPICS} == {t: wanted[t] for t in TOPICS}
    plain = driver()
    plain.send("orders", *before)
    plain.end_of_input()
    rows = plain.files("orders") + anew.files("orders")
    assert found["rows"] == sorted(map(str, rows))
    assert len(here.files("per-minute")) == len(here.records("per-minute"))
    assert here.totals == anew.totals
    assert [k for k, _ in here._stores[TP].scan(b"", b"~")] == [
        k for k, _ in anew._stores[TP].scan(b"", b"~")
    ]


@law()
@given(streams, streams, crashes)
def test_a_group_offset_that_was_moved_is_put_back_and_nothing_else_changes(
    before: list[Record], after: list[Record], crash: tuple[str, int]
) -> None:
    plain, here = driver(), driver()
    for one in (plain, here):
        one.send("orders", *before)
    if TP not in here.broker.offsets:
        return
    here.broker.offsets[TP] += 7
    done(Settling(here, topology), "changelog", crash, discard=False, page=50_000)
    assert here.broker.offsets[TP] == len(before)
    here.restart()
    for one in (plain, here):
        one.send("orders", *after)
        one.end_of_input()
    assert outcome(here) == outcome(plain)
    assert here.totals == plain.totals


@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_no_worker_starts_from_a_state_that_is_half_discarded(point: str) -> None:
    here = TopologyDriver(topology, NOON, batches=(1,))
    here.send("orders", *(order(second) for second in range(6)))
    settling = Settling(here, topology)
    assert settling.look().entries["windows"] == 6
    assert settling.carry_out(settling.plan("0", discard=True), page=1, crash=(point, 3))
    with pytest.raises(StateRefused, match="was being discarded"):
        here.restart()
    with pytest.raises(StateRefused, match="was being discarded"):
        settling.plan("changelog")
    assert settling.plan("changelog", discard=True).to == 6
