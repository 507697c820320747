"""What a record does on which a function fails: examples, words, and what is refused."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Rule, Threshold, Topology, TopologyError, cast, source, topic
from streamflow.batch import Record
from streamflow.errors import StateRefused, TaskLost
from streamflow.local import LocalRun
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Sale(BaseModel):
    shop: str
    cents: int
    pieces: int | None
    at: AwareDatetime


class Each(BaseModel):
    shop: str
    each: int


sales = source(topic("sales"), Sale, key="shop", event_time="at")


def each(rows: pa.RecordBatch) -> pa.Array:
    return pc.divide_checked(rows["cents"], rows["pieces"])


def sale(cents: int, pieces: int | None = 1) -> dict[str, Any]:
    return {"shop": "a", "cents": cents, "pieces": pieces, "at": NOW}


def driver_of(stream: Stream, **given: Any) -> TopologyDriver:
    edges = [stream.to(topic("out")), stream.rejected.to(topic("dlq"))]
    return TopologyDriver(Topology("sales", *edges), NOW, **given)


def test_a_worker_halts_at_the_record_and_goes_on_there_once_the_function_is_mended() -> None:
    driver = driver_of(sales.map(Each, each=each, on_error="halt"))
    words = (
        r"^sales\[0\]@1: map Each fails on this record: ArrowInvalid: divide by zero\. All before "
        "it is committed, nothing after it is processed; mend the function"
    )
    with pytest.raises(StateRefused, match=words):
        driver.send("sales", sale(6, 2), sale(1, 0), sale(8, 2))
    assert driver.read("out") == [{"shop": "a", "each": 3}]
    driver.restart()
    with pytest.raises(StateRefused, match=r"sales\[0\]@1"):
        driver.process()
    mended = sales.map(Each, each="cents", on_error="halt")
    driver.deploy(Topology("sales", mended.to(topic("out")), mended.rejected.to(topic("dlq"))))
    driver.process()
    assert [row["each"] for row in driver.read("out")] == [3, 1, 8]
    assert driver.read("dlq") == []


def test_nothing_is_called_beyond_the_first_record_that_has_to_be_tried_again() -> None:
    called: list[int] = []

    def away(row: dict[str, Any]) -> Each:
        called.append(row["cents"])
        if row["cents"] == 2:
            raise ConnectionError("away")
        return Each(shop=row["shop"], each=row["cents"])

    driver = driver_of(sales.map_rows(Each, away, on_error="retry"))
    with pytest.raises(TaskLost, match=r"sales\[0\]@1: .* is tried again: ConnectionError: away"):
        driver.send("sales", *[sale(n) for n in range(1, 9)])
    assert called == [1, 2, 1]  # with the record, and then all before it


def test_halves_are_not_tried_once_one_record_has_to_be_tried_again() -> None:
    sizes: list[int] = []

    def away(rows: pa.RecordBatch) -> pa.Array:
        if rows.num_rows:
            sizes.append(rows.num_rows)
            raise ConnectionError("away")
        return rows["cents"]

    driver = driver_of(sales.map(Each, each=away, on_error="retry"))
    with pytest.raises(TaskLost, match=r"sales\[0\]@0"):
        driver.send("sales", *[sale(n) for n in range(8)])
    assert sizes == [8, 4, 2, 1]


def test_a_null_that_the_model_does_not_allow_is_a_failure_too() -> None:
    driver = driver_of(sales.map(Each, each="pieces", on_error="halt"))
    with pytest.raises(StateRefused, match=r"sales\[0\]@1: .*each is null, but Each says"):
        driver.send("sales", sale(1), sale(2, None))
    assert len(driver.read("out")) == 1


def test_a_value_that_a_cast_makes_null_is_none() -> None:
    class Halved(BaseModel):
        shop: str
        half: int | None

    half = cast(lambda rows: pc.divide(pc.cast(rows["cents"], pa.float64()), 2), loss="null")
    driver = driver_of(sales.map(Halved, half=half, on_error="halt"))
    driver.send("sales", sale(4), sale(5))
    assert [row["half"] for row in driver.read("out")] == [2, None]


def test_a_rule_does_not_fail_on_what_an_earlier_one_has_made_leave() -> None:
    def dear(rows: pa.RecordBatch) -> pa.Array:
        return pc.less(each(rows), 100)

    guarded = sales.gate(
        Rule("some", "pieces > 0", severity="error"),
        Rule("dear", dear, severity="warning", on_error="halt"),
    )
    driver = driver_of(guarded)
    driver.send("sales", sale(1, 0), sale(2))
    assert [row["cents"] for row in driver.read("out")] == [2]
    assert [row["rule"] for row in driver.read("dlq")] == ["some"]
    driver = driver_of(sales.gate(Rule("dear", dear, severity="info", on_error="halt")))
    words = r"sales\[0\]@1: gate fails on this record: rule 'dear'; it cannot be computed: Arrow"
    with pytest.raises(StateRefused, match=words):
        driver.send("sales", sale(1), sale(2, 0))


def test_a_fix_that_fails_halts_the_worker_and_one_that_does_not_help_is_a_dead_letter() -> None:
    rule = Rule("cheap", "cents < 100", fix=("cents", each), on_error="halt")
    driver = driver_of(sales.gate(rule))
    with pytest.raises(StateRefused, match=r"@2: .*rule 'cheap'; its fix fails: ArrowInvalid"):
        driver.send("sales", sale(200, 1), sale(200, 10), sale(200, 0))
    assert [row["offset"] for row in driver.read("dlq")] == [0]
    assert len(driver.read("out")) == 1


def test_a_gate_that_stops_the_partition_before_it_comes_first() -> None:
    calm = sales.gate(
        Rule("cheap", "cents < 100", threshold=Threshold(max_count=0, last=1, action="halt"))
    )
    driver = driver_of(calm.map(Each, each=each, on_error="halt"))
    with pytest.raises(StateRefused, match=r"sales\[0\]@1: the gate 'cheap' has halted"):
        driver.send("sales", sale(1), sale(100), sale(1, 0))
    driver = driver_of(calm.map(Each, each=each, on_error="halt"))
    with pytest.raises(StateRefused, match=r"sales\[0\]@1: map Each fails"):
        driver.send("sales", sale(1), sale(1, 0), sale(100))
    wait = Threshold(max_count=0, last=1, action="pause")
    paused = sales.gate(Rule("cheap", "cents < 100", threshold=wait))
    driver = driver_of(paused.map(Each, each=each, on_error="halt"))
    driver.send("sales", sale(1), sale(100), sale(1, 0))
    assert len(driver.read("out")) == 1


def test_what_is_before_it_is_committed_at_once() -> None:
    asked: list[int] = []

    def counted(rows: pa.RecordBatch) -> pa.Array:
        asked.append(rows.num_rows)
        return each(rows)

    driver = driver_of(sales.map(Each, each=counted, on_error="halt"), commit_records=1000)
    asked.clear()
    with pytest.raises(StateRefused):
        driver.send("sales", sale(1), sale(1, 0))
    assert len(driver.read("out")) == 1
    assert asked == [2, 1, 1, 1]


def test_the_earlier_of_two_records_is_named_whichever_stage_it_fails_in() -> None:
    first = sales.filter("cents <> 7").map(Each, each=each, on_error="halt")
    second = sales.map(Sale, cents=each, on_error="retry")
    edges = [first.to(topic("first")), second.to(topic("second")), sales.rejected.drop()]
    driver = TopologyDriver(Topology("sales", *edges), NOW)
    with pytest.raises(TaskLost, match=r"@1: map Sale fails"):
        driver.send("sales", sale(1), sale(7, 0), sale(1, 0))
    assert (len(driver.read("first")), len(driver.read("second"))) == (1, 1)


def test_a_run_over_files_ends_with_words_since_there_is_nothing_to_take_it_up_from(
    tmp_path: Path,
) -> None:
    shares = sales.map(Each, each=each, on_error="retry")
    topology = Topology("sales", shares.to(topic("out")), shares.rejected.drop())
    value = b'{"shop":"a","cents":1,"pieces":0,"at":"2026-01-01T00:00:00Z"}'
    run = LocalRun(topology, tmp_path / "out", partitions=1)
    with pytest.raises(TaskLost, match=r"sales\[0\]@0: map Each fails on this record"):
        run.run({"sales": [Record(b"a", value)]})
    assert list(tmp_path.iterdir()) == []


def explode(rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
    return pa.array([], pa.int64()), rows.select(["cents"]).slice(0, 0)


BAD: Any = "ignore"
REFUSED: list[Callable[[], Any]] = [
    lambda: sales.filter("cents > 0", on_error=BAD),
    lambda: sales.map(Sale, on_error=BAD),
    lambda: sales.map_rows(Sale, dict, on_error=BAD),
    lambda: sales.expand(Sale, explode, on_error=BAD),
    lambda: sales.branch("cents > 0", on_error=BAD),
]


@pytest.mark.parametrize("build", REFUSED)
def test_another_word_is_refused(build: Callable[[], Any]) -> None:
    words = "on 'sales': on_error 'ignore' is none of dead_letter, retry, halt"
    with pytest.raises(TopologyError, match=words):
        build()


def test_a_rule_that_fails_is_broken_and_no_dead_letter_of_its_own() -> None:
    wrong: Any = "dead_letter"
    with pytest.raises(TopologyError, match="rule 'x': on_error 'dead_letter' is none of broken"):
        Rule("x", "cents > 0", on_error=wrong)


def test_what_a_failure_does_is_part_of_the_version() -> None:
    def version(on_error: Any) -> str:
        stream = sales.filter("cents > 0", on_error=on_error)
        return Topology("s", stream.to(topic("out")), stream.rejected.drop()).version

    assert len({version("dead_letter"), version("retry"), version("halt")}) == 3
