"""Ways by which a sensitive value could leave beside its field: keys, words, names, event times."""

import re
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
import pyarrow as pa
import pytest
from pydantic import AliasChoices, AwareDatetime, BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError

from streamflow import (
    AggregateFunction,
    Distinct,
    Max,
    Measure,
    Sum,
    Topology,
    TopologyError,
    Tumbling,
    debezium,
    epoch,
    hashed,
    kafka_timestamp,
    masked,
    parquet,
    source,
    topic,
    withheld,
)
from streamflow.batch import Record
from streamflow.core.masking import Masks
from streamflow.errors import StateRefused
from streamflow.testing import TopologyDriver
from streamflow.testing.driver import MASKING_KEY

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECRET = "s3cr3t"
HASH = (Masks(MASKING_KEY).text(hashed(), SECRET) or "").encode()


class Person(BaseModel):
    id: str
    email: Annotated[str, hashed()]
    tags: Annotated[dict[str, int] | None, withheld()] = None
    salary: Annotated[int | None, withheld()] = None
    places: dict[str, int] | None = None
    at: AwareDatetime


people = source(topic("people"), Person, key="id", event_time="at")


def person(**given: Any) -> dict[str, Any]:
    return {"id": "1", "email": SECRET, "at": NOW, **given}


def sent(driver: TopologyDriver, *names: str) -> str:
    """All that topics were given."""
    return repr([driver.records(name) for name in names])


def driver_of(*edges: Any) -> TopologyDriver:
    return TopologyDriver(Topology("t", *edges), NOW)


def letter(value: dict[str, Any] | bytes, stream: Any = people) -> dict[str, str]:
    """The headers of the dead letter that comes of a value, in which nothing is sensitive."""
    driver = driver_of(stream.drop(), stream.rejected.to(topic("dlq")))
    driver.send("people", Record(b"1", value if isinstance(value, bytes) else orjson.dumps(value)))
    assert SECRET not in sent(driver, "dlq")
    return {
        name: (said or b"").decode(errors="replace")
        for name, said in driver.records("dlq")[0].headers
    }


def test_the_place_in_a_sensitive_field_is_not_named_of_others_it_is() -> None:
    assert letter(person(tags={SECRET: "x"}))["streamflow.field"] == "tags"
    assert letter(person(places={"home": "x"}))["streamflow.field"] == "places.home"


def test_words_are_pydantic_s_own_by_their_kind_and_not_by_how_they_begin() -> None:
    class Picky(Person):
        @field_validator("email")
        @classmethod
        def _picky(cls, email: str) -> str:
            raise PydanticCustomError("picky", "Input should be other than {it}", {"it": email})

    picky = source(topic("people"), Picky, key="id", event_time="at")
    message = letter(person(), picky)["__connect.errors.exception.message"]
    assert message == "invalid (its words are withheld: they may be sensitive)"


def test_an_error_of_pydantic_that_says_what_a_zone_should_be_is_said() -> None:
    message = letter(person(at="2026-01-01T12:00:00"))["__connect.errors.exception.message"]
    assert message == "Input should have timezone info"


@pytest.mark.parametrize("place", [b'"x":%b', b'"email":%b'])
def test_json_that_is_nested_too_deeply_is_a_dead_letter(place: bytes) -> None:
    deep = b"[" * 9_000 + b'"%b"' % SECRET.encode() + b"]" * 9_000
    assert letter(b'{"id":"1",' + place % deep + b"}")["streamflow.masked"] == "*"


def test_a_key_that_nobody_says_what_it_is_of_is_hashed() -> None:
    keyless = source(topic("people"), Person, event_time="at")
    driver = driver_of(keyless.to(topic("out")), keyless.rejected.to(topic("dlq")))
    for value in (person(), person(email=5)):
        driver.send("people", Record(SECRET.encode(), orjson.dumps(value)))
    assert [driver.records(name)[0].key for name in ("out", "dlq")] == [HASH, HASH]
    assert SECRET not in sent(driver, "out", "dlq")


def test_a_key_that_is_not_what_it_should_be_is_hashed() -> None:
    driver = driver_of(people.drop(), people.rejected.to(topic("dlq")))
    driver.send("people", Record(SECRET.encode(), orjson.dumps(person())))
    assert driver.records("dlq")[0].key == HASH
    assert SECRET not in sent(driver, "dlq")


class Plain(BaseModel):
    id: str
    n: int
    at: AwareDatetime


class Hashed(BaseModel):
    id: Annotated[str, hashed()]
    n: int


class Masked(BaseModel):
    id: Annotated[str, masked()]
    n: int


class Renamed(BaseModel):
    who: Annotated[str | None, withheld()]
    n: int


@pytest.mark.parametrize(
    ("model", "fields"), [(Hashed, {}), (Masked, {}), (Renamed, {"who": "lower(id)"})]
)
def test_a_key_that_only_the_model_of_a_map_marks_is_hashed(
    model: type[BaseModel], fields: dict[str, Any]
) -> None:
    plain = source(topic("plain"), Plain, key="id", event_time="at")
    driver = driver_of(
        plain.map(model, **fields).to(topic("out")), plain.to(topic("all")), plain.rejected.drop()
    )
    driver.send("plain", {"id": SECRET, "n": 1, "at": NOW})
    assert driver.records("out")[0].key == HASH
    assert SECRET not in sent(driver, "out")
    assert driver.records("all")[0].key == SECRET.encode()


def test_what_is_no_change_event_is_not_quoted() -> None:
    class Row(BaseModel):
        id: str
        op: Annotated[str | None, hashed()] = None

    rows = source(
        topic("people"), Row, key="id", event_time=kafka_timestamp(), envelope=debezium()
    ).changed("id")
    assert letter({"id": "1", "op": SECRET}, rows)["streamflow.reason"] == "envelope"
    assert "op 'm' is none" in letter({"op": "m"}, rows)["__connect.errors.exception.message"]


def test_a_key_of_several_fields_leaves_hashed_when_one_of_them_is_sensitive() -> None:
    keyed = source(topic("people"), Person, key=("id", "email"), event_time="at")
    driver = driver_of(keyed.to(topic("out")), keyed.rejected.to(topic("dlq")))
    wrong = Record(orjson.dumps({"id": "2", "email": SECRET}), orjson.dumps(person()))
    driver.send("people", person(), wrong)
    assert [len(driver.records(name)) for name in ("out", "dlq")] == [1, 1]
    assert driver.read("dlq")[0]["reason"] == "wrong-key"
    assert SECRET not in sent(driver, "out", "dlq")
    plain = keyed.map(Id)
    driver = driver_of(plain.to(topic("out")), keyed.rejected.to(topic("dlq")))
    driver.send("people", person(), wrong)
    assert SECRET not in sent(driver, "out", "dlq")


class Id(BaseModel):
    id: str


@pytest.mark.parametrize("value", [None, b"[", b"{}"])
@pytest.mark.parametrize(
    "key", [{"id": "1", "n": 0, "email": SECRET}, {"id": "1", "n": {"email": SECRET}}, [SECRET]]
)
def test_a_key_that_is_not_of_its_fields_is_hashed_whatever_else_is_wrong(
    value: bytes | None, key: Any
) -> None:
    class Numbered(Person):
        n: int

    keyed = source(topic("people"), Numbered, key=("id", "n"), event_time="at")
    driver = driver_of(keyed.to(topic("out")), keyed.rejected.to(topic("dlq")))
    driver.send("people", Record(orjson.dumps(key), value), Record(b'{"id":"1","n":0}', value))
    assert SECRET not in sent(driver, "out", "dlq")
    assert driver.records("dlq")[1].key == b'{"id":"1","n":0}'


def test_a_name_in_json_that_two_fields_have_is_that_of_the_sensitive_one() -> None:
    class Crossed(BaseModel):
        id: str
        email: Annotated[str | None, hashed()] = Field(alias="mail")
        other: str | None = Field(None, validation_alias=AliasChoices("email", "else"))
        at: AwareDatetime

    crossed = source(topic("people"), Crossed, key="id", event_time="at")
    driver = driver_of(crossed.to(topic("out")), crossed.rejected.to(topic("dlq")))
    driver.send("people", {"id": "1", "mail": SECRET, "email": "it", "at": NOW})
    row = orjson.loads(driver.records("out")[0].value or b"")
    assert (row["email"], row["other"]) == (HASH.decode(), "it")
    driver.send("people", {"id": "1", "mail": SECRET, "email": SECRET, "else": "it"})
    row = orjson.loads(driver.records("dlq")[-1].value or b"")
    assert row == {"id": "1", "mail": HASH.decode(), "email": HASH.decode(), "else": "it"}
    assert SECRET not in sent(driver, "out", "dlq")


def test_a_text_that_names_no_folder_does_so_when_it_is_hashed() -> None:
    driver = driver_of(
        people.to(parquet("people", partition_by="email")), people.rejected.to(topic("dlq"))
    )
    driver.send("people", person(email=""), person(email=SECRET * 100))
    driver.end_of_input()
    assert len(driver.files("people")) == 2
    assert driver.records("dlq") == []


class Raising(AggregateFunction):
    fields = ("email",)
    state = type = pa.string()

    def init(self) -> str:
        return ""

    def accumulate(self, state: str, rows: pa.RecordBatch) -> Any:
        if rows.num_rows:
            raise ValueError(rows["email"].to_pylist())
        return state

    def merge(self, state: str, other: str) -> str:
        return state + other

    def result(self, state: str) -> str:
        return state


class Giving(Raising):
    def accumulate(self, state: str, rows: pa.RecordBatch) -> Any:
        return {"is": rows["email"].to_pylist()} if rows.num_rows else state


class Made(BaseModel):
    id: str
    window_start: AwareDatetime
    made: Annotated[str | None, withheld()]


class Paid(BaseModel):
    id: str
    window_start: AwareDatetime
    paid: Annotated[int | None, withheld()]


@pytest.mark.parametrize(
    ("model", "aggregate", "expected"),
    [
        (Made, {"made": Raising()}, "Raising.accumulate() raised ValueError (its words"),
        (Made, {"made": Giving()}, "Giving.accumulate() gave a dict, not string"),
        (Paid, {"paid": Sum("salary")}, "does not fit paid (int64); declare it"),
    ],
)
def test_an_aggregate_that_ends_a_worker_says_no_value(
    model: type[BaseModel], aggregate: dict[str, Any], expected: str
) -> None:
    made = people.window(Tumbling(HOUR), by="id", grace=timedelta(0)).aggregate(model, **aggregate)
    driver = driver_of(made.to(topic("out")), made.late.drop(), people.rejected.drop())
    later = NOW + 2 * HOUR
    paid = [person(salary=2**63 - 1), person(salary=2**63 - 1), person(at=later)]
    with pytest.raises(StateRefused, match=re.escape(expected)) as told:
        driver.send("people", *paid)
    assert SECRET not in "".join(traceback.format_exception(told.value))


class Born(BaseModel):
    id: str
    born: Annotated[AwareDatetime | None, withheld()] = None
    seconds: Annotated[int | None, withheld()] = None


def timed(event_time: Any) -> Callable[[], Any]:
    born = source(topic("born"), Born, key="id", event_time=event_time)
    return lambda: Topology("t", born.drop(), born.rejected.drop())


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (timed("born"), "Born.born is the event time of 'born' and marked withheld()"),
        (timed(epoch("seconds", "s")), "Born.seconds is the event time of 'born'"),
        (
            lambda: Topology(
                "t",
                people.check(Measure(Max("salary"), at_most=5), over=1, name="c").to(topic("c")),
                people.rejected.drop(),
            ),
            "max of salary is made of 'salary', which is sensitive",
        ),
    ],
)
def test_it_is_refused_in_words(build: Callable[[], Any], expected: str) -> None:
    with pytest.raises(TopologyError, match=re.escape(expected)):
        build()


def test_a_check_may_count_different_values() -> None:
    checks = people.check(Measure(Distinct("email"), at_most=5), over=1, name="c")
    driver = driver_of(checks.to(topic("c")), people.rejected.drop())
    driver.send("people", person())
    assert orjson.loads(driver.records("c")[0].value or b"")["value"] == 1
