"""When a sink rolls by the clock: at an age, after a silence; and that a redo needs no clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow import TopologyError, delta, parquet
from streamflow.clock import SimulatedClock
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.sink import SinkPartition
from tests.examples import examples

from .sink_log import Crash, Log, content, ids, partition, spec
from .test_sink_laws import crash_at

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: The rows of a commit, and the seconds that pass after it.
STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=12)


def timed(interval: int | None, inactivity: int | None) -> dict[str, timedelta | None]:
    return {
        "roll_interval": None if interval is None else timedelta(seconds=interval),
        "inactivity_interval": None if inactivity is None else timedelta(seconds=inactivity),
    }


def sink_of(
    files: MemoryFiles, clock: SimulatedClock, interval: int | None, inactivity: int | None
) -> SinkPartition:
    settings = replace(spec(target_bytes=10**9), **timed(interval, inactivity))
    return partition(files, settings, clock=clock)


def feed(sink: SinkPartition, log: Log, count: int) -> None:
    start = log.end
    log.commit(count)
    sink.receive(log.fetch(start, log.end))


def test_rows_are_rolled_when_no_more_come_and_not_while_they_do() -> None:
    clock, files, log = SimulatedClock(NOW), MemoryFiles(), Log()
    sink = sink_of(files, clock, 300, 30)
    sink.open(0, 0)
    for _ in range(5):
        feed(sink, log, 2)
        clock.advance(timedelta(seconds=29))
        assert sink.tick() is None
    clock.advance(timedelta(seconds=1))
    assert sink.tick() == 0
    assert ids(files) == list(range(10))


def test_commits_without_rows_do_not_break_the_silence() -> None:
    clock, files, log = SimulatedClock(NOW), MemoryFiles(), Log()
    sink = sink_of(files, clock, None, 30)
    sink.open(0, 0)
    feed(sink, log, 4)
    clock.advance(timedelta(seconds=20))
    feed(sink, log, 0)
    assert ids(files) == []
    clock.advance(timedelta(seconds=10))
    sink.tick()
    assert ids(files) == [0, 1, 2, 3]
    clock.advance(timedelta(days=1))
    assert sink.tick() is None, "silence alone rolls nothing"


@examples(100)
@given(STEPS, st.none() | st.integers(1, 90), st.none() | st.integers(1, 60))
def test_what_is_visible_follows_from_the_clock_and_the_two_intervals(
    steps: list[tuple[int, int]], interval: int | None, inactivity: int | None
) -> None:
    """Against a model: rows held since, and the last heard at."""
    clock, files, log = SimulatedClock(NOW), MemoryFiles(), Log()
    sink = sink_of(files, clock, interval, inactivity)
    sink.open(0, 0)
    now, visible, since, heard, rows = 0, 0, None, None, 0
    for count, seconds in steps:
        rows += count
        since = now if since is None else since
        heard = now if count else heard
        feed(sink, log, count)
        now += seconds
        clock.advance(timedelta(seconds=seconds))
        sink.tick()
        old = interval is not None and now - since >= interval
        quiet = inactivity is not None and heard is not None and now - heard >= inactivity
        # Nothing is held and nothing is due in the moment that a commit comes: a step is one roll.
        if rows > visible and (old or quiet):
            visible, since = rows, None
        assert ids(files) == list(range(visible))


@pytest.mark.parametrize("point", ["cut-temp", "cut", "files-written"])
def test_a_roll_that_the_clock_began_is_done_again_without_one(point: str) -> None:
    clock, files, log = SimulatedClock(NOW), MemoryFiles(), Log()
    settings = replace(spec(target_bytes=10**9), **timed(300, 30))
    sink = partition(files, settings, clock=clock, faults=crash_at(point, 0))
    sink.open(0, 0)
    feed(sink, log, 5)
    clock.advance(timedelta(seconds=30))
    with pytest.raises(Crash):
        sink.tick()
    again = partition(files, replace(settings, **timed(None, None)), clock=SimulatedClock(NOW))
    log.commit(3)
    again.receive(log.fetch(again.open(0, log.end), log.end))
    decided = point != "cut-temp"
    assert ids(files) == (list(range(5)) if decided else [])
    assert len(content(files)) == (3 if decided else 0)


def test_an_interval_that_never_comes_first_is_refused() -> None:
    minute = timedelta(minutes=1)
    for table in (parquet, delta):
        assert table("t", inactivity_interval=minute).inactivity_interval == minute
        with pytest.raises(TopologyError, match="has no effect: rows are rolled after roll_int"):
            table("t", roll_interval=minute, inactivity_interval=minute)
        with pytest.raises(TopologyError, match="inactivity_interval"):
            table("t", inactivity_interval=timedelta(0))
        assert table("t", roll_interval=None, inactivity_interval=minute).roll_interval is None
