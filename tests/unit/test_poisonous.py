"""Whatever is in a record, or comes of it, it is a dead letter and stops nothing around it."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import orjson
import pyarrow as pa
import pytest
from pydantic import (
    AwareDatetime,
    BaseModel,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from streamflow import (
    Cache,
    Count,
    Quantile,
    RetryPolicy,
    Rule,
    Threshold,
    Topology,
    TopologyError,
    Tumbling,
    Unique,
    kafka_timestamp,
    masked,
    parquet,
    source,
    topic,
)
from streamflow.batch import Record
from streamflow.failed_words import MOST_CHARACTERS
from streamflow.schema import Contract
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATEST, FIRST = "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"


def drive(
    model: type[BaseModel],
    *values: Any,
    build: Callable[[Stream], Stream] = lambda stream: stream,
    batches: tuple[int, ...] = (1_000,),
) -> TopologyDriver:
    stream = build(source(topic("in"), model, event_time=kafka_timestamp()))
    edges = stream.to(topic("out")), stream.to(parquet("out")), stream.rejected.to(topic("dlq"))
    driver = TopologyDriver(Topology("t", *edges), NOW, batches=batches)
    driver.broker.limits["dlq"] = 1_048_588
    driver.send("in", *(Record(None, orjson.dumps(value), 0) for value in values))
    driver.end_of_input()
    return driver


def letters(driver: TopologyDriver) -> list[tuple[int, str, str]]:
    """The offset of each dead letter, its reason, and what is said of it."""
    said = [
        dict(one.headers)["__connect.errors.exception.message"] for one in driver.records("dlq")
    ]
    found = zip(driver.read("dlq"), said, strict=True)
    return [(one["offset"], one["reason"], (words or b"").decode()) for one, words in found]


class Times(BaseModel):
    id: str
    at: AwareDatetime | None = None
    many: list[AwareDatetime] | None = None
    named: dict[str, AwareDatetime] | None = None


@pytest.mark.parametrize("time", [LATEST, FIRST])
@pytest.mark.parametrize(
    "form", ['{"at":"T"}', '{"many":["2024-01-01T00:00:00Z","T"]}', '{"named":{"a":"T"}}']
)
@pytest.mark.parametrize(
    "build", [lambda stream: stream, lambda stream: stream.map_rows(Times, lambda row: row)]
)
def test_a_time_that_no_calendar_has_is_unstorable(
    time: str, form: str, build: Callable[[Stream], Stream]
) -> None:
    bad = json.loads(form.replace('"T"', f'"{time}"'))
    driver = drive(Times, {"id": "a"}, {"id": "b", **bad}, {"id": "c"}, build=build)
    assert [(at, reason) for at, reason, _ in letters(driver)] == [(1, "unstorable")]
    assert "outside the years 1 to 9999 in UTC" in letters(driver)[0][2]
    assert [row["id"] for row in driver.read("out")] == ["a", "c"]


class Dated(BaseModel):
    id: str
    day: date


def test_a_date_that_a_map_makes_beyond_every_calendar_fails() -> None:
    class Next(BaseModel):
        id: str
        day: date

    def after(rows: pa.RecordBatch) -> pa.Array:
        days = rows.column("day").cast(pa.int32())
        return pa.array([day + 1 for day in days.to_pylist()], pa.int32()).cast(pa.date32())

    given = [{"id": "a", "day": "2024-01-01"}, {"id": "b", "day": "9999-12-31"}]
    driver = drive(Dated, *given, build=lambda stream: stream.map(Next, day=after))
    assert [(at, reason) for at, reason, _ in letters(driver)] == [(1, "failed")]
    assert [row["day"] for row in driver.read("out")] == ["2024-01-02"]


def test_what_a_validator_raises_is_invalid_whatever_it_is() -> None:
    class Odd(BaseModel):
        id: str
        n: int = Field(default_factory=lambda data: 10 // len(data["id"]))

        @model_validator(mode="before")
        @classmethod
        def _renamed(cls, value: Any) -> Any:
            return value if "id" in value else {"id": value["name"]}

        @field_validator("id")
        @classmethod
        def _decoded(cls, value: str) -> str:
            return json.loads(value) if value.startswith('"') else value

    values = [{"id": "a"}, {}, {"id": ""}, {"id": '"\\ud800"'}, {"name": "b"}]
    driver = drive(Odd, *values)
    found = letters(driver)
    assert [at for at, _, _ in found] == [1, 2, 3]
    assert [reason for _, reason, _ in found] == ["invalid", "invalid", "unstorable"]
    assert found[0][2] == "KeyError: 'name'"
    (table,) = driver.tables("out")
    assert table.column("id").to_pylist() == ["a", "b"]


def test_a_validator_that_makes_null_of_what_cannot_be_is_unstorable() -> None:
    class Empty(BaseModel):
        id: str
        many: list[int] = []

        @field_validator("id", mode="after")
        @classmethod
        def _none(cls, value: str) -> Any:
            return value or None

        @field_validator("many", mode="after")
        @classmethod
        def _some(cls, value: list[int]) -> Any:
            return [one or None for one in value]

    driver = drive(Empty, {"id": "a"}, {"id": ""}, {"id": "b", "many": [1, 0]}, {"id": "c"})
    assert [(at, reason) for at, reason, _ in letters(driver)] == [
        (1, "unstorable"),
        (2, "unstorable"),
    ]
    assert [row["id"] for row in driver.read("out")] == ["a", "c"]


class Loose(BaseModel):
    id: str
    many: list[int | None] = []


class Tight(BaseModel):
    id: str
    many: list[int]


def test_a_null_in_a_list_that_has_none_is_found_where_the_list_is_made() -> None:
    values = [{"id": "a", "many": [1]}, {"id": "b", "many": [1, None]}, {"id": "c"}]
    for build in (
        lambda stream: stream.map(Tight),
        lambda stream: stream.map_rows(Tight, lambda row: row),
    ):
        driver = drive(Loose, *values, build=build)
        assert [(at, reason) for at, reason, _ in letters(driver)] == [(1, "failed")]
        (table,) = driver.tables("out")
        assert table.column("many").to_pylist() == [[1], []]


def test_a_default_with_a_null_in_its_list_makes_a_dead_letter_and_no_broken_table() -> None:
    rule = Rule("some", "id != 'b'", fix=("many", lambda rows: pa.array([[1, None]] * len(rows))))
    values = [{"id": name, "many": [1]} for name in "abc"]
    driver = drive(Tight, *values, build=lambda stream: stream.gate(rule))
    assert [at for at, _, _ in letters(driver)] == [1]
    assert len(driver.read("out")) == 2


class Note(BaseModel):
    id: str
    note: str = ""


class Number(BaseModel):
    id: str
    note: int | None


def test_words_of_a_failure_are_cut_whatever_they_quote() -> None:
    values = [{"id": "a", "note": "1"}, {"id": "b", "note": "é" * 500_000}]
    driver = drive(Note, *values, build=lambda stream: stream.map(Number))
    ((at, reason, words),) = letters(driver)
    assert (at, reason) == (1, "failed")
    assert MOST_CHARACTERS < len(words) < MOST_CHARACTERS + 50
    assert words.endswith(" characters)")


def test_a_wrong_key_of_a_large_value_is_a_dead_letter() -> None:
    stream = source(topic("in"), Note, key="id", event_time=kafka_timestamp())
    driver = TopologyDriver(
        Topology("t", stream.to(topic("out")), stream.rejected.to(topic("dlq"))), NOW
    )
    driver.broker.limits["dlq"] = 1_048_588
    driver.send("in", Record(b"x", orjson.dumps({"id": "é" * 150_000}), 0))
    assert [reason for _, reason, _ in letters(driver)] == ["wrong-key"]


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (ValueError("unknown kind \ud800"), "ValueError: unknown kind \\ud800"),
        (Mute(), "Mute: it cannot say what is wrong"),
    ],
)
@pytest.mark.parametrize("way", ["map", "map_rows", "filter"])
def test_words_that_are_no_text_are_said_all_the_same(
    raised: Exception, words: str, way: str
) -> None:
    def fails(given: Any) -> Any:
        if isinstance(given, dict):
            if given["id"] == "b":
                raise raised
            return given
        if "b" in given.column("id").to_pylist():
            raise raised
        return (
            pa.array([True] * given.num_rows, pa.bool_())
            if way == "filter"
            else given.column("note")
        )

    builds: dict[str, Callable[[Stream], Stream]] = {
        "map": lambda stream: stream.map(Note, note=fails),
        "map_rows": lambda stream: stream.map_rows(Note, fails),
        "filter": lambda stream: stream.filter(fails),
    }
    driver = drive(Note, {"id": "a"}, {"id": "b"}, {"id": "c"}, build=builds[way])
    assert letters(driver) == [(1, "failed", words)]


@pytest.mark.parametrize("batches", [(1_000,), (1,), (2,), (3,)])
@pytest.mark.parametrize(
    ("before", "after", "good", "bad"),
    [
        (list[str], list[int], ["1"], ["x"]),
        (list[float], list[int], [1.0], [1.5]),
        (dict[str, str], dict[str, int], {"a": "1"}, {"a": "x"}),
        (list[list[str]], list[list[int]], [["1"]], [["x"]]),
    ],
)
def test_only_the_bad_row_is_a_dead_letter_however_rows_are_cut(
    before: Any, after: Any, good: Any, bad: Any, batches: tuple[int, ...]
) -> None:
    one = type("One", (BaseModel,), {"__annotations__": {"id": str, "v": before}})
    other = type("Other", (BaseModel,), {"__annotations__": {"id": str, "v": after}})
    values = [{"id": str(n), "v": bad if n == 2 else good} for n in range(5)]
    driver = drive(one, *values, build=lambda stream: stream.map(other), batches=batches)
    assert [at for at, _, _ in letters(driver)] == [2]


def test_rows_with_mappings_are_dicts_of_them_for_a_function() -> None:
    class Tagged(BaseModel):
        id: str
        tags: dict[str, int]

    driver = drive(
        Tagged,
        {"id": "a", "tags": {"x": 1}},
        build=lambda stream: stream.map_rows(
            Tagged, lambda row: {"id": row["id"], "tags": row["tags"] | {"y": 2}}
        ),
    )
    assert [row["tags"] for row in driver.read("out")] == [{"x": 1, "y": 2}]


def test_a_model_that_checks_itself_when_it_is_made_is_asked() -> None:
    class Checked(BaseModel):
        n: int
        _seen: int = PrivateAttr(0)

        def model_post_init(self, context: Any, /) -> None:
            if self.n < 0:
                raise ValueError("it is below zero")

    class Made(BaseModel):
        n: int

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            if self.n < 0:
                raise ValueError("it is below zero")

    for model in (Checked, Made):
        decoded = Contract(model).decode([b'{"n":1}', b'{"n":-1}'])
        assert decoded.places == [0]
        assert [bad.reason for bad in decoded.refused] == ["invalid"]


def test_models_that_no_table_can_have_are_refused_when_they_are_declared() -> None:
    class Fine(BaseModel):
        d: Annotated[Decimal, Field(decimal_places=38)]

    class TooFine(BaseModel):
        d: Annotated[Decimal, Field(decimal_places=40)]

    class Bare(BaseModel):
        many: list  # type: ignore[type-arg]

    class Nothing(BaseModel):
        pass

    assert Contract(Fine).schema.field("d").type == pa.decimal128(38, 38)
    for model, words in (
        (TooFine, "decimal_places=40; a column has 0 to 38"),
        (Bare, "no column type for"),
        (Nothing, "Nothing has no fields"),
    ):
        with pytest.raises(TopologyError, match=words):
            Contract(model)


notes = source(topic("in"), Note, key="id", event_time=kafka_timestamp())


async def lookup(keys: Any) -> Any:
    return dict.fromkeys(keys)


WRONG: list[tuple[Callable[..., Any], str]] = [
    (lambda: Unique(None), "keys"),  # type: ignore[arg-type]
    (lambda: notes.quality_over(3, name=5), "its name 5 has to be"),  # type: ignore[arg-type]
    (lambda: RetryPolicy(retry_on=5), "retry_on holds error classes"),  # type: ignore[arg-type]
    (lambda: notes.enrich(Note, lookup, key=None), "key=None; name"),  # type: ignore[arg-type]
    (lambda: notes.enrich(Note, lookup, key="id", batch=None), "batch is None"),  # type: ignore[arg-type]
    (lambda: Cache(timedelta(1), max_keys=None), "max_keys is None"),  # type: ignore[arg-type]
    (lambda: Threshold(max_count=1, last=2, probe=None), "probe is None"),  # type: ignore[arg-type]
    (lambda: Quantile("id", None), "q is None"),  # type: ignore[arg-type]
    (lambda: masked(shown=None), "shown is None"),  # type: ignore[arg-type]
    (lambda: notes.gate(Rule("odd", "id = '\ud800'")), "is no text"),
    (lambda: notes.gate(Rule("odd", "id LIKE '\ud800'")), "is no pattern"),
    (
        lambda: notes.window(Tumbling(timedelta(1)), by="id").aggregate(
            Note,
            note=Count,  # type: ignore[arg-type]
        ),
        "it must be an aggregate",
    ),
]


@pytest.mark.parametrize(("declared", "words"), WRONG, ids=range(len(WRONG)))
def test_what_a_topology_is_declared_with_is_refused_in_words(
    declared: Callable[..., Any], words: str
) -> None:
    with pytest.raises(TopologyError, match=words):
        declared()
