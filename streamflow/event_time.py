"""Where the event time of a record comes from, what one without gets, and which times are taken.

A source takes it from a field of times or of numbers, a function over columns, the record's Kafka
timestamp or a header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import pyarrow as pa

from streamflow.arguments import in_words, is_duration, is_some_duration, is_text
from streamflow.batch import Headers
from streamflow.epochs import PER_SECOND, Epoch, Unit, check_unit
from streamflow.errors import TopologyError
from streamflow.leap_second import leap_second_moved
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
_NUMBER = re.compile(rb"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?")


@dataclass(frozen=True)
class KafkaTimestamp:
    """The time that Kafka has for the record."""


@dataclass(frozen=True)
class Header:
    """The last header of this name: ISO 8601 with a zone, or a number since the epoch."""

    name: str
    unit: Unit = "ms"

    def __post_init__(self) -> None:
        is_text("header(...)", "the name of the header that has the event time", self.name)
        check_unit(f"header({self.name!r}, unit={self.unit!r})", self.unit)


EventTime = str | Callable[[pa.RecordBatch], pa.Array] | KafkaTimestamp | Header | Epoch
MissingEventTime = Literal["dead_letter", "ingest_time"]


def kafka_timestamp() -> KafkaTimestamp:
    """The event time is the time that Kafka has for the record: the producer's clock, or the
    broker's on a topic with `message.timestamp.type=LogAppendTime`.
    """
    return KafkaTimestamp()


def header(name: str, unit: Unit = "ms") -> Header:
    """The event time is in a header: ISO 8601 with a zone, or a number of `unit` since the epoch,
    whose parts of a microsecond are cut off towards the past. Of several headers of one name the
    last one counts. A leap second, given as :60, is the second after it.
    """
    return Header(name, unit)


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
    if isinstance(event_time, str | Epoch):
        _check_field(where, event_time, contract)
        return
    if not callable(event_time):
        raise TopologyError(f"{where}: event_time={event_time!r} is no field and no function")
    where = f"{where}: event_time={getattr(event_time, '__name__', event_time)}"
    kind = tried(event_time, contract.schema, where).type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise TopologyError(
            f"{where}: gives {kind}, not points in time; make a pa.timestamp('us', 'UTC') of it"
        )


def _check_field(where: str, event_time: str | Epoch, contract: Contract) -> None:
    name = event_time if isinstance(event_time, str) else event_time.field
    schema = contract.schema
    kind = schema.field(name).type if name in schema.names else None
    number = kind is not None and (pa.types.is_integer(kind) or pa.types.is_floating(kind))
    if isinstance(event_time, Epoch):
        if not number:
            raise TopologyError(
                f"{where}: epoch({name!r}) is no int or float field of {contract.model.__name__}"
            )
    elif kind != TIMESTAMP:
        hint = f"; for numbers since 1970 say epoch({name!r}, unit=...)" if number else ""
        raise TopologyError(
            f"{where}: event_time={name!r} is no AwareDatetime field of "
            f"{contract.model.__name__}{hint}"
        )


def durations_of(window: Window) -> dict[str, timedelta]:
    """The durations that a window is made of, by name; a calendar has none."""
    return {name: value for name, value in vars(window).items() if isinstance(value, timedelta)}


def read_headers(
    header: Header, records: Iterable[Headers]
) -> tuple[list[int | None], dict[int, str]]:
    """The time in each record's header, None without one; and what is wrong with those that
    cannot be read, by their place.
    """
    times: list[int | None] = []
    errors: dict[int, str] = {}
    for place, headers in enumerate(records):
        text = next((value for key, value in reversed(headers) if key == header.name), None)
        if text is None:
            times.append(None)
            continue
        try:
            times.append(read_time(text, header.unit))
        except ValueError as error:
            times.append(None)
            errors[place] = f"the header {header.name!r} is {text[:80]!r}: {error}"
    return times, errors


def read_time(text: bytes, unit: Unit = "ms") -> int:
    """Microseconds since the epoch, from ISO 8601 with a zone or from a number.

    Raises:
        ValueError: the text is neither.
    """
    if _NUMBER.fullmatch(text):
        whole, _, parts = text.partition(b".")
        micros = int(whole + parts) * 10**6 // (PER_SECOND[unit] * 10 ** len(parts))
        # What does not fit 64 bits as microseconds is outside of every range anyway.
        return max(min(micros, 2**63 - 1), -(2**63))
    try:
        moved = leap_second_moved(text.decode())
        time = moved if isinstance(moved, datetime) else datetime.fromisoformat(moved)
    except ValueError as error:
        message = f"neither ISO 8601 nor a number of {unit} since the epoch"
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


def check_durations(
    where: str,
    out_of_orderness: timedelta,
    max_future: timedelta | None,
    idle_after: timedelta | None,
) -> None:
    """Raises `TopologyError` for a duration of a source that makes no sense."""
    is_some_duration(where, "out_of_orderness", out_of_orderness)
    if out_of_orderness < timedelta(0):
        raise TopologyError(f"{where}: out_of_orderness is below zero")
    if max_future is not None:
        is_duration(where, "max_future", max_future)
        if max_future < timedelta(0):
            raise TopologyError(f"{where}: max_future is below zero")
    if idle_after is not None:
        is_duration(where, "idle_after", idle_after)
        if idle_after <= timedelta(0):
            raise TopologyError(
                f"{where}: idle_after={in_words(idle_after)} is not above zero; leave it out "
                "where silence is to close nothing"
            )
