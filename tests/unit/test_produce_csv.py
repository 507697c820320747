"""Rows of CSV become records, by a rule that looks at one cell alone."""

import csv
import io
import json
from datetime import UTC, datetime
from io import BytesIO, StringIO
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from streamflow.batch import Record
from streamflow.clock import SimulatedClock
from streamflow.errors import StreamflowError
from streamflow.produce import csv_input
from streamflow.produce.csv_input import CsvInput
from streamflow.produce.file import InputFile
from streamflow.produce.limits import Limits
from streamflow.produce.records import RecordRules, Records
from streamflow.schema import Contract

CLOCK = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
LIMITS = Limits.of({"max.message.bytes": "1000000"})
Types = dict[str, pa.DataType]


def opened(data: bytes, types: Types | None = None, separator: str = ",") -> CsvInput:
    return CsvInput(InputFile("x.csv", BytesIO(data).read), types or {}, separator)


def values(data: bytes, types: Types | None = None, separator: str = ",") -> list[bytes]:
    return [value for c in opened(data, types, separator).chunks() for value in c.values]


def placed(data: bytes) -> list[tuple[int, bytes, str | None]]:
    """Line, bytes and what is wrong, of every row."""
    return [
        (place, value, chunk.broken.get(index))
        for chunk in opened(data).chunks()
        for index, (value, place) in enumerate(zip(chunk.values, chunk.places, strict=True))
    ]


def records(data: bytes, rules: RecordRules) -> list[Record]:
    return [r for c in Records([opened(data)], rules, LIMITS, CLOCK).chunks() for r in c]


def test_a_cell_is_text_as_it_is_written_and_an_empty_one_is_null() -> None:
    text = b'zip,n,on,note,at\n00501,1.50,true," x ",2024-05-01 12:00\n10001,,,"",\n'
    assert values(text) == [
        b'{"zip":"00501","n":"1.50","on":"true","note":" x ","at":"2024-05-01 12:00"}',
        b'{"zip":"10001","n":null,"on":null,"note":"","at":null}',
    ]


def test_declared_numbers_booleans_and_lists_stand_without_quotes() -> None:
    types = {"n": pa.int64(), "x": pa.float64(), "on": pa.bool_(), "l": pa.list_(pa.string())}
    text = 'n,x,on,l,s\n12,1.5e-3,true,"[""ä""]",12\n-0,NaN,True,[1,007\n007,7,1,null,\n'
    assert [json.loads(v) for v in values(text.encode(), types)] == [
        {"n": 12, "x": 0.0015, "on": True, "l": ["ä"], "s": "12"},
        {"n": 0, "x": "NaN", "on": "True", "l": "[1", "s": "007"},
        {"n": "007", "x": 7, "on": "1", "l": "null", "s": None},
    ]


def test_a_list_stands_as_it_is_written_with_all_digits_of_its_numbers() -> None:
    text = 'l\n"[9223372036854775809, 1.10, 12345678901234567890.123456789]"\n'
    assert values(text.encode(), {"l": pa.list_(pa.float64())}) == [
        b'{"l":[9223372036854775809, 1.10, 12345678901234567890.123456789]}'
    ]
    bad = b'l,s\n"[9223372036854775809]",\xff\n'
    assert values(bad, {"l": pa.list_(pa.float64())}) == [
        b'{"l": [9223372036854775809], "s": "\xff"}'
    ]


class Reading(BaseModel):
    name: str | None
    n: int | None
    x: float | None
    on: bool | None
    at: AwareDatetime | None


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": st.none() | st.text(max_size=5),
                "n": st.none()
                | st.integers().map(str)
                | st.sampled_from(["1.0", "007", "+5", "1_000", "1e3", " 7", "-0", "9" * 19]),
                "x": st.none()
                | st.floats().map(str)
                | st.sampled_from(["1e400", "1E5", "-0.0", ".5", "1.", "nan", "Infinity"]),
                "on": st.sampled_from([None, "true", "True", "1", "yes", "no?", "null"]),
                "at": st.sampled_from(
                    [None, "2024-05-01T12:00:00Z", "2024-05-01 12:00+02:00", "0", "2024-05-01"]
                ),
            }
        ),
        max_size=8,
    )
)
def test_types_change_nothing_in_what_the_contract_accepts(rows: list[dict[str, Any]]) -> None:
    """They only save it from reading numbers out of text."""
    text = ",".join(Reading.model_fields) + "\n"
    for row in rows:
        cells = (
            "" if cell is None else '"{}"'.format(cell.replace('"', '""')) for cell in row.values()
        )
        text += ",".join(cells) + "\n"
    contract = Contract(Reading)
    types = dict(zip(contract.schema.names, contract.schema.types, strict=True))
    plain = values(text.encode("utf-8", "replace"))
    typed = values(text.encode("utf-8", "replace"), types)
    with_types, without = contract.decode(typed), contract.decode(plain)
    assert with_types.places == without.places
    assert str(with_types.batch.to_pylist()) == str(without.batch.to_pylist())


@given(
    st.lists(
        st.lists(st.text(st.sampled_from('ab,"\n\rä\t '), max_size=4), min_size=2, max_size=2),
        max_size=12,
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", "\t"]),
    st.integers(64, 200),
)
def test_what_pythons_csv_writes_is_read_back_however_it_is_cut(
    rows: list[list[str]], newline: str, separator: str, size: int
) -> None:
    out = StringIO()
    quoted = {"quoting": csv.QUOTE_ALL, "lineterminator": newline, "delimiter": separator}
    csv.writer(out, **quoted).writerows([["a", "b"], *rows])  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_input, "BLOCK_BYTES", size)
        found = [json.loads(v) for v in values(out.getvalue().encode(), separator=separator)]
    assert found == [{"a": a, "b": b} for a, b in rows]


@pytest.mark.parametrize("before", range(40, 64))
def test_a_newline_of_two_bytes_in_a_cell_is_whole_wherever_the_file_is_cut(
    before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow passes by a line feed at the beginning of a block, if a return is the end of the last
    one, also inside of quotes.
    """
    monkeypatch.setattr(csv_input, "BLOCK_BYTES", 64)
    text = f'a,b\n1,{"x" * before}\n"\r\n","a\r\n"\n2,y\n'
    assert [json.loads(value)["b"] for value in values(text.encode())][1:] == ["a\r\n", "y"]


def test_lines_are_counted_through_quoted_newlines_blank_lines_and_wrong_rows() -> None:
    text = '\ufeffa,"b\nc"\n1,"x\n\ny"\n\n2,3,4\n,\n"p\nq",5\n6\n\n'
    assert placed(text.encode()) == [
        (3, b'{"a":"1","b\\nc":"x\\n\\ny"}', None),
        (7, b"2,3,4", "the row has 3 fields and the header 2"),
        (9, b'{"a":"p\\nq","b\\nc":"5"}', None),
        (11, b"6", "the row has 1 field and the header 2"),
    ]


@given(st.lists(st.sampled_from(["1,2", "1", "1,2,3", '"a\nb",2', "", '"",""']), max_size=30))
def test_every_row_is_there_in_its_place_however_the_file_is_cut(rows: list[str]) -> None:
    expected: list[tuple[int, bool]] = []
    line = 2
    for row in rows:
        if row:
            expected.append((line, row.count(",") == 1))
        line += 1 + row.count("\n")
    text = "a,b\n" + "".join(f"{row}\n" for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_input, "BLOCK_BYTES", 16)
        found = [(place, broken is None) for place, _, broken in placed(text.encode())]
    assert found == expected


OPEN = "a quote is opened here and never closed"


@pytest.mark.parametrize(
    ("data", "line", "row"),
    [
        (b'a,b\n0,z\n1,"x\n2,y\n', 3, b'1,"x\n2,y\n'),
        (b'a,b\n0,z\n1,"x\n2,y', 3, b'1,"x\n2,y'),
        (b'a,b\r\n0,z\r\n1,"x\r\n2,y\r\n', 3, b'1,"x\r\n2,y\r\n'),
        (b'a,b\n0,z\n\n"1\n\n', 4, b'"1\n\n'),
        (b'a,b\n0,z\n1,2,"\xe4', 3, b'1,2,"\xe4'),
        (b'a,b\n0,z\n1,"', 3, b'1,"'),
        (b'a,b\n0,z\n1,"x""', 3, b'1,"x""'),
    ],
)
def test_a_quote_that_is_left_open_is_named_after_all_before_it(
    data: bytes, line: int, row: bytes
) -> None:
    assert placed(data) == [(2, b'{"a":"0","b":"z"}', None), (line, row, OPEN)]
    assert [r.value for r in records(data, RecordRules(keep_bad=True))][1:] == [row]
    with pytest.raises(StreamflowError, match=rf"^x\.csv:{line}: {OPEN}; --keep-bad"):
        records(data, RecordRules())


def test_a_quote_that_is_left_open_is_the_reason_though_the_row_is_too_large_then() -> None:
    with pytest.raises(StreamflowError, match=rf"^x\.csv:2: {OPEN}; .* takes 1,000,000"):
        records(b'a\n"' + b"x\n" * 600_000, RecordRules(keep_bad=True))


@pytest.mark.parametrize("header", ["a", "a,b", "a,b,c"])
@given(text=st.text(st.sampled_from('ab,"\n\r'), max_size=40), size=st.integers(16, 80))
def test_a_quote_is_left_open_where_the_rule_says_so_however_it_is_cut(
    header: str, text: str, size: int
) -> None:
    """Only a cell's first character opens a quote, and a doubled one is none."""
    state = "cell"
    for mark in text:
        if state == "quoted":
            state = "quote" if mark == '"' else "quoted"
        elif mark == '"' and state in ("cell", "quote"):
            state = "quoted"
        else:
            state = "cell" if mark in ",\r\n" else "within"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_input, "BLOCK_BYTES", size)
        try:
            found = placed(f"{header}\n{text}".encode())
        except StreamflowError as error:
            assert "is a quote left open?" in str(error)  # noqa: PT017
            return
    assert [place for place, (_, _, why) in enumerate(found, 1) if why == OPEN] == (
        [len(found)] if state == "quoted" else []
    )
    assert not any(b"end" in value for _, value, _ in found)


@pytest.mark.parametrize("row", ["1,", "1,2", "1", '1,""', ",", "", "1,2,3", 'end",,,', '"1",""'])
def test_a_last_row_is_the_same_with_and_without_a_newline(row: str) -> None:
    ended = placed(f"a,b\n0,0\n{row}\n".encode())
    for end in ("", "\r", "\r\n", "\n\n", "\r\n\r\n"):
        assert placed(f"a,b\n0,0\n{row}{end}".encode()) == ended


def test_an_empty_cell_at_the_end_of_the_file_is_null() -> None:
    assert values(b"a,b\n1,") == [b'{"a":"1","b":null}']
    assert values(b'a,b\n1,""') == [b'{"a":"1","b":""}']
    assert values(b"a\tb\n\t1\n1\t", separator="\t")[1:] == [b'{"a":"1","b":null}']


def test_a_wrong_row_names_its_file_and_line_after_all_before_it() -> None:
    source = Records([opened(b"k\nx\n\ny\n1,2\nz\n")], RecordRules(("k",)), LIMITS, CLOCK).chunks()
    assert next(source) == [Record(b"x", b'{"k":"x"}'), Record(b"y", b'{"k":"y"}')]
    words = r"^x\.csv:5: the row has 2 fields and the header 1; --keep-bad .* was sent$"
    with pytest.raises(StreamflowError, match=words):
        next(source)


def test_a_row_without_a_key_names_its_line() -> None:
    with pytest.raises(StreamflowError, match=r"^x\.csv:4: field 'k' is NoneType, not text"):
        records(b'k,v\na,"1\n2"\n,3\n', RecordRules(("k",)))
    with pytest.raises(StreamflowError, match=r"^x\.csv:2: there is no field 'K'; it has \['k'"):
        records(b"k,v\na,1\n", RecordRules(("K",)))


def test_key_and_time_come_from_their_cells() -> None:
    rules = RecordRules(("k",), timestamp="at")
    assert records(b"k,at\n7,1970-01-01T00:00:05Z\n", rules) == [
        Record(b"7", b'{"k":"7","at":"1970-01-01T00:00:05Z"}', 5000)
    ]


def test_bad_rows_can_be_kept_with_their_own_bytes() -> None:
    assert [
        r.value for r in records(b"a,b\n1,\xff\n1,2,\xe4\n1,2\n", RecordRules(keep_bad=True))
    ] == [b'{"a": "1", "b": "\xff"}', b"1,2,\xe4", b'{"a":"1","b":"2"}']
    with pytest.raises(StreamflowError, match=r"^x\.csv:2: the row is not UTF-8; --keep-bad"):
        records(b"a,b\n1,\xff\n", RecordRules())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "1: no header; the first row names the columns"),
        (b"\n1\n", "1: no header; the first row names the columns"),
        (b"a,b,a\n", r"1: the header has \['a'\] more than once"),
        (b"\xff,b\n", "1: the header cannot be read: 'utf-8' codec"),
        (b'a,"b\n', "1: the header cannot be read: unexpected end of data"),
        (b'a\n1\n"' + b"x\n" * 200, " after line 2: a row of more than 0 MB; is a quote left open"),
    ],
)
def test_a_file_that_is_no_csv_is_named(data: bytes, words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_input, "BLOCK_BYTES", 64)
        with pytest.raises(StreamflowError, match=f"^x\\.csv:{words}"):
            values(data)


def test_a_header_alone_has_no_rows() -> None:
    assert [values(data) for data in (b"a,b", b"a,b\n", b'"a\n","b"\n\n')] == [[], [], []]


def test_a_big_file_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_input, "BLOCK_BYTES", 256 * 1024)
    rows = 50_000
    text = "n,name\n" + "".join(f"{n},ünïcödé{n}\n" for n in range(rows))
    chunks = [c for c in opened(text.encode(), {"n": pa.int64()}).chunks() if c.values]
    assert len(chunks) > 2
    assert [json.loads(c.values[-1])["n"] + 2 for c in chunks] == [c.places[-1] for c in chunks]
    assert sum(len(c.values) for c in chunks) == rows


def test_a_csv_through_a_slow_pipe_is_the_same() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(3, size or 3))

    text = b"a,b\n" + b"1,2\n" * 50
    source = CsvInput(InputFile("x.csv", Slow(text).read), {})
    assert [v for c in source.chunks() for v in c.values] == [b'{"a":"1","b":"2"}'] * 50
    assert source.taken == len(text)
