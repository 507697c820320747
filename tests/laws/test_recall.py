"""That unchanged records are known by their bytes, before they are decoded, cannot be seen."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import Count, Rule, Topology, Tumbling, content, parquet, source, topic
from streamflow.batch import Record
from streamflow.stream import Stream
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

NOW = datetime(2024, 5, 1, 0, 5, tzinfo=UTC)
START = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Item(BaseModel, frozen=True):
    name: str
    part: int | None
    price: int | None = Field(ge=0)
    sequence: int | None
    at: AwareDatetime | None


class Priced(BaseModel, frozen=True):
    name: str
    part: int | None
    cents: int | None
    sequence: int | None


class Per(BaseModel, frozen=True):
    name: str
    window_start: AwareDatetime
    items: int


common: dict[str, Any] = {"key": "name", "event_time": "at", "out_of_orderness": 2 * SECOND}
items = source(topic("items"), Item, **common, max_future=timedelta(minutes=10))
deletable = source(topic("items"), Item, **common, tombstones="delete")
RULES = (
    Rule("odd", "price <> 1", "warning"),
    Rule("cheap", "price < 4"),
    Rule("filled", "sequence IS NOT NULL", default=("sequence", 1)),
)
STREAMS = [
    items.changed("name", "part"),
    deletable.changed("name", by="sequence"),
    items.gate(*RULES)
    .filter("part IS NULL OR part < 2")
    .changed("name", "part", by=content("price")),
    items.map(Priced, cents="price * 100").changed("name", by="cents", sequence="sequence"),
    items.filter("part IS NOT NULL").changed("name", by="_event_time"),
    items.changed("name").gate(Rule("dear", "price < 5")),
]


def edges(stream: Stream) -> list[Any]:
    late = stream.window(Tumbling(10 * SECOND), by="name").aggregate(Per, items=Count())
    return [
        stream.to(topic("out")),
        stream.to(parquet("out")),
        stream.rejected.to(topic("dlq")),
        stream.conflicts.to(topic("conflicts")),
        stream.quality.to(topic("quality")),
        late.to(topic("counts")),
        late.late.to(topic("late")),
    ]


TOPOLOGIES = [Topology("items", *edges(stream)) for stream in STREAMS]
TOPICS = ["out", "dlq", "conflicts", "quality", "counts", "late"]

#: Few values, so that most come again; under their own key, mostly, and at a time that is one.
small = st.sampled_from([0, 0, 1, 2, 3, None])
values = st.builds(
    lambda name, part, price, sequence, at: (
        name,
        orjson.dumps({"name": name, "part": part, "price": price, "sequence": sequence, "at": at}),
    ),
    st.sampled_from(["a", "a", "b\0"]),
    small,
    st.sampled_from([0, 1, 2, 4, 7, -1, None]),
    small,
    st.one_of(st.none(), st.sampled_from([0, 1, 5, 12, 25, 900]).map(lambda s: START + s * SECOND)),
)
odd = st.sampled_from([("a", None), ("a", b"{"), ("b", b'{"name":"a"}\xff')])
pools = st.lists(st.one_of(values, values, values, odd), min_size=1, max_size=5)


def sent(value: tuple[str, bytes | None]) -> st.SearchStrategy[Record]:
    own = value[0].encode()
    keys = st.sampled_from([own] * 6 + [b"a", b"b", None])
    return st.builds(Record, keys, st.just(value[1]), st.sampled_from([0] * 7 + [2**60]))


streams = pools.flatmap(lambda pool: st.lists(st.sampled_from(pool).flatmap(sent), max_size=40))
cuts = st.lists(st.sampled_from([1, 2, 3, 7, 12]), min_size=1, max_size=5)
commits = st.sampled_from([1, 2, 5, 20, 1_000])


def run(
    variant: int,
    stream: Sequence[Record],
    batches: Sequence[int],
    commit_records: int,
    recall_keys: int,
    crash_at: str = "never",
    keep_disk: bool = True,
) -> dict[str, Any]:
    driver = TopologyDriver(
        TOPOLOGIES[variant],
        NOW,
        batches=batches,
        commit_records=commit_records,
        keep_disk=keep_disk,
        recall_keys=recall_keys,
    )
    driver.send("items", *stream[: len(stream) // 2])
    with driver.crash(at=crash_at):
        driver.send("items", *stream[len(stream) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    said = {name: driver.records(name) for name in TOPICS}
    tables = [table.to_pylist() for table in driver.tables("out")]
    return {**said, "tables": tables, "totals": driver.totals, "rules": driver.rules}


@law(300)
@given(st.sampled_from(range(len(STREAMS))), streams, cuts, commits, st.sampled_from([1, 2, 100]))
def test_it_gives_what_decoding_every_record_gives(
    variant: int, stream: list[Record], batches: list[int], commit_records: int, keys: int
) -> None:
    recalled = run(variant, stream, batches, commit_records, keys)
    assert recalled == run(variant, stream, batches, commit_records, 0)
    totals = recalled["totals"]
    assert totals["in"] == len(stream)
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"]


@law()
@given(
    st.sampled_from(range(len(STREAMS))),
    streams,
    cuts,
    commits,
    st.sampled_from(CRASH_POINTS),
    st.booleans(),
)
def test_so_it_is_after_a_crash(
    variant: int,
    stream: list[Record],
    batches: list[int],
    commit_records: int,
    point: str,
    keep_disk: bool,
) -> None:
    recalled = run(variant, stream, batches, commit_records, 100, point, keep_disk)
    assert recalled == run(variant, stream, batches, commit_records, 0, point, keep_disk)
