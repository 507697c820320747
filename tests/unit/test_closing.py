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
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.sink_chain import last_visible
from streamflow.engine.sink_success import Success
from streamflow.errors import TopologyError
from streamflow.partition_by import PartitionBy

from .sink_log import TP, Crash, drain, partition, spec
from .test_sink_laws import crash_at, log_of

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ZONES = ("Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu")
#: Their clocks change by half an hour, change within an hour of UTC, and were off by seconds.
ODD = ("Australia/Lord_Howe", "America/St_Johns", "Africa/Monrovia")
UNITS = [unit("at", zone) for unit in (hour, day, month) for zone in ("UTC", *ZONES, *ODD)]
#: Instants at which clocks change, to look around.
CHANGES = [
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2010, 11, 7, 2, 31, tzinfo=UTC),
    datetime(2010, 3, 14, 3, 31, tzinfo=UTC),
    datetime(1972, 1, 7, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),
    datetime(2018, 11, 4, 3, tzinfo=UTC),
]
around_changes = st.builds(
    lambda change, seconds: change + timedelta(seconds=seconds),
    st.sampled_from(CHANGES),
    st.integers(-9_000, 9_000),
)


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


@given(
    st.datetimes(datetime(1000, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
    | around_changes,
    st.sampled_from(UNITS),
)
def test_a_period_ends_where_the_next_one_begins(at: datetime, by: PartitionBy) -> None:
    time = micros(at)
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


@given(
    st.lists(
        st.none()
        | around_changes
        | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
    ),
    st.sampled_from((*ZONES, *ODD)),
)
def test_hours_are_those_of_the_zone(times: list[datetime | None], zone: str) -> None:
    rows = pa.record_batch([pa.array(times, pa.timestamp("us", "UTC"))], names=["at"])
    local = [time and time.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d-%H") for time in times]
    assert hour("at", zone).of(rows).to_pylist() == local


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("unit", [hour, day, month])
def test_in_the_first_and_the_last_year_a_period_is_that_of_utc(unit: Any, zone: str) -> None:
    """What stands for never or for ever is often such a date."""
    ends = [datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC), None]
    times = [*ends, datetime(2026, 5, 1, 12, tzinfo=UTC)]
    rows = pa.record_batch([pa.array(times, pa.timestamp("us", "UTC"))], names=["at"])
    expected = unit("at").of(rows).to_pylist()
    assert unit("at", zone).of(rows).to_pylist()[:3] == expected[:3]


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
