"""Examples of what a task does, where the laws alone would not tell."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Mean, Rule, Sum, Topology, Tumbling, parquet, source, topic
from streamflow.batch import Record, TopicPartition
from streamflow.core.headers import LINEAGE_HEADER, TRACEPARENT, read_lineage
from streamflow.core.keys import META
from streamflow.core.seal import FOLD_AFTER
from streamflow.engine.sync import run_sync
from streamflow.errors import StateRefused, TaskLost
from streamflow.testing import TopologyDriver
from tests.laws.orders import MINUTE, NOON, order, topology

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Big(BaseModel):
    name: str
    n: int
    at: AwareDatetime


class Sums(BaseModel):
    name: str
    window_start: AwareDatetime
    total: int


@pytest.fixture
def driver() -> TopologyDriver:
    return TopologyDriver(topology, NOW)


def stored(driver: TopologyDriver) -> list[bytes]:
    store = driver._stores[TopicPartition("orders", 0)]
    return [key for key, _ in store.scan(b"", b"\xff") if not key.startswith(b"~")]


def test_a_closed_window_leaves_nothing_in_the_state(driver: TopologyDriver) -> None:
    driver.send("orders", order(0))
    driver.send("orders", order(1))
    assert len(stored(driver)) == 3  # one partial per commit, and the meta record

    driver.send("orders", order(600))
    driver.end_of_input()
    assert stored(driver) == [META]


def test_a_closed_window_is_tombstoned_in_the_changelog(driver: TopologyDriver) -> None:
    driver.send("orders", order(0))
    driver.end_of_input()
    latest = {record.key: record.value for record in driver.records("orders-orders-changelog")}
    assert [key for key, value in latest.items() if value is not None] == [META]


def test_many_partials_of_one_window_are_folded(driver: TopologyDriver) -> None:
    for _ in range(FOLD_AFTER + 5):
        driver.send("orders", order(0))
    assert len(stored(driver)) < FOLD_AFTER
    driver.end_of_input()
    assert [row["orders"] for row in driver.read("per-minute")] == [FOLD_AFTER + 5]


def test_a_result_names_the_offsets_it_was_made_of(driver: TopologyDriver) -> None:
    driver.send("orders", order(0, "DE"), order(1), order(2, "DE"), order(3))
    driver.end_of_input()
    rows = [row for table in driver.tables("per-minute") for row in table.to_pylist()]
    ranges = {r["country"]: (r["_offset_first"], r["_offset_next"]) for r in rows}
    assert ranges == {"DE": (0, 3), "FR": (1, 4)}
    headers = dict(driver.records("per-minute")[0].headers)
    origin = read_lineage(headers[LINEAGE_HEADER] or b"", ["orders"])
    assert (str(origin.tp), origin.first, origin.next) == ("orders[0]", 0, 3)


def test_a_row_names_its_record(driver: TopologyDriver) -> None:
    driver.send(
        "orders", order(0), Record(b"FR", b"{"), order(2)._replace(timestamp=1_700_000_000_123)
    )
    driver.end_of_input()
    rows = [row for table in driver.tables("orders") for row in table.to_pylist()]
    assert [(r["_topic"], r["_partition"], r["_offset"], r["_index"]) for r in rows] == [
        ("orders", 0, 0, 0),
        ("orders", 0, 2, 0),
    ]
    assert rows[1]["_timestamp"] == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)


def test_a_trace_goes_on(driver: TopologyDriver) -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    driver.send("orders", order(0)._replace(headers=((TRACEPARENT, trace),)))
    sent = dict(driver.records("orders.clean")[0].headers)[TRACEPARENT] or b""
    assert sent[:36] == trace[:36]
    assert sent != trace
    assert sent.endswith(b"-01")


def test_a_window_before_1970_is_aligned_like_any_other(driver: TopologyDriver) -> None:
    early = datetime(1969, 12, 31, 23, 59, 30, tzinfo=UTC)
    driver.send("orders", order(0, at=early))
    driver.end_of_input()
    assert driver.read("per-minute")[0]["window_start"] == datetime(
        1969, 12, 31, 23, 59, tzinfo=UTC
    )


def test_the_boundary_belongs_to_the_window_that_starts_there(driver: TopologyDriver) -> None:
    driver.send("orders", order(59), order(60))
    driver.end_of_input()
    starts = [row["window_start"] for row in driver.read("per-minute")]
    assert starts == [NOON, NOON + MINUTE]


def test_results_are_stamped_with_their_largest_event_time(driver: TopologyDriver) -> None:
    driver.send("orders", order(5), order(3))
    driver.end_of_input()
    stamp = int((NOON + timedelta(seconds=5)).timestamp() * 1000)
    assert driver.records("per-minute")[0].timestamp == stamp


def test_a_sum_beyond_its_column_is_refused_and_never_wrapped() -> None:
    big = source(topic("big"), Big, key="name", event_time="at")
    sums = big.window(Tumbling(MINUTE), by="name", grace=MINUTE).aggregate(Sums, total=Sum("n"))
    driver = TopologyDriver(
        Topology("big", sums.to(topic("sums")), sums.late.drop(), big.rejected.drop()), NOW
    )
    driver.send("big", *({"name": "a", "n": 2**62, "at": NOON} for _ in range(2)))
    with pytest.raises(StateRefused, match=r"big\[0\]: a result of 'big.sums' does not fit total"):
        driver.end_of_input()


class Weight(BaseModel):
    name: str
    kg: float
    at: AwareDatetime


class MeanWeight(BaseModel):
    name: str
    window_start: AwareDatetime
    mean: float


class MeanPerWeight(BaseModel):
    name: str
    kg: float
    window_start: AwareDatetime
    mean: float


def weights(model: type[BaseModel], by: str | tuple[str, ...]) -> TopologyDriver:
    stream = source(topic("weights"), Weight, key="name", event_time="at")
    means = stream.window(Tumbling(MINUTE), by=by, grace=MINUTE).aggregate(model, mean=Mean("kg"))
    edges = [means.to(topic("means")), means.to(parquet("means"))]
    return TopologyDriver(
        Topology("weights", *edges, means.late.drop(), stream.rejected.drop()), NOW
    )


def weigh(name: str, *kilos: str) -> list[Record]:
    at = NOON.isoformat()
    return [
        Record(name.encode(), f'{{"name": "{name}", "kg": {kg}, "at": "{at}"}}'.encode())
        for kg in kilos
    ]


def test_the_example_of_an_infinite_mean_in_the_documents_is_what_comes_out() -> None:
    driver = weights(MeanWeight, "name")
    driver.send("weights", *weigh("a", "1e308", "1e308"), *weigh("b", "1.0"))
    driver.end_of_input()
    text = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
    shown = re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0].splitlines()
    assert [(r.value or b"").decode() for r in driver.records("means")] == shown


def test_a_float_that_is_no_number_of_json_reads_back_from_the_topic_as_from_the_table() -> None:
    driver = weights(MeanWeight, "name")
    minus = weigh("minus", "-1e308", "-1e308")
    driver.send("weights", *weigh("plus", "1e308", "1e308"), *minus, *weigh("none", "NaN", "1"))
    driver.end_of_input()
    read = [MeanWeight.model_validate_json(r.value or b"") for r in driver.records("means")]
    assert {row.name: str(row.mean) for row in read} == {
        "plus": "inf",
        "minus": "-inf",
        "none": "nan",
    }
    assert {row["name"]: str(row["mean"]) for row in driver.files("means")} == {
        row.name: str(row.mean) for row in read
    }


def test_results_of_infinite_groups_have_different_keys() -> None:
    driver = weights(MeanPerWeight, ("name", "kg"))
    driver.send("weights", *weigh("a", "1e999", "-1e999", "2"))
    driver.end_of_input()
    keys = sorted((orjson.loads(r.key or b"")[1] for r in driver.records("means")), key=str)
    assert keys == ["-Infinity", 2.0, "Infinity"]


def test_new_input_after_the_end_was_declared_is_refused(driver: TopologyDriver) -> None:
    driver.send("orders", order(0))
    driver.end_of_input()
    with pytest.raises(
        StateRefused, match=r"orders\[0\]: the end of its input was declared at offset 1"
    ):
        driver.send("orders", order(1))


def test_a_task_never_skips_records(driver: TopologyDriver) -> None:
    driver.send("orders", order(0))
    task = driver._tasks[TopicPartition("orders", 0)]
    driver.broker.append(TopicPartition("orders", 0), order(1))
    driver.broker.append(TopicPartition("orders", 0), order(2))
    with pytest.raises(TaskLost, match="wanted offset 1, got a batch from 2"):
        run_sync(task.receive(driver.broker.fetch(TopicPartition("orders", 0), 2)))


def test_a_changed_partition_count_is_refused(driver: TopologyDriver) -> None:
    driver.send("orders", order(0))
    driver.broker.topics["orders"].append(type(driver.broker.topics["orders"][0])())
    with pytest.raises(StateRefused, match="had 1 partition, now it has 2"):
        driver.restart()


def test_the_state_of_another_version_is_refused(driver: TopologyDriver) -> None:
    driver.send("orders", order(0))
    store = driver._stores[TopicPartition("orders", 0)]
    meta = orjson.loads(store.get([META])[0] or b"")
    store.apply([(META, orjson.dumps(meta | {"format": 1}))])
    with pytest.raises(StateRefused, match="the state has format 1, and this version of stream"):
        driver.restart()


def test_records_deleted_before_they_were_read_are_refused(driver: TopologyDriver) -> None:
    driver.send("orders", order(0))
    log = driver.broker.partition(TopicPartition("orders", 0))
    driver.broker.append(TopicPartition("orders", 0), order(1))
    driver.broker.append(TopicPartition("orders", 0), order(2))
    log.trim(2)
    with pytest.raises(StateRefused, match="records were deleted before they were read"):
        driver.restart()


def test_a_rule_that_cannot_be_computed_on_a_record_is_broken_by_that_record_only() -> None:
    big = source(topic("big"), Big, key="name", event_time="at").gate(Rule("next", "n + 1 > 0"))
    driver = TopologyDriver(
        Topology("big", big.to(topic("good")), big.rejected.to(topic("big.dlq"))), NOW
    )
    rows = [{"name": "a", "n": n, "at": NOON} for n in (1, 2**63 - 1, 2)]
    driver.send("big", *rows)
    assert [row["n"] for row in driver.read("good")] == [1, 2]
    letters = driver.read("big.dlq")
    assert [(row["n"], row["rule"]) for row in letters] == [(2**63 - 1, "next")]


def test_a_record_of_which_no_event_time_can_be_made_is_a_dead_letter() -> None:
    def later(rows: pa.RecordBatch) -> pa.Array:
        added = pc.add_checked(rows["at"].cast(pa.int64()), rows["n"])
        return added.cast(pa.timestamp("us", "UTC"))

    big = source(topic("big"), Big, key="name", event_time=later)
    driver = TopologyDriver(
        Topology("big", big.to(topic("good")), big.rejected.to(topic("big.dlq"))), NOW
    )
    driver.send("big", *({"name": "a", "n": n, "at": NOON} for n in (0, 2**63 - 1, 0)))
    assert [row["n"] for row in driver.read("good")] == [0, 0]
    assert [(r["offset"], r["reason"]) for r in driver.read("big.dlq")] == [(1, "event-time")]
