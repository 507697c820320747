"""When a time partition is complete, and what is looked at to know it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Calendar,
    Count,
    Rule,
    Session,
    Sliding,
    Tumbling,
    day,
    hour,
    kafka_timestamp,
    month,
    parquet,
    source,
    topic,
)
from streamflow.core.closing import Closing, closing_of
from streamflow.destinations import PartitionBy
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.sink_chain import last_visible
from streamflow.engine.sink_success import Success
from streamflow.errors import TopologyError

from .sink_log import TP, Crash, drain, partition, spec
from .test_sink_laws import crash_at, log_of

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ZONES = ("Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu")
UNITS = [hour("at"), *(unit("at", zone) for unit in (day, month) for zone in ("UTC", *ZONES))]


class Event(BaseModel, frozen=True):
    key: str
    at: AwareDatetime
    seen: AwareDatetime


class Counted(BaseModel, frozen=True):
    key: str
    window_start: AwareDatetime
    events: int


events = source(topic("events"), Event, key="key", event_time="at")


def micros(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@given(st.datetimes(datetime(1000, 1, 1), datetime(9998, 1, 1)), st.sampled_from(UNITS))  # noqa: DTZ001
def test_a_period_ends_where_the_next_one_begins(naive: datetime, by: PartitionBy) -> None:
    time = micros(naive.replace(tzinfo=UTC))
    value = by.period(time)
    end = by.end(value)
    assert end > time
    assert by.period(end - 1) == value != by.period(end)
    rows = pa.record_batch([pa.array([time], pa.timestamp("us", "UTC"))], names=["at"])
    assert by.of(rows).to_pylist() == [value]


@given(
    st.lists(st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))),  # noqa: DTZ001
    st.sampled_from(ZONES),
)
def test_days_and_months_are_those_of_the_zone(naive: list[datetime | None], zone: str) -> None:
    times = [time and time.replace(tzinfo=UTC) for time in naive]
    rows = pa.record_batch([pa.array(times, pa.timestamp("us", "UTC"))], names=["at"])
    local = [time and time.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d") for time in times]
    assert day("at", zone).of(rows).to_pylist() == local
    assert month("at", zone).of(rows).to_pylist() == [date and date[:7] for date in local]


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(TopologyError, match="no time zone 'Berlin'"):
        day("at", "Berlin")


@pytest.mark.parametrize(
    ("origin", "by", "lag"),
    [
        (events, day("at"), timedelta(0)),
        (events.filter("key <> 'x'"), hour("at"), timedelta(0)),
        (events.gate(Rule("named", "key <> ''")), month("at"), timedelta(0)),
        (events, day("seen"), None),
        (events, "key", None),
        (source(topic("t"), Event, event_time=kafka_timestamp()), day("at"), None),
        (events.gate(Rule("d", "at IS NOT NULL", default=("at", NOON))), day("at"), None),
        (events.map(Event, at="seen"), day("at"), None),
    ],
)
def test_records_are_complete_by_the_time_that_the_watermark_goes_by(
    origin: Any, by: Any, lag: timedelta | None
) -> None:
    found = closing_of(origin, parquet("t", partition_by=by))
    assert (found and timedelta(microseconds=found.lag)) == lag


@pytest.mark.parametrize(
    ("window", "starts", "ends"),
    [
        (Tumbling(HOUR), 2 * HOUR, HOUR),
        (Sliding(2 * HOUR), 3 * HOUR, HOUR),
        (Calendar("month"), HOUR + timedelta(days=33), HOUR),
        (Session(HOUR), None, HOUR),
    ],
)
def test_results_are_complete_when_their_windows_are_closed(
    window: Any, starts: timedelta | None, ends: timedelta
) -> None:
    results = events.window(window, by="key", grace=HOUR).aggregate(Counted, events=Count())
    for column, lag in (("window_start", starts), ("window_end", ends)):
        found = closing_of(results, parquet("t", partition_by=("key", day(column))))
        assert (found and timedelta(microseconds=found.lag)) == lag
        assert found is None or found.place == 1


def test_only_whole_times_of_this_table_are_marked_and_each_once() -> None:
    closing = Closing(1, day("at"), 0)
    names = [
        "key=a/date=2024-05-01/x.parquet",
        "key=a/date=2024-05-01/n=1/y.parquet",
        "key=a/date=2024-05-02/x.parquet",
        "key=b/date=2024-05-01/x.parquet",
        "key=b/date=2024-05-01/_SUCCESS",
        "key=b/date=__HIVE_DEFAULT_PARTITION__/x.parquet",
        "key=b/date=backup/x.parquet",
        "key=c/x.parquet",
        "key=d/date=2024-05-01/readme.txt",
    ]
    at = micros(datetime(2024, 5, 2, tzinfo=UTC))
    assert list(closing.to_mark(names, at)) == ["key=a/date=2024-05-01/_SUCCESS"]
    assert not list(closing.to_mark(names, at - 1))


def test_a_cut_counts_when_its_files_are_there() -> None:
    files, log = MemoryFiles(), log_of([1, 2])
    assert last_visible(files, TP) is None
    with pytest.raises(Crash):
        drain(partition(files, faults=crash_at("cut", 1)), log)
    found = last_visible(files, TP)
    assert found is not None
    assert found.k == 1
    drain(partition(files), log)
    found = last_visible(files, TP)
    assert found is not None
    assert found.end_of_input


class Listed(MemoryFiles):
    """Counts how often somebody wants to know all there is."""

    times = 0

    def names(self, *, private: bool = False) -> list[str]:
        self.times += 1
        return super().names(private=private)


def test_nothing_is_looked_at_before_an_hour_may_have_ended() -> None:
    files = Listed()
    drain(partition(files), log_of([1]))
    last = last_visible(files, TP)
    assert last is not None
    at = micros(datetime(2024, 5, 1, tzinfo=UTC))
    made = Success(spec(closing=Closing(0, hour("at"), 0), partitions=4), files, TP)
    looked: list[int] = []
    for minute in (10, 20, 59, 60, 61):
        before = files.times
        time = at + minute * 60_000_000
        made.visible(replace(last, watermark=time, end_of_input=False))
        made.mark()
        looked.append(files.times - before)
        assert not made.is_due
    assert looked == [1, 0, 0, 1, 0]
    made.visible(last)
    assert made.is_due, "the end of the input"
