"""Lines of JSON become records, byte for byte."""

from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow import debezium, kafka_timestamp, source, topic
from streamflow.batch import Record
from streamflow.clock import SimulatedClock
from streamflow.errors import StreamflowError
from streamflow.keying import keys_for
from streamflow.produce import lines
from streamflow.produce.file import InputFile
from streamflow.produce.limits import Limits
from streamflow.produce.lines import LineInput
from streamflow.produce.records import RecordRules, Records

CLOCK = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
LIMITS = Limits.of({"max.message.bytes": "1000", "message.timestamp.after.max.ms": "3600000"})


def reading(*texts: bytes, rules: RecordRules | None = None) -> Records:
    inputs = [LineInput(InputFile(f"file{n}", BytesIO(text).read)) for n, text in enumerate(texts)]
    return Records(inputs, rules or RecordRules(), LIMITS, CLOCK)


def records(*texts: bytes, rules: RecordRules | None = None) -> list[Record]:
    return [record for chunk in reading(*texts, rules=rules).chunks() for record in chunk]


def test_the_bytes_of_a_line_are_not_touched() -> None:
    text = b'{ "b" : 1.0,"a":"\xc3\xa4\\u00e4" }\n{"b":2}\r\n'
    assert [r.value for r in records(text)] == [
        b'{ "b" : 1.0,"a":"\xc3\xa4\\u00e4" }',
        b'{"b":2}\r',
    ]


def test_a_last_line_needs_no_newline_and_files_do_not_run_together() -> None:
    assert [r.value for r in records(b"1\n2", b"3\n4\n")] == [b"1", b"2", b"3", b"4"]


@given(st.lists(st.integers(0, 10**6), max_size=30), st.integers(1, 12))
def test_how_a_file_is_read_is_unobservable(numbers: list[int], size: int) -> None:
    text = b"".join(b"%d\n" % number for number in numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "READ_BYTES", size)
        assert [r.value for r in records(text)] == [b"%d" % number for number in numbers]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'"JFK"', b"JFK"),
        (b'"\\u00e4"', b"\xc3\xa4"),
        (b'""', b""),
        (b"7", b"7"),
        (b"true", b"true"),
        # As a source has the text of a column of floats.
        (b"1.0", b"1"),
        (b"1.50", b"1.5"),
        (b"1e5", b"100000"),
        (b"1e-7", b"1e-7"),
    ],
)
def test_a_key_is_the_text_of_its_field(value: bytes, key: bytes) -> None:
    assert records(b'{"k":%s}' % value, rules=RecordRules(("k",)))[0].key == key


def test_a_key_of_several_fields_is_an_object_of_them() -> None:
    made, *_ = records(b'{"line":7,"note":null,"order":"a"}', rules=RecordRules(("order", "line")))
    assert made.key == b'{"order":"a","line":7}'
    with pytest.raises(StreamflowError, match="field 'note' is NoneType, not text or a number"):
        records(b'{"order":"a","note":null}', rules=RecordRules(("order", "note")))


class Visit(BaseModel):
    at: AwareDatetime
    page: str


def test_a_key_is_made_as_a_source_takes_it() -> None:
    visits = source(topic("visits"), Visit, key=("at", "page"), event_time="at").source
    good = b'{"at":"2026-01-01T00:00:00Z","page":"x"}'
    made, bad, junk = records(
        good, b'{"at":5,"page":null}', b"junk", rules=RecordRules(source=visits, keep_bad=True)
    )
    assert made.key == b'{"at":"2026-01-01 00:00:00.000000Z","page":"x"}'
    assert bad.key is junk.key is None
    with pytest.raises(
        StreamflowError, match="no key: 'visits' is keyed by 'at' and 'page', which"
    ):
        records(b'{"at":5,"page":null}', rules=RecordRules(source=visits))
    free = source(topic("visits"), Visit, event_time="at").source
    assert records(good, rules=RecordRules(source=free))[0].key is None


class Sale(BaseModel):
    shop: str
    cents: int


class Price(BaseModel):
    shop: str
    euros: Decimal | None


@given(
    st.lists(
        st.sampled_from(
            [b'{"shop":"a","cents":1}', b'{"shop":"a","cents":"?"}', b'{"shop":5}', b"{", b"[]"]
        ),
        max_size=6,
    )
)
def test_the_key_of_a_record_is_the_same_whatever_its_neighbours_are(values: list[bytes]) -> None:
    sales = source(topic("sales"), Sale, key="shop", event_time=kafka_timestamp()).source
    alone = [key for value in values for key in keys_for(sales, [value])]
    assert keys_for(sales, values) == alone


def test_a_record_that_has_no_key_since_it_is_refused_says_by_which_field() -> None:
    prices = source(topic("prices"), Price, key="shop", event_time=kafka_timestamp()).source
    rules = RecordRules(source=prices)
    words = "^file0:2: no key: Price does not take the record: field 'euros': Input should be"
    with pytest.raises(StreamflowError, match=words):
        records(b'{"shop":"a","euros":1}\n{"shop":"a","euros":"?"}\n', rules=rules)
    with pytest.raises(StreamflowError, match="no key: Price does not take the record: "):
        records(b"[]", rules=rules)
    with pytest.raises(StreamflowError, match="no key: 'prices' is keyed by 'shop', which is not"):
        records(b'{"euros":1}', rules=rules)
    wrapped = source(
        topic("prices"), Price, key="shop", event_time=kafka_timestamp(), envelope=debezium()
    ).source
    rules = RecordRules(source=wrapped)
    with pytest.raises(StreamflowError, match="take the record: field 'euros': Input should be"):
        records(b'{"op":"c","after":{"shop":"a","euros":"?"}}', rules=rules)
    with pytest.raises(StreamflowError, match=r"^file0:1: no key: no change event: it has no op"):
        records(b'{"shop":"a"}', rules=rules)


def test_a_timestamp_comes_from_its_field() -> None:
    rules = RecordRules(timestamp="at")
    assert records(b'{"at":"2013-01-01T00:00:00Z"}', rules=rules)[0].timestamp == 1356998400000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nope", "not JSON: "),
        (b"", "not JSON: "),
        (b"[1]", "the line is no JSON object, so it has no field 'k'"),
        (b'{"b":1,"a":2}', r"there is no field 'k'; it has \['a', 'b'\]"),
        (b'{"k":null}', "field 'k' is NoneType, not text or a number to key by"),
        (b'{"k":"a","at":"soon"}', "field 'at': 'soon' is no ISO 8601 time"),
        (b'{"k":"a","at":"2026-01-01T02:00:00Z"}', "field 'at': .* more than 1:00:00 ahead"),
    ],
)
def test_a_bad_line_names_its_file_and_line_after_all_before_it(line: bytes, words: str) -> None:
    good = b'{"k":"a","at":0}'
    chunks = reading(
        good, good + b"\n" + line + b"\n", rules=RecordRules(("k",), timestamp="at")
    ).chunks()
    assert [next(chunks), next(chunks)] == [[Record(b"a", good, 0)]] * 2
    with pytest.raises(StreamflowError, match=f"^file1:2: {words}.*; --keep-bad sends such lines"):
        next(chunks)


def test_bad_lines_can_be_kept() -> None:
    source = reading(
        b'nope\n\n{"k":"a","at":"soon"}\n{"at":5}\n{"k":"b","at":0}\n',
        rules=RecordRules(("k",), timestamp="at", keep_bad=True),
    )
    assert [record for chunk in source.chunks() for record in chunk] == [
        Record(None, b"nope"),
        Record(None, b""),
        Record(b"a", b'{"k":"a","at":"soon"}'),
        Record(None, b'{"at":5}'),
        Record(b"b", b'{"k":"b","at":0}', 0),
    ]
    assert source.bad == 4
    assert source.nbytes == len(b'nope{"k":"a","at":"soon"}{"at":5}{"k":"b","at":0}')


def test_a_line_that_no_broker_would_take_is_named_even_if_bad_ones_are_kept() -> None:
    with pytest.raises(StreamflowError, match=r"^file0:1: the record has 1,002 bytes"):
        records(b'"' + b"x" * 1000 + b'"', rules=RecordRules(keep_bad=True))
