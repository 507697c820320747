"""State as entries: large ones are cut, and what cannot be read is said."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.dedup import keys_of
from streamflow.core.headers import read_lineage
from streamflow.core.keys import (
    decode_meta,
    decode_partial,
    encode_partials,
    entries_of,
    keys_in,
    list_range,
    place_in,
    window_range,
)
from streamflow.errors import StateDamaged


@given(st.integers(1, 300), st.integers(-(2**62), 2**62), st.sampled_from([0, 600, 5_000, 10**6]))
def test_a_large_partial_is_cut_into_entries_and_comes_back(
    groups: int, start: int, limit: int
) -> None:
    partial = pa.table({"group": [f"g{n:050}" for n in range(groups)], "n": range(groups)})
    entries = list(encode_partials("op", start, 7, partial, limit))
    parts = [decode_partial(data) for _, data in entries]
    assert pa.concat_tables(parts).to_pylist() == partial.to_pylist()
    assert all(
        len(data) <= limit or part.num_rows == 1
        for (_, data), part in zip(entries, parts, strict=True)
    )
    keys = [key for key, _ in entries]
    assert keys == sorted(set(keys))
    assert {place_in(key) for key in keys} == {start}
    low, high = window_range("op", start, start + 1)
    assert all(low <= key < high for key in keys)


@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=60),
    st.integers(-(2**62), 2**62),
    st.sampled_from([0, 600, 2_000, 10**6]),
)
def test_a_long_list_of_keys_is_cut_into_entries_and_comes_back(
    keys: list[bytes], until: int, limit: int
) -> None:
    entries = list(entries_of("dedup", until, 7, keys, limit))
    assert [key for _, data in entries for key in keys_in(data)] == keys
    assert all(len(data) <= limit or len(keys_in(data)) == 1 for _, data in entries)
    names = [name for name, _ in entries]
    assert names == sorted(set(names))
    low, high = list_range("dedup", until + 1)
    assert all(low <= name < high for name in names)
    assert not any(name < list_range("dedup", until)[1] for name in names)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff"])
def test_a_meta_record_that_cannot_be_read_is_said(data: bytes) -> None:
    with pytest.raises(StateDamaged, match="the meta record cannot be read"):
        decode_meta(data)


def test_a_lineage_header_of_an_unknown_topic_or_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 1 and an unknown topic"):
        read_lineage(b"\1" + bytes(36), ["orders"])
    with pytest.raises(ValueError, match="version 2"):
        read_lineage(b"\2" + bytes(36), ["orders"])


def test_keys_of_bytes_and_times_tell_values_and_nulls_apart() -> None:
    columns = {
        "b": pa.array([b"\xff", b"", None, b"\xff"]),
        "t": pa.array([1, 1, 1, 2], pa.timestamp("us", "UTC")),
    }
    rows = pa.RecordBatch.from_pydict(columns)
    assert len(set(keys_of(rows, ("b", "t")))) == 4
    assert len(set(keys_of(rows, ("b",)))) == 3
