"""Event times as numbers since 1970, in a unit that is said."""

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import LeapDatetime, Topology, epoch, header, parquet, source, topic
from streamflow.epochs import PER_SECOND, Unit, epoch_micros
from streamflow.event_time import read_time
from streamflow.schema import Contract
from streamflow.testing import TopologyDriver
from tests.examples import examples

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS: list[Unit] = ["s", "ms", "us", "ns"]


class Beat(BaseModel, frozen=True):
    n: int | None = None
    x: float | None = None


def beats(event_time: Any, *values: bytes, **options: Any) -> TopologyDriver:
    stream = source(topic("in"), Beat, event_time=event_time, **options)
    edges = [stream.to(parquet("all")), stream.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("beats", *edges), NOW)
    driver.send("in", *values)
    return driver


def times(driver: TopologyDriver) -> list[datetime]:
    driver.end_of_input()
    return [time for table in driver.tables("all") for time in table["_event_time"].to_pylist()]


def letters(driver: TopologyDriver) -> list[tuple[int, str, str]]:
    said = [dict(r.headers)["__connect.errors.exception.message"] for r in driver.records("dlq")]
    return [
        (row["offset"], row["reason"], (words or b"").decode())
        for row, words in zip(driver.read("dlq"), said, strict=True)
    ]


@pytest.mark.parametrize("unit", UNITS)
def test_one_moment_in_every_unit(unit: Unit) -> None:
    number = 1_714_564_800 * PER_SECOND[unit]
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    driver = beats(epoch("n", unit=unit), b'{"n":%d}' % number, b'{"n":-%d}' % number)
    assert times(driver) == [noon, EPOCH - (noon - EPOCH)]
    driver = beats(epoch("x", unit=unit), b'{"x":%d.0}' % number, b'{"x":-%d.0}' % number)
    assert times(driver) == [noon, EPOCH - (noon - EPOCH)]
    assert read_time(b"%d" % number, unit) == 1_714_564_800_000_000


def test_small_numbers_are_near_1970_whatever_they_look_like() -> None:
    """Pydantic would take 20,000,000,000 for seconds, and one more for milliseconds."""
    values = [b'{"n":%d}' % n for n in (0, -1, 20_000_000_000, 20_000_000_001)]
    second, milli = timedelta(seconds=1), timedelta(milliseconds=1)
    assert times(beats(epoch("n", unit="s"), *values)) == [
        EPOCH + n * second for n in (0, -1, 20_000_000_000, 20_000_000_001)
    ]
    assert times(beats(epoch("n", unit="ms"), *values)) == [
        EPOCH + n * milli for n in (0, -1, 20_000_000_000, 20_000_000_001)
    ]


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_too_far_away_is_a_dead_letter_and_nothing_overflows(unit: Unit) -> None:
    year = 253_402_300_800 * PER_SECOND[unit]  # 10000
    far = [year, -year, 2**63 - 1, -(2**63)] if unit != "ns" else []
    numbers = [b'{"n":%d}' % number for number in far if abs(number) < 2**63 or number == -(2**63)]
    driver = beats(epoch("n", unit=unit), *numbers)
    words = "the event time is not in the years 2 to 9997"
    assert letters(driver) == [(n, "event-time", words) for n in range(len(numbers))]
    floats = [b'{"x":%s}' % repr(float(n)).encode() for n in (year, -year, 1e300, -1e300)]
    driver = beats(epoch("x", unit=unit), *floats)
    assert letters(driver) == [(n, "event-time", words) for n in range(4)]


def test_a_float_that_is_no_number_is_a_dead_letter_also_where_missing_ones_are_not() -> None:
    values = [b'{"x":"NaN"}', b'{"x":"-Infinity"}', b'{"x":null}', b'{"x":1.5}']
    driver = beats(epoch("x", unit="s"), *values, missing_event_time="ingest_time")
    assert letters(driver) == [
        (0, "event-time", "x is nan, no number of time"),
        (1, "event-time", "x is -inf, no number of time"),
    ]
    assert times(driver) == [NOW, EPOCH + timedelta(seconds=1.5)]
    driver = beats(epoch("n", unit="s"), b'{"n":null}', b'{"n":1}')
    assert letters(driver) == [(0, "event-time", "the record has no event time")]


@examples(200)
@given(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-5000, 5000)),
    st.sampled_from(UNITS),
)
def test_integers_are_cut_towards_the_past(numbers: list[int | None], unit: Unit) -> None:
    micros, wild = epoch_micros(pa.array(numbers, pa.int64()), unit)
    assert wild.true_count == 0
    for number, found in zip(numbers, micros.to_pylist(), strict=True):
        exact = None if number is None else number * 10**6 // PER_SECOND[unit]
        if exact is not None and abs(exact) > 2**61:
            assert (found > 0, abs(found) > 2**61) == (exact > 0, True)
        else:
            assert found == exact


@examples(200)
@given(st.lists(st.none() | st.floats()), st.sampled_from(UNITS))
def test_floats_are_rounded_to_the_nearest_microsecond(
    numbers: list[float | None], unit: Unit
) -> None:
    micros, wild = epoch_micros(pa.array(numbers, pa.float64()), unit)
    for number, found, is_wild in zip(numbers, micros.to_pylist(), wild.to_pylist(), strict=True):
        if number is None or not isfinite(number):
            assert (found, is_wild) == (None, number is not None)
            continue
        exact = Fraction(number) * 10**6 / PER_SECOND[unit]
        assert not is_wild
        if abs(exact) > 2**61:
            assert (found > 0, abs(found) > 2**60) == (exact > 0, True)
        else:  # a product of floats is off by half of its last digit
            assert abs(found - exact) <= Fraction(1, 2) + abs(exact) / 2**52


def test_a_second_written_with_its_parts_is_that_microsecond() -> None:
    assert times(beats(epoch("x", unit="s"), b'{"x":1714564800.123457}')) == [
        datetime(2024, 5, 1, 12, 0, 0, 123457, tzinfo=UTC)
    ]


@pytest.mark.parametrize(
    ("text", "unit", "micros"),
    [
        (b"1.9999999", "s", 1_999_999),
        (b"-0.0000001", "s", -1),
        (b"-1.5", "ms", -1500),
        (b"1700000000123456789", "ns", 1_700_000_000_123_456),
        (b"-1", "ns", -1),
        (b"9" * 20, "ns", 99_999_999_999_999_999),
        (b"9" * 20, "s", 2**63 - 1),
        (b"2016-12-31T23:59:60Z", "s", 1_483_228_800_000_000),
    ],
)
def test_the_number_in_a_header_has_a_unit_too(text: bytes, unit: Unit, micros: int) -> None:
    assert read_time(text, unit) == micros
    assert header("at", unit=unit).unit == unit


def test_the_example_in_the_document_takes_numbers_and_leap_seconds() -> None:
    text = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
    (example,) = [e for e in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Beat" in e]
    names: dict[str, Any] = {
        "BaseModel": BaseModel,
        "LeapDatetime": LeapDatetime,
        "epoch": epoch,
        "source": source,
        "topic": topic,
    }
    exec(example, names)
    edges = [names["beats"].to(parquet("all")), names["beats"].rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("documented", *edges), NOW)
    beat = {"device": "a", "confirmed": "2016-12-31T23:59:60Z"}
    driver.send("beats", beat | {"sent_ms": 1}, beat | {"sent_ms": 20_000_000_001})
    driver.end_of_input()
    (table,) = driver.tables("all")
    milli = timedelta(milliseconds=1)
    assert table["_event_time"].to_pylist() == [EPOCH + milli, EPOCH + 20_000_000_001 * milli]
    assert table["confirmed"].to_pylist() == [datetime(2017, 1, 1, tzinfo=UTC)] * 2


def test_a_time_field_takes_numbers_as_pydantic_guesses_and_the_document_says_so() -> None:
    class Guessed(BaseModel):
        at: AwareDatetime

    numbers = [20_000_000_000, 20_000_000_001, 1_714_564_800_000, 1_714_564_800_000_000]
    decoded = Contract(Guessed).decode([b'{"at":%d}' % number for number in numbers])
    assert [at.year for at in decoded.batch["at"].to_pylist()] == [2603, 1970, 2024]
    assert [(bad.index, bad.reason) for bad in decoded.refused] == [(3, "invalid")]
