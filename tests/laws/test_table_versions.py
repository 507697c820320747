"""Whatever a mode allows: every row of every version is read back equal, by every reader."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
from hypothesis import event, given
from hypothesis import strategies as st

from streamflow.core.sink_spec import SinkSpec
from streamflow.core.table_schema import Foreseen
from streamflow.destinations import Compatibility
from streamflow.edges.local_files import LocalFiles
from streamflow.engine.chain import chain_of
from streamflow.engine.table_numbers import Numbers, versions
from streamflow.engine.table_versions import agree
from streamflow.errors import SinkRefused
from tests.examples import law
from tests.unit.sink_log import Log, drain, partition, spec

ID = pa.field("id", pa.int64(), nullable=False)
MONEY = pa.decimal128(38, 9)
NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)

#: Types of columns, with values at their ends.
VALUES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int64(), [0, -(2**63), 2**63 - 1]),
    (MONEY, [Decimal("0.5"), Decimal(10**28), Decimal("-0.000000001")]),
    (pa.int32(), [1, 2**31 - 1]),
    (pa.float64(), [1.5, -1e300]),
    (pa.float32(), [1.5, -0.25]),
    (pa.string(), ["", "ü"]),
    (pa.bool_(), [True, False]),
    (pa.timestamp("us", "UTC"), [NOON]),
    (pa.list_(pa.int64()), [[], [2**63 - 1]]),
    (pa.list_(MONEY), [[Decimal("1.5")]]),
    (pa.struct([("a", pa.int64())]), [{"a": 2**63 - 1}]),
    (pa.struct([("a", MONEY)]), [{"a": Decimal("1.5")}]),
    (pa.struct([("a", pa.int64()), ("b", pa.string())]), [{"a": 1, "b": "x"}]),
]
#: Of a column its type, by number, and whether it may be null; None where it is not there.
COLUMN = st.none() | st.tuples(st.sampled_from(range(len(VALUES))), st.booleans())
CHANGES = st.lists(st.tuples(st.sampled_from("xyzX"), COLUMN), min_size=1, max_size=12)
Version = dict[str, tuple[int, bool]]


def columns_of(version: Version) -> pa.Schema:
    found = [pa.field(name, VALUES[kind][0], null) for name, (kind, null) in version.items()]
    return pa.schema([ID, *found])


def foreseen(files: LocalFiles, sink: SinkSpec) -> Foreseen | str:
    """What is told beforehand: what will be, or why it is refused."""
    try:
        return chain_of(files).foresee(sink, "app")
    except SinkRefused as error:
        return str(error)


@dataclass
class History:
    """A table, and what was written to it under which version."""

    root: Path
    mode: Compatibility
    log: Log = field(default_factory=Log)
    rows: list[tuple[int, pa.Schema, dict[str, Any]]] = field(default_factory=list)

    def deploy(self, version: Version) -> bool:
        """Write rows of a version, unless it is refused."""
        schema = columns_of(version)
        sink = replace(spec(schema=schema, partition_by=()), compatibility=self.mode)
        files = LocalFiles(self.root, "t")
        before = files.names(private=True)
        seen = foreseen(files, sink)
        assert files.names(private=True) == before
        refused = None
        try:
            agree(files, sink)
        except SinkRefused as error:
            refused = str(error)
        if refused is not None:
            assert seen == refused
            return False
        number = Numbers(files).of(sink.schema_id)
        assert number is not None
        assert isinstance(seen, Foreseen)
        is_new = files.names(private=True) != before
        assert (seen.version, seen.is_new) == (number, is_new)
        first, made = len(self.rows), list[dict[str, Any]]()
        for i in range(3):
            values = {name: VALUES[kind][1] for name, (kind, _) in version.items()}
            row = {name: some[i % len(some)] for name, some in values.items()}
            nulls = {name: None for name, (_, null) in version.items() if null and i == 2}
            made.append({"id": first + i, **row, **nulls})
        self.rows += [(number, schema, row) for row in made]
        self.log.commit_of(pa.RecordBatch.from_pylist(made, schema=schema), str(number))
        drain(partition(files, sink), self.log)
        return True


def same(read: Any, wrote: Any) -> bool:
    if isinstance(read, dict) and isinstance(wrote, dict):
        return all(same(value, wrote.get(name)) for name, value in read.items())
    if isinstance(read, list) and isinstance(wrote, list):
        return len(read) == len(wrote) and all(map(same, read, wrote))
    if isinstance(read, dt.datetime):
        return read.astimezone(dt.UTC) == wrote
    return read == wrote and isinstance(read, bool) == isinstance(wrote, bool)


def check(read: Iterable[dict[str, Any]], wrote: Iterable[dict[str, Any]]) -> None:
    found = {row["id"]: row for row in read}
    assert sorted(found) == [row["id"] for row in wrote]
    for row in wrote:
        assert same(found[row["id"]], row), (found[row["id"]], row)


def by_pyarrow(folder: Path, schema: pa.Schema, number: int) -> Iterable[dict[str, Any]]:
    """Read with these columns what was written from this version on."""
    found = ds.dataset(folder, schema=schema, format="parquet")
    names = [str(f.path) for f in found.get_fragments() if version_of(f) >= number]
    return ds.dataset(names, schema=schema, format="parquet").to_table().to_pylist()


def version_of(fragment: Any) -> int:
    return int(fragment.metadata.metadata[b"streamflow.schema_version"])


@law(cases=3)
@given(CHANGES, st.sampled_from(["backward", "forward", "full"]), st.data())
def test_what_a_mode_allows_can_be_read(
    changes: list[tuple[str, tuple[int, bool] | None]], mode: Compatibility, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as root:
        history = History(Path(root), mode)
        assert history.deploy({})
        version: Version = {}
        for name, column in changes:
            others = {other: found for other, found in version.items() if other != name}
            changed = others if column is None else others | {name: column}
            if changed != version and history.deploy(changed):
                version = changed
        folder, wrote = Path(root) / "t", [row for _, _, row in history.rows]
        known = versions(LocalFiles(Path(root), "t"))
        event(f"{mode}: {len(known)} versions")
        if mode in ("backward", "full"):
            check(by_pyarrow(folder, known[-1].columns, 0), wrote)
        if mode in ("forward", "full"):
            old = data.draw(st.sampled_from(known))
            later = [row for number, _, row in history.rows if number >= old.number]
            check(by_pyarrow(folder, old.columns, old.number), later)
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'")
            relation = connection.read_parquet(f"{folder}/*.parquet", union_by_name=True)
            check(relation.to_arrow_table().to_pylist(), wrote)
        frames = [pl.scan_parquet(name) for name in folder.glob("*.parquet")]
        check(pl.concat(frames, how="diagonal_relaxed").collect().to_dicts(), wrote)
        unified = pa.unify_schemas(
            [f.physical_schema for f in ds.dataset(folder).get_fragments()],
            promote_options="permissive",
        )
        check(ds.dataset(folder, schema=unified).to_table().to_pylist(), wrote)
