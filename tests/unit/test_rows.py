"""The format of a rows topic: what goes in comes out, and what is damaged is refused."""

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.rows import Layout, RowsChunk, Trailer, decode, encode_rows, encode_trailer
from streamflow.errors import SinkRefused

INT64 = st.integers(-(2**63), 2**63 - 1)
COUNT = st.integers(0, 2**53)
NAME = st.text(max_size=20)
TRAILERS = st.builds(
    Trailer,
    commit=COUNT,
    previous=st.none() | COUNT,
    chunks=COUNT,
    layout=st.builds(Layout, NAME, st.lists(NAME, max_size=2).map(tuple), NAME),
    watermark=st.none() | INT64,
    end_of_input=st.booleans(),
    sources=st.dictionaries(NAME, st.tuples(COUNT, COUNT, COUNT), max_size=3),
    counts=st.dictionaries(NAME, COUNT, max_size=3),
    gates=st.dictionaries(NAME, COUNT, max_size=3),
)
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.int64()),
        ("time", pa.timestamp("us", "UTC")),
        ("tags", pa.list_(pa.string())),
    ]
)
ROW = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(),
        "number": st.none() | INT64,
        "time": st.none() | st.integers(0, 2**50),
        "tags": st.none() | st.lists(st.text(max_size=3), max_size=3),
    }
)
ROWS = st.lists(ROW, max_size=20)


def batches(parts: list[list[dict[str, object]]]) -> list[pa.RecordBatch]:
    return [pa.RecordBatch.from_pylist(part, schema=SCHEMA) for part in parts]


@given(TRAILERS)
def test_a_trailer_comes_back_as_it_was(trailer: Trailer) -> None:
    record = encode_trailer(trailer)
    assert dict(record.headers)["sf-kind"] == b"trailer"
    assert decode(record.value, record.headers) == trailer


@given(TRAILERS)
def test_equal_trailers_have_equal_bytes(trailer: Trailer) -> None:
    turned = dict(reversed(list(trailer.counts.items())))
    again = replace(trailer, counts=turned)
    assert encode_trailer(again) == encode_trailer(trailer)


@given(st.lists(ROWS, max_size=4), st.integers(1, 5000))
def test_rows_come_back_in_order_whatever_the_chunk_size(
    parts: list[list[dict[str, object]]], chunk_bytes: int
) -> None:
    records = encode_rows(batches(parts), 7, chunk_bytes=chunk_bytes)
    chunks = [decode(record.value, record.headers) for record in records]
    assert all(isinstance(chunk, RowsChunk) for chunk in chunks)
    tables = [chunk.table() for chunk in chunks if isinstance(chunk, RowsChunk)]
    assert [getattr(chunk, "number", None) for chunk in chunks] == list(range(len(records)))
    assert {chunk.commit for chunk in chunks} <= {7}
    assert all(table.num_rows for table in tables)
    found = [row for table in tables for row in table.to_pylist()]
    assert found == [row for batch in batches(parts) for row in batch.to_pylist()]
    for record, table in zip(records, tables, strict=True):
        assert len(record.value or b"") <= chunk_bytes or table.num_rows == 1


def test_a_commit_without_rows_has_no_chunk() -> None:
    assert encode_rows([], 1) == []
    assert encode_rows(batches([[], []]), 1) == []


def test_small_batches_of_a_commit_travel_as_one_record() -> None:
    parts: list[list[dict[str, object]]] = [[{"number": i}] for i in range(100)]
    assert len(encode_rows(batches(parts), 1)) == 1


GOOD = encode_rows(batches([[{"number": 1}]]), 3)[0]
TRAILER = encode_trailer(Trailer(3, 2, 1, Layout("id", ("place",), "v")))


@pytest.mark.parametrize(
    ("value", "headers", "words"),
    [
        (b"x", (), "sf-kind is None"),
        (b"x", (("sf-kind", b"other"),), "has something else written"),
        (None, TRAILER.headers, "the value is null"),
        (b"garbage", GOOD.headers, "malformed rows chunk"),
        (GOOD.value, (("sf-kind", b"rows"),), "lacks 'sf-commit'"),
        (GOOD.value, (*GOOD.headers[:2], ("sf-chunk", b"x")), "malformed rows chunk"),
        (b"{", TRAILER.headers, "malformed trailer"),
        (b"[]", TRAILER.headers, "not an object"),
        (b"{}", TRAILER.headers, "written by a newer version"),
        (b'{"format":2}', TRAILER.headers, "written by a newer version"),
        (b'{"format":1}', TRAILER.headers, "lacks 'sources'"),
        ((TRAILER.value or b"").replace(b"3", b'"3"'), TRAILER.headers, "wrong type of value"),
        ((TRAILER.value or b"").replace(b"3", b"3.5"), TRAILER.headers, "wrong type of value"),
        ((TRAILER.value or b"").replace(b'"gates":{}', b'"gates":[]'), TRAILER.headers, "values"),
        ((TRAILER.value or b"").replace(b'"gates"', b'"more"'), TRAILER.headers, "more"),
        ((TRAILER.value or b"").replace(b'"layout"', b'"more"'), TRAILER.headers, "lacks 'layout'"),
        ((TRAILER.value or b"").replace(b'"place"', b"5"), TRAILER.headers, "wrong type of value"),
        ((TRAILER.value or b"").replace(b'["place"]', b"null"), TRAILER.headers, "malformed"),
    ],
)
def test_what_is_not_a_record_of_a_rows_topic_is_refused(
    value: bytes | None, headers: tuple[tuple[str, bytes | None], ...], words: str
) -> None:
    with pytest.raises(SinkRefused, match=words):
        decode(value, headers)


def test_a_damaged_body_is_refused_when_it_is_unpacked() -> None:
    whole = GOOD.value or b""
    chunk = decode(whole[: len(whole) // 2 * 2 - 40], GOOD.headers)
    assert isinstance(chunk, RowsChunk)
    with pytest.raises(SinkRefused, match="rows chunk 0 of commit 3"):
        chunk.table()
