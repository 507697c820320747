"""What part of its sources a run reads, by the words of whoever starts it; and its names."""

from datetime import UTC, datetime
from typing import Any

import pytest

from streamflow.batch import TopicPartition
from streamflow.core.names import Names, check_run
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError
from streamflow.ranges import Ranges, parse_bound, resolve
from topologies.flights import topology

A, B = TopicPartition("flights", 0), TopicPartition("flights", 1)
BOUNDS = {A: (10, 100), B: (0, 50)}
LIVE = Names("flights", "eu.")


def ranges(
    start: str | None = None, stop: str | None = None, *times: dict[TopicPartition, int]
) -> Ranges:
    ends = parse_bound("--from", start, "beginning"), parse_bound("--to", stop, "end")
    both = times[0] if times else {}, times[-1] if times else {}
    return resolve("r1", *ends, BOUNDS, both)


def test_a_run_that_is_told_nothing_reads_all_there_is() -> None:
    assert ranges().offsets == BOUNDS
    assert ranges("beginning", "end").offsets == BOUNDS


def test_offsets_are_given_for_each_partition() -> None:
    made = ranges("flights[0]@20, flights[1]@0", "flights[1]@50,flights[0]@21")
    assert made.offsets == {A: (20, 21), B: (0, 50)}


def test_a_time_is_where_the_first_record_is_that_is_not_older() -> None:
    assert parse_bound("--from", "2026-05-01T02:00+02:00", "beginning").time == datetime(
        2026, 5, 1, tzinfo=UTC
    )
    made = ranges("2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z", {A: 30, B: 7}, {A: 90, B: 50})
    assert made.offsets == {A: (30, 90), B: (7, 50)}


@pytest.mark.parametrize(
    ("start", "stop", "words"),
    [
        ("yesterday", None, "--from 'yesterday': neither 'beginning', nor a time such as"),
        ("end", None, "--from 'end': neither 'beginning'"),
        (None, "beginning", "--to 'beginning': neither 'end'"),
        ("2026-05-01", None, "a time needs its zone"),
        ("2026-05-01T00:00:00", None, "as in 2026-05-01T00:00:00Z"),
        ("flights[0]@20", None, "'flights[0]@20' gives no offset for flights[1]; it takes one for"),
        ("flights[0]@20,flights[0]@21", None, "a partition is named twice"),
        ("flights[0]@20,flights[1]@x", None, "neither 'beginning'"),
        ("flights[0]@20,flights[2]@1", None, "flights[2] is none of flights[0], flights[1]"),
        ("flights[0]@9,flights[1]@0", None, "flights[0] begins at 10; what was before is deleted"),
        (None, "flights[0]@101,flights[1]@0", "flights[0] ends at 100; a run waits for nothing"),
        (
            "flights[0]@20,flights[1]@3",
            "flights[0]@30,flights[1]@2",
            "in flights[1] that is from 3 to 2",
        ),
    ],
)
def test_what_is_no_part_of_the_sources_is_refused(
    start: str | None, stop: str | None, words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        ranges(start, stop)
    assert words in str(caught.value)


def test_what_is_written_down_of_a_run_is_read_again() -> None:
    made = ranges("flights[0]@20,flights[1]@0")
    assert Ranges.decoded(made.encoded()) == made
    with pytest.raises(SettingsError, match="cannot be read: its format is 2"):
        Ranges.decoded(made.encoded().replace(b'"format":1', b'"format":2'))


def test_a_run_goes_on_with_the_part_it_began_with() -> None:
    made = ranges("flights[0]@20,flights[1]@0")
    made.same_as(None, None, BOUNDS)
    made.same_as("flights[0]@20,flights[1]@0", "end", BOUNDS)
    with pytest.raises(SettingsError, match="began with --to 'end', not '2026-01-01T00:00Z'"):
        made.same_as(None, "2026-01-01T00:00Z", BOUNDS)
    with pytest.raises(SettingsError, match="began when its sources had 2 partitions, and now it"):
        made.same_as(None, None, [A, B, TopicPartition("flights", 2)])


def test_a_run_reads_the_same_topics_and_writes_others() -> None:
    run = LIVE.of_run("r1")
    assert run.source("flights") == LIVE.source("flights") == "eu.flights"
    assert (LIVE.topic("hourly"), run.topic("hourly")) == ("eu.hourly", "eu.hourly.r1")
    assert (LIVE.table("a/hourly"), run.table("a/hourly")) == ("a/hourly", "a/hourly.r1")
    assert run.changelog("flights") == "flights-r1-flights-changelog"
    assert run.rows("hourly") == "flights-r1-hourly-rows"
    assert run.producer(A) != LIVE.producer(A)
    assert run.live == LIVE
    assert run.runs != LIVE.runs == TopicPartition("flights-runs", 0)
    check_run(LIVE, run, topology.tasks)


def test_a_run_that_would_write_what_is_the_apps_own_is_refused() -> None:
    class Clash(Names):
        def topic(self, name: str) -> str:
            return f"{self.prefix}{name}"

    with pytest.raises(SettingsError, match=r"--run-id 'r1': 'eu\.flights\.dlq' belongs to"):
        check_run(LIVE, Clash("flights-r1", "eu.", "r1"), topology.tasks)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"run_from": "beginning"}, "--from and --to need a --run-id"),
        ({"run_id": "a.b"}, "--run-id 'a.b': "),
        ({"run_id": "../x"}, "--run-id '../x': "),
        ({"run_id": "streamflow"}, "--run-id 'streamflow' stands for something else"),
    ],
)
def test_a_run_needs_a_name_of_its_own(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**given)
    assert words in str(caught.value)
