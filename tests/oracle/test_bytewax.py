"""Bytewax puts the same rows into the same windows, where none of them is late.

It judges lateness of every row alone, by `timestamp < watermark`, and here of every window by its
end, so only streams without late rows can be compared. Its watermark would go on with the system's
clock, which stands still here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import Count, Hopping, Session, Sum, Topology, Tumbling, source, topic
from streamflow.testing import TopologyDriver
from streamflow.windows import Window
from tests.examples import examples

if sys.version_info < (3, 13):
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.operators import windowing as w
    from bytewax.testing import TestingSink, TestingSource, run_main

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="bytewax has no wheel for Python 3.13 and later"
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
LAG = timedelta(minutes=3)
TICK = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
WINDOWS: list[Window] = [
    Tumbling(MINUTE),
    Tumbling(timedelta(milliseconds=700), offset=timedelta(milliseconds=100)),
    Hopping(10 * MINUTE, 5 * MINUTE),
    Hopping(timedelta(seconds=90), timedelta(seconds=40), offset=timedelta(seconds=7)),
    Session(MINUTE),
    Session(TICK),
]


class Row(NamedTuple):
    who: str
    n: int
    at: datetime


class Ping(BaseModel, frozen=True):
    who: str
    n: int
    at: AwareDatetime


class Pings(BaseModel, frozen=True):
    who: str
    window_start: AwareDatetime
    pings: int
    total: int


#: Start of the window, group, rows and the sum of their numbers.
Made = tuple[datetime, str, int, int]


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Rows that lie less than `LAG` behind the latest before them, many of them on boundaries."""
    steps = st.sampled_from([0, 1, 59_999_999, 60_000_000, 60_000_001, 300_000_000, 10**10])
    behind = st.sampled_from([0, 1, 59_999_999, 60_000_000, 60_000_001, 179_999_999])
    moves = st.tuples(
        st.sampled_from("ab"),
        st.integers(-(10**6), 10**6),
        steps | st.integers(0, 10**8),
        behind | st.integers(0, 179_999_999),
    )
    rows: list[Row] = []
    latest = NOON
    for who, n, step, back in draw(st.lists(moves, max_size=40)):
        latest += step * TICK
        rows.append(Row(who, n, latest - back * TICK))
    return rows


def _at(row: Row) -> datetime:
    return row.at


def ours(window: Window, rows: Sequence[Row]) -> list[Made]:
    pings = source(topic("in"), Ping, key="who", event_time="at", out_of_orderness=LAG)
    made = pings.window(window, by="who").aggregate(Pings, pings=Count(), total=Sum("n"))
    edges = [made.to(topic("out")), made.late.drop(), pings.rejected.drop()]
    driver = TopologyDriver(Topology("pings", *edges), NOON, batches=(7, 1, 3), commit_records=5)
    driver.send("in", *({"who": r.who, "n": r.n, "at": r.at.isoformat()} for r in rows))
    driver.end_of_input()
    assert driver.totals["late"] == driver.totals["rejected"] == 0
    return sorted(
        (row["window_start"], row["who"], row["pings"], row["total"]) for row in driver.read("out")
    )


def theirs(window: Window, rows: Sequence[Row]) -> list[Made]:
    windower: w.Windower[Any]
    match window:
        case Tumbling():
            windower = w.TumblingWindower(length=window.size, align_to=EPOCH + window.offset)
        case Hopping():
            windower = w.SlidingWindower(
                length=window.size, offset=window.every, align_to=EPOCH + window.offset
            )
        case Session():
            windower = w.SessionWindower(gap=window.gap)
        case _:
            raise AssertionError(window)
    clock = w.EventClock(ts_getter=_at, wait_for_system_duration=LAG, now_getter=lambda: NOON)
    values: list[tuple[str, tuple[int, list[Row]]]] = []
    metas: list[tuple[str, tuple[int, w.WindowMetadata]]] = []
    late: list[tuple[str, tuple[int, Row]]] = []
    flow = Dataflow("pings")
    stream = op.input("in", flow, TestingSource(list(rows)))
    windowed = w.collect_window(
        "window", op.key_on("key", stream, lambda r: r.who), clock, windower
    )
    op.output("values", windowed.down, TestingSink(values))
    op.output("metas", windowed.meta, TestingSink(metas))
    op.output("late", windowed.late, TestingSink(late))
    run_main(flow)
    assert not late
    starts = {(key, number): meta.open_time for key, (number, meta) in metas}
    return sorted(
        (starts[key, number], key, len(found), sum(row.n for row in found))
        for key, (number, found) in values
    )


@pytest.mark.parametrize("window", WINDOWS, ids=repr)
@examples(50, cases=len(WINDOWS))
@given(rows=streams())
def test_bytewax_has_the_same_windows(window: Window, rows: list[Row]) -> None:
    assert ours(window, rows) == theirs(window, rows)
