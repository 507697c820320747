"""Rows in folders: escaped as Hive does, each row in one of them, in the topic's order."""

from datetime import date
from itertools import pairwise
from urllib.parse import unquote

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.folder_name import DEFAULT_PARTITION, component, has_name
from streamflow.core.hive import arrange, in_folders
from streamflow.errors import SinkRefused

SCHEMA = pa.schema([("month", pa.string()), ("n", pa.int32()), ("i", pa.int64())])
KEYS = st.tuples(
    st.sampled_from([None, "", DEFAULT_PARTITION, "a", "b/c", "a=b", "%", "é"]),
    st.none() | st.integers(-2, 2),
)


def chunks(parts: list[list[tuple[str | None, int | None]]]) -> dict[int, pa.Table]:
    tables: dict[int, pa.Table] = {}
    number = 0
    for i, part in enumerate(parts):
        rows = [{"month": m, "n": n, "i": number + j} for j, (m, n) in enumerate(part)]
        tables[10 + 3 * i] = pa.Table.from_pylist(rows, schema=SCHEMA)
        number += len(part)
    return tables


@given(st.lists(st.lists(KEYS, max_size=8), max_size=4))
def test_every_row_is_in_the_folder_of_its_values_in_order(
    parts: list[list[tuple[str | None, int | None]]],
) -> None:
    tables = chunks(parts)
    places = [(offset, j) for offset, rows in tables.items() for j in range(rows.num_rows)]
    wanted: dict[str, list[int]] = {}
    for i, (month, n) in enumerate(key for part in parts for key in part):
        text = None if n is None else str(n)
        wanted.setdefault(f"{component('month', month)}/{component('n', text)}/", []).append(i)
    arranged = arrange(tables, ("month", "n"))
    groups = arranged.groups
    order = list(range(len(places))) if arranged.order is None else arranged.order.to_pylist()
    assert order == [row for folder in sorted(wanted) for row in wanted[folder]]
    whole = pa.concat_tables([SCHEMA.empty_table(), *tables.values()])
    for folders in [{"none/"}, set(wanted), *({*pair} for pair in pairwise(sorted(wanted)))]:
        inside = in_folders(whole, ("month", "n"), folders)
        found = [] if inside is None else inside.to_pylist()
        rows = {row for folder in folders & set(wanted) for row in wanted[folder]}
        assert (found or [True] * len(places)) == [row in rows for row in range(len(places))]
    assert [group.folder for group in groups] == sorted(wanted)
    for group in groups:
        rows = wanted[group.folder]
        assert (group.count, group.first, group.last) == (
            len(rows),
            places[rows[0]],
            places[rows[-1]],
        )


def test_without_partition_columns_all_rows_are_one_group() -> None:
    (group,) = arrange(chunks([[("a", 1)], [], [("b", 2), ("b", 3)]]), ()).groups
    assert (group.folder, group.count, group.first, group.last) == ("", 3, (10, 0), (16, 1))
    assert arrange(chunks([[], []]), ("month",)).groups == []


@given(st.text(min_size=1, max_size=20))
def test_a_folder_name_is_one_part_and_can_be_read_back(value: str) -> None:
    name = component("c", value)
    assert "/" not in name
    assert name.isprintable() or not value.isprintable()
    assert unquote(name.removeprefix("c=")) == value


@pytest.mark.parametrize("value", [None, ""])
def test_nothing_goes_to_the_default_partition(value: str | None) -> None:
    assert component("c", value) == "c=__HIVE_DEFAULT_PARTITION__"


def test_a_value_that_no_file_system_takes_is_refused() -> None:
    with pytest.raises(SinkRefused, match="by another column"):
        component("c", "é" * 200)


def test_dates_truth_values_and_dictionaries_name_folders() -> None:
    table = pa.table(
        {
            "day": [date(2013, 1, 2)],
            "late": [True],
            "origin": pa.array(["EWR"]).dictionary_encode(),
            "i": [0],
        }
    )
    (group,) = arrange({0: table}, ("day", "late", "origin")).groups
    assert group.folder == "day=2013-01-02/late=true/origin=EWR/"


VALUES = st.lists(
    st.none()
    | st.text(max_size=5)
    | st.sampled_from(["", DEFAULT_PARTITION, "=" * 83, "=" * 84, "x" * 251, "x" * 252, "é" * 126]),
    max_size=8,
)


@given(VALUES)
def test_a_value_has_a_name_when_its_folder_gives_it_back(values: list[str | None]) -> None:
    found = has_name("cé", pa.array(values, pa.string())).to_pylist()
    for value, good in zip(values, found, strict=True):
        try:
            name = component("cé", value)
        except SinkRefused:
            assert not good
            continue
        back = unquote(name.split("=", 1)[1])
        assert good == ((None if back == DEFAULT_PARTITION else back) == value)
