"""What every `TableFiles` must keep. Run `LAWS`, each with files of a fresh table; and also
`REPLACEABLE`, of files that an offline command may replace.

@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_my_files_keep_the_contract(law, my_files):
    law(my_files)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import ReplaceableFiles, TableFiles

_NESTED = "month=2013-01/origin=EWR/rows-00000-00000001-00000.parquet"


def a_created_file_is_there_whole(files: TableFiles) -> None:
    assert files.create(_NESTED, b"abc")
    assert files.exists(_NESTED)
    assert files.read(_NESTED) == b"abc"


def a_name_is_taken_once(files: TableFiles) -> None:
    assert files.create(_NESTED, b"first")
    assert not files.create(_NESTED, b"second")
    assert not files.create(_NESTED, b"first")
    assert files.read(_NESTED) == b"first"


def of_many_creators_exactly_one_wins(files: TableFiles) -> None:
    contents = [str(i).encode() * 1000 for i in range(8)]
    with ThreadPoolExecutor(len(contents)) as pool:
        won = list(pool.map(lambda data: files.create("race.json", data, private=True), contents))
    assert won.count(True) == 1
    assert files.read("race.json", private=True) == contents[won.index(True)]


def an_empty_file_is_a_file(files: TableFiles) -> None:
    assert files.create("_SUCCESS", b"")
    assert files.exists("_SUCCESS")
    assert files.read("_SUCCESS") == b""


def a_view_of_bytes_is_taken(files: TableFiles) -> None:
    assert files.create("a.parquet", memoryview(b"-abc-")[1:4])
    assert files.read("a.parquet") == b"abc"


def a_file_that_is_written_in_parts_appears_whole(files: TableFiles) -> None:
    new = files.begin(_NESTED)
    new.write(b"abc")
    new.write(memoryview(b"-def-")[1:4])
    assert not files.exists(_NESTED)
    assert files.names() == files.names(private=True) == []
    assert new.create()
    new.drop()
    assert files.read(_NESTED) == b"abcdef"


def a_file_that_is_dropped_has_never_been(files: TableFiles) -> None:
    new = files.begin(_NESTED)
    new.write(b"abc")
    new.drop()
    new.drop()
    assert not files.exists(_NESTED)
    assert files.create(_NESTED, b"other")


def of_two_files_begun_under_one_name_one_is_taken(files: TableFiles) -> None:
    first, second = files.begin(_NESTED), files.begin(_NESTED)
    first.write(b"first")
    second.write(b"second")
    assert second.create()
    assert not first.create()
    first.drop()
    second.drop()
    assert files.read(_NESTED) == b"second"
    assert files.names() == [_NESTED]


def the_end_of_a_file_can_be_read_alone(files: TableFiles) -> None:
    assert files.create("a.parquet", b"0123456789")
    assert files.create("empty.parquet", b"")
    assert files.tail("a.parquet", 3) == b"789"
    assert files.tail("a.parquet", 10) == files.tail("a.parquet", 99) == b"0123456789"
    assert files.tail("empty.parquet", 8) == b""
    try:
        files.tail(_NESTED, 8)
    except FileNotFoundError:
        return
    raise AssertionError("the end of a file that is not there did not raise FileNotFoundError")


def parts_of_a_file_can_be_read(files: TableFiles) -> None:
    assert files.create(_NESTED, b"0123456789")
    opened = files.open(_NESTED)
    assert opened.size == 10
    assert [opened.read(4, 3), opened.read(0, 2), opened.read(9, 1)] == [b"456", b"01", b"9"]
    assert opened.read(10, 0) == b""
    opened.close()
    opened.close()
    try:
        files.open("never-there.parquet")
    except FileNotFoundError:
        return
    raise AssertionError("opening a file that is not there did not raise FileNotFoundError")


def what_is_not_there_is_not_there(files: TableFiles) -> None:
    assert not files.exists(_NESTED)
    assert files.names() == []
    assert files.names(private=True) == []
    try:
        files.read(_NESTED)
    except FileNotFoundError:
        return
    raise AssertionError("reading a file that is not there did not raise FileNotFoundError")


def private_and_visible_files_are_apart(files: TableFiles) -> None:
    assert files.create("same.json", b"visible")
    assert files.create("same.json", b"private", private=True)
    assert files.read("same.json") == b"visible"
    assert files.read("same.json", private=True) == b"private"
    assert files.names() == files.names(private=True) == ["same.json"]


def names_are_sorted_and_relative(files: TableFiles) -> None:
    for name in ("b/x.parquet", "a.parquet", "a/z.parquet"):
        assert files.create(name, b"")
    assert files.names() == ["a.parquet", "a/z.parquet", "b/x.parquet"]


def private_files_can_be_deleted(files: TableFiles) -> None:
    for name in ("1.json", "2.json"):
        assert files.create(name, b"", private=True)
    files.delete_private(["1.json", "never-there.json"])
    assert files.names(private=True) == ["2.json"]


def names_that_could_leave_the_table_are_refused(files: TableFiles) -> None:
    for name in ("../x", "a/../../x", "/etc/x", "a//x", "", ".", "a/.", "a\\x", "a\0x", "x" * 256):
        _refused(files, name, private=False)
        _refused(files, name, private=True)
    _refused(files, "cut.parquet", private=True)
    assert files.names() == files.names(private=True) == []


def _refused(files: TableFiles, name: str, *, private: bool) -> None:
    try:
        files.create(name, b"", private=private)
    except SinkRefused:
        return
    raise AssertionError(f"the name {name!r} was taken")


LAWS: Sequence[Callable[[TableFiles], None]] = (
    a_created_file_is_there_whole,
    a_name_is_taken_once,
    of_many_creators_exactly_one_wins,
    an_empty_file_is_a_file,
    a_view_of_bytes_is_taken,
    a_file_that_is_written_in_parts_appears_whole,
    a_file_that_is_dropped_has_never_been,
    of_two_files_begun_under_one_name_one_is_taken,
    the_end_of_a_file_can_be_read_alone,
    parts_of_a_file_can_be_read,
    what_is_not_there_is_not_there,
    private_and_visible_files_are_apart,
    names_are_sorted_and_relative,
    private_files_can_be_deleted,
    names_that_could_leave_the_table_are_refused,
)


def all_sizes_are_told_at_once(files: ReplaceableFiles) -> None:
    assert dict(files.sizes()) == {}
    assert files.create("b/x.parquet", b"abc")
    assert files.create("a.parquet", b"")
    assert files.create("a.json", b"private", private=True)
    assert list(files.sizes().items()) == [("a.parquet", 0), ("b/x.parquet", 3)]


def a_file_is_replaced_as_a_whole(files: ReplaceableFiles) -> None:
    assert files.create(_NESTED, b"first")
    files.replace(_NESTED, memoryview(b"-other-")[1:6])
    files.replace(_NESTED, b"other")
    assert files.read(_NESTED) == b"other"
    assert not files.create(_NESTED, b"third")
    assert files.names() == [_NESTED]


def what_is_open_is_never_half_of_another_file(files: ReplaceableFiles) -> None:
    assert files.create(_NESTED, b"a" * 1000)
    opened = files.open(_NESTED)
    files.replace(_NESTED, b"b" * 1000)
    try:
        assert opened.read(10, 5) == b"aaaaa"
    except SinkUnavailable:
        return
    finally:
        opened.close()


def a_deleted_name_is_free(files: ReplaceableFiles) -> None:
    assert files.create(_NESTED, b"first")
    files.delete(_NESTED)
    files.delete(_NESTED)
    assert not files.exists(_NESTED)
    assert files.create(_NESTED, b"second")
    assert files.read(_NESTED) == b"second"


def a_private_file_is_exchanged_for_what_was_seen(files: ReplaceableFiles) -> None:
    assert not files.exchange("lease.json", b"a", b"b")
    assert files.create("lease.json", b"a", private=True)
    assert not files.exchange("lease.json", b"other", b"b")
    assert files.exchange("lease.json", b"a", b"b")
    assert not files.exchange("lease.json", b"a", b"c")
    assert files.read("lease.json", private=True) == b"b"
    assert files.names(private=True) == ["lease.json"]
    files.delete_private(["lease.json"])
    assert not files.exchange("lease.json", b"b", b"c")


def of_many_who_exchange_exactly_one_does(files: ReplaceableFiles) -> None:
    assert files.create("lease.json", b"old", private=True)
    contents = [str(i).encode() * 1000 for i in range(8)]
    with ThreadPoolExecutor(len(contents)) as pool:
        won = list(pool.map(lambda data: files.exchange("lease.json", b"old", data), contents))
    assert won.count(True) == 1
    assert files.read("lease.json", private=True) == contents[won.index(True)]


REPLACEABLE: Sequence[Callable[[ReplaceableFiles], None]] = (
    all_sizes_are_told_at_once,
    a_file_is_replaced_as_a_whole,
    what_is_open_is_never_half_of_another_file,
    a_deleted_name_is_free,
    a_private_file_is_exchanged_for_what_was_seen,
    of_many_who_exchange_exactly_one_does,
)
