"""Where time is odd: each edge once, as a sentence."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Calendar,
    Count,
    First,
    Hopping,
    Last,
    LeapDatetime,
    Session,
    Sliding,
    Topology,
    Tumbling,
    header,
    source,
    topic,
)
from streamflow.batch import Record
from streamflow.leap_second import leap_second_moved
from streamflow.produce.timestamps import to_millis
from streamflow.testing import TopologyDriver
from streamflow.windows import Window

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
BERLIN = ZoneInfo("Europe/Berlin")


class Tap(BaseModel, frozen=True):
    who: str = "a"
    n: int = 0
    at: AwareDatetime


class Leap(BaseModel, frozen=True):
    who: str = "a"
    n: int = 0
    at: LeapDatetime


class Taps(BaseModel, frozen=True):
    who: str
    window_start: AwareDatetime
    taps: int
    first: int
    last: int


class Run:
    """Taps in windows: those that were closed, and what was late."""

    def __init__(
        self,
        window: Window,
        grace: timedelta = timedelta(0),
        model: type[BaseModel] = Tap,
        now: datetime = NOON,
        **options: Any,
    ) -> None:
        options = {"event_time": "at", **options}
        taps = source(topic("in"), model, key="who", **options)
        made = taps.window(window, by="who", grace=grace).aggregate(
            Taps, taps=Count(), first=First("n"), last=Last("n")
        )
        edges = [
            made.to(topic("taps")),
            made.late.to(topic("late")),
            taps.rejected.to(topic("dlq")),
        ]
        self.driver = TopologyDriver(Topology("edges", *edges), now)
        self._sent = 0

    def send(self, *times: datetime | str) -> None:
        for at in times:
            text = at if isinstance(at, str) else at.isoformat()
            self.driver.send("in", {"who": "a", "n": self._sent, "at": text})
            self._sent += 1

    @property
    def closed(self) -> list[tuple[datetime, int]]:
        return [(row["window_start"], row["taps"]) for row in self.driver.read("taps")]

    @property
    def lengths(self) -> list[timedelta]:
        rows = self.driver.read("taps")
        return [row["window_end"] - row["window_start"] for row in rows]

    @property
    def late(self) -> list[int]:
        return [row["n"] for row in self.driver.read("late")]

    @property
    def rejected(self) -> list[str]:
        return [row["reason"] for row in self.driver.read("dlq")]


def test_the_day_on_which_clocks_go_forward_has_23_hours() -> None:
    run = Run(Calendar("day", "Europe/Berlin"))
    run.send(*(datetime(2024, 3, 31, hour, tzinfo=BERLIN) for hour in (0, 1, 3, 23)))
    run.driver.end_of_input()
    assert run.closed == [(datetime(2024, 3, 31, tzinfo=BERLIN), 4)]
    assert run.lengths == [23 * HOUR]


def test_the_day_on_which_clocks_go_back_has_25_hours_and_one_hour_twice() -> None:
    run = Run(Calendar("day", "Europe/Berlin"))
    twice = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
    run.send(datetime(2024, 10, 27, tzinfo=BERLIN), twice, twice.replace(fold=1))
    run.send(datetime(2024, 10, 27, 23, 59, tzinfo=BERLIN))
    run.driver.end_of_input()
    assert run.closed == [(datetime(2024, 10, 27, tzinfo=BERLIN), 4)]
    assert run.lengths == [25 * HOUR]


def test_an_hour_of_the_clock_that_comes_twice_is_two_tumbling_hours() -> None:
    run = Run(Tumbling(HOUR))
    twice = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
    run.send(twice, twice.replace(fold=1))
    run.driver.end_of_input()
    half_past_midnight = datetime(2024, 10, 27, 0, tzinfo=UTC)
    assert run.closed == [(half_past_midnight, 1), (half_past_midnight + HOUR, 1)]


LEAP = "2016-12-31T23:59:60"
NEW_YEAR = datetime(2017, 1, 1, tzinfo=UTC)


def test_a_leap_second_in_a_plain_time_field_is_a_dead_letter() -> None:
    run = Run(Tumbling(MINUTE))
    run.send("2016-12-31T23:59:59Z", f"{LEAP}Z", "2017-01-01T00:00:00Z")
    run.driver.end_of_input()
    assert run.rejected == ["invalid"]
    assert run.closed == [(NEW_YEAR - MINUTE, 1), (NEW_YEAR, 1)]


def test_a_leap_second_in_a_field_that_takes_it_is_the_second_after_it() -> None:
    run = Run(Tumbling(MINUTE), model=Leap)
    run.send("2016-12-31T23:59:59.9Z", f"{LEAP}.25Z", "2017-01-01T00:00:00.3Z")
    run.driver.end_of_input()
    assert run.rejected == []
    assert run.late == []
    assert run.closed == [(NEW_YEAR - MINUTE, 1), (NEW_YEAR, 2)]


def test_a_leap_second_in_a_header_is_the_second_after_it() -> None:
    run = Run(Tumbling(MINUTE), event_time=header("at"))
    value = b'{"who":"a","at":"2024-05-01T12:00:00Z"}'
    run.driver.broker.append(
        run.driver.broker.place("in", b"a"),
        Record(b"a", value, 0, (("at", f"{LEAP}Z".encode()),)),
    )
    run.driver.process()
    run.driver.end_of_input()
    assert run.closed == [(NEW_YEAR, 1)]


def test_a_leap_second_of_a_produced_line_is_the_second_after_it() -> None:
    assert to_millis(f"{LEAP}.5Z") == int(NEW_YEAR.timestamp() * 1000) + 500


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        (f"{LEAP}Z", NEW_YEAR),
        ("2017-01-01T01:59:60.123456+02:00", NEW_YEAR + 123456 * TICK),
        ("2016-12-31 18:29:60-05:30", NEW_YEAR),
    ],
)
def test_a_leap_second_is_the_last_of_a_month_in_utc_whatever_its_zone(
    text: str, moved: datetime
) -> None:
    assert leap_second_moved(text) == moved


@pytest.mark.parametrize(
    "text",
    [
        LEAP,  # without a zone nobody knows
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:58:60Z",
        "2016-12-31T23:59:60+01:00",
        "2016-12-31T23:59:61Z",
        "2016-13-31T23:59:60Z",
        "9999-12-31T23:59:60Z",
        "0001-01-01T00:59:60+14:00",
        "2016-12-31T23:59:60.Zulu",
        "2016-12-31T23:59:59Z",
        17,
        None,
    ],
)
def test_any_other_60_stays_what_it_is_and_is_no_time(text: object) -> None:
    assert leap_second_moved(text) is text


def test_the_last_tick_of_a_window_is_in_it_and_its_end_is_in_the_next() -> None:
    run = Run(Tumbling(HOUR))
    run.send(NOON, NOON + HOUR - TICK, NOON + HOUR)
    run.driver.end_of_input()
    assert run.closed == [(NOON, 2), (NOON + HOUR, 1)]


def test_the_end_of_a_hopping_window_is_in_the_others() -> None:
    run = Run(Hopping(HOUR, timedelta(minutes=30)))
    run.send(NOON + HOUR)
    run.driver.end_of_input()
    assert run.closed == [(NOON + HOUR / 2, 1), (NOON + HOUR, 1)]


def test_a_row_a_whole_size_before_is_out_of_a_sliding_window() -> None:
    run = Run(Sliding(HOUR))
    run.send(NOON, NOON + TICK, NOON + HOUR)
    run.driver.end_of_input()
    assert [taps for _, taps in run.closed] == [1, 2, 2]


def test_a_row_exactly_the_gap_after_is_of_the_session_and_one_tick_more_is_not() -> None:
    run = Run(Session(HOUR))
    run.send(NOON, NOON + HOUR, NOON + 2 * HOUR + TICK)
    run.driver.end_of_input()
    assert run.closed == [(NOON, 2), (NOON + 2 * HOUR + TICK, 1)]


def test_equal_times_are_none_late_for_another_and_keep_their_order() -> None:
    run = Run(Tumbling(HOUR))
    run.send(NOON, NOON, NOON)
    run.driver.end_of_input()
    (row,) = run.driver.read("taps")
    assert (row["taps"], row["first"], row["last"]) == (3, 0, 2)
    assert run.late == []


def test_equal_times_at_an_end_close_the_window_once() -> None:
    run = Run(Tumbling(HOUR))
    run.send(NOON, NOON + HOUR, NOON + HOUR)
    assert run.closed == [(NOON, 1)]
    run.driver.end_of_input()
    assert run.closed == [(NOON, 1), (NOON + HOUR, 2)]


@pytest.mark.parametrize("grace", [timedelta(0), MINUTE])
def test_a_watermark_exactly_at_the_end_and_grace_closes_the_window(grace: timedelta) -> None:
    run = Run(Tumbling(HOUR), grace)
    run.send(NOON, NOON + HOUR + grace - TICK)
    assert run.closed == []
    run.send(NOON + HOUR + grace)
    assert [start for start, _ in run.closed] == [NOON]


def test_a_row_is_late_when_the_watermark_was_exactly_at_the_end_before_it() -> None:
    run = Run(Tumbling(HOUR), MINUTE)
    run.send(NOON, NOON + HOUR + MINUTE - TICK, NOON + 1 * SECOND)
    assert run.late == []
    run.send(NOON + HOUR + MINUTE, NOON + 2 * SECOND)
    assert run.late == [4]
    assert run.closed == [(NOON, 2)]


def test_a_session_row_is_late_when_the_watermark_was_at_its_own_time_and_grace() -> None:
    run = Run(Session(HOUR), MINUTE)
    run.send(NOON, NOON - MINUTE + TICK, NOON - MINUTE)
    assert run.late == [2]


def test_out_of_orderness_holds_the_watermark_back_by_exactly_that() -> None:
    run = Run(Tumbling(HOUR), out_of_orderness=MINUTE)
    run.send(NOON, NOON + HOUR + MINUTE - TICK)
    assert run.closed == []
    run.send(NOON + HOUR + MINUTE)
    assert run.closed == [(NOON, 1)]


def test_one_row_far_ahead_closes_every_window_and_all_after_it_are_late() -> None:
    run = Run(Tumbling(HOUR))
    run.send(NOON, NOON + 1000 * DAY, NOON + HOUR, NOON + 2 * HOUR)
    assert run.closed == [(NOON, 1)]
    assert run.late == [2, 3]


def test_one_row_far_ahead_does_nothing_where_the_future_is_bounded() -> None:
    run = Run(Tumbling(HOUR), max_future=DAY)
    run.send(NOON, NOON + 1000 * DAY, NOON + HOUR, NOON + 2 * HOUR)
    assert run.rejected == ["future"]
    assert run.closed == [(NOON, 1), (NOON + HOUR, 1)]
    assert run.late == []


def test_the_future_is_bounded_exactly() -> None:
    run = Run(Tumbling(HOUR), max_future=DAY)
    run.send(NOON + DAY, NOON + DAY + TICK)
    assert run.rejected == ["future"]


def test_a_producers_clock_that_goes_back_makes_rows_late_and_moves_no_watermark_back() -> None:
    run = Run(Tumbling(HOUR), MINUTE)
    run.send(NOON + HOUR, NOON + HOUR - MINUTE, NOON - HOUR, NOON + HOUR - 2 * MINUTE)
    assert run.late == [2]
    run.send(NOON + HOUR + MINUTE, NOON + HOUR + MINUTE - TICK)
    assert run.closed == [(NOON, 2)]
    run.driver.end_of_input()
    assert run.closed == [(NOON, 2), (NOON + HOUR, 3)]


def test_a_workers_clock_that_goes_back_makes_rows_late_and_moves_no_watermark_back() -> None:
    """Of rows that get the time of their fetch."""
    run = Run(Tumbling(HOUR), event_time=header("none"), missing_event_time="ingest_time")
    for fetched in (NOON, NOON + HOUR, NOON + HOUR - MINUTE, NOON + HOUR):
        run.driver.broker.now_ms = int(fetched.timestamp() * 1000)
        run.send(NOON)
    assert run.late == [2]
    run.driver.end_of_input()
    assert run.closed == [(NOON, 1), (NOON + HOUR, 2)]


def test_before_1970_windows_begin_at_multiples_too() -> None:
    run = Run(Tumbling(HOUR))
    moment = datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    run.send(moment, moment + TICK)
    run.driver.end_of_input()
    assert run.closed == [(moment + TICK - HOUR, 1), (moment + TICK, 1)]


def test_before_1970_a_day_and_a_week_begin_where_they_do_today() -> None:
    for unit, start in (("day", date(1900, 2, 28)), ("week", date(1900, 2, 26))):
        run = Run(Calendar(unit, "UTC"))  # type: ignore[arg-type]
        run.send(datetime(1900, 2, 28, 23, 59, tzinfo=UTC), datetime(1900, 2, 28, tzinfo=UTC))
        run.driver.end_of_input()
        assert [(row["window_start"].date(), row["taps"]) for row in run.driver.read("taps")] == [
            (start, 2)
        ]


def test_1900_was_no_leap_year_and_2000_was_one() -> None:
    run = Run(Calendar("month", "UTC"))
    run.send(datetime(1900, 2, 28, tzinfo=UTC), datetime(2000, 2, 29, tzinfo=UTC))
    run.driver.end_of_input()
    assert run.lengths == [28 * DAY, 29 * DAY]


def test_the_far_future_has_windows_like_today() -> None:
    run = Run(Tumbling(HOUR))
    far = datetime(9990, 1, 1, 0, 59, 59, 999999, tzinfo=UTC)
    run.send(far, far + TICK)
    run.driver.end_of_input()
    assert run.closed == [(far + TICK - HOUR, 1), (far + TICK, 1)]
