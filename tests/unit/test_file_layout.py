"""How rows lie in the files of a table: sorted, in row groups, with Bloom filters."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    ColumnSettings,
    Topology,
    TopologyError,
    WriterSettings,
    day,
    delta,
    hour,
    parquet,
    source,
    topic,
)
from streamflow.core.cut import decode_cut, encode_cut
from streamflow.core.file_layout import in_order, layout_problems, settings_of, sort_of
from streamflow.core.hive import arrange, in_folders
from streamflow.core.parquet import encode_parquet, why_not
from streamflow.destinations import Parquet
from streamflow.edges.memory_files import MemoryFiles
from streamflow.errors import SinkRefused
from streamflow.schema import schema_id
from streamflow.testing import TopologyDriver
from streamflow.writer_settings import UNPLANNED, FileLayout
from topologies.flights import flights

from .sink_log import LAYOUT, SCHEMA, TP, Log, content, drain, ids, logged, partition, spec
from .storage_tables import KINDS
from .test_cut_settings import PLANNED
from .test_cut_settings import cut as some_cut

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SORTED = FileLayout(sort_by=("origin",))
ID, ORIGIN = pa.field("id", pa.int64()), pa.schema([pa.field("origin", pa.string())])


def read(data: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


def group(table: pa.Table, sort: tuple[str, ...], by: tuple[str, ...] = ()) -> list[list[int]]:
    found: list[list[int]] = []
    for one in arrange({0: table}, by).groups:
        mask = in_folders(table, by, {one.folder}) if by else None
        rows = table if mask is None else table.filter(mask)
        found.append(rows.take(in_order(rows, sort))["id"].to_pylist())
    return found


def test_rows_are_sorted_within_a_folder_nulls_last_and_equal_ones_stay_as_they_came() -> None:
    table = pa.table(
        {
            "shop": ["b", "a", "a", "b", "a", "b"],
            "price": [2.0, None, 1.0, 2.0, float("nan"), 1.0],
            "id": [0, 1, 2, 3, 4, 5],
        }
    )
    assert group(table, ("price",)) == [[2, 5, 0, 3, 4, 1]]
    assert group(table, ("shop", "price")) == [[2, 4, 1, 5, 0, 3]]
    assert group(table, ("price",), ("shop",)) == [[2, 4, 1], [5, 0, 3]]


def test_a_sorted_file_says_so_where_readers_look() -> None:
    log, files = Log(replace(LAYOUT, partition_by=())), MemoryFiles()
    log.commit(6, end_of_input=True)
    drain(partition(files, replace(spec(partition_by=()), layout=SORTED)), log)
    (data,) = content(files).values()
    assert read(data)["id"].to_pylist() == [0, 3, 1, 4, 2, 5]
    metadata: Any = pq.read_metadata(pa.BufferReader(data))
    assert metadata.row_group(0).sorting_columns == (pq.SortingColumn(0),)
    assert metadata.metadata[b"streamflow.sort"] == b'["origin"]'


@pytest.mark.parametrize("make", [MemoryFiles, logged])
def test_every_kind_of_table_is_sorted(make: Callable[[], Any]) -> None:
    log, table = Log(), make()
    log.commit(9, end_of_input=True)
    layout = FileLayout(sort_by=("_partition", "id"), row_group_rows=2)
    drain(partition(table, replace(spec(), layout=layout)), log)
    assert sorted(ids(table)) == list(range(9))
    for data in content(table).values():
        metadata: Any = pq.read_metadata(pa.BufferReader(data))
        assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [2, 1]
        assert [one.column_index for one in metadata.row_group(0).sorting_columns] == [2, 0]


def test_a_bloom_filter_is_read_by_duckdb_and_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    texts = [f"request-{i * 7919 % 5000}" for i in range(5000)]
    table = pa.table({"id": texts, "n": pa.array(range(5000)), "none": pa.nulls(5000, pa.int64())})
    own = WriterSettings(columns=(ColumnSettings("id", "DELTA_BYTE_ARRAY"),))
    layout = FileLayout(bloom_by=("id", "none", "later"), row_group_rows=1000)
    settings = settings_of(layout, own, table.schema)
    assert settings.bloom == ("id", "none")
    path = tmp_path / "t.parquet"
    path.write_bytes(encode_parquet(table, settings, {}))

    def kept(value: str) -> list[bool]:
        probe = f"SELECT NOT bloom_filter_excludes FROM parquet_bloom_probe('{path}', 'id', ?)"
        return [found for (found,) in duckdb.execute(probe, [value]).fetchall()]

    assert all(kept(texts[i])[i // 1000] for i in range(0, 5000, 97))
    in_vain = sum(sum(kept(f"nobody-{i}")) for i in range(100))
    assert in_vain <= 25  # of 500, where about one of a hundred is meant to be
    metadata: Any = pq.read_metadata(path)
    assert [metadata.row_group(0).column(i).bloom_filter_length for i in range(3)][1] is None
    assert metadata.row_group(0).column(0).bloom_filter_length < 3 * 1000


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (FileLayout(("week",)), "sort_by names 'week', the rows have origin, id, tags, good"),
        (FileLayout(("origin",)), "sort_by names 'origin', which names folders"),
        (FileLayout(("tags",)), "sort_by column 'tags' is list<item: string>, which has no order"),
        (FileLayout(("id", "id")), "sort_by repeats a column: id, id"),
        (FileLayout((), ("id", "x")), "bloom_by names 'x', the rows have"),
        (FileLayout((), ("good",)), "bloom_by column 'good' is bool, of which no filter is made"),
    ],
)
def test_a_layout_that_files_cannot_have_is_refused_in_words(
    layout: FileLayout, words: str
) -> None:
    schema = pa.schema([*list(SCHEMA)[:2], ("tags", pa.list_(pa.string())), ("good", pa.bool_())])
    problems = list(layout_problems(layout, schema, ("origin",)))
    assert len(problems) == 1
    assert words in problems[0]
    with pytest.raises(TopologyError, match=r"^sink 'flights': "):
        replace(spec(schema=schema), layout=layout)


def test_a_pyarrow_without_bloom_filters_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older:
        def __init__(self, where: object, schema: pa.Schema) -> None: ...

    monkeypatch.setattr(pq, "ParquetWriter", Older)
    problems = layout_problems(FileLayout((), ("id",)), SCHEMA, ())
    assert list(problems) == [
        f"bloom_by needs a later pyarrow, {pa.__version__} writes no Bloom filters"
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (parquet("t", sort_by="nothing"), "sort_by names 'nothing', the rows have year"),
        (parquet("t", partition_by="origin", bloom_by=["origin"]), "which names folders"),
        (delta("t", sort_by=["hour", "hour"]), "sort_by repeats a column: hour, hour"),
        (
            parquet("t", storage=WriterSettings("pyarrow-3", bloom=("nothing",))),
            "storage names column 'nothing'",
        ),
    ],
)
def test_a_topology_with_such_a_table_is_not_built(table: Parquet, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        Topology("t", flights.to(table), flights.rejected.drop())


def test_row_groups_are_smaller_where_readers_are_to_pass_some_by() -> None:
    own = WriterSettings(row_group_rows=5)
    assert settings_of(SORTED, UNPLANNED, ORIGIN).row_group_rows == 65_536
    assert settings_of(SORTED, own, ORIGIN).row_group_rows == 5
    assert settings_of(replace(SORTED, row_group_rows=9), own, ORIGIN).row_group_rows == 9


def test_row_groups_of_no_row_are_refused() -> None:
    with pytest.raises(TopologyError, match="row_group_rows=0 is not between 1 and"):
        parquet("t", row_group_rows=0)
    with pytest.raises(TopologyError, match="writer='pyarrow-2'; it is pyarrow-3, for Bloom"):
        WriterSettings(bloom=("id",))


def test_the_layout_of_files_is_no_other_version_of_a_topology() -> None:
    plain, laid = (
        Topology("t", flights.to(table), flights.rejected.drop())
        for table in (parquet("t"), parquet("t", sort_by="tailnum", bloom_by="tailnum"))
    )
    assert plain.version == laid.version


def test_rows_from_before_a_column_was_added_are_sorted_by_the_others() -> None:
    layout = FileLayout(("origin", "new"), ("new",), 10)
    assert sort_of(layout, pa.schema([*ORIGIN, ID])) == ("origin",)
    assert settings_of(layout, UNPLANNED, pa.schema([ID])) == replace(UNPLANNED, row_group_rows=10)
    assert settings_of(SORTED, UNPLANNED, pa.schema([ID])) == UNPLANNED
    log, files = Log(replace(LAYOUT, partition_by=())), MemoryFiles()
    log.commit(3)
    wide = pa.schema([*SCHEMA, ("new", pa.int64())])
    log.layout, log.schema = replace(log.layout, schema_id=schema_id(wide)), wide
    log.commit(3, end_of_input=True)
    sink = replace(spec(partition_by=(), schema=wide), layout=layout)
    drain(partition(files, sink), log)
    names = [f"{TP.topic}-{TP.partition:05d}-{k:08d}.json" for k in (1, 2)]
    cuts = [decode_cut(files.read(name, private=True), name) for name in names]
    assert [cut.sort for cut in cuts] == [("origin",), ("origin", "new")]
    assert [cut.files[0].writer.bloom for cut in cuts] == [(), ("new",)]
    assert ids(files) == list(range(6))


def test_a_cut_names_what_is_new_by_a_writer_that_earlier_versions_refuse() -> None:
    planned = orjson.loads(encode_cut(some_cut(PLANNED)))
    assert "bloom" not in planned["writer"]
    laid = settings_of(FileLayout(("id",)), UNPLANNED, pa.schema([ID]))
    cut = replace(some_cut(laid), files=(replace(some_cut(laid).files[0], sort=("id",)),))
    document = orjson.loads(encode_cut(cut))
    assert document["writer"]["writer"] == "pyarrow-3"
    assert decode_cut(encode_cut(cut), cut.name) == cut


def test_a_cut_that_was_edited_to_be_sorted_by_what_rows_do_not_have_is_refused() -> None:
    log, files = Log(), MemoryFiles()
    log.commit(6, end_of_input=True)
    sink = replace(spec(), layout=FileLayout(("id",)))
    drain(partition(files, sink), log)
    name = f"{TP.topic}-{TP.partition:05d}-00000001.json"
    other = MemoryFiles()
    origin = name.replace("1.json", "0.json")
    other.create(origin, files.read(origin, private=True), private=True)
    edited = files.read(name, private=True).replace(b'"sort":["id"]', b'"sort":["nr"]')
    other.create(name, edited, private=True)
    with pytest.raises(SinkRefused, match="have no column 'nr' to sort by"):
        drain(partition(other, sink), log)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_columns_of_each_type_are_written_so_or_refused(kind: str) -> None:
    type_, _ = KINDS[kind]
    table = pa.table({"c": pa.nulls(3, type_), "id": [2, 1, 0]})
    sort, bloom = FileLayout(("c",)), FileLayout((), ("c",))
    if not list(layout_problems(sort, table.schema, ())):
        assert group(table, ("c", "id")) == [[0, 1, 2]]
        encode_parquet(table, UNPLANNED, {}, ("c",))
    else:
        assert kind in {"code", "tags", "pair", "item", "items", "counts", "nothing"}
    if not list(layout_problems(bloom, table.schema, ())):
        data = encode_parquet(table, settings_of(bloom, UNPLANNED, table.schema), {})
        metadata: Any = pq.read_metadata(pa.BufferReader(data))
        assert metadata.row_group(0).column(0).bloom_filter_length
    else:
        assert kind in {"code", "tags", "pair", "item", "items", "counts", "nothing", "truth"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "has None; it takes the names of columns"),
        (5, "has 5; it takes the names of columns"),
        (["a", 1], "has 1; it takes the names of columns"),
        (day("at"), r"has day\('at'\), which names folders; .* takes columns: say 'at'$"),
        (["a", hour("b")], r"has hour\('b'\), which names folders; .* takes columns: say 'b'$"),
    ],
)
@pytest.mark.parametrize("what", ["sort_by", "bloom_by"])
@pytest.mark.parametrize("table", [parquet, delta])
def test_what_names_no_columns_is_refused_in_words(
    table: Any, what: str, given: Any, words: str
) -> None:
    with pytest.raises(TopologyError, match=f"^table 't': {what} {words}"):
        table("t", **{what: given})


def test_more_rows_than_a_row_group_can_have_are_refused() -> None:
    with pytest.raises(TopologyError, match="is not between 1 and"):
        parquet("t", row_group_rows=10**30)


def test_settings_fit_structs_whose_fields_are_never_null() -> None:
    """A column that may be null, or is tried with nulls, has such fields as nulls too."""
    inner = pa.struct([pa.field("city", pa.string(), nullable=False)])
    outer = pa.struct([pa.field("inner", inner, nullable=False), pa.field("n", pa.int64())])
    schema = pa.schema([pa.field("address", outer, nullable=False)])
    settings = WriterSettings(columns=(ColumnSettings("address.inner.city", "DELTA_BYTE_ARRAY"),))
    assert why_not(schema, settings) is None
    other = WriterSettings(columns=(ColumnSettings("address.n", "DELTA_BYTE_ARRAY"),))
    assert why_not(schema, other) is not None


def test_rows_of_earlier_types_are_laid_out_as_they_can_be() -> None:
    """What a version declares of its columns is not held against rows of another one."""
    layout = FileLayout(sort_by=("id",), bloom_by=("id",))
    lists = pa.schema([pa.field("id", pa.list_(pa.int64()))])
    assert sort_of(layout, lists) == ()
    assert settings_of(layout, UNPLANNED, lists) == UNPLANNED

    class Number(BaseModel):
        id: int
        at: AwareDatetime

    class Fraction(Number):
        id: Decimal  # type: ignore[assignment]

    def version(model: type[BaseModel], **settings: Any) -> Topology:
        rows = source(topic("rows"), model, event_time="at")
        return Topology("t", rows.to(parquet("table", **settings)), rows.rejected.drop())

    driver = TopologyDriver(version(Number), NOON)
    driver.send("rows", {"id": 7, "at": NOON})
    encoded = WriterSettings(columns=(ColumnSettings("id", "DELTA_BYTE_ARRAY"),))
    driver.deploy(version(Fraction, storage=encoded))
    driver.send("rows", {"id": "7.5", "at": NOON})
    driver.end_of_input()
    assert sorted(row["id"] for row in driver.files("table")) == [7, Decimal("7.5")]
