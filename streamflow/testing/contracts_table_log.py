"""What every `TableLog` must keep. Run `LAWS`, each with the log of a table that is not there yet.

@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_my_log_keeps_the_contract(law, my_log):
    law(my_log)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import AddedFile, LoadedTable, TableLog

SCHEMA = pa.schema([("origin", pa.string()), ("id", pa.int64())])
MORE = pa.schema([("more", pa.float64())])
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _made(log: TableLog) -> LoadedTable:
    log.create(SCHEMA, ["origin"])
    table = log.load()
    assert table is not None
    return table


def _loaded(log: TableLog) -> LoadedTable:
    table = log.load()
    assert table is not None
    return table


def _file(name: str, origin: str | None = "x") -> AddedFile:
    return AddedFile(name, 10, {"origin": origin}, '{"numRecords":1}')


def _names(table: LoadedTable) -> list[str]:
    return [file.name for file in table.files()]


def _is_refused(act: Callable[[], None]) -> None:
    try:
        act()
    except SinkUnavailable:
        return
    raise AssertionError("a commit on an old version was taken")


def there_is_no_table_before_it_is_made(log: TableLog) -> None:
    assert log.load() is None
    table = _made(log)
    assert table.schema.names == log.form(SCHEMA).names == ["origin", "id"]
    assert table.partition_by == ("origin",)
    assert table.mark("a") is None


def a_table_is_made_once(log: TableLog) -> None:
    _made(log)
    log.create(pa.schema([("other", pa.int64())]), [])
    assert _loaded(log).schema.names == ["origin", "id"]


def a_commit_sets_all_its_marks(log: TableLog) -> None:
    table = _made(log)
    table.commit([], {"a": 3, "a/commit": 1})
    assert [_loaded(log).mark(name) for name in ("a", "a/commit", "b")] == [3, 1, None]
    _loaded(log).commit([], {"a": 7})
    assert [_loaded(log).mark(name) for name in ("a", "a/commit")] == [7, 1]


def of_two_commits_on_one_version_one_is_refused(log: TableLog) -> None:
    _made(log)
    first, second = _loaded(log), _loaded(log)
    first.commit([], {"a": 3})
    _is_refused(lambda: second.commit([], {"a": 3}))
    _is_refused(lambda: second.commit([], {"a": 4, "b": 1}))
    again = _loaded(log)
    assert [again.mark(name) for name in ("a", "b")] == [3, None]


def commits_of_other_marks_do_not_meet(log: TableLog) -> None:
    _made(log)
    first, second = _loaded(log), _loaded(log)
    first.commit([], {"a": 3})
    second.commit([], {"b": 4})
    assert [_loaded(log).mark(name) for name in ("a", "b")] == [3, 4]


def a_version_does_not_see_what_comes_later(log: TableLog) -> None:
    table = _made(log)
    _loaded(log).commit([], {"a": 3})
    assert table.mark("a") is None


def columns_can_be_added(log: TableLog) -> None:
    table = _made(log)
    before = _loaded(log)
    table.widen(MORE)
    assert _loaded(log).schema.names == ["origin", "id", "more"]
    _is_refused(lambda: before.commit([], {"a": 3}))
    _loaded(log).commit([], {"a": 3})
    assert _loaded(log).mark("a") == 3


def files_are_listed_as_they_were_added(log: TableLog) -> None:
    table = _made(log)
    assert table.files() == []
    values = ("x", "a/b", "a=b%2F", "é ☃", None)
    added = [_file(f"origin={i}%2F ☃/{i}.parquet", value) for i, value in enumerate(values)]
    table.commit(added, {"a": 1})
    found = _loaded(log).files()
    assert [file.name for file in found] == sorted(file.name for file in added)
    assert [file.values["origin"] for file in found] == list(values)
    assert [file.nbytes for file in found] == [10] * len(values)
    _loaded(log).replace([], found[1:], {"a": 2}, same_rows=False)
    assert _names(_loaded(log)) == [found[0].name]


def the_times_of_a_file_are_known(log: TableLog) -> None:
    log.create(pa.schema([("at", pa.timestamp("us", "UTC")), ("id", pa.int64())]), [])
    said = NOON.isoformat(timespec="microseconds").replace("+00:00", "Z")
    stats = f'{{"numRecords":1,"minValues":{{"at":"{said}"}},"maxValues":{{"at":"{said}"}}}}'
    known, unknown = AddedFile("1", 10, {}, stats), AddedFile("2", 10, {}, '{"numRecords":1}')
    _loaded(log).commit([known, unknown], {"a": 1})
    first, second = _loaded(log).files()
    low, high = first.times["at"]
    assert low <= NOON <= high <= low + timedelta(milliseconds=1)
    assert second.times == {}


def files_are_replaced_at_once(log: TableLog) -> None:
    _made(log).commit([_file("1"), _file("2"), _file("3")], {"a": 1})
    before, table = _loaded(log), _loaded(log)
    table.replace([_file("12")], table.files()[:2], {"a": 2, "b": 1}, same_rows=True)
    after = _loaded(log)
    assert (_names(after), after.mark("a"), after.mark("b")) == (["12", "3"], 2, 1)
    assert _names(before) == ["1", "2", "3"]
    after.replace([], after.files(), {"a": 3}, same_rows=False)
    assert (_names(_loaded(log)), _loaded(log).mark("a")) == ([], 3)


def files_are_replaced_only_where_nothing_was_committed_since(log: TableLog) -> None:
    _made(log).commit([_file("1"), _file("2")], {"a": 1})
    late, rival, roll = _loaded(log), _loaded(log), _loaded(log)
    rival.replace([_file("12")], rival.files(), {}, same_rows=True)
    _is_refused(lambda: late.replace([_file("12b")], late.files(), {}, same_rows=True))
    _is_refused(lambda: late.replace([], late.files()[:1], {"a": 2}, same_rows=False))
    late = _loaded(log)
    roll.commit([_file("3")], {"a": 2})  # what only adds goes on over it
    assert _names(_loaded(log)) == ["12", "3"]
    _is_refused(lambda: late.replace([_file("12c")], late.files(), {}, same_rows=True))
    assert (_names(_loaded(log)), _loaded(log).mark("a")) == (["12", "3"], 2)


def files_are_kept_for_readers(log: TableLog) -> None:
    _made(log).commit([_file("1")], {"a": 1})
    log.vacuum(timedelta(days=7))
    try:
        log.vacuum(timedelta(hours=1))
    except SinkRefused:
        return
    raise AssertionError("files were deleted that the table is to keep for readers")


def marks_outlive_many_commits(log: TableLog) -> None:
    """Logs are cut short now and then."""
    _made(log).commit([], {"old": 1})
    for number in range(120):
        _loaded(log).commit([], {"a": number})
    assert [_loaded(log).mark(name) for name in ("old", "a")] == [1, 119]


LAWS: Sequence[Callable[[TableLog], None]] = (
    there_is_no_table_before_it_is_made,
    a_table_is_made_once,
    a_commit_sets_all_its_marks,
    of_two_commits_on_one_version_one_is_refused,
    commits_of_other_marks_do_not_meet,
    a_version_does_not_see_what_comes_later,
    columns_can_be_added,
    files_are_listed_as_they_were_added,
    the_times_of_a_file_are_known,
    files_are_replaced_at_once,
    files_are_replaced_only_where_nothing_was_committed_since,
    files_are_kept_for_readers,
    marks_outlive_many_commits,
)
