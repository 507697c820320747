"""Where a record's event time comes from: a field, a function, Kafka's timestamp or a header."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, TopologyError, header, kafka_timestamp, parquet, source, topic
from streamflow.batch import Record
from streamflow.event_time import read_time
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def letters(driver: TopologyDriver) -> list[tuple[int, str]]:
    return [(row["offset"], row["reason"]) for row in driver.read("dlq")]


def said(driver: TopologyDriver, letter: int = 0) -> bytes | None:
    return dict(driver.records("dlq")[letter].headers)["__connect.errors.exception.message"]


class Maybe(BaseModel, frozen=True):
    n: int
    at: AwareDatetime | None = None


def from_at(rows: pa.RecordBatch) -> pa.Array:
    if 13 in rows["n"].to_pylist():
        raise ValueError("thirteen")
    return rows["at"]


def times_of(event_time: Any, *records: Record, **options: Any) -> TopologyDriver:
    """Every record into a table and a topic."""
    stream = source(topic("in"), Maybe, event_time=event_time, **options)
    edges = [stream.to(parquet("all")), stream.to(topic("out")), stream.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("times", *edges), NOW)
    for record in records:
        driver.broker.append(driver.broker.place("in", None), record)
    driver.process()
    return driver


def taken(driver: TopologyDriver) -> list[datetime]:
    driver.end_of_input()
    return [time for table in driver.tables("all") for time in table["_event_time"].to_pylist()]


def record(n: int, at: datetime | None = None, stamp: int = 0, *values: bytes | None) -> Record:
    value = Maybe(n=n, at=at).model_dump_json().encode()
    return Record(None, value, stamp, tuple(("at", header) for header in values))


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)


def test_kafkas_own_time_of_the_record() -> None:
    stamps = [NOON_MS, -1, 2**62, -(2**62), -86_400_000, -(2**63), 253_339_228_800_000, -1]
    records = [record(n, None, stamp) for n, stamp in enumerate(stamps)]
    driver = times_of(kafka_timestamp(), *records)
    assert taken(driver) == [NOON, datetime(1969, 12, 31, tzinfo=UTC)]
    assert letters(driver) == [(n, "event-time") for n in (1, 2, 3, 5, 6, 7)]
    assert said(driver) == b"the record has no event time"
    assert said(driver, 1) == b"the event time is not in the years 2 to 9997"

    driver = times_of(kafka_timestamp(), *records[:2], missing_event_time="ingest_time")
    assert (taken(driver), letters(driver)) == ([NOON, NOW], [])


def test_the_time_in_a_header() -> None:
    texts: list[tuple[bytes | None, ...]] = [
        (b"2024-05-01T14:00:00+02:00",),
        (b"%d" % NOON_MS,),
        (b"soon", b"2024-05-01T12:00:00Z"),  # the last one counts
        (),
        (None,),
        (b"2024-05-01T12:00:00",),
        (b"soon",),
        (b"\xff",),
        (b"",),
        (b"9" * 18,),
        (b"-86400000",),
    ]
    records = [record(n, None, 0, *values) for n, values in enumerate(texts)]
    driver = times_of(header("at"), *records)
    assert taken(driver) == [NOON, NOON, NOON, datetime(1969, 12, 31, tzinfo=UTC)]
    assert letters(driver) == [(n, "event-time") for n in range(3, 10)]
    neither = b"neither ISO 8601 nor a number of ms since the epoch"
    assert [said(driver, n) for n in range(7)] == [
        b"the record has no event time",
        b"the record has no event time",
        b"the header 'at' is b'2024-05-01T12:00:00': a time without a zone is no point in time",
        b"the header 'at' is b'soon': " + neither,
        b"the header 'at' is b'\\xff': " + neither,
        b"the header 'at' is b'': " + neither,
        b"the event time is not in the years 2 to 9997",
    ]

    driver = times_of(header("at"), *records[3:7], missing_event_time="ingest_time")
    assert (taken(driver), letters(driver)) == ([NOW, NOW], [(2, "event-time"), (3, "event-time")])


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        (b"0", 0),
        (b"-1", -1000),
        (b"+1", 1000),
        (b"1970-01-01T00:00:00.000001Z", 1),
        (b"0001-01-01T00:00:00+14:00", -62_135_596_800_000_000 - 14 * 3_600_000_000),
        (b"9" * 18, 2**63 - 1),
        (b"-" + b"9" * 18, -(2**63)),
    ],
)
def test_a_header_is_milliseconds_or_iso_8601(text: bytes, micros: int) -> None:
    assert read_time(text) == micros


@pytest.mark.parametrize("event_time", ["at", from_at])
def test_a_field_or_a_function_may_be_null(event_time: Any) -> None:
    records = [record(1, NOON), record(2), record(3, NOON)]
    driver = times_of(event_time, *records)
    assert (taken(driver), letters(driver)) == ([NOON, NOON], [(1, "event-time")])
    driver = times_of(event_time, *records, missing_event_time="ingest_time")
    assert (taken(driver), letters(driver)) == ([NOON, NOW, NOON], [])


def test_a_function_that_fails_is_no_function_that_gives_null() -> None:
    records = [record(n, NOON) for n in (*range(5), 13, *range(5), 13)]
    driver = times_of(from_at, *records, record(1), missing_event_time="ingest_time")
    assert taken(driver) == [NOON] * 10 + [NOW]
    assert letters(driver) == [(5, "event-time"), (11, "event-time")]
    assert said(driver, 1) == b"no event time can be computed: ValueError: thirteen"


@pytest.mark.parametrize("made", [lambda r: r["at"][:0], lambda r: pa.concat_arrays([r["at"]] * 2)])
def test_a_function_gives_one_time_for_each_row(made: Any) -> None:
    driver = times_of(made, record(1, NOON), record(2, NOON))
    assert letters(driver) == [(0, "event-time"), (1, "event-time")]
    assert b"values for 1 row" in (said(driver) or b"")


def test_the_ingest_time_is_that_of_the_fetch_and_is_never_ahead() -> None:
    driver = times_of(
        kafka_timestamp(),
        record(1, None, -1),
        max_future=timedelta(0),
        missing_event_time="ingest_time",
    )
    driver.advance(HOUR)
    driver.send("in", record(2, None, -1))
    driver.advance(10 * HOUR)
    assert [row["n"] for row in driver.read("out")] == [1, 2]
    assert [r.timestamp for r in driver.records("out")] == [
        int(time.timestamp() * 1000) for time in (NOW, NOW + HOUR)
    ]


@pytest.mark.parametrize("stamp", [2**62, -(2**63), 2**63 - 1])
def test_a_kafka_timestamp_that_fits_no_column_is_a_dead_letter(stamp: int) -> None:
    driver = times_of("at", record(1, NOON), record(2, NOON, stamp), record(3, NOON))
    assert (taken(driver), letters(driver)) == ([NOON, NOON], [(1, "unstorable")])
    assert f"{stamp} ms, is not in the years 2 to 9997".encode() in (said(driver) or b"")


def version_of(event_time: Any, **options: Any) -> str:
    stream = source(topic("in"), Maybe, event_time=event_time, **options)
    return Topology("times", stream.drop(), stream.rejected.drop()).version


def test_the_version_tells_what_decides_the_event_time() -> None:
    settings: list[tuple[Any, dict[str, Any]]] = [
        ("at", {}),
        ("at", {"missing_event_time": "ingest_time"}),
        ("at", {"max_future": HOUR}),
        (from_at, {}),
        (kafka_timestamp(), {}),
        (header("at"), {}),
        (header("time"), {}),
    ]
    assert len({version_of(made, **options) for made, options in settings}) == len(settings)
    assert version_of(header("at")) == version_of(header("at"))


def test_what_cannot_be_an_event_time_is_refused() -> None:
    with pytest.raises(TopologyError, match="the name of the header that has the event time is ''"):
        header("")
    with pytest.raises(TopologyError, match="missing_event_time='drop' is neither 'dead_letter'"):
        version_of("at", missing_event_time="drop")
    with pytest.raises(TopologyError, match="event_time=5 is no field and no function"):
        version_of(5)


class Reading(BaseModel, frozen=True):
    sensor: str


def test_the_example_in_the_documents_does_what_the_text_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
    (example,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if "measured-at" in block
    ]
    names: dict[str, Any] = {"source": source, "topic": topic, "header": header}
    exec(example, names | {"Reading": Reading, "timedelta": timedelta}, names)
    readings = names["readings"]
    edges = [readings.to(parquet("all")), readings.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("readings", *edges), NOW)

    def sent(*headers: tuple[str, bytes]) -> None:
        tp = driver.broker.place("readings", None)
        driver.broker.append(tp, Record(b"a", b'{"sensor":"a"}', 0, headers))

    sent(("measured-at", b"2024-05-01T12:00:00Z"))
    sent()
    sent(("measured-at", b"lunch"))
    sent(("measured-at", (NOW + HOUR + timedelta(seconds=1)).isoformat().encode()))
    driver.process()
    assert letters(driver) == [(2, "event-time"), (3, "future")]
    assert taken(driver) == [NOON, NOW]
