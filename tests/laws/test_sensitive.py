"""No value of a sensitive field leaves a topology, by whatever way, however its input was cut."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Count,
    Distinct,
    First,
    Rule,
    Topology,
    Tumbling,
    cleared,
    hashed,
    masked,
    parquet,
    source,
    topic,
    withheld,
)
from streamflow.batch import Record
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
#: Every value that must not leave begins so.
SECRET = "s3cr3t"


class Call(BaseModel):
    caller: Annotated[str, hashed()]
    number: Annotated[str | None, masked(shown=2)] = None
    said: Annotated[list[str] | None, withheld()] = None
    costs: Annotated[dict[str, int] | None, withheld()] = None
    line: str
    seconds: int
    at: AwareDatetime


class PerCaller(BaseModel):
    caller: Annotated[str, hashed()]
    window_start: AwareDatetime
    calls: int
    numbers: int
    first: Annotated[str | None, masked(shown=2)]


class Length(BaseModel):
    line: str
    seconds: int
    dialled: Annotated[bool | None, cleared("whether, not which")]


def picky(rows: Any) -> Any:
    """Fails with the values of the rows in its words."""
    if 13 in rows["seconds"].to_pylist():
        raise ValueError(f"no: {rows['caller'].to_pylist()} {rows['said'].to_pylist()}")
    return rows["seconds"].is_valid()


calls = source(
    topic("calls"), Call, key="caller", event_time="at", out_of_orderness=5 * SECOND
).gate(Rule("short", "seconds < 100"), Rule("caller", f"caller LIKE '{SECRET}%'"))
kept = calls.dedup("caller", "line", within=20 * SECOND).filter(picky)
counts = kept.window(Tumbling(10 * SECOND), by="caller", grace=timedelta(0)).aggregate(
    PerCaller, calls=Count(), numbers=Distinct("number"), first=First("number")
)
topology = Topology(
    "calls",
    kept.to(topic("kept")),
    kept.to(parquet("kept", partition_by=["caller"])),
    kept.map(Length, dialled="number IS NOT NULL").to(topic("lengths")),
    counts.to(topic("counts")),
    counts.to(parquet("counts")),
    counts.late.to(topic("late")),
    kept.duplicates.to(topic("twice")),
    kept.rejected.to(topic("dlq")),
)
TOPICS = ("kept", "lengths", "counts", "late", "twice", "dlq")

#: The last names no folder.
NAMES = ("a", "b", "ünïc😀de", 'quo"te', "\\", "long" * 80)
DEEP = b'{"caller": "%b", "said": %b"%b"%b}'
secrets = st.sampled_from([f"{SECRET}-{name}" for name in NAMES])
values = st.fixed_dictionaries(
    {
        "caller": secrets,
        "line": st.sampled_from(["in", "out"]),
        "seconds": st.sampled_from([1, 5, 13, 150]),
        "at": st.integers(-10, 30).map(lambda move: (START + move * SECOND).isoformat()),
    },
    optional={
        "number": st.one_of(secrets, st.none()),
        "said": st.one_of(st.none(), st.lists(secrets, max_size=2), secrets),
        "Number": secrets,
        "costs": st.dictionaries(secrets, st.sampled_from([1, "dear"]), max_size=2),
        "deeper": st.fixed_dictionaries({"number": secrets}),
    },
)


def of(row: dict[str, Any]) -> Record:
    return Record(str(row["caller"]).encode(), orjson.dumps(row))


def deep(text: str) -> Record:
    """So deep that some parsers call themselves too often."""
    said = orjson.dumps(text)[1:-1]
    return Record(text.encode(), DEEP % (said, b"[" * 2_000, said, b"]" * 2_000))


records = st.one_of(
    values.map(of),
    values.map(lambda row: of(row)._replace(key=f"{SECRET}-other".encode())),
    values.map(lambda row: of(row)._replace(value=orjson.dumps(row)[:-1])),
    values.map(lambda row: of(row)._replace(value=orjson.dumps([row]))),
    secrets.map(deep),
    secrets.map(lambda text: Record(None, text.encode())),
    st.just(Record(f"{SECRET}-a".encode(), None)),
)
good = st.fixed_dictionaries(
    {
        "caller": st.sampled_from([f"{SECRET}-{name}" for name in "abc"]),
        "line": st.sampled_from(["in", "out"]),
        "seconds": st.sampled_from([1, 5]),
        "at": st.integers(-10, 60).map(lambda move: (START + move * SECOND).isoformat()),
    },
    optional={"number": secrets, "said": st.lists(secrets, max_size=2), "Number": secrets},
).map(of)
streams = st.lists(st.integers(0, 3).flatmap(lambda n: good if n else records), max_size=25)


def call(move: int, **more: Any) -> Record:
    at = (START + move * SECOND).isoformat()
    made = {"caller": f"{SECRET}-a", "line": "in", "seconds": 1, "at": at, "number": f"{SECRET}-n"}
    return of({**made, **more})


#: Some of it leaves by each of the ways.
EVERYWHERE = [call(0), call(1), call(60), call(2, line="out"), call(61, seconds=150)]
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def run(
    stream: Sequence[Record],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str = "never",
) -> TopologyDriver:
    driver = TopologyDriver(topology, NOW, batches=batches, commit_records=commit_records)
    driver.send("calls", *stream[: len(stream) // 2])
    with driver.crash(at=crash_at):
        driver.send("calls", *stream[len(stream) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    return driver


def left(driver: TopologyDriver) -> list[bytes]:
    """Everything that readers of this topology can see, as bytes."""
    found: list[bytes] = []
    for name in TOPICS:
        for record in driver.records(name):
            found += [record.key or b"", record.value or b""]
            found += [value or b"" for _, value in record.headers]
    for path in ("kept", "counts"):
        found += [repr(table.to_pydict()).encode() for table in driver.tables(path)]
    return found


def rows(driver: TopologyDriver, name: str) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for record in driver.records(name)]


def test_there_is_a_stream_that_leaves_by_every_way() -> None:
    driver = run(EVERYWHERE)
    assert [name for name in TOPICS if not driver.records(name)] == []
    assert [path for path in ("kept", "counts") if not driver.files(path)] == []


@law()
@example(EVERYWHERE, [2], 1, "never")
@given(streams, cuts, st.integers(1, 9), st.sampled_from(["never", *CRASH_POINTS]))
def test_no_sensitive_value_leaves(
    stream: list[Record], batches: list[int], commit_records: int, crash_at: str
) -> None:
    driver = run(stream, batches, commit_records, crash_at)
    assert [data for data in left(driver) if SECRET.encode() in data] == []
    calm = run(stream)
    for name in TOPICS:
        assert rows(driver, name) == rows(calm, name), name
    for path in ("kept", "counts"):
        assert sorted(map(str, driver.files(path))) == sorted(map(str, calm.files(path)))


@law()
@given(streams)
def test_every_record_is_accounted_for(stream: list[Record]) -> None:
    """Masking changes what leaves and not how much."""
    driver = run(stream)
    out = sum(len(driver.records(name)) for name in ("kept", "twice", "dlq"))
    assert out == len(stream)
