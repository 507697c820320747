"""Profiles, trials and the choice among them, one behaviour at a time."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pyarrow as pa
import pytest

from streamflow.clock import cpu_seconds
from streamflow.core.parquet import encode_parquet, why_not
from streamflow.errors import SettingsError, TopologyError
from streamflow.storage.plan import (
    SNAPPY,
    ZSTD,
    decode_plan,
    encode_plan,
    make_plan,
    plan_name,
    plan_names,
)
from streamflow.storage.profile import ColumnProfile, profile
from streamflow.storage.report import describe_values, plan_lines
from streamflow.storage.score import choose
from streamflow.storage.trial import Trial
from streamflow.writer_settings import AIMS, ColumnSettings, WriterSettings


def still() -> float:
    return 0.0


def events(rows: int = 4000, seed: int = 1) -> pa.Table:
    """A table as a sink has it: lineage, times, codes, ids and noise."""
    dice = random.Random(seed)
    at = 1_700_000_000_000_000
    return pa.table(
        {
            "topic": ["events"] * rows,
            "offset": list(range(rows)),
            "at": pa.array([at + i * 250_000 for i in range(rows)], pa.timestamp("us", "UTC")),
            "host": [f"web-{dice.randrange(12):02d}.example.net" for _ in range(rows)],
            "id": [f"{dice.getrandbits(128):032x}" for _ in range(rows)],
            "latency": [dice.lognormvariate(3, 1) for _ in range(rows)],
            "code": [dice.choice([200, 404, None]) for _ in range(rows)],
            "tags": [["a", "b"][: dice.randrange(3)] for _ in range(rows)],
            "none": pa.nulls(rows, pa.int64()),
        }
    )


def test_a_profile_says_what_values_are_like() -> None:
    found = {column.path: column for column in profile(events(1000))}
    assert found["topic"].constant
    assert found["none"].constant
    assert found["offset"] == ColumnProfile(
        "offset", "offset", "int64", "INT64", 1000, 0.0, 1000, 1.0, 1.0, 10
    )
    assert found["host"].distinct == 12
    assert found["host"].mean_length == 18
    assert found["host"].repeats == 1 - 12 / 1000
    assert found["code"].distinct == 2
    assert 0.2 < found["code"].nulls < 0.5
    assert found["tags.list.element"].column == "tags"
    assert found["tags.list.element"].distinct == 2
    assert found["latency"].spread_bits is None


def test_a_run_ends_where_a_null_begins() -> None:
    values = pa.table({"v": [1, 1, None, None, 1, 2, 2, 2]})
    assert profile(values)[0].run == 2.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, 2, 3, 4], "4 distinct, ascending, 2 bits"),
        (["a", "a", "b", None], "2 distinct, ascending, 1 B each, 25.0% null"),
        ([3.5, 3.5], "constant"),
        ([None, None], "none"),
        ([], "none"),
        ([True, False, True], "2 distinct"),
    ],
)
def test_a_column_is_described_in_a_few_words(values: list[Any], words: str) -> None:
    assert describe_values(profile(pa.table({"v": values}))[0]) == words


def test_a_plan_takes_what_the_data_asks_for() -> None:
    table = events()
    plan = make_plan(table, "balanced", still, "ab12")
    chosen = {column.path: column.chosen for column in plan.columns}
    assert chosen["topic"].encoding == "DICTIONARY"
    assert chosen["offset"].encoding == "DELTA_BINARY_PACKED"
    assert chosen["at"].encoding == "DELTA_BINARY_PACKED"
    assert chosen["host"].encoding == "DICTIONARY"
    assert chosen["id"].encoding != "DICTIONARY"
    assert chosen["offset"].bytes * 20 < next(
        column.zstd_bytes for column in plan.columns if column.path == "offset"
    )
    assert plan.bytes == encode_parquet(table, plan.settings, {}).size < 0.8 * plan.zstd_bytes
    assert plan.zstd_bytes == encode_parquet(table, ZSTD, {}).size
    assert plan.snappy_bytes == encode_parquet(table, SNAPPY, {}).size
    assert plan.name == "plan-ab12-balanced-00000.json"


def test_only_the_aim_smallest_takes_what_spark_may_not_read() -> None:
    dice = random.Random(3)
    table = pa.table({"v": [dice.random() for _ in range(4000)]})
    tried = {aim: make_plan(table, aim, still).columns[0] for aim in AIMS}
    assert tried["smallest"].chosen.encoding == "BYTE_STREAM_SPLIT"
    for aim in AIMS[:1] + AIMS[2:]:
        assert "BYTE_STREAM_SPLIT" not in {trial.encoding for trial in tried[aim].trials}


def test_a_plan_that_saves_nothing_is_pyarrows_own_zstd() -> None:
    plan = make_plan(pa.table({"v": pa.array([], pa.int64())}), "balanced", still)
    assert plan.settings == ZSTD
    assert plan.bytes == plan.zstd_bytes
    assert plan_lines(plan)[-1].startswith("no choice was smaller")


def test_time_is_what_the_timer_says() -> None:
    ticks = iter(range(10_000))
    plan = make_plan(events(50), "balanced", lambda: float(next(ticks)))
    first = plan.columns[0].trials[0]
    assert (first.write_seconds, first.read_seconds) == (1.0, 1.0)
    assert plan.seconds == next(ticks) - 1


def test_the_real_timer_gives_the_same_sizes() -> None:
    one, two = (make_plan(events(500), "smallest", cpu_seconds) for _ in range(2))
    assert one.seconds > 0
    assert one.settings == two.settings


def trial(size: int, write: float = 1.0, read: float = 1.0, level: int = 1) -> Trial:
    return Trial("DICTIONARY", "zstd", level, size, write, read)


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([trial(100), trial(90), trial(80, 9, 9)], {"smallest": 2, "balanced": 2}),
        ([trial(100), trial(81), trial(80, 9, 9)], {"smallest": 2, "balanced": 1}),
        ([trial(100), trial(81), trial(80, 1.5, 1.5)], {"balanced": 2}),  # it may be noise
        ([trial(100, 9, 9), trial(101, 0, 0)], dict.fromkeys(AIMS, 0)),  # larger than the default
        ([trial(100), trial(100), trial(100)], dict.fromkeys(AIMS, 0)),  # the earlier one
        (
            [trial(100, 9, 9), trial(99, 2, 1), trial(98, 1, 2), trial(97, 1.4, 2.9)],
            {"fastest-read": 1, "fastest-write": 3},
        ),
    ],
)
def test_the_aim_decides(trials: Sequence[Trial], best: dict[Any, int]) -> None:
    for aim, place in best.items():
        assert choose(trials, aim) is trials[place], aim


def test_noise_that_is_less_than_double_changes_nothing() -> None:
    table = events(600)

    def noisy(seed: int) -> Callable[[], float]:
        dice, now = random.Random(seed), [0.0]

        def timer() -> float:
            now[0] += dice.uniform(1.0, 1.4)
            return now[0]

        return timer

    for aim in ("balanced", "smallest"):
        assert len({make_plan(table, aim, noisy(seed)).settings for seed in range(5)}) == 1


def test_names_of_plans_are_told_apart_and_in_order() -> None:
    names = [plan_name("ab", "balanced", number) for number in (2, 0, 10)]
    others = [plan_name("cd", "balanced", 1), plan_name("ab", "fastest-read", 3)]
    found = plan_names([*names, *others, "owner.json", "plan-x.json", "t-00000-00000001.json"])
    assert len(found) == 5
    assert plan_names([*names, *others], "ab", "balanced") == [names[1], names[0], names[2]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d | {"format": 9}, "its format is 9, this version knows 1"),
        (lambda d: d | {"aim": "best"}, "storage plan p: aim: Input should be"),
        (lambda d: d | {"more": 1}, "storage plan p: more: Unexpected keyword argument"),
        (lambda d: d | {"settings": {"level": 99}}, "level=99; it is 1 to 22"),
        (lambda d: [], "is damaged"),
    ],
)
def test_a_plan_that_cannot_be_read_says_so(change: Callable[[Any], Any], said: str) -> None:
    plan = make_plan(events(20), "balanced", still)
    data = orjson.dumps(change(orjson.loads(encode_plan(plan))))
    with pytest.raises(SettingsError, match=said):
        decode_plan(data, "p")


def test_a_plan_is_explained_column_by_column() -> None:
    plan = make_plan(events(), "balanced", still, reason="first rows")
    lines = plan_lines(plan)
    assert lines[0].startswith("plan 0 for balanced files, of 4,000 rows (first rows), in 0 ms")
    assert lines[1].split() == [
        *("column", "type", "values", "encoding", "codec", "bytes", "zstd", "snappy", "why")
    ]
    offset = next(line for line in lines if line.startswith("offset"))
    assert "4,000 distinct, ascending, 12 bits  DELTA_BINARY_PACKED" in offset
    assert "PLAIN zstd" in offset
    assert lines[-1].startswith(f"the sample as a file: {plan.bytes:,} bytes; ")


def test_a_column_that_has_no_path_of_its_own_is_written_as_by_default() -> None:
    both = pa.table({"a.b": [1, 2, 3], "a": [{"b": "x"}] * 3, "c": [7, 8, 9]})
    plan = make_plan(both, "balanced", still)
    assert [column.path for column in plan.columns] == ["c"]
    settings = WriterSettings(columns=(ColumnSettings("a.b", "DELTA_BINARY_PACKED"),))
    assert why_not(both.schema, settings) is None


@pytest.mark.parametrize(
    "schema",
    [
        pa.schema([("v", pa.string())]),
        pa.schema([pa.field("v", pa.float64(), nullable=False)]),
    ],
)
def test_an_encoding_that_the_type_cannot_have_is_told(schema: pa.Schema) -> None:
    settings = WriterSettings(columns=(ColumnSettings("v", "DELTA_BINARY_PACKED"),))
    assert "DELTA_BINARY_PACKED encoder only supports INT32 and INT64" in str(
        why_not(schema, settings)
    )


def test_what_arrow_writes_and_cannot_read_is_told() -> None:
    schema = pa.schema([("v", pa.dictionary(pa.int32(), pa.string()))])
    settings = WriterSettings(columns=(ColumnSettings("v", "DELTA_LENGTH_BYTE_ARRAY"),))
    assert "Not yet implemented" in str(why_not(schema, settings))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ColumnSettings("v", "RLE"), "encoding='RLE'; it is PLAIN, DICTIONARY"),  # type: ignore[arg-type]
        (lambda: ColumnSettings("v", level=23), "level=23; it is 1 to 22"),
        (lambda: WriterSettings(compression="lz4", level=3), "lz4 has no levels"),
        (lambda: WriterSettings(row_group_rows=0), "row_group_rows=0; it is a whole number"),
        (lambda: WriterSettings(columns=(ColumnSettings("v"),) * 2), "columns='v'; it is each"),
        (lambda: WriterSettings(writer="x"), "writer='x'; it is pyarrow-1"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_mean_nothing_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        make()


def test_a_trial_is_made_once() -> None:
    plan = make_plan(events(300), "fastest-read", still)
    for column in plan.columns:
        ways = [(t.encoding, t.compression, t.level) for t in column.trials]
        assert len(ways) == len(set(ways))
        assert ways[0] == ("DICTIONARY", "zstd", 1)
        assert replace(column.chosen) in column.trials
