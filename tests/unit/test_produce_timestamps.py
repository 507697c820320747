"""Times as people write them, and what a topic takes."""

from datetime import UTC, datetime, timedelta

import pytest

from streamflow.produce.limits import Limits
from streamflow.produce.timestamps import to_millis

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEW_YEAR_2013 = 1_356_998_400


@pytest.mark.parametrize(
    "value",
    [
        NEW_YEAR_2013,
        NEW_YEAR_2013 * 1_000,
        NEW_YEAR_2013 * 1_000_000,
        NEW_YEAR_2013 * 1_000_000_000,
        float(NEW_YEAR_2013),
        "2013-01-01",
        "20130101T000000",
        "2013-01-01T00:00:00",
        "2013-01-01T00:00:00Z",
        "2013-01-01 01:00:00.000+01:00",
    ],
)
def test_one_moment_however_it_is_written(value: object) -> None:
    assert to_millis(value) == NEW_YEAR_2013 * 1_000


def test_a_part_of_a_second_keeps_its_milliseconds() -> None:
    assert to_millis(1356998400.001) == 1356998400001
    assert to_millis("2013-01-01T00:00:00.001999Z") == 1356998400001
    assert to_millis(1356998400001999) == 1356998400001


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("soon", "'soon' is no ISO 8601 time"),
        (True, "True is no time"),
        (None, "None is no time"),
        (-1, "-1 is before 1970"),
        ("1969-12-31T23:59:59Z", "before 1970"),
    ],
)
def test_what_is_no_time_is_said(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_millis(value)


def test_a_topic_refuses_what_is_too_far_ahead_or_behind() -> None:
    limits = Limits.of(
        {
            "max.message.bytes": "1000",
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": "3600000",
            "message.timestamp.before.max.ms": "86400000",
        }
    )
    present = int(NOW.timestamp() * 1000)
    assert limits.refuses_time(present + 3_600_000, NOW) is None
    assert "2026-01-01T01:00:00.001000+00:00 is more than 1:00:00 ahead" in str(
        limits.refuses_time(present + 3_600_001, NOW)
    )
    assert "more than 1 day, 0:00:00 behind" in str(limits.refuses_time(0, NOW))
    assert "ahead" in str(limits.refuses_time(10**17, NOW))


def test_a_topic_without_bounds_takes_any_time() -> None:
    any_time = {
        "max.message.bytes": "1000",
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": "9223372036854775807",
        "message.timestamp.before.max.ms": "9223372036854775807",
    }
    assert Limits.of(any_time) == Limits(1000)
    by_broker = any_time | {"message.timestamp.type": "LogAppendTime"}
    by_broker["message.timestamp.after.max.ms"] = "1"
    assert Limits.of(by_broker) == Limits(1000, ahead=None)
    assert Limits(1000, ahead=timedelta(1)).refuses_size(900) is None
    assert "901 bytes and the topic takes 1,000" in str(Limits(1000).refuses_size(901))
