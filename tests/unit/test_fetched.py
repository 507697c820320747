"""Whole Kafka batches of records hold exactly what aiokafka gives one by one."""

import gzip
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streamflow.fetched import fetch_unread, fetch_whole
from tests.examples import examples

WHOLE, UNREAD, PLAIN = "fetched-whole", "fetched-unread", "fetched-one-by-one"
TRANSACTIONAL, CONTROL = 0x10, 0x20
ABORT, COMMIT = 0, 1


def batch(base: int, offsets: Sequence[int], *, producer: int | None, control: int | None) -> bytes:
    """A batch as a broker would send it; `control` is the type of its one record's marker."""
    builder = DefaultRecordBatchBuilder(
        2, 0, int(producer is not None), producer or -1, 0, 0, 2**20
    )
    for number in offsets:
        key = b"key" if control is None else struct.pack(">hh", 0, control)
        headers: list[tuple[str, bytes | None]] = []
        if number % 3 == 0:
            headers.append(("number", b"%d" % number))
        builder.append(number, 1_000 + base + number, key, b"%d" % (base + number), headers)
    made = bytearray(builder.build())
    attributes = (0 if producer is None else TRANSACTIONAL) | (0 if control is None else CONTROL)
    struct.pack_into(">q", made, 0, base)
    struct.pack_into(">h", made, 21, attributes)
    return bytes(made)


def read(topic: str, data: bytes, position: int, aborted: list[Any]) -> tuple[list[Any], int]:
    """What a consumer is given from a position, and where it goes on."""
    found = PartitionRecords(
        TopicPartition(topic, 0),
        fetcher.MemoryRecords(data),
        list(aborted),
        position,
        None,
        None,
        False,  # the marker's bits were set after the checksum
        READ_COMMITTED,
    )
    given_: list[Any] = list(found)
    return given_, found.next_fetch_offset


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]], int]:
    """Batches with holes, of producers whose transactions are ended; and the aborted ones."""
    data, offset = b"", draw(st.integers(0, 5))
    begun: dict[int, int] = {}
    aborted: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(1, 8))):
        producer = draw(st.sampled_from([None, 7, 8]))
        if producer in begun and draw(st.booleans()):
            marker = draw(st.sampled_from([ABORT, COMMIT]))
            data += batch(offset, [0], producer=producer, control=marker)
            first = begun.pop(producer)
            if marker == ABORT:
                aborted.append((producer, first))
            offset += 1
            continue
        if producer is not None:
            begun.setdefault(producer, offset)
        kept = sorted(draw(st.sets(st.integers(0, 6), min_size=1)))
        data += batch(offset, kept, producer=producer, control=None)
        offset += kept[-1] + 1
    return data, aborted, draw(st.integers(0, offset))


@examples(300)
@given(logs())
def test_whole_batches_hold_what_comes_one_by_one(
    log: tuple[bytes, list[tuple[int, int]], int],
) -> None:
    data, aborted, position = log
    fetch_whole([WHOLE])
    fetch_unread([UNREAD])
    plain, stop = read(PLAIN, data, position, aborted)
    wanted = [(one.offset, one.timestamp, one.key, one.value, tuple(one.headers)) for one in plain]
    for topic in (WHOLE, UNREAD):
        parts, reached = read(topic, data, position, aborted)
        assert reached == stop
        assert [
            (one.offset, one.timestamp, one.key, one.value, tuple(one.headers))
            for part in parts
            for one in part
        ] == wanted


def test_a_batch_is_handed_over_in_one_piece() -> None:
    fetch_whole([WHOLE])
    data = batch(10, range(5), producer=None, control=None)
    data += batch(15, range(3), producer=None, control=None)
    parts, stop = read(WHOLE, data, 12, [])
    assert [[one.offset for one in part] for part in parts] == [[12, 13, 14], [15, 16, 17]]
    assert stop == 18


@pytest.mark.parametrize("topic", [WHOLE, UNREAD])
@pytest.mark.parametrize("codec", [0, 1])
def test_a_header_whose_name_is_no_text_is_escaped_and_stops_nothing(
    codec: int, topic: str
) -> None:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 2**20)
    for number in range(3):
        name = "nam\u00e9" if number == 1 else "name"
        builder.append(number, number, b"k", b"v%d" % number, [(name, b"x"), ("none", None)])
    made = bytearray(builder.build())
    if codec:
        body = gzip.compress(gzip.decompress(made[61:]).replace(b"nam\xc3\xa9", b"nam\xff\xfe"))
        made[61:] = body
        struct.pack_into(">i", made, 8, len(made) - 12)
    else:
        made = bytearray(made.replace(b"nam\xc3\xa9", b"nam\xff\xfe"))
    struct.pack_into(">q", made, 0, 7)
    before, after = (batch(base, [0, 1], producer=None, control=None) for base in (5, 10))
    fetch_whole([WHOLE])
    fetch_unread([UNREAD])
    given_, stop = read(topic, before + made + after, 5, [])
    assert stop == 12
    records = [record for part in given_ for record in part]
    assert [record.offset for record in records] == [5, 6, 7, 8, 9, 10, 11]
    assert [record.value for record in records[2:5]] == [b"v0", b"v1", b"v2"]
    headers = [list(record.headers) for record in records[2:5]]
    assert headers[0] == headers[2] == [("name", b"x"), ("none", None)]
    assert headers[1] == [("nam\\xff\\xfe", b"x"), ("none", None)]
    assert {type(record.key) for record in records} == {bytes}
