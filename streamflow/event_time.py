"""Where the event time of a record comes from, what one without gets, and which times are taken.

A source takes it from a field, a function over columns, the record's Kafka timestamp or a header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import pyarrow as pa

from streamflow.batch import Headers
from streamflow.errors import TopologyError
from streamflow.rules import tried
from streamflow.schema import TIMESTAMP, Contract
from streamflow.windows import Window

#: A record's timestamp when the producer gave it none, as Kafka has it.
NO_TIMESTAMP = -1
#: No duration of a topology is longer: event times plus or less some of them must be times too.
LONGEST = timedelta(days=36_525)

#: The longest window of a calendar, and what zones and clock changes add.
A_MONTH = timedelta(days=33)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MILLIS = re.compile(rb"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class KafkaTimestamp:
    """The time that Kafka has for the record."""


@dataclass(frozen=True)
class Header:
    """The last header of this name: ISO 8601 with a zone, or milliseconds since the epoch."""

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise TopologyError("header(''): name the header that has the event time")


EventTime = str | Callable[[pa.RecordBatch], pa.Array] | KafkaTimestamp | Header
MissingEventTime = Literal["dead_letter", "ingest_time"]


def kafka_timestamp() -> KafkaTimestamp:
    """The event time is the time that Kafka has for the record: the producer's clock, or the
    broker's on a topic with `message.timestamp.type=LogAppendTime`.
    """
    return KafkaTimestamp()


def header(name: str) -> Header:
    """The event time is in a header: ISO 8601 with a zone, or milliseconds since the epoch. Of
    several headers of one name the last one counts.
    """
    return Header(name)


def check_event_time(
    where: str, event_time: EventTime, missing: MissingEventTime, contract: Contract
) -> None:
    """Raises `TopologyError` when no event time of a record of this contract can come of it."""
    if missing not in get_args(MissingEventTime):
        raise TopologyError(
            f"{where}: missing_event_time={missing!r} is neither 'dead_letter' nor 'ingest_time'"
        )
    if isinstance(event_time, KafkaTimestamp | Header):
        return
    if isinstance(event_time, str):
        names = contract.schema.names
        if event_time not in names or contract.schema.field(event_time).type != TIMESTAMP:
            raise TopologyError(
                f"{where}: event_time={event_time!r} is no AwareDatetime field of "
                f"{contract.model.__name__}"
            )
        return
    if not callable(event_time):
        raise TopologyError(f"{where}: event_time={event_time!r} is no field and no function")
    where = f"{where}: event_time={getattr(event_time, '__name__', event_time)}"
    kind = tried(event_time, contract.schema, where).type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise TopologyError(
            f"{where}: gives {kind}, not points in time; make a pa.timestamp('us', 'UTC') of it"
        )


def durations_of(window: Window) -> dict[str, timedelta]:
    """The durations that a window is made of, by name; a calendar has none."""
    return {name: value for name, value in vars(window).items() if isinstance(value, timedelta)}


def read_headers(name: str, records: Iterable[Headers]) -> tuple[list[int | None], dict[int, str]]:
    """The time in each record's header, None without one; and what is wrong with those that
    cannot be read, by their place.
    """
    times: list[int | None] = []
    errors: dict[int, str] = {}
    for place, headers in enumerate(records):
        text = next((value for key, value in reversed(headers) if key == name), None)
        if text is None:
            times.append(None)
            continue
        try:
            times.append(read_time(text))
        except ValueError as error:
            times.append(None)
            errors[place] = f"the header {name!r} is {text[:80]!r}: {error}"
    return times, errors


def read_time(text: bytes) -> int:
    """Microseconds since the epoch, from ISO 8601 with a zone or from milliseconds.

    Raises:
        ValueError: the text is neither.
    """
    if _MILLIS.fullmatch(text):
        # What does not fit 64 bits as microseconds is outside of every range anyway.
        return max(min(int(text) * 1000, 2**63 - 1), -(2**63))
    try:
        time = datetime.fromisoformat(text.decode())
    except ValueError as error:
        message = "neither ISO 8601 nor milliseconds since the epoch"
        raise ValueError(message) from error
    if time.tzinfo is None:
        raise ValueError("a time without a zone is no point in time")
    return (time - _EPOCH) // _MICROSECOND


@dataclass(frozen=True)
class Years:
    """Event times that are taken: those in the years `first` to `last`."""

    first: int
    last: int

    @property
    def start(self) -> int:
        """The first microsecond."""
        return _micros_of(self.first)

    @property
    def stop(self) -> int:
        """The microsecond after the last."""
        return _micros_of(self.last + 1)

    def __str__(self) -> str:
        return f"the years {self.first} to {self.last}"


def years_around(reach: timedelta) -> Years:
    """The years in which a time plus or less `reach` is still in a calendar's years 1 to 9999."""
    years = max(1, -(-reach // timedelta(days=365)))
    return Years(1 + years, 9998 - years)


def _micros_of(year: int) -> int:
    return (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
