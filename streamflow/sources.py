"""Where streams begin: `source(...)` says what a topic holds and gives a `Stream` of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import pyarrow as pa
from pydantic import BaseModel

from streamflow.destinations import Topic
from streamflow.envelopes import Debezium, check_debezium
from streamflow.errors import TopologyError
from streamflow.event_time import EventTime, MissingEventTime, check_durations, check_event_time
from streamflow.record_keys import KeyField, key_names
from streamflow.schema import Contract
from streamflow.stream import Stream
from streamflow.tombstones import Tombstones, check_tombstones


@dataclass(frozen=True, eq=False)
class Source:
    """A topic of records that keep to one contract; see `source`."""

    topic: str
    contract: Contract
    keys: tuple[str, ...]
    event_time: EventTime
    missing_event_time: MissingEventTime
    out_of_orderness: timedelta
    max_future: timedelta | None
    idle_after: timedelta | None
    tombstones: Tombstones
    envelope: Debezium | None

    @cached_property
    def key_fields(self) -> tuple[KeyField, ...]:
        """The fields it is keyed by, as they stand in values and in columns."""
        json, schema = self.contract.json_names, self.contract.schema
        return tuple(KeyField(name, json[name], schema.field(name).type) for name in self.keys)


def source(  # noqa: PLR0913 - a source is described by what it takes
    topic: Topic,
    model: type[BaseModel],
    *,
    key: str | Sequence[str] | None = None,
    event_time: EventTime | None = None,
    missing_event_time: MissingEventTime = "dead_letter",
    out_of_orderness: timedelta = timedelta(0),
    max_future: timedelta | None = None,
    idle_after: timedelta | None = None,
    tombstones: Tombstones = "dead_letter",
    envelope: Debezium | None = None,
) -> Stream:
    """A topic whose values are JSON documents of `model`.

    Args:
        topic: The topic to read.
        model: The contract of its values.
        key: The field that the topic is keyed by, as UTF-8 text, or several, as a JSON object of
            them. Every record's key is compared with what its value says; one that differs leaves
            on the rejected side.
        event_time: When it happened: an AwareDatetime field, or a function from a `pa.RecordBatch`
            of the fields to a column of timestamps with a zone; tried on zero rows; or
            `epoch(field, unit)`, `kafka_timestamp()` or `header(name)`. Never left out.
        missing_event_time: What a record without one gets, wherever it should come from:
            `"dead_letter"`, or `"ingest_time"`, the time at which the record was fetched. One that
            cannot be read or computed is a dead letter in any case.
        out_of_orderness: How far event time may run back: the watermark is the largest event time
            so far less this.
        max_future: How far event time may be ahead of the time at which its record is fetched. One
            that is further ahead leaves on the rejected side and moves no watermark. Without it a
            single such record closes every window.
        idle_after: A partition that had no record for this long, and at whose end the worker is, is
            idle: its watermark goes on with those of the source's other partitions, or with the
            clock when all are idle, so that its windows close. Without it they stay open until
            records come again. What comes later and is older than that watermark is late.
        tombstones: What a record with a key and without a value is: `"dead_letter"`, or `"delete"`,
            the deletion of its key, which `changed` then tells. It has null in all other fields
            and Kafka's timestamp where it has no event time.
        envelope: `debezium()`, where values are its change events and `model` is that of the rows;
            deletions are then told by these.
    """
    _is_topic(topic)
    contract, where = Contract(model), f"source({topic.name!r})"
    keys = key_names(where, key)
    _check_fields(where, keys, event_time, contract)
    assert event_time is not None
    check_event_time(where, event_time, missing_event_time, contract)
    check_durations(where, out_of_orderness, max_future, idle_after)
    if envelope is not None:
        check_debezium(where, envelope, keys, contract)
        tombstones = "delete"
    else:
        check_tombstones(where, tombstones, keys, contract)
    times = (event_time, missing_event_time, out_of_orderness, max_future, idle_after)
    return Stream(Source(topic.name, contract, keys, *times, tombstones, envelope))


def _check_fields(
    where: str, keys: Sequence[str], event_time: EventTime | None, contract: Contract
) -> None:
    """Raises `TopologyError` for a key that is no field, and without an event time."""
    name = contract.model.__name__
    for key in keys:
        if key not in contract.schema.names:
            raise TopologyError(
                f"{where}: {name} has no field {key!r} to be keyed by; "
                f"it has {sorted(contract.schema.names)}"
            )
        if pa.types.is_nested(contract.schema.field(key).type):
            raise TopologyError(f"{where}: {name}.{key} is no single value, as a record's key is")
    if event_time is None:
        raise TopologyError(
            f"{where}: event_time is missing; name the AwareDatetime field of "
            f"{name} that says when it happened, or a function that makes that time"
        )


def _is_topic(given: object) -> None:
    if not isinstance(given, Topic):
        raise TopologyError(f"source({given}): what is read is a topic; say topic(...)")
