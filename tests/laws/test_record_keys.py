"""The key that is made of a value is one that its source takes, and says which row it is."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import Topology, debezium, kafka_timestamp, source, topic
from streamflow.batch import Record
from streamflow.keying import keys_for
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MS = 1_714_521_600_000


class Thing(BaseModel, frozen=True):
    s: str | None
    n: int | None = Field(alias="nN")
    x: float | None
    on: bool | None
    day: date | None
    at: AwareDatetime | None
    d: Annotated[Decimal, Field(decimal_places=2)] | None
    b: bytes | None


NAMES = tuple(Thing.model_fields)
rows = st.fixed_dictionaries(
    {
        "s": st.text(max_size=4) | st.sampled_from(["1", "1.0", "null", "{}", '"a"']),
        "nN": st.integers(-(2**63), 2**63 - 1) | st.sampled_from(["7", 7.0, "007"]),
        "x": st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([10**15, "NaN", 1]),
        "on": st.sampled_from([True, False, "yes", 0]),
        "day": st.dates(date(1, 1, 1), date(9999, 1, 1)).map(str),
        "at": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "d": st.decimals(-1000, 1000, places=2).map(str) | st.sampled_from([1, 1.5, "1.5"]),
        "b": st.text(max_size=4),
    }
)
keyed = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True).map(tuple)


@cache
def things(keys: tuple[str, ...], wrapped: bool) -> tuple[Stream, Topology]:
    stream = source(
        topic("things"),
        Thing,
        key=keys,
        event_time=kafka_timestamp(),
        tombstones="delete",
        envelope=debezium() if wrapped else None,
    )
    changed = stream.changed(*keys)
    edges = changed.to(topic("out")), changed.rejected.to(topic("dlq"))
    return stream, Topology("things", *edges)


ZERO = {"s": "", "nN": 0, "x": -0.0, "on": True, "day": "2000-01-01", "d": "0.00", "b": ""}


@law()
@example(ZERO | {"at": "2000-01-01T00:00:00+00:00"}, ("s", "x"), False)
@given(rows, keyed, st.booleans())
def test_a_made_key_is_taken_and_can_delete(
    row: dict[str, Any], keys: tuple[str, ...], wrapped: bool
) -> None:
    stream, topology = things(keys, wrapped)
    value = orjson.dumps({"op": "c", "after": row} if wrapped else row)
    gone = b'{"op":"d"}' if wrapped else None
    (key,) = keys_for(stream.source, [value])
    assert key is not None
    driver = TopologyDriver(topology, NOW)
    driver.send("things", Record(key, value, MS), Record(key, gone, MS), Record(key, value, MS))
    assert [dict(record.headers) for record in driver.records("dlq")] == []
    changes = [dict(record.headers)["streamflow.change"] for record in driver.records("out")]
    assert changes == [b"new", b"deleted", b"new"]


@law()
@given(rows, rows, st.sets(st.sampled_from(["s", "nN", "x", "on", "b"])), keyed)
def test_rows_have_one_key_just_when_their_fields_are_equal(
    one: dict[str, Any], drawn: dict[str, Any], changed: set[str], keys: tuple[str, ...]
) -> None:
    stream, _ = things(keys, wrapped=False)
    both = one, one | {name: drawn[name] for name in changed}
    made = keys_for(stream.source, [orjson.dumps(row) for row in both])
    fields = [[same(getattr(Thing.model_validate(row), name)) for name in keys] for row in both]
    assert (made[0] == made[1]) == (fields[0] == fields[1])


def same(value: Any) -> Any:
    """Zeros of both signs have two texts, and what is no number has one."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else (value, math.copysign(1, value))
    return value
