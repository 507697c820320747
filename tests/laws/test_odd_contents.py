"""Whatever stands in a record, it is taken as pydantic takes it or a dead letter, and nothing else
is touched by it.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from streamflow import (
    Count,
    First,
    Max,
    Rule,
    Topology,
    Tumbling,
    kafka_timestamp,
    parquet,
    source,
    topic,
)
from streamflow.batch import Record
from streamflow.testing import TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MS = 1_714_521_600_000


class Inner(BaseModel):
    at: AwareDatetime | None = None
    n: int | None = None


class Odd(BaseModel):
    id: str
    s: str | None = None
    n: int | None = None
    x: float | None = None
    on: bool | None = None
    day: date | None = None
    at: AwareDatetime | None = None
    d: Annotated[Decimal, Field(decimal_places=2)] | None = None
    b: bytes | None = None
    kind: Literal["a", "b"] | None = None
    many: list[int] = []
    times: list[AwareDatetime] | None = None
    named: dict[str, float] | None = None
    inner: Inner | None = None


class Seen(BaseModel):
    id: str
    count: int
    s: str | None
    at: AwareDatetime | None
    window_start: AwareDatetime


#: JSON as it may come; whoever wrote it meant something, perhaps.
FRAGMENTS = [
    *("null", "true", "0", "-0", "-0.0", "1e999", "-1e999", "1e-999", "1.5", "NaN", "Infinity"),
    *('"NaN"', '"Infinity"', '""', '" "', '"1"', '"007"', '"a"', '"\\ud800"', '"\\u0000"'),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" * 400),
    *('"9999-12-31T23:59:59-14:00"', '"0001-01-01T00:00:00+14:00"', '"2016-12-31T23:59:60Z"'),
    *('"9999-12-31"', '"0001-01-01"', '"2024-05-01T12:00:00"', '"2024-05-01T12:00:00Z"'),
    *('"1E+1000000"', '"0.001"', '"99999999999999999999999999999999999999.99"', "[]", "{}"),
    *("[1,null]", '["x"]', "[1,2.0]", '{"a":null}', '{"a":1e999,"a":1}', '{"":1}', "[[1]]"),
    *('["2024-05-01T12:00:00Z","9999-12-31T23:59:59-14:00"]', '{"n":1e2,"at":"x"}'),
    *('{"at":"0001-01-01T00:00:00+14:00"}', "[" * 3_000 + "]" * 3_000, '"' + "x" * 3_000 + '"'),
    *("", "{", "'a'", "\ufeff1", "/*1*/", '"\x01"'),
]
TIMES = [f for f in FRAGMENTS if f[:2] in ('"0', '"2', '"9')]
NUMBERS = [f for f in FRAGMENTS if f[:1].isdigit() or f[:1] in "-NI" or f[:2] in ('"1', '"0')]
#: Of a field mostly what may be one of its kind.
KINDS = {
    **dict.fromkeys(("day", "at"), TIMES),
    **dict.fromkeys(("n", "x", "d"), NUMBERS),
    "times": [f"[{time}]" for time in TIMES],
    "many": [f"[1,{number}]" for number in [*NUMBERS, "null"]],
    "named": [f'{{"a":{number}}}' for number in [*NUMBERS, "null"]],
    "inner": [f'{{"n":1,"at":{time}}}' for time in TIMES],
}
fields = st.sampled_from([*Odd.model_fields, "more", "a.b", ""]).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.sampled_from(KINDS.get(name, FRAGMENTS))
        | st.sampled_from(KINDS.get(name, FRAGMENTS))
        | st.sampled_from(FRAGMENTS),
    )
)
values = st.lists(fields, min_size=1, max_size=2).map(
    lambda row: "{" + ",".join(f'"{name}":{value}' for name, value in row) + "}"
)
raw = values.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=8)


def with_id(value: bytes) -> bytes:
    """As a record that is keyed by its id; of two fields of one name the last counts."""
    return value[:-1] + (b"" if value == b"{}" else b",") + b'"id":"odd"}' if value else value


keyed = raw.map(with_id)
odd = source(topic("odd"), Odd, key="id", event_time=kafka_timestamp())
taken = odd.gate(Rule("there", "s IS NOT NULL OR n >= 0 OR at IS NULL", action="tag"))
again = taken.map_rows(Odd, lambda row: row)
hours = taken.window(Tumbling(timedelta(hours=1)), by="id").aggregate(
    Seen, count=Count(), s=First("s"), at=Max("at")
)
TOPOLOGY = Topology(
    "odd",
    again.to(topic("again")),
    again.to(parquet("again")),
    hours.to(topic("hours")),
    hours.late.drop(),
    odd.rejected.to(topic("dlq")),
)


def is_taken(value: bytes) -> bool:
    """By pydantic itself, with the id that its record is keyed by, and integers of 64 bits."""
    try:
        row = Odd.model_validate_json(value)
    except (ValidationError, ValueError):
        return False
    numbers = [row.n, *row.many, None if row.inner is None else row.inner.n]
    return row.id == "odd" and all(-(2**63) <= (n or 0) < 2**63 for n in numbers)


def other_reasons(record: Record) -> list[str]:
    """Of one under another key it may be said first that it cannot be stored."""
    return ["unstorable"] if is_taken(with_id(record.value or b"")) else []


@law()
@example([b'{"at":"9999-12-31T23:59:59-14:00","id":"odd"}'], (1_000,))
@example([b'{"id":"NaN","times":["9999-12-31T23:59:59-14:00"]}'], (1_000,))
@example([b'{"inner":{"at":"0001-01-01T00:00:00+14:00"},"id":"odd"}'], (1_000,))
@given(st.lists(keyed | keyed | raw, max_size=6), st.sampled_from([(1_000,), (1,), (2, 3)]))
def test_what_is_odd_is_taken_or_a_dead_letter_and_its_neighbours_go_on(
    contents: list[bytes], batches: tuple[int, ...]
) -> None:
    driver = TopologyDriver(TOPOLOGY, NOW, batches=batches)
    good = Record(b"good", orjson.dumps({"id": "good", "many": [1]}), MS)
    sent = [good]
    for value in contents:
        sent += [Record(b"odd", value, MS), good]
    driver.send("odd", *sent)
    driver.end_of_input()
    letters = {letter["offset"]: letter["reason"] for letter in driver.read("dlq")}
    for offset, record in enumerate(sent):
        if record is good:
            assert offset not in letters
        elif not is_taken(record.value or b""):
            assert letters[offset] in ("not-json", "invalid", "wrong-key", *other_reasons(record))
        else:
            assert letters.get(offset, "unstorable") == "unstorable"
    rows = [row for table in driver.tables("again") for row in table.to_pylist()]
    assert sorted(row["_offset"] for row in rows) == sorted(set(range(len(sent))) - set(letters))
    assert len(driver.records("again")) == len(rows)
    counted: dict[str, Any] = {row["id"]: row["count"] for row in driver.read("hours")}
    assert sum(counted.values()) == len(rows)
    totals = driver.totals
    assert totals["in"] == len(sent)
    assert totals["rejected"] == len(letters)
