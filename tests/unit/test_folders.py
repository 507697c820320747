"""Folders that are left to the rows: what is chosen, by whom, and that it stands."""

from dataclasses import replace
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
import orjson
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import Rule, Topology, TopologyError, delta, parquet, source, topic
from streamflow.batch import Record
from streamflow.cli import main
from streamflow.core.sink_spec import SinkSpec
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine import table_versions
from streamflow.engine.table_folders import known_folders
from streamflow.errors import SinkRefused
from streamflow.local import LocalRun
from streamflow.schema import schema_id
from streamflow.storage.folders import NAME, choose_folders, decode_folders, encode_folders

from .sink_log import LAYOUT, SCHEMA, Log, drain, ids, partition, spec

MB = 1024 * 1024
PLAIN = replace(LAYOUT, partition_by=())


def auto(target_bytes: int = 1, *, folders: tuple[str, ...] = ("origin",)) -> SinkSpec:
    return replace(spec(partition_by=(), target_bytes=target_bytes), folders=folders)


def verdicts(table: dict[str, Any], nbytes: int = 128 * MB) -> tuple[tuple[str, ...], list[str]]:
    found = choose_folders(pa.table(table), nbytes, 128 * MB)
    assert decode_folders(encode_folders(found)) == found
    return found.partition_by, [one.verdict for one in found.columns]


def test_of_columns_that_make_files_of_some_size_the_one_with_the_most_values_is_chosen() -> None:
    n = 4000
    columns = {
        "two": [i % 2 for i in range(n)],
        "five": [["a", "b", None, "d", "e"][i % 5] for i in range(n)],
        "many": [i % 40 for i in range(n)],
        "one": [True] * n,
        "skewed": [max(0, i - n + 100) for i in range(n)],
        "nearly": [i < 100 for i in range(n)],
    }
    assert verdicts(columns) == (
        ("five",),
        [
            "five tells more apart",
            "chosen",
            "smaller than an eighth of the target of 134,217,728",
            "100% of the rows have one value",
            "smaller than an eighth of the target of 134,217,728",
            "98% of the rows have one value",
        ],
    )
    assert verdicts(columns, 30 * MB)[0] == ()  # a roll that came early, by its interval


def test_a_date_goes_before_what_tells_more_apart_and_few_rows_tell_nothing() -> None:
    columns = {"day": [date(2026, 1, 1)] * 4000, "five": [i % 5 for i in range(4000)]}
    assert verdicts(columns) == (("day",), ["chosen", "day tells more apart"])
    found = choose_folders(pa.table(columns).slice(0, 999), MB, 1)
    assert (found.partition_by, found.columns) == ((), ())
    assert found.reason == "first rows, of which 999 are too few to tell"


def test_the_first_roll_chooses_and_whoever_comes_later_follows() -> None:
    files = MemoryFiles()
    log = Log(PLAIN)
    log.commit(0)
    log.commit(1200)
    drain(partition(files, auto()), log)
    chosen = known_folders(files)
    assert chosen is not None
    assert (chosen.partition_by, chosen.rows) == (("origin",), 1200)
    assert chosen.columns[0].values == 3  # null is one of them
    before = files.read(NAME, private=True)
    log.commit(5)
    for sink in (auto(10**9), spec(partition_by=(), target_bytes=1)):
        log.commit(7, end_of_input=True)
        drain(partition(files, sink), log)
    assert files.read(NAME, private=True) == before
    assert {name.split("/")[0] for name in files.names()} == {
        "origin=EWR",
        "origin=JFK",
        "origin=__HIVE_DEFAULT_PARTITION__",
    }
    assert ids(files) == list(range(1219))


def test_a_choice_of_no_folders_stands_too() -> None:
    files, log = MemoryFiles(), Log(PLAIN)
    log.commit(10)
    drain(partition(files, auto()), log)
    log.commit(2000, end_of_input=True)
    drain(partition(files, auto()), log)
    assert not any("/" in name for name in files.names())
    assert ids(files) == list(range(2010))


def test_of_two_that_choose_at_once_both_follow_the_first() -> None:
    theirs = encode_folders(choose_folders(pa.table({"origin": ["x"]}), 1, 1))

    class Taken(MemoryFiles):
        def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
            if name == NAME:
                super().create(name, theirs, private=True)
            return super().create(name, data, private=private)

    files, log = Taken(), Log(PLAIN)
    log.commit(1200, end_of_input=True)
    drain(partition(files, auto()), log)
    assert not any("/" in name for name in files.names())
    assert files.read(NAME, private=True) == theirs


def test_a_choice_that_cannot_be_read_stops_the_sink() -> None:
    for data in (
        b"{",
        b'{"format": 9}',
        b'{"format": 1, "partition_by": [], "reason": "", "x": 1}',
    ):
        files, log = MemoryFiles(), Log(PLAIN)
        files.create(NAME, data, private=True)
        log.commit(5, end_of_input=True)
        with pytest.raises(SinkRefused, match=r"folders\.json beside the table, which says"):
            drain(partition(files, auto()), log)


def agreed(files: MemoryFiles, *specs: SinkSpec) -> tuple[str, ...] | None:
    for one in specs:
        table_versions.agree(files, one)
    found = known_folders(files)
    return None if found is None else found.partition_by


def test_a_table_keeps_its_folders_when_it_is_left_to_the_rows_and_when_it_is_not_any_more() -> (
    None
):
    by_origin, plain = spec(partition_by=("origin",)), spec(partition_by=())
    assert agreed(MemoryFiles(), auto(), auto()) is None
    assert agreed(MemoryFiles(), by_origin, auto()) == ("origin",)
    assert agreed(MemoryFiles(), plain, auto()) == ()
    assert agreed(MemoryFiles(), auto(), by_origin, auto()) == ("origin",)
    files = MemoryFiles()
    assert agreed(files, auto(), plain) == ()
    with pytest.raises(SinkRefused, match="it is partitioned by origin, it was by no column"):
        agreed(files, by_origin)
    chosen, log = MemoryFiles(), Log(PLAIN)
    agreed(chosen, auto())
    log.commit(1200, end_of_input=True)
    drain(partition(chosen, auto()), log)
    assert agreed(chosen, by_origin) == ("origin",)
    with pytest.raises(SinkRefused, match="it is partitioned by no column, it was by origin"):
        agreed(chosen, plain)


def test_rows_that_lack_what_names_the_folders_are_refused_at_the_start() -> None:
    files, log = MemoryFiles(), Log(PLAIN)
    agreed(files, auto())
    log.commit(1200, end_of_input=True)
    drain(partition(files, auto()), log)
    less = pa.schema([field for field in SCHEMA if field.name != "origin"])
    with pytest.raises(SinkRefused, match="are named by 'origin', as was chosen from its first"):
        agreed(files, replace(auto(), schema=less, schema_id=schema_id(less), folders=()))


class Kind(Enum):
    ONE = "one"
    TWO = "two"


class Visit(BaseModel):
    at: AwareDatetime
    country: Annotated[str, Field(min_length=2, max_length=2)]
    city: str
    wide: Annotated[str, Field(min_length=1, max_length=26)]
    maybe: Annotated[str, Field(max_length=2)]
    status: Literal["new", "paid"] | None
    gap: Literal["", "x"]
    shop: int | None
    good: bool
    price: float
    day: date
    tags: list[str]


visits = source(topic("visits"), Visit, event_time="at")


def candidates(stream: Any, table: Any) -> tuple[str, ...] | None:
    built = Topology("t", stream.to(table), stream.rejected.drop())
    return built.tasks[0].all_sinks[0].folders


def test_columns_of_which_every_value_names_a_folder_may_be_chosen() -> None:
    table = parquet("t", partition_by="auto", sort_by="shop")
    assert candidates(visits, table) == ("country", "status", "good", "day")
    mended = visits.gate(Rule("good", "good", default=("country", "??")))
    assert candidates(mended, table) == ("status", "good", "day")
    assert candidates(visits, parquet("t", partition_by=["country"])) is None


def test_what_cannot_be_left_to_the_rows_is_refused_in_words() -> None:
    class Car(BaseModel):
        at: AwareDatetime
        auto: str

    with pytest.raises(TopologyError, match='"auto" is for plain tables; of a Delta table'):
        candidates(visits, delta("t", partition_by="auto"))
    cars = source(topic("cars"), Car, event_time="at")
    with pytest.raises(TopologyError, match=r'for the column say partition_by=\["auto"\]'):
        candidates(cars, parquet("t", partition_by="auto"))
    assert candidates(cars, parquet("t", partition_by=["auto"])) is None
    same = [
        Topology("t", visits.to(table), visits.rejected.drop()).version
        for table in (parquet("t"), parquet("t", partition_by="auto"))
    ]
    assert same[0] == same[1]


class Request(BaseModel):
    at: AwareDatetime
    id: int
    region: Annotated[str, Field(min_length=1, max_length=9)] | None


def test_a_run_divides_its_table_and_every_reader_finds_the_values(tmp_path: Path) -> None:
    requests = source(topic("requests"), Request, event_time="at")
    table = parquet("requests", partition_by="auto", target_bytes=60_000)
    topology = Topology("t", requests.to(table), requests.rejected.drop())
    regions = ["eu/w=%", "ü:🌍", None]
    numbers = [i * 7919**3 % 10**15 for i in range(9000)]
    rows = [
        {"at": "2026-01-01T00:00:00Z", "id": number, "region": regions[i % 3]}
        for i, number in enumerate(numbers)
    ]
    records = [Record(None, orjson.dumps(row), 0) for row in rows]
    LocalRun(topology, tmp_path / "lake", partitions=2).run({requests.source.topic: records})
    folder = tmp_path / "lake" / "requests"
    found = duckdb.execute(
        f"SELECT region, count(*), sum(id) FROM read_parquet('{folder}/**/*.parquet',"
        " hive_partitioning=true) GROUP BY 1"
    ).fetchall()
    wanted = [
        (region, 3000, sum(number for i, number in enumerate(numbers) if i % 3 == place))
        for place, region in enumerate(regions)
    ]
    assert sorted(map(str, found)) == sorted(map(str, wanted))
    assert len({path.parent.name for path in folder.rglob("*.parquet")}) == 3
    done = CliRunner().invoke(main, ["storage", "plan", str(folder)])
    assert "in folders by region (first rows of " in done.stdout
    assert "\n  region: 3 values, files of about " in done.stdout
    assert done.stdout.count("chosen\n") == 1


def test_texts_that_were_looked_at_one_by_one_have_to_be_so_for_ever() -> None:
    files = MemoryFiles()
    table_versions.agree(files, spec(partition_by=("origin",)))
    with pytest.raises(
        SinkRefused, match=r"named by 'origin', .* declare partition_by=\['origin'\]"
    ):
        table_versions.check(files, auto(folders=()))
    table_versions.check(files, auto(folders=("origin",)))
